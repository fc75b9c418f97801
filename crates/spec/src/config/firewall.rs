//! The key `firewall`: who may reach what on the node.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who may open connections to the node. What is not named here is dropped; answers, ICMP and DHCP always pass. Traffic between pods, and
/// from pods to elsewhere, is the CNI's business.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Firewall {
    /// Addresses or networks that may log in by SSH; everywhere when empty.
    #[schemars(extend("items" = {"type": "string", "format": "source"}))]
    pub ssh: Vec<String>,
    /// Addresses or networks of the control plane, which alone may reach the kubelet (port 10250).
    #[schemars(extend("items" = {"type": "string", "format": "source"}))]
    pub kubelet: Vec<String>,
    /// Services of type NodePort.
    pub node_ports: NodePorts,
    /// The cluster's network plugin, whose ports are opened to `nodes`.
    pub cni: Cni,
    /// Addresses or networks of the cluster's other nodes; everywhere when empty.
    #[schemars(extend("items" = {"type": "string", "format": "source"}))]
    pub nodes: Vec<String>,
    /// Further ports.
    pub allow: Vec<OpenPort>,
}

/// Services of type NodePort (30000 to 32767), filtered before they are redirected to pods.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct NodePorts {
    /// Whether they can be reached from outside at all.
    pub enabled: bool,
    /// Addresses or networks that may reach them; everywhere when empty.
    #[schemars(extend("items" = {"type": "string", "format": "source"}))]
    pub sources: Vec<String>,
}

/// A network plugin.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// One that needs no port of the node.
    #[default]
    None,
    /// Calico: BGP, IP in IP, VXLAN, Typha.
    Calico,
    /// Cilium: health, VXLAN, Geneve, WireGuard, Hubble.
    Cilium,
}

/// A port that is open.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenPort {
    /// Its number.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// Its protocol.
    #[serde(default)]
    pub protocol: PortProtocol,
    /// Addresses or networks that may reach it; everywhere when empty.
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "format": "source"}))]
    pub sources: Vec<String>,
}

/// A protocol with ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl PortProtocol {
    /// As nftables names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

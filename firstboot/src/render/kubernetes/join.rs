//! kubeadm's JoinConfiguration, in the version of its API that a kubeadm is at home in.
//!
//! Sources: Kubernetes, cmd/kubeadm/app/apis/kubeadm/{v1beta2,v1beta3,v1beta4}/types.go. v1beta2 is known to 1.15–1.26, v1beta3 to
//! 1.22–1.36, v1beta4 from 1.31 on.

use super::node_name;
use serde_json::{Map, Value, json};
use tatara_spec::config::{NodeConfig, Taint};
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::release::Runtime;
use tatara_spec::{Code, Fault};

/// Checks of kubeadm's that would fail on every node, and why they need not pass: `SystemVerification` looks for the kernel's options in
/// /boot, which a root does not have, and for the controllers of cgroups of version 1; what is needed of the kernel was checked when the
/// release was built. `FileExisting-crictl` was fatal up to 1.28; Debian has no crictl, and kubeadm calls it only to say more and to clean up.
const IGNORED: [&str; 2] = ["SystemVerification", "FileExisting-crictl"];

/// How kubeadm finds the cluster and proves that it may join.
#[derive(Debug, Clone, Copy)]
pub enum Discovery<'a> {
    /// With this bootstrap token, and the CA hashes of the config.
    Token(&'a str),
    /// With the kubeconfig in this file.
    File(&'a str),
}

/// The JoinConfiguration as JSON, which is YAML. It holds the credential.
///
/// # Errors
/// [`Code::Internal`] for a config without `kubernetes`.
pub fn join_configuration(
    config: &NodeConfig,
    version: Version,
    runtime: Runtime,
    discovery: Discovery<'_>,
) -> Result<String, Fault> {
    let kubernetes = config
        .kubernetes
        .as_ref()
        .ok_or_else(|| Fault::new(Code::Internal, "a join without `kubernetes` in the config"))?;
    let (api, socket) = (Api::of(version), runtime.socket());
    let mut found = match discovery {
        Discovery::Token(token) => json!({"bootstrapToken": {
            "token": token,
            "apiServerEndpoint": kubernetes.endpoint,
            "caCertHashes": kubernetes.join.ca_cert_hashes,
        }}),
        Discovery::File(path) => json!({"file": {"kubeConfigPath": path}}),
    };
    if api != Api::V1beta4 {
        found["timeout"] = json!(DISCOVERY_TIMEOUT);
    }
    let mut root = json!({
        "apiVersion": format!("kubeadm.k8s.io/{}", api.name()),
        "kind": "JoinConfiguration",
        "discovery": found,
        "nodeRegistration": {
            "name": node_name(config, kubernetes),
            // A path alone was the form before 1.24, a URL is since.
            "criSocket": if version.minor < 24 { socket.to_owned() } else { format!("unix://{socket}") },
            "taints": kubernetes.taints.iter().map(taint).collect::<Vec<_>>(),
            "ignorePreflightErrors": IGNORED,
        },
    });
    if api == Api::V1beta4 {
        root["timeouts"] = json!({"discovery": DISCOVERY_TIMEOUT});
    }
    if !kubernetes.labels.is_empty() {
        let labels: Vec<String> =
            kubernetes.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        root["nodeRegistration"]["kubeletExtraArgs"] = api.arguments(&[("node-labels", labels.join(","))]);
    }
    let text = serde_json::to_string_pretty(&root)
        .map_err(|error| Fault::caused(Code::Internal, "write the JoinConfiguration", error))?;
    Ok(text + "\n")
}

/// The API server was waited for before; kubeadm's default of five minutes would only hide why it fails.
const DISCOVERY_TIMEOUT: &str = "1m0s";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Api {
    V1beta2,
    V1beta3,
    V1beta4,
}

impl Api {
    /// As Cluster API chooses.
    fn of(version: Version) -> Self {
        match version.minor {
            ..22 => Self::V1beta2,
            22..31 => Self::V1beta3,
            _ => Self::V1beta4,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V1beta2 => "v1beta2",
            Self::V1beta3 => "v1beta3",
            Self::V1beta4 => "v1beta4",
        }
    }

    /// A map before v1beta4, a list since.
    fn arguments(self, arguments: &[(&str, String)]) -> Value {
        match self {
            Self::V1beta4 => {
                arguments.iter().map(|(name, value)| json!({"name": name, "value": value})).collect()
            }
            _ => Value::Object(Map::from_iter(
                arguments.iter().map(|(name, value)| ((*name).to_owned(), json!(value))),
            )),
        }
    }
}

fn taint(taint: &Taint) -> Value {
    let mut value = json!({"key": taint.key, "effect": taint.effect});
    if let Some(text) = &taint.value {
        value["value"] = json!(text);
    }
    value
}

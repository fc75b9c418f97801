//! What workers of tests and of the demo run in a real control plane: their network, images and pods, and the node itself.

use super::{Cluster, image};
use crate::config::NodeYaml;
use crate::lan::{self, Dnsmasq};
use crate::ssh::Key;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

/// Emulated on two busy cores; a machine that is stuck is ended here.
pub const BOOT: Duration = Duration::from_secs(600);
/// A pod from its begin to its first line.
pub const POD: Duration = Duration::from_secs(240);

/// The control plane's address, in the network of [`network`].
pub const HOST: &str = "10.77.0.1";
/// The machine's address, by DHCP.
pub const ADDRESS: &str = "10.77.0.50";
/// `metadata.name`, and the Node's.
pub const NAME: &str = "node-1";
/// The tap that the machine is on.
pub const TAP: &str = "tap0";

/// The network of the test, and who gives the machine its address.
#[must_use]
pub fn network() -> Dnsmasq {
    network_with(&["--port=0"])
}

/// The same with a name server, which knows the names of a file in the form of hosts(5).
#[must_use]
pub fn network_with_names(hosts: &Path) -> Dnsmasq {
    // Names of the test's own domain are asked of nobody else.
    network_with(&["--local=/cluster.test/", &format!("--addn-hosts={}", hosts.display())])
}

fn network_with(names: &[&str]) -> Dnsmasq {
    lan::tap(TAP, &format!("{HOST}/24"));
    let range = format!("--dhcp-range={ADDRESS},{ADDRESS},255.255.255.0,1h");
    // PID 1 and the installed system name themselves differently to a DHCP server; the address is the machine's.
    let others = ["--interface=tap0", "--bind-interfaces", "--dhcp-ignore-clid", &range];
    Dnsmasq::start(&[names, &others].concat())
}

/// The node's config: one CPU for the system, the other isolated.
#[must_use]
pub fn config(
    cluster: &Cluster,
    (token, ca_hash): (&str, &str),
    images: &[(&str, String)],
    key: &Key,
) -> NodeYaml {
    let join = format!("token: {token}, caCertHashes: ['{ca_hash}']");
    config_joining(&cluster.endpoint(), &join, images, key)
}

/// The same for any endpoint and way to join, which is the inside of `kubernetes.join` in YAML's flow form.
#[must_use]
pub fn config_joining(endpoint: &str, join: &str, images: &[(&str, String)], key: &Key) -> NodeYaml {
    let images: String = images
        .iter()
        .map(|(file, sha256)| format!("\n    - {{url: ../images/{file}, sha256: {sha256}}}"))
        .collect();
    NodeYaml::new(NAME)
        .with(&format!("users:\n  - {{name: alice, keys: ['{}'], sudo: true}}\n", key.public()))
        .with("tuning: {housekeeping: {cpus: '0'}, isolation: balanced}\n")
        .with(&format!(
            "kubernetes:\n  endpoint: {endpoint}\n  join: {{{join}}}\n  labels: {{example.com/rack: r1}}\n  \
             pauseImage: {}\n  images:{images}\n",
            image::PAUSE,
        ))
}

/// Makes the images and puts them beside the release; gives their files and digests.
#[must_use]
pub fn images(www: &Path) -> Vec<(&'static str, String)> {
    std::fs::create_dir(www.join("images")).expect("images/");
    [("pause.tar", image::PAUSE, "pause"), ("pod.tar", image::POD, "cpus")]
        .map(|(file, name, argument)| {
            (file, image::archive(&www.join("images").join(file), name, &[argument]))
        })
        .into()
}

/// A pod of the test image, with one container that is run with these arguments.
#[must_use]
pub fn pod(name: &str, arguments: &[&str], resources: &Value) -> Value {
    let container = json!({
        "name": "main", "image": image::POD, "args": arguments, "imagePullPolicy": "Never", "resources": resources,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1},
    })
}

/// The cluster's network, as network plugins bring it: a DaemonSet on the host's network that writes its configuration to the node.
#[must_use]
pub fn network_plugin() -> Value {
    let conflist = json!({
        "cniVersion": "0.4.0", "name": "pods",
        "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": false,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    });
    let container = json!({
        "name": "install", "image": image::POD, "imagePullPolicy": "Never",
        "args": ["write", "/host/10-pods.conflist", conflist.to_string()],
        "volumeMounts": [{"name": "conf", "mountPath": "/host"}],
    });
    let pod = json!({
        "hostNetwork": true, "containers": [container], "automountServiceAccountToken": false,
        "tolerations": [{"operator": "Exists"}],
        "volumes": [{"name": "conf", "hostPath": {"path": "/etc/cni/net.d"}}],
    });
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "network", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": {"app": "network"}},
            "template": {"metadata": {"labels": {"app": "network"}}, "spec": pod},
        },
    })
}

/// A machine that is, or becomes, a node of the cluster.
pub struct Node<'a> {
    /// Which cluster it is a node of.
    pub cluster: &'a Cluster,
    /// Of `alice`, who may do everything by sudo.
    pub key: &'a Key,
}

impl Node<'_> {
    /// What the API says of it once it is ready; `before` is the boot that it must not be any more.
    #[must_use]
    pub fn ready(&self, before: Option<&str>) -> Value {
        let node = format!("node/{NAME}");
        self.cluster.until(&format!("{NAME} Ready"), BOOT, |cluster| {
            let node = cluster.json(&["get", &node, "--output=json"])?;
            let conditions = node["status"]["conditions"].as_array()?;
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready")?;
            let other = before.is_none_or(|before| node["status"]["nodeInfo"]["bootID"] != before);
            (ready["status"] == "True" && other).then_some(node.clone())
        })
    }

    /// Waits for a line of a pod's log, which comes through the API server from the node's kubelet.
    pub fn logs(&self, pod: &str, needle: &str) -> String {
        self.cluster.until(&format!("`{needle}` in the log of {pod}"), POD, |cluster| {
            cluster.kubectl(&["logs", pod]).ok().filter(|log| log.contains(needle))
        })
    }

    /// What a command prints there.
    ///
    /// # Panics
    /// When nobody can log in, or the command fails.
    #[must_use]
    pub fn ssh(&self, command: &str) -> String {
        let login = self.key.login_at("alice", ADDRESS, 22, command);
        assert!(login.ok, "`{command}`: {}{}", login.out, login.err);
        login.out
    }

    /// What `tatara-node status` says of the join.
    ///
    /// # Panics
    /// As [`Self::ssh`], or when it says nothing of it.
    #[must_use]
    pub fn join_status(&self) -> Value {
        // Its exit status says that the node is degraded.
        let text = self.ssh("sudo tatara-node status --json || true");
        let status: Value = serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why} in {text}"));
        status["join"].clone()
    }
}

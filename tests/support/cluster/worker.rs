//! What workers of tests and of the demo run in a real control plane: their network, images and pods, and the node itself.

use super::{Cluster, image};
use crate::config::NodeYaml;
use crate::guest::{Firmware, Setup, Start};
use crate::lan::{self, Dnsmasq};
use crate::ntp;
use crate::server::{HTTP_PORT, Server};
use crate::session;
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

/// The network of the test, as docs/pxe.md tells an operator to make one: what gives the machine its address, its boot loader and the
/// time. It ends with the value.
///
/// # Panics
/// When the namespace refuses it, or the guide has no configuration of dnsmasq any more.
#[must_use]
pub fn network() -> Dnsmasq {
    // No DNS.
    network_with(&["--port=0".to_owned()])
}

/// The same with a name server, which knows the names of a file in the form of hosts(5).
///
/// # Panics
/// As [`network`].
#[must_use]
pub fn network_with_names(hosts: &Path) -> Dnsmasq {
    // Names of the test's own domain are asked of nobody else.
    network_with(&["--local=/cluster.test/".to_owned(), format!("--addn-hosts={}", hosts.display())])
}

fn network_with(names: &[String]) -> Dnsmasq {
    lan::tap(TAP, &format!("{HOST}/24"));
    ntp::of_the_host(HOST);
    // PID 1 and the installed system name themselves differently to a DHCP server; the address is the machine's.
    let own = ["--bind-interfaces", "--dhcp-ignore-clid"].map(str::to_owned);
    let arguments: Vec<String> = names.iter().cloned().chain(own).chain(documented()).collect();
    Dnsmasq::start(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The guide's configuration of dnsmasq, line by line, with the names and addresses of this network.
fn documented() -> Vec<String> {
    let (tap, http) = (format!("interface={TAP}"), format!("{HOST}:{HTTP_PORT}"));
    let (range, host) = (format!("{ADDRESS},{ADDRESS}"), HOST.to_owned());
    let here = [
        ("interface=eth1", tap),
        ("192.0.2.100,192.0.2.200", range),
        ("192.0.2.1:8080", http),
        ("192.0.2.1", host),
        // Where Debian's package has the loaders.
        ("/srv/tftp", "/usr/lib/ipxe".to_owned()),
    ];
    let guide = include_str!("../../../docs/pxe.md");
    let (_, rest) = guide.split_once("# /etc/dnsmasq.d/tatara.conf\n").expect("dnsmasq's configuration");
    let lines = rest.lines().map_while(|line| line.strip_prefix("    "));
    lines
        .map(|line| here.iter().fold(format!("--{line}"), |line, (there, here)| line.replace(there, here)))
        .collect()
}

/// A machine on the tap, with room for pods.
#[must_use]
pub fn machine(firmware: Firmware, start: Start) -> Setup {
    let mut setup = Setup::new(firmware, start).memory_mib(2048);
    setup.taps = vec![TAP.to_owned()];
    setup
}

/// The node's config: one CPU for the system, the other isolated.
#[must_use]
pub fn config(cluster: &Cluster, (token, ca_hash): (&str, &str), pod_image: &str, key: &Key) -> NodeYaml {
    let join = format!("token: {token}, caCertHashes: ['{ca_hash}']");
    config_joining(&cluster.endpoint(), &join, pod_image, key)
}

/// The same for any endpoint and way to join, which is the inside of `kubernetes.join` in YAML's flow form. One image is in the release,
/// the other one beside it, with this digest.
#[must_use]
pub fn config_joining(endpoint: &str, join: &str, pod_image: &str, key: &Key) -> NodeYaml {
    NodeYaml::new(NAME)
        .with(&session::user(key))
        .with("tuning: {housekeeping: {cpus: '0'}, isolation: balanced}\n")
        .with(&format!(
            "kubernetes:\n  endpoint: {endpoint}\n  join: {{{join}}}\n  labels: {{example.com/rack: r1}}\n  \
             pauseImage: {}\n  images:\n    - {{release: {}}}\n    \
             - {{url: ../images/pod.tar, sha256: {pod_image}}}\n",
            image::PAUSE,
            image::PAUSE_FILE,
        ))
}

/// Makes the pods' image and puts it beside the release; gives its digest.
///
/// # Panics
/// When it cannot be written.
#[must_use]
pub fn pod_image(www: &Path) -> String {
    std::fs::create_dir(www.join("images")).expect("images/");
    image::archive(&www.join("images/pod.tar"), image::POD, &["cpus"])
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

/// A cluster, and a machine that is to become its node: everything but power.
pub struct Stage {
    /// The control plane.
    pub cluster: Cluster,
    /// Serves release, images and the machine's config.
    pub server: Server,
    /// Of [`session::USER`].
    pub key: Key,
    /// The machine.
    pub setup: Setup,
    /// Its config.
    pub config: NodeYaml,
    /// By which it may join; it lives longer than the machine takes.
    pub token: String,
    _network: Dnsmasq,
}

impl Stage {
    /// Makes all of it for a machine of [`machine`].
    ///
    /// # Panics
    /// When a part does not start.
    #[must_use]
    pub fn new(release: &Path, setup: Setup, key: Key) -> Self {
        let network = network();
        let cluster = Cluster::start(HOST);
        cluster.apply(&network_plugin());
        let server = Server::at(HOST, HOST, release, &["console=ttyS0"]);
        let token = cluster.token("2h");
        let config = config(&cluster, (&token, &cluster.ca_hash()), &pod_image(&server.www()), &key);
        server.publish(&setup.mac(), &config.text());
        Self { cluster, server, key, setup, config, token, _network: network }
    }

    /// The node that the machine becomes.
    #[must_use]
    pub fn node(&self) -> Node<'_> {
        Node { cluster: &self.cluster, key: &self.key }
    }
}

/// A machine that is, or becomes, a node of the cluster.
pub struct Node<'a> {
    /// Which cluster it is a node of.
    pub cluster: &'a Cluster,
    /// Of [`session::USER`], who may do everything by sudo.
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

    /// Seconds from its kernel's start until it has reached multi-user.target, as systemd has them: its line on the console may have one
    /// of the kernel's in its middle.
    ///
    /// # Panics
    /// As [`Self::ssh`].
    #[must_use]
    pub fn multi_user_s(&self) -> f64 {
        const ASK: &str = "sudo systemctl start multi-user.target && \
                           systemctl show --property=ActiveEnterTimestampMonotonic --value multi-user.target";
        let microseconds: f64 = self.ssh(ASK).trim().parse().expect("microseconds");
        microseconds / 1e6
    }

    /// What a command prints there.
    ///
    /// # Panics
    /// When nobody can log in, or the command fails.
    #[must_use]
    pub fn ssh(&self, command: &str) -> String {
        let login = self.key.login_at(session::USER, ADDRESS, 22, command);
        assert!(login.ok, "`{command}`: {}{}", login.out, login.err);
        login.out
    }

    /// Has the machine power itself off; [`crate::guest::Guest::ended`] waits for it.
    pub fn power_off(&self) {
        // The connection ends with the machine, before the command does.
        let _ = self.key.login_at(session::USER, ADDRESS, 22, "sudo poweroff");
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

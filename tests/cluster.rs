//! A blank machine and a real cluster: it installs itself, joins on its first boot, runs pods, and is there again after a reboot.
//! Everything is in a network namespace of the test, so that the API server reaches the machine's kubelet.

use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use support::cluster::{Cluster, image};
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::lan::{self, Dnsmasq};
use support::release;
use support::server::Server;
use support::ssh::Key;

/// Emulated on two busy cores; a machine that is stuck is ended here.
const INSTALL: Duration = Duration::from_secs(600);
const BOOT: Duration = Duration::from_secs(600);
/// A pod from its begin to its first line.
const POD: Duration = Duration::from_secs(240);

const HOST: &str = "10.77.0.1";
const NODE: &str = "10.77.0.50";
const NAME: &str = "node-1";

const JOINED: &str = "step=joined state=ok";

/// The network of the test, and who gives the machine its address.
fn network() -> Dnsmasq {
    lan::tap("tap0", &format!("{HOST}/24"));
    let range = format!("--dhcp-range={NODE},{NODE},255.255.255.0,1h");
    // PID 1 and the installed system name themselves differently to a DHCP server; the address is the machine's.
    let one_machine = "--dhcp-ignore-clid";
    Dnsmasq::start(&["--port=0", "--interface=tap0", "--bind-interfaces", one_machine, &range])
}

#[test]
fn the_control_plane_is_one_that_nodes_can_join() {
    // It makes the control plane's programs, and needs the host's network for that.
    drop(release::node());
    lan::alone(|| {
        let _dhcp = network();
        let cluster = Cluster::start(HOST);
        for name in ["kubeadm-config", "kubelet-config-1.20"] {
            cluster.say(&["get", "configmap", "--namespace=kube-system", name]);
        }
        let command = cluster.join_command();
        assert!(command.contains(&cluster.endpoint()), "{command}");
        assert!(command.contains(&cluster.ca_hash()), "{command} has not {}", cluster.ca_hash());
        assert_eq!(cluster.token("1h").len(), "abcdef.0123456789abcdef".len());
        assert_eq!(cluster.say(&["get", "nodes", "--output=name"]), "");
    });
}

fn machine() -> Setup {
    let mut setup = Setup::new(Firmware::Bios, Start::Direct).memory_mib(2048);
    setup.taps = vec!["tap0".to_owned()];
    setup
}

/// The node's config: one CPU for the system, the other isolated.
fn config(
    cluster: &Cluster,
    (token, ca_hash): (&str, &str),
    images: &[(&str, String)],
    key: &Key,
) -> NodeYaml {
    let images: String = images
        .iter()
        .map(|(file, sha256)| format!("\n    - {{url: ../images/{file}, sha256: {sha256}}}"))
        .collect();
    NodeYaml::new(NAME)
        .with(&format!("users:\n  - {{name: alice, keys: ['{}'], sudo: true}}\n", key.public()))
        .with("tuning: {housekeeping: {cpus: '0'}, isolation: balanced}\n")
        .with(&format!(
            "kubernetes:\n  endpoint: {}\n  join: {{token: {token}, caCertHashes: ['{ca_hash}']}}\n  labels: {{example.com/rack: r1}}\n  \
             pauseImage: {}\n  images:{images}\n",
            cluster.endpoint(),
            image::PAUSE,
        ))
}

/// Makes the images and puts them beside the release; gives their files and digests.
fn images(www: &Path) -> Vec<(&'static str, String)> {
    std::fs::create_dir(www.join("images")).expect("images/");
    [("pause.tar", image::PAUSE, "pause"), ("pod.tar", image::POD, "cpus")]
        .map(|(file, name, argument)| {
            (file, image::archive(&www.join("images").join(file), name, &[argument]))
        })
        .into()
}

fn pod(name: &str, arguments: &[&str], resources: &Value) -> Value {
    let container = json!({
        "name": "main", "image": image::POD, "args": arguments, "imagePullPolicy": "Never", "resources": resources,
    });
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {"containers": [container], "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1},
    })
}

/// The cluster's network, as network plugins bring it: a DaemonSet on the host's network that writes its configuration to the node.
fn network_plugin() -> Value {
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

struct Node<'a> {
    cluster: &'a Cluster,
    key: &'a Key,
}

impl Node<'_> {
    /// What the API says of it once it is ready; `before` is the boot that it must not be any more.
    fn ready(&self, before: Option<&str>) -> Value {
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
    fn logs(&self, pod: &str, needle: &str) -> String {
        self.cluster.until(&format!("`{needle}` in the log of {pod}"), POD, |cluster| {
            cluster.kubectl(&["logs", pod]).ok().filter(|log| log.contains(needle))
        })
    }

    fn ssh(&self, command: &str) -> String {
        let login = self.key.login_at("alice", NODE, 22, command);
        assert!(login.ok, "`{command}`: {}{}", login.out, login.err);
        login.out
    }
}

/// Pods run, speak through the API server, and get the CPUs that are theirs.
fn check_pods(node: &Node<'_>) {
    let whole = json!({"cpu": "1", "memory": "32Mi"});
    // There is one CPU for pods, and the other one wants it whole.
    let part = json!({"memory": "32Mi"});
    let cluster = node.cluster;
    cluster.apply(&pod("shared", &["say", "hello from a pod"], &json!({"requests": part})));
    node.logs("shared", "hello from a pod\n");
    cluster.apply(&pod(
        "alone",
        &["say", "hello from its own CPU"],
        &json!({"requests": whole, "limits": whole}),
    ));
    let log = node.logs("alone", "cpus: ");
    assert!(log.contains("cpus: 1\n"), "a Guaranteed pod of one CPU is not on the isolated one: {log}");
    // The kubelet moves who was there before at its next look, every 10 s.
    cluster.until("a Burstable pod off another pod's CPU", POD, |cluster| {
        let cpus = cluster.kubectl(&["exec", "shared", "--", "/tatara-pod", "cpus"]).ok()?;
        (cpus == "cpus: 0\n").then_some(())
    });
}

/// The kubelet answers the control plane, which the logs of pods come through; what is not named is dropped, not refused.
fn check_firewall(node: &Node<'_>) {
    let rules = node.ssh("sudo nft list table inet tatara");
    assert!(rules.contains(&format!("ip saddr {HOST} tcp dport 10250 accept")), "{rules}");
    let nobody = std::net::SocketAddr::new(NODE.parse().expect("an address"), 9999);
    let answer = std::net::TcpStream::connect_timeout(&nobody, Duration::from_secs(5));
    let error = answer.expect_err("nobody listens there");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
}

/// What the release brings starts when the config says so, and what it starts works.
fn check_units(node: &Node<'_>) {
    assert_eq!(node.ssh("systemctl --failed --no-legend --plain"), "", "units have failed");
    assert_eq!(node.ssh("systemctl is-active etcd || true").trim(), "inactive", "nobody asked for etcd");
}

/// The token is nowhere on the node any more.
fn check_secret(node: &Node<'_>, token: &str) {
    let secret = token.split('.').nth(1).unwrap_or_default();
    // The pattern in brackets does not match itself in the journal's own line about this command.
    let (first, rest) = secret.split_at(1);
    let found = node.ssh(&format!(
        "sudo grep -rlsI '[{first}]{rest}' /etc /run /var --exclude-dir=containerd || true; \
         sudo journalctl --no-pager | grep '[{first}]{rest}' || true"
    ));
    assert_eq!(found, "", "the token is still on the node");
}

#[test]
fn a_blank_machine_joins_runs_pods_and_is_there_after_a_reboot() {
    let release = release::node();
    lan::alone(move || {
        let _dhcp = network();
        let cluster = Cluster::start(HOST);
        cluster.apply(&network_plugin());
        let server = Server::at(HOST, HOST, &release, &["console=ttyS0"]);
        let key = Key::generate();
        let token = cluster.token("2h");
        let setup = machine();
        let config = config(&cluster, (&token, &cluster.ca_hash()), &images(&server.www()), &key)
            .with(&format!("firewall: {{ssh: [{HOST}], kubelet: [{HOST}]}}\n"));
        server.publish(&setup.mac(), &config.text());

        let guest = Guest::start(&setup, Some(&server));
        guest.expect("step=record state=ok", INSTALL);
        guest.expect(JOINED, BOOT);
        let node = Node { cluster: &cluster, key: &key };
        let first = node.ready(None);
        assert_eq!(first["metadata"]["labels"]["example.com/rack"], "r1");
        assert_eq!(first["status"]["nodeInfo"]["kubeletVersion"], "v1.20.2");
        assert_eq!(first["status"]["allocatable"]["cpu"], "1", "the housekeeping CPU is not the cluster's");
        check_firewall(&node);
        check_pods(&node);
        check_units(&node);
        check_secret(&node, &token);
        let _ = key.login_at("alice", NODE, 22, "sudo poweroff");
        guest.ended(BOOT);

        // By now a join would find a Node of its name, and a token that was used.
        let guest = Guest::start(&setup.again(Start::Disk), None);
        let again = node.ready(first["status"]["nodeInfo"]["bootID"].as_str());
        assert_eq!(again["metadata"]["uid"], first["metadata"]["uid"], "the Node is another one");
        assert!(guest.never("step=join state=begin"), "it joined again:\n{}", guest.tail());
        node.logs("shared", "hello from a pod\n");
    });
}

/// What is wrong is outside of the node, and so is its end: the node says what it is, and goes on.
#[test]
fn a_node_that_cannot_join_says_why_and_goes_on_by_itself() {
    let release = release::node();
    lan::alone(move || {
        let _dhcp = network();
        let mut cluster = Cluster::start(HOST);
        cluster.apply(&network_plugin());
        let server = Server::at(HOST, HOST, &release, &["console=ttyS0"]);
        let (key, setup) = (Key::generate(), machine());
        let images = images(&server.www());
        let token = cluster.token("30s");
        let other = format!("sha256:{}", "0".repeat(64));
        let wrong = config(&cluster, (&token, &other), &images, &key);
        server.publish(&setup.mac(), &wrong.text());

        cluster.api_server(false);
        let guest = Guest::start(&setup, Some(&server));
        guest.expect("step=record state=ok", INSTALL);
        guest.expect("step=join-api state=fail", BOOT);
        guest.printed("code=E-JOIN-API", BOOT);
        cluster.api_server(true);
        let refused = guest.expect("code=E-JOIN-CA", BOOT);
        assert!(refused.contains(&cluster.ca_hash()), "{refused}");
        assert!(guest.never("step=join-token"), "a token for whoever answers:\n{}", guest.tail());
        let _ = key.login_at("alice", NODE, 22, "sudo poweroff");
        guest.ended(BOOT);

        let mut right = config(&cluster, (&token, &cluster.ca_hash()), &images, &key);
        right.serial = 2;
        server.publish(&setup.mac(), &right.text());
        let guest = Guest::start(&setup, Some(&server));
        guest.expect("step=join-token state=fail", BOOT);
        guest.printed("code=E-JOIN-TOKEN", BOOT);
        cluster.takes(&token);
        guest.expect(JOINED, BOOT);
        let ready = Node { cluster: &cluster, key: &key }.ready(None);
        assert_eq!(ready["metadata"]["name"], NAME);
    });
}

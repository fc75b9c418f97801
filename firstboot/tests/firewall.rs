//! The firewall in force: a node and its neighbours in network namespaces of their own. Needs root, ip(8) and nft(8).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests, too, end the test"
)]

use nix::sched::{CloneFlags, unshare};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
use tatara_firstboot::{BaseFiles, Content, Input, render};
use tatara_spec::config::parse;
use tatara_spec::cpu::CpuPlan;

/// The node, in both families.
const NODE: [&str; 2] = ["10.9.0.1", "fd09::1"];
/// The control plane, another node, and somebody else.
const CONTROL_PLANE: [&str; 2] = ["10.9.0.2", "fd09::2"];
const NEIGHBOUR: [&str; 2] = ["10.9.0.3", "fd09::3"];
const STRANGER: [&str; 2] = ["10.9.1.4", "fd09:0:0:1::4"];

const CONFIG: &str = "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {name: n}\n\
install: {release: {url: r.json}}\nkubernetes:\n  endpoint: 10.9.0.2:6443\n  join:\n    token: abcdef.0123456789abcdef\n\
\x20   caCertHashes: [sha256:7c2e69131a36ae2a042a339b33381c6d0d43887e2de83720eff5359e26aec866]\n\
firewall:\n  ssh: [10.9.0.0/24, 'fd09::/64']\n  kubelet: [10.9.0.2, 'fd09::2']\n  nodes: [10.9.0.0/24, 'fd09::/64']\n  cni: cilium\n";

const WITHOUT_NODE_PORTS: &str = "";
const WITH_NODE_PORTS: &str = "  nodePorts: {enabled: true, sources: [10.9.0.3, 'fd09::3']}\n";

/// Closed for everybody: nobody named it.
const OTHER: u16 = 8080;
const SSH: u16 = 22;
const KUBELET: u16 = 10250;
const CILIUM_HEALTH: u16 = 4240;
/// Led to [`OTHER`], as kube-proxy leads a service's port to a pod.
const NODE_PORT: u16 = 30080;

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ip(words: &str) {
    run("ip", &words.split_whitespace().collect::<Vec<_>>());
}

fn table(more: &str) -> String {
    let config =
        parse("n.yaml", format!("{CONFIG}{more}").as_bytes()).unwrap_or_else(|found| panic!("{found:?}"));
    let (keys, base) = (BTreeMap::new(), BaseFiles::default());
    let machine_id = "0123456789abcdef0123456789abcdef";
    let cpu = CpuPlan::default();
    let input =
        Input { config: &config, cpu: &cpu, fetched_keys: &keys, machine_id, base: &base, versions: None };
    let files = render(&input).unwrap();
    match &files.iter().find(|file| file.path == "/etc/tatara/firewall.nft").unwrap().content {
        Content::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Content::Symlink(_) => panic!("a link"),
    }
}

fn load(table: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), table).unwrap();
    run("nft", &["-f", file.path().to_str().unwrap()]);
}

/// Somebody on the other end of the wire.
struct Neighbours {
    ask: Sender<(IpAddr, SocketAddr)>,
    answers: Receiver<bool>,
}

impl Neighbours {
    /// A thread in a network of its own; gives the path of that network.
    fn start() -> (Self, String) {
        let (ask, asked) = channel::<(IpAddr, SocketAddr)>();
        let (answer, answers) = channel();
        let (ready, network) = channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; this test runs as root");
            let thread = rustix::thread::gettid().as_raw_nonzero();
            ready.send(format!("/proc/{}/task/{thread}/ns/net", std::process::id())).unwrap();
            for (number, (from, to)) in asked.into_iter().enumerate() {
                if number == 0 {
                    for address in [CONTROL_PLANE, NEIGHBOUR, STRANGER].iter().flatten() {
                        let (length, flag) = if address.contains(':') { (48, "nodad") } else { (16, "") };
                        ip(&format!("addr add {address}/{length} dev wire1 {flag}"));
                    }
                    ip("link set wire1 up");
                }
                answer.send(reaches(from, to)).unwrap();
            }
        });
        let network = network.recv().unwrap();
        (Self { ask, answers }, network)
    }

    fn reach(&self, from: &str, to: &str, port: u16) -> bool {
        self.ask.send((from.parse().unwrap(), SocketAddr::new(to.parse().unwrap(), port))).unwrap();
        self.answers.recv().unwrap()
    }
}

/// Whether a connection comes about; a packet that is dropped is waited for half a second.
fn reaches(from: IpAddr, to: SocketAddr) -> bool {
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None).unwrap();
    bind(&socket, &SocketAddr::new(from, 0)).unwrap();
    set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_millis(500))).unwrap();
    connect(&socket, &to).is_ok()
}

/// The node's side: its wire, its servers, and kube-proxy's rule.
fn node(network: &str) -> Vec<TcpListener> {
    ip("link set lo up");
    ip("link add wire0 type veth peer name wire1");
    ip(&format!("link set wire1 netns {network}"));
    ip("addr add 10.9.0.1/16 dev wire0");
    ip("addr add fd09::1/48 dev wire0 nodad");
    ip("link set wire0 up");
    for (family, node) in [("ip", format!("{}:{OTHER}", NODE[0])), ("ip6", format!("[{}]:{OTHER}", NODE[1]))]
    {
        run(
            "nft",
            &[&format!(
                "add table {family} kube-proxy; add chain {family} kube-proxy services {{ type nat hook prerouting priority -100; }}; \
             add rule {family} kube-proxy services tcp dport {NODE_PORT} dnat to {node}"
            )],
        );
    }
    let listen =
        |(address, port): (&str, u16)| TcpListener::bind((address.parse::<IpAddr>().unwrap(), port)).unwrap();
    NODE.iter()
        .flat_map(|address| [SSH, KUBELET, CILIUM_HEALTH, OTHER].map(|port| (*address, port)))
        .map(listen)
        .collect()
}

#[test]
fn what_is_named_answers_and_nothing_else() {
    let test = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace; this test runs as root");
        let (neighbours, network) = Neighbours::start();
        let _servers = node(&network);
        for (family, to) in NODE.iter().enumerate() {
            assert!(
                neighbours.reach(STRANGER[family], to, OTHER),
                "{to}: without a firewall everything is open"
            );
            assert!(neighbours.reach(STRANGER[family], to, NODE_PORT), "{to}");
        }
        // Loaded twice: as at a boot, and again by a reload.
        for more in [WITHOUT_NODE_PORTS, WITH_NODE_PORTS] {
            load(&table(more));
            let open = !more.is_empty();
            for (family, to) in NODE.iter().enumerate() {
                let reach = |who: [&str; 2], port| neighbours.reach(who[family], to, port);
                for (port, control_plane, neighbour, stranger) in [
                    (SSH, true, true, false),
                    (KUBELET, true, false, false),
                    (CILIUM_HEALTH, true, true, false),
                    (OTHER, false, false, false),
                    (NODE_PORT, false, open, false),
                ] {
                    let found = [reach(CONTROL_PLANE, port), reach(NEIGHBOUR, port), reach(STRANGER, port)];
                    assert_eq!(found, [control_plane, neighbour, stranger], "port {port} of {to}, {more:?}");
                }
            }
        }
        let rules = run("nft", &["list", "ruleset"]);
        assert_eq!(rules.matches("dnat to").count(), 2, "kube-proxy's rules stay: {rules}");
        assert_eq!(rules.matches("table inet tatara").count(), 1, "{rules}");
    });
    test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

//! `firewall`: one nftables table of our own (nft(8)).
//!
//! No rule of anybody else's is touched, and nothing is forbidden to pass through the node: kube-proxy and network plugins have tables of
//! their own for that. NodePorts are redirected to pods at priority -100, so they are filtered before.

use super::{Rendered, fault, header};
use std::fmt::Write;
use std::net::IpAddr;
use tatara_spec::Fault;
use tatara_spec::config::{Cni, Firewall};

/// Read by tatara-firewall.service.
const PATH: &str = "/etc/tatara/firewall.nft";
/// Kubernetes' default `--service-node-port-range`.
const NODE_PORTS: &str = "30000-32767";
const NODE_PORT_RANGE: std::ops::RangeInclusive<u16> = 30000..=32767;
const SSH: &str = "tcp dport 22";
const KUBELET: &str = "tcp dport 10250";

/// Protocols by number (IANA): their names are in a file of another package.
const ICMP: u8 = 1;
const ICMP6: u8 = 58;

/// Interfaces of pods on this node.
const POD_INTERFACES: [&str; 6] = ["cali*", "cilium*", "cni*", "lxc*", "tunl*", "vxlan.calico"];

/// Calico documentation, "System requirements": BGP, IP in IP (protocol 4), VXLAN, Typha, WireGuard.
const CALICO: [&str; 5] =
    ["tcp dport 179", "meta l4proto 4", "udp dport 4789", "tcp dport 5473", "udp dport 51820-51821"];
/// Cilium documentation, "Firewall Rules": health, Hubble, VXLAN, Geneve, WireGuard.
const CILIUM: [&str; 5] =
    ["tcp dport 4240", "tcp dport 4244", "udp dport 8472", "udp dport 6081", "udp dport 51871"];

pub(super) fn render(firewall: Option<&Firewall>) -> Result<Vec<Rendered>, Fault> {
    let Some(firewall) = firewall else { return Ok(Vec::new()) };
    let wants = header("firewall") + "[Unit]\nWants=tatara-firewall.service\n";
    let mut rendered = vec![
        Rendered::public(PATH, header("firewall") + &table(firewall)?),
        Rendered::public("/etc/systemd/system/sysinit.target.d/20-tatara-firewall.conf", wants),
    ];
    // Without its firewall the node can be logged in to and mended, but it serves nobody.
    for unit in ["kubelet.service", "tatara-join.service"] {
        let needs =
            header("firewall") + "[Unit]\nRequires=tatara-firewall.service\nAfter=tatara-firewall.service\n";
        let path = format!("/etc/systemd/system/{unit}.d/30-tatara-firewall.conf");
        rendered.push(Rendered::public(path, needs));
    }
    Ok(rendered)
}

/// The empty table makes the deletion good the first time; all of it is one transaction.
fn table(firewall: &Firewall) -> Result<String, Fault> {
    let mut rules = Rules::default();
    rules.line("ct state established,related accept");
    rules.line("ct state invalid drop");
    rules.line("iifname \"lo\" accept");
    rules.line(&format!("meta l4proto {{ {ICMP}, {ICMP6} }} accept"));
    rules.line("udp dport 68 accept");
    rules.line("ip6 saddr fe80::/10 udp dport 546 accept");
    rules.allow(SSH, &firewall.ssh)?;
    if !firewall.kubelet.is_empty() {
        rules.allow(KUBELET, &firewall.kubelet)?;
    }
    let ports: &[&str] = match firewall.cni {
        Cni::None => &[],
        Cni::Calico => &CALICO,
        Cni::Cilium => &CILIUM,
    };
    for port in ports {
        rules.allow(port, &firewall.nodes)?;
    }
    for open in &firewall.allow {
        rules.allow(&format!("{} dport {}", open.protocol.name(), open.port), &open.sources)?;
    }
    // Pods reach the node, but not its kubelet.
    rules.line(&format!("{KUBELET} drop"));
    for interface in POD_INTERFACES {
        rules.line(&format!("iifname \"{interface}\" accept"));
    }
    // A NodePort that a program on the node answers, without a redirection: IPVS, health checks of load balancers.
    if firewall.node_ports.enabled {
        for protocol in ["tcp", "udp", "sctp"] {
            rules.allow(&format!("{protocol} dport {NODE_PORTS}"), &firewall.node_ports.sources)?;
        }
    }
    // A NodePort that leads to a pod in the node's own network: who may was decided before it was redirected.
    rules.line("ct status dnat accept");
    Ok(format!(
        "\
table inet tatara {{}}
delete table inet tatara
table inet tatara {{
	chain input {{
		type filter hook input priority filter; policy drop;
{}	}}
	chain node-ports {{
		type filter hook prerouting priority -150; policy accept;
{}	}}
}}
",
        rules.0,
        node_ports(firewall)?.0
    ))
}

/// Only new connections to addresses of the node itself: packets that pass through to another node's port are not ours.
fn node_ports(firewall: &Firewall) -> Result<Rules, Fault> {
    let mut rules = Rules::default();
    rules.line("iifname \"lo\" accept");
    for interface in POD_INTERFACES {
        rules.line(&format!("iifname \"{interface}\" accept"));
    }
    for open in firewall.allow.iter().filter(|open| NODE_PORT_RANGE.contains(&open.port)) {
        rules.allow(&format!("{} dport {}", open.protocol.name(), open.port), &open.sources)?;
    }
    let ports = |protocol: &str| format!("fib daddr type local {protocol} dport {NODE_PORTS} ct state new");
    for protocol in ["tcp", "udp", "sctp"] {
        match (firewall.node_ports.enabled, firewall.node_ports.sources.as_slice()) {
            (true, []) => {}
            (true, sources) => {
                rules.allow(&ports(protocol), sources)?;
                rules.line(&format!("{} drop", ports(protocol)));
            }
            (false, _) => rules.line(&format!("{} drop", ports(protocol))),
        }
    }
    Ok(rules)
}

#[derive(Debug, Default)]
struct Rules(String);

impl Rules {
    fn line(&mut self, rule: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "\t\t{rule}");
    }

    /// One rule a source: a set would refuse networks that overlap.
    fn allow(&mut self, what: &str, sources: &[String]) -> Result<(), Fault> {
        if sources.is_empty() {
            self.line(&format!("{what} accept"));
        }
        for source in sources {
            let family = family(source)?;
            self.line(&format!("{family} saddr {source} {what} accept"));
        }
        Ok(())
    }
}

fn family(source: &str) -> Result<&'static str, Fault> {
    let address = source.split('/').next().unwrap_or_default();
    match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => Ok("ip"),
        Ok(IpAddr::V6(_)) => Ok("ip6"),
        Err(_) => Err(fault(format!("firewall: {source:?} is neither an address nor a network"))),
    }
}

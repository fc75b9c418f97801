//! Fetching on the node: it trusts whom its PID 1 trusts, and asks the name server of systemd-resolved.

use super::Node;
use rustls::ClientConfig;
use std::fs;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::sync::Arc;
use tatara_http::dns::Servers;
use tatara_http::fetch::{Client, Timing};
use tatara_http::tls::Trust;
use tatara_spec::layout::run;
use tatara_spec::{Code, Fault};

/// A client for servers that the operator runs.
pub(super) fn client(node: &Node) -> Result<Client, Fault> {
    with_tls(node, trust(node)?.client()?)
}

/// The same with another patience.
pub(super) fn client_within(node: &Node, timing: Timing) -> Result<Client, Fault> {
    Client::new(trust(node)?.client()?, servers(node)?, timing)
}

/// The same, which says who it is to servers that ask: PEM of certificates and a private key.
pub(super) fn client_as(node: &Node, identity: &str) -> Result<Client, Fault> {
    with_tls(node, trust(node)?.client_as(identity.as_bytes())?)
}

fn trust(node: &Node) -> Result<Trust, Fault> {
    let pem = match fs::read(node.run(run::CA)) {
        Ok(pem) => Some(pem),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(Fault::caused(Code::NodeState, format!("read {}", run::CA), error)),
    };
    Trust::new(node.command_line()?.ca_pins, pem.as_deref())
}

/// A client that trusts whom `tls` trusts.
pub(super) fn with_tls(node: &Node, tls: Arc<ClientConfig>) -> Result<Client, Fault> {
    Client::new(tls, servers(node)?, Timing::default())
}

fn servers(node: &Node) -> Result<Servers, Fault> {
    let path = node.run("/etc/resolv.conf");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        // Addresses need no name server, and a name says what is missing.
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Fault::caused(Code::NodeState, format!("read {}", path.display()), error)),
    };
    let (servers, domain) = resolv_conf(&text);
    Ok(Servers::new(&servers, domain))
}

/// Name servers and the first search domain (resolv.conf(5)).
fn resolv_conf(text: &str) -> (Vec<IpAddr>, Option<&str>) {
    let values = |key: &'static str| {
        text.lines().filter_map(move |line| {
            let mut words = line.split_whitespace();
            (words.next() == Some(key)).then(|| words.next()).flatten()
        })
    };
    let servers = values("nameserver").filter_map(|address| address.parse().ok()).collect();
    (servers, values("search").find(|domain| *domain != "."))
}

#[cfg(test)]
mod tests {
    use super::resolv_conf;
    use std::net::IpAddr;

    #[test]
    fn resolv_conf_of_systemd_resolved() {
        let text = "# comment\nnameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lab.example other\nnameserver x\n";
        assert_eq!(resolv_conf(text), (vec![IpAddr::from([127, 0, 0, 53])], Some("lab.example")));
        assert_eq!(resolv_conf("search .\n"), (vec![], None));
    }
}

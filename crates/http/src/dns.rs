//! Names to addresses, by exactly the servers of the lease and the command line, without libc.
//!
//! There is no fallback: a machine that asked a public server for an internal name would tell the world about it.

use hickory_resolver::Resolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use reqwest::dns::{Addrs, Resolve, Resolving};
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr as _;
use std::time::Duration;
use tatara_spec::{Code, Fault};

/// How long one server is given for one answer; resolv.conf(5) has 5 s, but our caller tries again anyway.
const TIMEOUT: Duration = Duration::from_secs(3);

/// How often each server is asked, resolv.conf(5).
const ATTEMPTS: usize = 2;

/// The port of DNS servers, RFC 1035.
const PORT: u16 = 53;

/// The DNS servers to ask, and the domain to complete names with.
#[derive(Debug, Clone, Default)]
pub struct Servers {
    addresses: Vec<SocketAddr>,
    domain: Option<String>,
}

impl Servers {
    /// Asks these servers. Names without a dot are completed with `domain`.
    #[must_use]
    pub fn new(addresses: &[IpAddr], domain: Option<&str>) -> Self {
        Self::with_ports(addresses.iter().map(|ip| SocketAddr::new(*ip, PORT)).collect(), domain)
    }

    /// As [`Self::new`], with the port of each server.
    #[must_use]
    pub fn with_ports(addresses: Vec<SocketAddr>, domain: Option<&str>) -> Self {
        Self { addresses, domain: domain.map(str::to_owned) }
    }

    /// The addresses of a host, IPv4 and IPv6; an address is returned as it is.
    ///
    /// # Errors
    /// [`Code::NetDns`] with the host and the servers that were asked.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Fault> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if self.addresses.is_empty() {
            let message =
                format!("`{host}` could not be resolved: neither DHCP nor `nameserver=` named a DNS server");
            return Err(Fault::new(Code::NetDns, message));
        }
        // A resolver a lookup: its sockets belong to the runtime that made it, and there is more than one.
        let resolver = Resolver::builder_with_config(self.config(), TokioRuntimeProvider::default())
            .with_options(options())
            .build()
            .map_err(|e| self.fault(host, e))?;
        let answer = resolver.lookup_ip(host).await.map_err(|e| self.fault(host, e))?;
        Ok(answer.iter().collect())
    }

    fn config(&self) -> ResolverConfig {
        let servers = self.addresses.iter().map(|address| {
            let mut server = NameServerConfig::udp_and_tcp(address.ip());
            for connection in &mut server.connections {
                connection.port = address.port();
            }
            server
        });
        let domain = self.domain.as_deref().and_then(|domain| Name::from_str(domain).ok());
        ResolverConfig::from_parts(domain, Vec::new(), servers.collect())
    }

    fn fault(&self, host: &str, error: hickory_resolver::net::NetError) -> Fault {
        let servers: Vec<String> = self.addresses.iter().map(|a| a.ip().to_string()).collect();
        Fault::caused(
            Code::NetDns,
            format!("`{host}` could not be resolved, asked {}", servers.join(", ")),
            error,
        )
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = TIMEOUT;
    options.attempts = ATTEMPTS;
    options.use_hosts_file = ResolveHosts::Never;
    options
}

impl Resolve for Servers {
    fn resolve(&self, name: reqwest::dns::Name) -> Resolving {
        let servers = self.clone();
        Box::pin(async move {
            let found = servers.lookup(name.as_str()).await?;
            // Port 0 is replaced by the URL's.
            let addresses: Addrs = Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0)));
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    /// A DNS server that answers every question with NXDOMAIN (RFC 1035 section 4.1.1: QR, RCODE 3).
    fn nxdomain() -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        std::thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                packet[2] = 0x81;
                packet[3] = 0x83;
                let _ = socket.send_to(&packet[..length], from);
            }
        });
        address
    }

    fn lookup(servers: &Servers, host: &str) -> Result<Vec<IpAddr>, Fault> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(servers.lookup(host))
    }

    #[test]
    fn a_name_that_does_not_exist_names_the_servers() {
        let servers = Servers::with_ports(vec![nxdomain()], Some("lab.example"));
        let fault = lookup(&servers, "config.example").unwrap_err();
        assert_eq!(fault.code, Code::NetDns);
        assert!(fault.message.contains("`config.example`"), "{}", fault.message);
        assert!(fault.message.contains("127.0.0.1"), "{}", fault.message);
        assert!(std::error::Error::source(&fault).is_some());
    }

    #[test]
    fn addresses_pass_without_a_server() {
        let servers = Servers::default();
        assert_eq!(lookup(&servers, "10.0.2.2").unwrap(), [IpAddr::from([10, 0, 2, 2])]);
        assert_eq!(lookup(&servers, "fd00::1").unwrap(), ["fd00::1".parse::<IpAddr>().unwrap()]);
        let fault = lookup(&servers, "config.example").unwrap_err();
        assert!(fault.message.contains("nameserver="), "{}", fault.message);
    }
}

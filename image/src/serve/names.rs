//! The names and addresses by which machines may reach this host.

use nix::ifaddrs::getifaddrs;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// Every name and address for the certificate: those given, loopback, the host's name and its addresses.
pub(super) fn hosts(given: &[String], listen: SocketAddr) -> Vec<String> {
    let mut hosts: BTreeSet<String> = given.iter().cloned().collect();
    hosts.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    if !listen.ip().is_unspecified() {
        hosts.insert(listen.ip().to_string());
    }
    hosts.extend(host_name());
    hosts.extend(addresses().iter().map(IpAddr::to_string));
    hosts.into_iter().collect()
}

/// The host part of URLs: the first name given, else the address listened on, else the first of the host that is not loopback.
pub(super) fn url_host(given: &[String], listen: SocketAddr) -> String {
    let host = given.first().cloned().unwrap_or_else(|| {
        let ip = if listen.ip().is_unspecified() {
            addresses().into_iter().find(|ip| !ip.is_loopback()).unwrap_or(listen.ip())
        } else {
            listen.ip()
        };
        ip.to_string()
    });
    if host.contains(':') { format!("[{host}]") } else { host }
}

/// The host's addresses, IPv4 first. Link-local ones of IPv6 are left out: they mean nothing without a zone.
fn addresses() -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = getifaddrs()
        .into_iter()
        .flatten()
        .filter_map(|interface| interface.address)
        .filter_map(|address| {
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local()))
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// The host's name, when it can stand in a certificate.
fn host_name() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let valid = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
    valid.then_some(name)
}

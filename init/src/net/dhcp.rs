//! DHCP on one link: a task that asks until it is answered, and renews.

use mozim::{
    DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State, DhcpV6Client, DhcpV6Config, DhcpV6Lease,
    DhcpV6Mode, DhcpV6State,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::sync::mpsc::UnboundedSender;

/// After this many seconds without a lease we say so and start anew: the client's own waits grow to a minute, which is too
/// long for a port that starts to forward after 30 s of spanning tree (IEEE 802.1D) or 70 s of LACP.
pub(super) const ROUND_S: u32 = 20;

/// An offer that is not confirmed by then is given up, and another asked for. A refusal (DHCPNAK) looks the same from here as a
/// server that died in between, and the question is repeated once, after 3 to 5 s (RFC 2131 section 4.1).
const CONFIRM: Duration = Duration::from_secs(7);

/// What a server gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lease {
    /// Addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Default gateways, in order of preference.
    pub gateways: Vec<IpAddr>,
    /// Other routes: prefix and gateway; an unspecified gateway means on the link.
    pub routes: Vec<((IpAddr, u8), IpAddr)>,
    /// DNS servers.
    pub dns: Vec<IpAddr>,
    /// NTP servers: addresses or names.
    pub ntp: Vec<String>,
    /// DHCP option 12: anybody's text.
    pub hostname: Option<String>,
    /// DHCP option 15: anybody's text.
    pub domain: Option<String>,
    /// In bytes.
    pub mtu: Option<u32>,
    /// Who gave it, for messages.
    pub server: Option<IpAddr>,
    /// How long it is good for, in seconds.
    pub seconds: u32,
}

/// What a DHCP task reports.
#[derive(Debug)]
pub(super) enum Progress {
    /// A new or renewed lease.
    Bound(Lease),
    /// A round without a lease, and why.
    Unanswered(String),
}

/// Which protocol a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    /// DHCPv4, RFC 2131.
    V4,
    /// DHCPv6, RFC 8415.
    V6,
}

/// One report of one task.
#[derive(Debug)]
pub(super) struct Report {
    pub index: u32,
    pub family: Family,
    pub progress: Progress,
}

/// The link to ask on.
#[derive(Debug, Clone)]
pub(super) struct Port {
    pub index: u32,
    pub name: String,
    pub mac: [u8; 6],
    /// For DHCPv6.
    pub link_local: Ipv6Addr,
}

/// Asks for an IPv4 lease, for ever; ends when nobody listens.
pub(super) async fn run4(port: Port, reports: UnboundedSender<Report>) {
    loop {
        let error = serve4(&port, &reports).await;
        let report = Report { index: port.index, family: Family::V4, progress: Progress::Unanswered(error) };
        if reports.send(report).is_err() {
            return;
        }
    }
}

/// One round: until the lease is lost or was not got in time. Returns why.
async fn serve4(port: &Port, reports: &UnboundedSender<Report>) -> String {
    let mut config = DhcpV4Config::new(&port.name);
    config.set_iface_index(port.index).set_timeout_sec(ROUND_S);
    if let Err(error) = config.set_iface_mac_raw(&port.mac) {
        return error.to_string();
    }
    // Firmware and iPXE asked with the MAC: with the same id the server gives the same address.
    config.use_mac_as_client_id();
    let mut client = match DhcpV4Client::init(config, None).await {
        Ok(client) => client,
        Err(error) => return error.to_string(),
    };
    let mut offered = false;
    loop {
        let run = client.run();
        let state = if offered { tokio::time::timeout(CONFIRM, run).await } else { Ok(run.await) };
        let Ok(state) = state else {
            return "a DHCP server offered an address and then refused it, or fell silent".to_owned();
        };
        offered = matches!(state, Ok(DhcpV4State::Selecting));
        match state {
            Ok(DhcpV4State::Done(lease)) => {
                let progress = Progress::Bound(lease4(&lease));
                if reports.send(Report { index: port.index, family: Family::V4, progress }).is_err() {
                    return String::new();
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == mozim::ErrorKind::Timeout => {
                return format!("no DHCP server answered in {ROUND_S} s");
            }
            Err(error) => {
                // It failed at once, so the next round would too: the round takes its time.
                tokio::time::sleep(Duration::from_secs(ROUND_S.into())).await;
                return error.to_string();
            }
        }
    }
}

/// Asks for an IPv6 address, for ever; ends when nobody listens.
pub(super) async fn run6(port: Port, reports: UnboundedSender<Report>) {
    loop {
        let error = serve6(&port, &reports).await;
        let report = Report { index: port.index, family: Family::V6, progress: Progress::Unanswered(error) };
        if reports.send(report).is_err() {
            return;
        }
    }
}

async fn serve6(port: &Port, reports: &UnboundedSender<Report>) -> String {
    let mut config = DhcpV6Config::new(&port.name, DhcpV6Mode::NonTemporaryAddresses);
    config.set_iface_index(port.index).set_link_local_ip(port.link_local).set_timeout_sec(ROUND_S);
    config.set_duid_by_iface_mac(&port.mac);
    let mut client = match DhcpV6Client::init(config, None).await {
        Ok(client) => client,
        Err(error) => return error.to_string(),
    };
    loop {
        match client.run().await {
            Ok(DhcpV6State::Done(lease)) => {
                let progress = Progress::Bound(lease6(&lease));
                if reports.send(Report { index: port.index, family: Family::V6, progress }).is_err() {
                    return String::new();
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == mozim::ErrorKind::Timeout => {
                return format!("no DHCPv6 server answered in {ROUND_S} s");
            }
            Err(error) => {
                tokio::time::sleep(Duration::from_secs(ROUND_S.into())).await;
                return error.to_string();
            }
        }
    }
}

fn ips(addresses: Option<&Vec<Ipv4Addr>>) -> Vec<IpAddr> {
    addresses.into_iter().flatten().copied().map(IpAddr::V4).collect()
}

/// What a DHCPv4 server gave, as we use it.
#[must_use]
pub fn lease4(lease: &DhcpV4Lease) -> Lease {
    let mut gateways = ips(lease.gateways.as_ref());
    let mut routes = Vec::new();
    if let Some(classless) = &lease.classless_routes {
        // RFC 3442: with classless routes, the router option is ignored.
        gateways.clear();
        for route in classless {
            if route.prefix_length == 0 {
                gateways.push(route.router.into());
            } else {
                routes.push(((route.destination.into(), route.prefix_length), route.router.into()));
            }
        }
    }
    Lease {
        addresses: vec![(lease.yiaddr.into(), lease.prefix_length())],
        gateways,
        routes,
        dns: ips(lease.dns_srvs.as_ref()),
        ntp: ips(lease.ntp_srvs.as_ref()).iter().map(IpAddr::to_string).collect(),
        hostname: lease.host_name.clone().map(trimmed),
        domain: lease.domain_name.clone().map(trimmed),
        mtu: lease.mtu.map(u32::from),
        server: Some(lease.srv_id.into()),
        seconds: lease.lease_time_sec,
    }
}

/// Some servers end their strings with a NUL, which RFC 2132 section 2 asks clients to bear.
fn trimmed(text: String) -> String {
    text.trim_end_matches('\0').to_owned()
}

/// The code of DNS servers in DHCPv6, RFC 3646 section 3.
const OPTION6_DNS_SERVERS: u16 = 23;

/// What a DHCPv6 server gave, as we use it.
#[must_use]
pub fn lease6(lease: &DhcpV6Lease) -> Lease {
    let dns = lease
        .get_option_raw(OPTION6_DNS_SERVERS)
        .into_iter()
        .flatten()
        // Code and length, two bytes each, come first.
        .flat_map(|raw| raw.get(4..).unwrap_or_default().as_chunks::<16>().0.to_vec())
        .map(|bytes| IpAddr::V6(bytes.into()))
        .collect();
    Lease {
        addresses: vec![(lease.address.into(), 128)],
        dns,
        ntp: lease.ntp_srvs.clone(),
        domain: lease.domain_list.first().cloned(),
        server: Some(lease.srv_ip.into()),
        seconds: lease.valid_time_sec,
        ..Lease::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mozim::DhcpV4ClasslessRoute;

    #[test]
    fn classless_routes_replace_the_router() {
        let mut lease = DhcpV4Lease::default();
        lease.yiaddr = [10, 0, 2, 15].into();
        lease.subnet_mask = [255, 255, 255, 0].into();
        lease.gateways = Some(vec![[10, 0, 2, 9].into()]);
        assert_eq!(lease4(&lease).gateways, [IpAddr::from([10, 0, 2, 9])]);

        let route = |destination: [u8; 4], prefix_length, router: [u8; 4]| DhcpV4ClasslessRoute {
            destination: destination.into(),
            prefix_length,
            router: router.into(),
        };
        lease.classless_routes =
            Some(vec![route([0; 4], 0, [10, 0, 2, 2]), route([10, 9, 0, 0], 16, [10, 0, 2, 3])]);
        let got = lease4(&lease);
        assert_eq!(got.addresses, [(IpAddr::from([10, 0, 2, 15]), 24)]);
        assert_eq!(got.gateways, [IpAddr::from([10, 0, 2, 2])]);
        assert_eq!(got.routes, [((IpAddr::from([10, 9, 0, 0]), 16), IpAddr::from([10, 0, 2, 3]))]);
    }

    #[test]
    fn names_lose_their_nul() {
        let mut lease = DhcpV4Lease::default();
        lease.host_name = Some("node7\0".to_owned());
        assert_eq!(lease4(&lease).hostname.as_deref(), Some("node7"));
    }
}

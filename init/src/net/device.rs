//! One interface on its way to a configured link, and what to say when none gets there. Pure.

use super::Link;
use super::assign::{Assignment, absent};
use super::dhcp::Lease;
use super::netlink::Interface;
use std::net::IpAddr;
use std::time::{Duration, Instant};
use tatara_spec::cmdline::NetworkArgs;
use tatara_spec::{Code, Fault};

/// How long an interface with only SLAAC addresses waits for its DHCPv4 lease: many servers are IPv4 only, and the lease
/// brings DNS and NTP servers. The first question is repeated after 3 to 5 s.
const DHCP_GRACE: Duration = Duration::from_secs(6);

/// An interface and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub interface: Interface,
    /// Name of its driver, or what else makes it.
    pub driver: String,
    /// `None`: it carries others, or `ip=` does not name it.
    pub assignment: Option<Assignment>,
    pub carrier_since: Option<Instant>,
    /// The fixed addresses are set.
    pub fixed: bool,
    pub lease4: Option<Lease>,
    pub lease6: Option<Lease>,
    /// Addresses by router advertisement.
    pub autoconf: Vec<(IpAddr, u8)>,
    /// The last thing that went wrong.
    pub trouble: Option<String>,
}

/// MAC address in text, lower-case with colons.
pub(super) fn mac_text(mac: &[u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The bytes of a MAC address with colons.
pub(super) fn mac_bytes(text: &str) -> Option<[u8; 6]> {
    let bytes: Option<Vec<u8>> = text.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect();
    bytes?.try_into().ok()
}

impl Device {
    pub(super) fn new(interface: Interface, driver: String, assignment: Option<Assignment>) -> Self {
        Self {
            interface,
            driver,
            assignment,
            carrier_since: None,
            fixed: false,
            lease4: None,
            lease6: None,
            autoconf: Vec::new(),
            trouble: None,
        }
    }

    /// Forgets what was configured: the carrier went away.
    pub(super) fn reset(&mut self) {
        *self = Self::new(self.interface.clone(), std::mem::take(&mut self.driver), self.assignment.take());
    }

    /// `eth0 (virtio_net, 52:54:00:12:34:56)`.
    pub(super) fn title(&self) -> String {
        format!("{} ({}, {})", self.interface.name, self.driver, mac_text(&self.interface.mac))
    }

    /// The link, when it can be used at time `now`.
    pub(super) fn link(&self, args: &NetworkArgs, now: Instant) -> Option<Link> {
        let assignment = self.assignment.as_ref()?;
        let since = self.carrier_since?;
        let leases = || self.lease4.iter().chain(&self.lease6);
        let mut addresses = if self.fixed { assignment.addresses.clone() } else { Vec::new() };
        addresses.extend(leases().flat_map(|lease| &lease.addresses));
        let expects_lease = assignment.dhcp4 && self.trouble.is_none() && now - since < DHCP_GRACE;
        if addresses.is_empty() && expects_lease {
            return None;
        }
        addresses.extend(&self.autoconf);
        if addresses.is_empty() {
            return None;
        }
        Some(Link {
            name: self.interface.name.clone(),
            mac: mac_text(&self.interface.mac),
            addresses,
            gateways: assignment
                .gateways
                .iter()
                .chain(leases().flat_map(|lease| &lease.gateways))
                .copied()
                .collect(),
            dns: args.nameservers.iter().chain(leases().flat_map(|lease| &lease.dns)).copied().collect(),
            ntp: leases().flat_map(|lease| &lease.ntp).cloned().collect(),
            hostname: assignment
                .hostname
                .clone()
                .or_else(|| leases().find_map(|lease| lease.hostname.clone())),
            domain: leases().find_map(|lease| lease.domain.clone()),
        })
    }

    fn state(&self) -> String {
        let state = match (&self.trouble, self.carrier_since) {
            (Some(trouble), _) => trouble.as_str(),
            (None, None) => "no carrier",
            (None, Some(_)) => "carrier, no address yet",
        };
        format!("{}: {state}", self.title())
    }
}

/// Why no link is configured, with every interface that could have been.
pub(super) fn why_not(args: &NetworkArgs, devices: &[Device]) -> Fault {
    let macs: Vec<String> = devices.iter().map(|device| mac_text(&device.interface.mac)).collect();
    let present: Vec<(&str, &str)> = devices
        .iter()
        .zip(&macs)
        .map(|(device, mac)| (device.interface.name.as_str(), mac.as_str()))
        .collect();
    let candidates: Vec<&Device> = devices.iter().filter(|device| device.assignment.is_some()).collect();
    if devices.is_empty() {
        return Fault::new(Code::NetNoDevice, "no Ethernet interface was found");
    }
    let missing = absent(args, &present);
    if candidates.is_empty() {
        let titles: Vec<String> = devices.iter().map(Device::title).collect();
        let named = if missing.is_empty() { "the command line".to_owned() } else { missing.join(" and ") };
        let message = format!("the interface asked for, {named}, is not among {}", titles.join(", "));
        return Fault::new(Code::NetNoDevice, message);
    }
    let states: Vec<String> = candidates.iter().map(|device| device.state()).collect();
    let states = states.join("; ");
    if candidates.iter().all(|device| device.carrier_since.is_none()) {
        return Fault::new(Code::NetNoLink, format!("no interface has a carrier: {states}"));
    }
    Fault::new(Code::NetDhcp, format!("no interface got an address: {states}"))
}

#[cfg(test)]
mod tests {
    use super::super::netlink::Kind;
    use super::*;

    fn device(name: &str) -> Device {
        let interface = Interface {
            index: 2,
            name: name.to_owned(),
            mac: [0x52, 0x54, 0, 0x12, 0x34, 0x56],
            up: true,
            carrier: true,
            member: false,
            kind: Kind::Card,
        };
        let assignment = Assignment { dhcp4: true, autoconf: true, ..Assignment::default() };
        Device::new(interface, "virtio_net".to_owned(), Some(assignment))
    }

    #[test]
    fn mac_addresses_survive_their_text() {
        let bytes = [0x52, 0x54, 0, 0x12, 0x34, 0xff];
        assert_eq!(mac_bytes(&mac_text(&bytes)), Some(bytes));
        assert_eq!(mac_bytes("52:54:00:12:34"), None);
        assert_eq!(mac_bytes("52:54:00:12:34:zz"), None);
    }

    #[test]
    fn slaac_alone_waits_for_the_lease_then_will_do() {
        let start = Instant::now();
        let args = NetworkArgs { nameservers: vec!["10.0.0.1".parse().unwrap()], ..NetworkArgs::default() };
        let mut eth0 = device("eth0");
        eth0.carrier_since = Some(start);
        assert_eq!(eth0.link(&args, start), None);
        eth0.autoconf = vec![("fd00::5".parse().unwrap(), 64)];
        assert_eq!(eth0.link(&args, start), None);
        assert!(eth0.link(&args, start + DHCP_GRACE).is_some());

        let dns = vec!["10.0.2.3".parse().unwrap()];
        eth0.lease4 =
            Some(Lease { addresses: vec![("10.0.2.15".parse().unwrap(), 24)], dns, ..Lease::default() });
        let link = eth0.link(&args, start).unwrap();
        assert_eq!(link.addresses.len(), 2);
        assert_eq!(link.mac, "52:54:00:12:34:56");
        assert_eq!(link.dns, ["10.0.0.1".parse::<IpAddr>().unwrap(), "10.0.2.3".parse().unwrap()]);
        eth0.reset();
        assert_eq!(eth0.link(&args, start + DHCP_GRACE), None);
    }

    #[test]
    fn every_failure_names_the_interfaces() {
        let args = NetworkArgs::default();
        assert_eq!(why_not(&args, &[]).code, Code::NetNoDevice);

        let mut eth0 = device("eth0");
        let fault = why_not(&args, std::slice::from_ref(&eth0));
        assert_eq!(fault.code, Code::NetNoLink);
        assert!(
            fault.message.contains("eth0 (virtio_net, 52:54:00:12:34:56): no carrier"),
            "{}",
            fault.message
        );

        eth0.carrier_since = Some(Instant::now());
        eth0.trouble = Some("no DHCP server answered in 20 s".to_owned());
        let fault = why_not(&args, &[eth0, device("eth1")]);
        assert_eq!(fault.code, Code::NetDhcp);
        assert!(fault.message.contains("answered in 20 s; eth1"), "{}", fault.message);
    }
}

//! systemd-networkd and systemd-resolved from the config's `network`.

use super::{Rendered, fault, header, one_line, word};
use std::net::IpAddr;
use tatara_spec::Fault;
use tatara_spec::config::{Bond, Interface, Network, NodeConfig, Route};

pub(super) fn render(config: &NodeConfig) -> Result<Vec<Rendered>, Fault> {
    let network = &config.network;
    let mut rendered = Vec::new();
    let any = Interface { dhcp4: true, ipv6: true, ..Interface::default() };
    let interfaces =
        if network.interfaces.is_empty() { std::slice::from_ref(&any) } else { &network.interfaces };
    for (index, interface) in interfaces.iter().enumerate() {
        let stem = file_stem(index, interface)?;
        if let Some(text) = netdev(network, interface)? {
            rendered.push(Rendered::public(format!("{stem}.netdev"), text));
        }
        if interface.bond.as_ref().is_some_and(|bond| mac_of(network, bond).is_none()) {
            rendered.push(Rendered::public(format!("{stem}.link"), as_its_member(&interface.name)));
        }
        let text = Link { network, interface, own_time_servers: !config.time.servers.is_empty() }.text()?;
        rendered.push(Rendered::public(format!("{stem}.network"), text));
    }
    refuse_unknown(network)?;
    rendered.push(resolved(network)?);
    Ok(rendered)
}

/// networkd takes the first matching file in order of name (systemd.network(5)): the config's order is kept, and a
/// node without interfaces gets one file for every Ethernet link, last.
fn file_stem(index: usize, interface: &Interface) -> Result<String, Fault> {
    let name = if interface.name.is_empty() {
        "ethernet"
    } else {
        word("network.interfaces.name", &interface.name)?
    };
    if name.contains('/') {
        return Err(fault(format!("network.interfaces: name {name:?} must not contain `/`")));
    }
    Ok(format!("/etc/systemd/network/10-tatara-{index:03}-{name}"))
}

/// Every member and parent must be an interface of the config, or the link would silently stay down.
fn refuse_unknown(network: &Network) -> Result<(), Fault> {
    let known = |name: &String| network.interfaces.iter().any(|other| &other.name == name);
    for interface in &network.interfaces {
        let parent = interface.vlan.iter().map(|vlan| &vlan.parent);
        let members = interface.bond.iter().flat_map(|bond| &bond.members);
        if let Some(missing) = parent.chain(members).find(|name| !known(name)) {
            let name = &interface.name;
            return Err(fault(format!(
                "network.interfaces: `{name}` is made of `{missing}`, which is not there"
            )));
        }
    }
    Ok(())
}

/// The virtual device of a VLAN or bond (systemd.netdev(5)).
fn netdev(network: &Network, interface: &Interface) -> Result<Option<String>, Fault> {
    let name = &interface.name;
    let start = |kind: &str| format!("{}[NetDev]\nName={name}\nKind={kind}\n", header("network"));
    Ok(match (&interface.vlan, &interface.bond) {
        (Some(_), Some(_)) => {
            return Err(fault(format!("network.interfaces: `{name}` cannot be both a VLAN and a bond")));
        }
        (Some(vlan), None) => Some(format!("{}\n[VLAN]\nId={}\n", start("vlan"), vlan.id)),
        (None, Some(bond)) => {
            let mode = word("network.interfaces.bond.mode", &bond.mode)?;
            let mac = word("network.interfaces.match", mac_of(network, bond).unwrap_or("none"))?;
            // Without link monitoring (the kernel's default) a bond never notices a dead member; 100 ms is what
            // the kernel's bonding.rst recommends.
            let mut text = start("bond");
            text.push_str(&format!("MACAddress={mac}\n\n[Bond]\nMode={mode}\nMIIMonitorSec=100ms\n"));
            if mode == "802.3ad" {
                text.push_str("LACPTransmitRate=fast\nTransmitHashPolicy=layer3+4\n");
            }
            Some(text)
        }
        (None, None) => None,
    })
}

/// The address of a bond: its first member's, as the installer's bond has it. networkd would make one of the machine id, by which no DHCP
/// server knows the machine.
fn mac_of<'a>(network: &'a Network, bond: &Bond) -> Option<&'a str> {
    let member = |name: &String| network.interfaces.iter().find(|interface| &interface.name == name);
    bond.members.iter().filter_map(member).find_map(|member| member.matches.mac.as_deref())
}

/// No member's address is known: the kernel takes that of the first to join, where udev leaves it alone (systemd.netdev(5), `MACAddress=`).
fn as_its_member(bond: &str) -> String {
    format!("{}[Match]\nOriginalName={bond}\n\n[Link]\nMACAddressPolicy=none\n", header("network"))
}

/// One interface with what the rest of the config says about it.
struct Link<'a> {
    network: &'a Network,
    interface: &'a Interface,
    own_time_servers: bool,
}

impl Link<'_> {
    fn text(&self) -> Result<String, Fault> {
        let member_of = self.bond_of();
        let mut text = header("network") + "[Match]\n" + &self.matches()?;
        text.push_str("\n[Link]\n");
        if let Some(mtu) = self.interface.mtu {
            text.push_str(&format!("MTUBytes={mtu}\n"));
        }
        // `routable` and wait-online's `--any`: an address of the link's own, link-local, is not "online", and a
        // dead second NIC delays nothing. A bond's member never has an address.
        text.push_str(if member_of.is_some() {
            "RequiredForOnline=no\n"
        } else {
            "RequiredForOnline=routable\n"
        });
        text.push_str("\n[Network]\n");
        match member_of {
            Some(bond) => text.push_str(&format!("Bond={bond}\n")),
            None => text.push_str(&self.addressing()?),
        }
        Ok(text)
    }

    fn bond_of(&self) -> Option<&str> {
        let own = &self.interface.name;
        let holds = |other: &&Interface| other.bond.as_ref().is_some_and(|bond| bond.members.contains(own));
        self.network.interfaces.iter().find(holds).map(|bond| bond.name.as_str())
    }

    fn matches(&self) -> Result<String, Fault> {
        let interface = self.interface;
        if interface.vlan.is_some() || interface.bond.is_some() {
            return Ok(format!("Name={}\n", interface.name));
        }
        // `Kind=!*`: hardware only; veth, bridges and the like of a container runtime are Ethernet too.
        let mut text = String::from("Type=ether\nKind=!*\n");
        let wanted = &interface.matches;
        let conditions =
            [("PermanentMACAddress", &wanted.mac), ("Driver", &wanted.driver), ("Name", &wanted.name)];
        for (key, value) in conditions {
            if let Some(value) = value {
                text.push_str(&format!("{key}={}\n", word("network.interfaces.match", value)?));
            }
        }
        Ok(text)
    }

    fn addressing(&self) -> Result<String, Fault> {
        let interface = self.interface;
        let mut text = format!("DHCP={}\n", if interface.dhcp4 { "ipv4" } else { "no" });
        let static6 = interface.addresses.iter().any(|address| address.contains(':'));
        text.push_str(&format!("IPv6AcceptRA={}\n", yes_no(interface.ipv6)));
        text.push_str(if interface.ipv6 || static6 {
            "LinkLocalAddressing=ipv6\n"
        } else {
            "LinkLocalAddressing=no\n"
        });
        for address in &interface.addresses {
            text.push_str(&format!("Address={}\n", word("network.interfaces.addresses", address)?));
        }
        let on_top =
            |other: &&Interface| other.vlan.as_ref().is_some_and(|vlan| vlan.parent == interface.name);
        for vlan in self.network.interfaces.iter().filter(on_top) {
            text.push_str(&format!("VLAN={}\n", vlan.name));
        }
        text.push_str(&self.routes()?);
        text.push_str(&self.dynamic());
        Ok(text)
    }

    fn routes(&self) -> Result<String, Fault> {
        let mut text = String::new();
        for gateway in &self.interface.gateways {
            text.push_str(&format!("\n[Route]\nGateway={gateway}\n"));
            if !self.reaches(gateway) {
                // A router outside every prefix of the link, as hosters with /32 addresses have it.
                text.push_str("GatewayOnLink=yes\n");
            }
        }
        for Route { to, via, metric } in &self.interface.routes {
            let to = word("network.interfaces.routes.to", to)?;
            text.push_str(&format!("\n[Route]\nDestination={to}\nGateway={via}\n"));
            if let Some(metric) = metric {
                text.push_str(&format!("Metric={metric}\n"));
            }
        }
        Ok(text)
    }

    /// Whether a static prefix holds the router. With DHCP or SLAAC the prefix is not known: then it is believed.
    fn reaches(&self, gateway: &IpAddr) -> bool {
        let interface = self.interface;
        let dynamic = if gateway.is_ipv4() { interface.dhcp4 } else { interface.ipv6 };
        dynamic || link_local(gateway) || interface.addresses.iter().any(|prefix| contains(prefix, gateway))
    }

    /// The client identifier is the MAC address, as that of the installer's DHCP: with networkd's default, a DUID,
    /// the server would see another machine and might give another address.
    fn dynamic(&self) -> String {
        let mut text = String::new();
        let own_time = if self.own_time_servers { "UseNTP=no\n" } else { "" };
        if self.interface.dhcp4 {
            text.push_str(&format!("\n[DHCPv4]\nClientIdentifier=mac\nUseHostname=no\n{own_time}"));
        }
        if self.interface.ipv6 {
            text.push_str(&format!("\n[DHCPv6]\nUseHostname=no\n{own_time}"));
        }
        text
    }
}

fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// fe80::/10 (RFC 4291, 2.5.6).
fn link_local(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.segments()[0] & 0xffc0 == 0xfe80)
}

/// Whether `prefix`, `192.0.2.10/24`, holds the address. A prefix that is none holds nothing.
fn contains(prefix: &str, address: &IpAddr) -> bool {
    let Some((network, length)) = prefix.split_once('/') else { return false };
    let (Ok(network), Ok(length)) = (network.parse::<IpAddr>(), length.parse::<u32>()) else { return false };
    match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) if length <= 32 => {
            (a.to_bits() ^ b.to_bits()).checked_shr(32 - length).unwrap_or(0) == 0
        }
        (IpAddr::V6(a), IpAddr::V6(b)) if length <= 128 => {
            (a.to_bits() ^ b.to_bits()).checked_shr(128 - length).unwrap_or(0) == 0
        }
        _ => false,
    }
}

/// Name resolution: the config's servers beside DHCP's, never a public fallback; no multicast names, which a server
/// has no use for and which answer to anybody on the link.
fn resolved(network: &Network) -> Result<Rendered, Fault> {
    let mut text = header("network.dns, network.domains") + "[Resolve]\n";
    if !network.dns.is_empty() {
        let servers = network.dns.iter().map(IpAddr::to_string).collect::<Vec<_>>();
        text.push_str(&format!("DNS={}\n", servers.join(" ")));
    }
    if !network.domains.is_empty() {
        for domain in &network.domains {
            word("network.domains", one_line("network.domains", domain)?)?;
        }
        text.push_str(&format!("Domains={}\n", network.domains.join(" ")));
    }
    text.push_str("FallbackDNS=\nLLMNR=no\nMulticastDNS=no\n");
    Ok(Rendered::public("/etc/systemd/resolved.conf.d/10-tatara.conf", text))
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn a_prefix_holds_its_addresses() {
        let holds = |prefix: &str, address: &str| contains(prefix, &address.parse().unwrap());
        assert!(holds("192.0.2.10/24", "192.0.2.1"));
        assert!(!holds("192.0.2.10/24", "192.0.3.1"));
        assert!(!holds("192.0.2.10/32", "192.0.2.1"));
        assert!(holds("192.0.2.10/0", "203.0.113.1"));
        assert!(holds("2001:db8::10/64", "2001:db8::1"));
        assert!(!holds("2001:db8::10/64", "2001:db8:0:1::1"));
        assert!(!holds("2001:db8::10/64", "192.0.2.1"));
        assert!(!holds("192.0.2.10", "192.0.2.10"));
        assert!(!holds("192.0.2.10/33", "192.0.2.10"));
    }
}

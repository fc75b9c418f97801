//! Which interface gets which addresses: the command line against the interfaces found. Pure.

use std::net::IpAddr;
use tatara_spec::cmdline::{IpMethod, NetworkArgs};

/// What is to be done with one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Assignment {
    /// DHCPv4 is asked.
    pub dhcp4: bool,
    /// DHCPv6 is asked.
    pub dhcp6: bool,
    /// The kernel listens to router advertisements (SLAAC).
    pub autoconf: bool,
    /// Fixed addresses with prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// Fixed default routes.
    pub gateways: Vec<IpAddr>,
    /// The host name of `ip=`.
    pub hostname: Option<String>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address to take, with colons.
    pub set_mac: Option<String>,
}

/// What `ip=` says about an interface; `None`: leave it alone.
///
/// A member of a bond and the parent of a VLAN get no addresses unless `ip=` names them.
pub(super) fn assign(args: &NetworkArgs, name: &str, mac: &str) -> Option<Assignment> {
    if args.ip.is_empty() {
        return (!is_below(args, name)).then(|| Assignment {
            dhcp4: true,
            autoconf: true,
            ..Assignment::default()
        });
    }
    let mut found: Option<Assignment> = None;
    for ip in &args.ip {
        let fits = match &ip.interface {
            Some(wanted) => wanted == name || wanted.eq_ignore_ascii_case(mac),
            None => !is_below(args, name),
        };
        if !fits {
            continue;
        }
        let assignment = found.get_or_insert_default();
        assignment.dhcp4 |= matches!(ip.method, IpMethod::Dhcp4 | IpMethod::Any);
        assignment.dhcp6 |= ip.method == IpMethod::Dhcp6;
        // DHCPv6 gives no routes: they come by router advertisement (RFC 8415 section 1).
        assignment.autoconf |= !matches!(ip.method, IpMethod::Static);
        assignment.addresses.extend(ip.address);
        assignment.gateways.extend(ip.gateway);
        assignment.hostname = ip.hostname.clone().or(assignment.hostname.take());
        assignment.mtu = ip.mtu.or(assignment.mtu);
        assignment.set_mac = ip.set_mac.clone().or(assignment.set_mac.take());
    }
    found
}

/// Whether an interface only carries others: a member of a bond, the parent of a VLAN.
fn is_below(args: &NetworkArgs, name: &str) -> bool {
    args.vlans.iter().any(|vlan| vlan.parent == name) || is_member(args, name)
}

/// Whether an interface belongs to a bond.
pub(super) fn is_member(args: &NetworkArgs, name: &str) -> bool {
    args.bonds.iter().any(|bond| bond.members.iter().any(|member| member == name))
}

/// The interfaces, by name or MAC, that the command line needs and that are not among `present` (name, MAC).
pub(super) fn absent<'a>(args: &'a NetworkArgs, present: &[(&str, &str)]) -> Vec<&'a str> {
    let named = args.ip.iter().filter_map(|ip| ip.interface.as_deref());
    let parents = args.vlans.iter().map(|vlan| vlan.parent.as_str());
    let members = args.bonds.iter().flat_map(|bond| bond.members.iter().map(String::as_str));
    named
        .chain(parents)
        .chain(members)
        .filter(|wanted| {
            !present.iter().any(|(name, mac)| name == wanted || mac.eq_ignore_ascii_case(wanted))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tatara_spec::cmdline::{BondArg, IpArg, VlanArg};

    const MAC: &str = "52:54:00:12:34:56";

    fn ip(interface: Option<&str>, method: IpMethod, address: Option<&str>) -> IpArg {
        IpArg {
            interface: interface.map(str::to_owned),
            method,
            address: address.map(|ip| (ip.parse().unwrap(), 24)),
            gateway: None,
            hostname: None,
            mtu: None,
            set_mac: None,
        }
    }

    #[test]
    fn without_arguments_every_link_asks() {
        let got = assign(&NetworkArgs::default(), "eth0", MAC).unwrap();
        assert!(got.dhcp4 && got.autoconf && !got.dhcp6);
    }

    #[test]
    fn an_interface_is_named_by_name_or_mac() {
        let by_mac = ip(Some("52:54:00:12:34:56"), IpMethod::Static, Some("10.0.0.5"));
        let args = NetworkArgs { ip: vec![by_mac], ..NetworkArgs::default() };
        let got = assign(&args, "eth1", "52:54:00:12:34:56").unwrap();
        assert_eq!(got.addresses, [("10.0.0.5".parse().unwrap(), 24)]);
        assert!(!got.dhcp4 && !got.autoconf);
        assert_eq!(assign(&args, "eth0", "52:54:00:00:00:01"), None);
    }

    #[test]
    fn two_arguments_for_one_interface_add_up() {
        let args = NetworkArgs {
            ip: vec![
                ip(Some("eth0"), IpMethod::Static, Some("10.0.0.5")),
                ip(Some("eth0"), IpMethod::Auto6, None),
            ],
            ..NetworkArgs::default()
        };
        let got = assign(&args, "eth0", MAC).unwrap();
        assert!(got.autoconf && !got.dhcp4 && got.addresses.len() == 1);
    }

    #[test]
    fn members_and_parents_only_carry() {
        let args = NetworkArgs {
            vlans: vec![VlanArg { name: "bond0.7".to_owned(), id: 7, parent: "bond0".to_owned() }],
            bonds: vec![BondArg {
                name: "bond0".to_owned(),
                members: vec!["eth0".to_owned(), "eth1".to_owned()],
                options: Vec::new(),
                mtu: None,
            }],
            ..NetworkArgs::default()
        };
        assert_eq!(assign(&args, "eth0", MAC), None);
        assert_eq!(assign(&args, "bond0", MAC), None);
        assert!(assign(&args, "bond0.7", MAC).is_some());
        assert_eq!(absent(&args, &[("eth0", MAC), ("bond0", MAC)]), ["eth1"]);
    }
}

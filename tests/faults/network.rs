//! Cables, DHCP servers, names and routes.

use crate::direct;
use crate::site::{Site, gets_its_config, installs, start};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use support::dhcp::{Dhcp, Lease};
use support::guest::{Nic, Setup};
use support::lan::{self, Dnsmasq, Trunk};
use support::trial::{SOON, Trial};
use tatara_spec::Code;

const HOST: [u8; 4] = [10, 77, 0, 1];
const GUEST: [u8; 4] = [10, 77, 0, 50];

/// A machine whose NIC is at the tap of the test.
fn at_tap() -> Setup {
    lan::tap("tap0", "10.77.0.1/24");
    let mut setup = direct();
    setup.taps = vec!["tap0".to_owned()];
    setup
}

fn lease() -> Lease {
    Lease::new(HOST, GUEST)
}

fn site() -> Site {
    Site::at(Ipv4Addr::UNSPECIFIED.into(), "10.77.0.1")
}

/// Ports of an LACP group take so long until they forward (coreos/bugs#1973).
#[test]
fn carrier_after_70_seconds() {
    let site = Site::new();
    let setup = site.machine(&direct().nics(&[Nic::VirtioWithoutLink]), "");
    let trial = Trial::new("network", "a carrier that comes after 70 s", setup);
    let guest = start(&trial);
    guest.expect("waiting for the network since 60 s", SOON);
    // The next is at 70 s.
    guest.expect("no interface has a carrier: eth0", SOON);
    guest.plug(0, true);
    guest.expect("step=network state=ok", Duration::from_secs(30));
    assert!(guest.never("state=fail"), "{}", guest.tail());
    gets_its_config(trial, guest);
}

#[test]
fn no_carrier_at_all() {
    let site = Site::new();
    let setup = site.machine(&direct().nics(&[Nic::VirtioWithoutLink]), "");
    let mut trial = Trial::new("network", "no fault: the cable is plugged in at last", setup);
    let guest = start(&trial);
    let says = ["no interface has a carrier: eth0", "52:54:00:12:34:56"];
    trial.fails(&guest, "no carrier at all", Code::NetNoLink, &says);
    guest.plug(0, true);
    gets_its_config(trial, guest);
}

#[test]
fn no_dhcp_answer_then_one() {
    lan::alone(|| {
        let (setup, site) = (at_tap(), site());
        let dhcp = Dhcp::start("tap0", Vec::new());
        let mut trial = Trial::new("network", "no fault: DHCP answers at last", site.machine(&setup, ""));
        let guest = start(&trial);
        let says = ["no DHCP server answered in 20 s", "52:54:00:12:34:56"];
        trial.fails(&guest, "no DHCP answer", Code::NetDhcp, &says);
        dhcp.gives(vec![lease()]);
        installs(trial, guest);
    });
}

#[test]
fn dhcp_offers_and_then_refuses() {
    lan::alone(|| {
        let (setup, site) = (at_tap(), site());
        let _dhcp = Dhcp::start("tap0", vec![Lease { refusals: 2, ..lease() }]);
        let trial =
            Trial::new("network", "DHCP refuses (NAK) twice what it offered", site.machine(&setup, ""));
        let guest = start(&trial);
        guest.expect("offered an address and then refused it", SOON);
        // A round in which it is refused costs 7 s.
        guest.expect("10.77.0.50/24 from 10.77.0.1", Duration::from_secs(60));
        // It asks anew then, instead of waiting for the end of the round.
        assert!(guest.never("no DHCP server answered in 20 s"), "{}", guest.tail());
        gets_its_config(trial, guest);
    });
}

#[test]
fn two_dhcp_servers() {
    lan::alone(|| {
        let (setup, site) = (at_tap(), site());
        let other = Lease::new([10, 77, 0, 2], [10, 77, 0, 60]);
        let _dhcp = Dhcp::start("tap0", vec![other, lease()]);
        let trial = Trial::new("network", "two DHCP servers", site.machine(&setup, ""));
        let guest = start(&trial);
        let link = guest.expect("step=network state=ok", SOON);
        assert!(link.contains("10.77.0.50/24") != link.contains("10.77.0.60/24"), "one address: {link}");
        gets_its_config(trial, guest);
    });
}

/// The lease of an hour lacks what is needed. It is asked for anew after the failure, and nobody touches the machine.
#[test]
fn no_router_in_the_offer() {
    lan::alone(|| {
        let setup = at_tap();
        lan::ip("addr add 198.51.100.1/32 dev lo");
        let site = Site::at(Ipv4Addr::UNSPECIFIED.into(), "198.51.100.1");
        let dhcp = Dhcp::start("tap0", vec![lease()]);
        let mut trial =
            Trial::new("network", "no fault: DHCP gives the router at last", site.machine(&setup, ""));
        dhcp.then_gives(vec![Lease { router: Some(HOST.into()), ..lease() }]);
        let guest = start(&trial);
        trial.fails(&guest, "an offer without a router", Code::NetConnect, &["no route leads there"]);
        gets_its_config(trial, guest);
    });
}

#[test]
fn names_that_cannot_be_resolved() {
    lan::alone(|| {
        let setup = at_tap();
        let site = Site::at(Ipv4Addr::UNSPECIFIED.into(), "config.lan");
        let dhcp = Dhcp::start("tap0", vec![lease()]);
        let mut trial =
            Trial::new("network", "no fault: the name is known at last", site.machine(&setup, ""));
        dhcp.then_gives(vec![Lease { dns: Some(HOST.into()), ..lease() }]);
        let dns = ["--port=53", "--listen-address=10.77.0.1", "--bind-interfaces", "--local=/lan/"];
        let ignorant = Dnsmasq::start(&dns);
        let guest = start(&trial);
        let says = ["`config.lan`", "neither DHCP nor `nameserver=` named a DNS server"];
        trial.fails(&guest, "an offer without a DNS server", Code::NetDns, &says);
        let says = ["`config.lan` could not be resolved, asked 10.77.0.1"];
        trial.fails(&guest, "a name that DNS does not know", Code::NetDns, &says);
        drop(ignorant);
        let _knowing = Dnsmasq::start(&[&dns[..], &["--address=/config.lan/10.77.0.1"]].concat());
        gets_its_config(trial, guest);
    });
}

#[test]
fn no_carrier_on_the_first_nic_and_a_dead_server_behind_the_second() {
    lan::alone(|| {
        let setup = at_tap();
        lan::tap("tap1", "10.77.1.1/24");
        // Nobody has this address yet.
        let site = Site::at(Ipv4Addr::UNSPECIFIED.into(), "10.77.1.9");
        let _dhcp = Dhcp::start("tap1", vec![Lease::new([10, 77, 1, 1], [10, 77, 1, 50])]);
        let mut setup = site.machine(&setup.nics(&[Nic::VirtioWithoutLink, Nic::Virtio]), "");
        setup.taps.push("tap1".to_owned());
        let mut trial = Trial::new("network", "no fault: the server is up at last", setup);
        let guest = start(&trial);
        let done = "no carrier on the first NIC, a dead server behind the second";
        trial.fails(&guest, done, Code::NetConnect, &["10.77.1.9"]);
        lan::ip("addr add 10.77.1.9/24 dev tap1");
        gets_its_config(trial, guest);
    });
}

#[test]
fn static_address_on_a_vlan() {
    let site = Site::new();
    let args = "vlan=vlan7:eth0 ip=10.0.2.77::10.0.2.2:255.255.255.0::vlan7:none";
    let mut setup = site.machine(&direct().nics(&[]), args);
    setup.qemu_args = Trunk::new(7, setup.scratch()).arguments("52:54:00:12:34:56");
    let trial = Trial::new("network", "no fault: a static address on a tagged VLAN", setup);
    let guest = start(&trial);
    let link = guest.expect("step=network state=ok", SOON);
    assert!(link.contains("vlan7") && link.contains("10.0.2.77/24"), "{link}");
    installs(trial, guest);
}

/// A network without IPv4: dnsmasq advertises the router, and gives addresses to who asks.
fn over_ipv6(args: &'static str, done: &'static str, address: &'static str) {
    lan::alone(move || {
        let setup = at_tap();
        lan::ip("addr add fd77::1/64 dev tap0 nodad");
        let range = "--dhcp-range=fd77::1000,fd77::1fff,slaac,64,1h";
        let _dnsmasq = Dnsmasq::start(&["--port=0", "--interface=tap0", "--enable-ra", range]);
        let site = Site::at(Ipv6Addr::UNSPECIFIED.into(), "[fd77::1]");
        let trial = Trial::new("network", done, site.machine(&setup, args));
        let guest = start(&trial);
        let link = guest.expect("step=network state=ok", SOON);
        assert!(link.contains(address), "{link}");
        gets_its_config(trial, guest);
    });
}

#[test]
fn dhcpv6_alone() {
    over_ipv6("ip=dhcp6", "no fault: DHCPv6 alone", "fd77::1");
}

#[test]
fn slaac_alone() {
    over_ipv6("ip=auto6", "no fault: SLAAC alone", "fd77::5054:ff:fe12:3456/64");
}

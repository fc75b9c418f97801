//! The whole thread against the kernel, in a network namespace of its own: the test runs itself again in it.

use super::*;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::Command as Process;
use tatara_spec::cmdline::{IpArg, IpMethod};

/// Set in the namespace.
const INSIDE: &str = "TATARA_TEST_NETNS";

/// Runs the test named `test` again inside of a new user and network namespace (unshare(1), which needs no root there).
/// Returns whether this is the inside, where the test is to go on.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let output = Process::new("unshare")
        .args(["--net", "--map-root-user"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    false
}

fn ip(arguments: &str) -> String {
    let output = Process::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fixed(interface: &str, address: &str, gateway: Option<&str>) -> IpArg {
    IpArg {
        interface: Some(interface.to_owned()),
        method: IpMethod::Static,
        address: Some((address.parse().unwrap(), 24)),
        gateway: gateway.map(|ip| ip.parse().unwrap()),
        hostname: None,
        mtu: None,
        set_mac: None,
    }
}

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_fixed_address_and_a_dead_port() {
    if !inside("net::tests::a_fixed_address_and_a_dead_port") {
        return;
    }
    ip("link add eth0 type veth peer name far0");
    ip("link set far0 up");
    // The other end of eth1 stays down: no carrier.
    ip("link add eth1 type veth peer name far1");
    let args = NetworkArgs {
        ip: vec![fixed("eth0", "192.0.2.5", Some("192.0.2.1")), fixed("eth1", "198.51.100.5", None)],
        ..NetworkArgs::default()
    };
    let network = Network::start(&args, PathBuf::from("/")).unwrap();
    network.wait_first(&args, LIMIT, &|event| println!("{event}")).unwrap();
    let links = network.links();
    assert_eq!(links.len(), 1);
    assert_eq!((links[0].name.as_str(), links[0].addresses[0].0), ("eth0", "192.0.2.5".parse().unwrap()));
    UdpSocket::bind((Ipv4Addr::new(192, 0, 2, 5), 0)).unwrap();

    network.activate(&links[0]).unwrap();
    let routes = ip("-4 route show");
    assert!(
        routes.lines().any(|l| l.starts_with("default via 192.0.2.1") && l.contains("metric 64")),
        "{routes}"
    );

    // The dead port comes alive late.
    ip("link set far1 up");
    let links = network.wait_for_change(&links, LIMIT, &|event| println!("{event}"));
    assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["eth0", "eth1"]);

    // And is pulled again.
    ip("link set far1 down");
    assert_eq!(network.wait_for_change(&links, LIMIT, &|_| {}).len(), 1);
    network.down().unwrap();
    assert_eq!(ip("-4 addr show").trim(), "");
    assert_eq!(ip("-4 route show"), "");
}

#[test]
fn without_a_carrier_the_port_is_named() {
    if !inside("net::tests::without_a_carrier_the_port_is_named") {
        return;
    }
    let args = NetworkArgs { ip: vec![fixed("eth0", "192.0.2.5", None)], ..NetworkArgs::default() };
    let network = Network::start(&args, PathBuf::from("/")).unwrap();
    let at_once = Duration::ZERO;
    let nothing = network.wait_first(&args, at_once, &|_| {}).unwrap_err();
    assert_eq!(nothing.code, Code::NetNoDevice);
    ip("link add eth0 type veth peer name far0");
    network.shared.wait(LIMIT, |state| state.devices.iter().any(|device| device.interface.name == "eth0"));
    let dark = network.wait_first(&args, at_once, &|_| {}).unwrap_err();
    assert_eq!(dark.code, Code::NetNoLink);
    assert!(dark.message.contains("eth0 ("), "{}", dark.message);
}

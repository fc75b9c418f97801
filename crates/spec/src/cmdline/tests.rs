use super::{
    BondArg, CommandLine, IpArg, IpMethod, Placeholders, VlanArg, carried, join, missing, parse, split,
};
use crate::error::Code;
use crate::plan::Origin;
use crate::slot::Slot;
use proptest::prelude::{prop, proptest};

fn line(text: &str) -> CommandLine {
    parse(text).unwrap_or_else(|fault| panic!("{text}: {fault}"))
}

fn refused(text: &str) -> String {
    let fault = parse(text).expect_err(text);
    assert_eq!(fault.code, Code::CmdlineBad, "{text}");
    fault.message
}

fn ip(text: &str) -> IpArg {
    line(text).network.ip.remove(0)
}

const NONE: IpArg = IpArg {
    interface: None,
    method: IpMethod::Static,
    address: None,
    gateway: None,
    hostname: None,
    mtu: None,
    set_mac: None,
};

#[test]
fn quotes_keep_white_space_and_are_removed() {
    assert_eq!(split(" a  b=\"c d\"\te\n\"f=g h\" \"\" "), ["a", "b=c d", "e", "f=g h"]);
    assert_eq!(split("open=\"to the end"), ["open=to the end"]);
}

#[test]
fn all_of_ours() {
    let pin = "ab".repeat(32);
    let key = format!("RW{}", "Q".repeat(54));
    let parsed = line(&format!(
        "root=x tatara.boot=disk tatara.slot=b tatara.refresh tatara.config=https://h/${{mac}}.yaml \
         tatara.ca=sha256:{pin} tatara.key={key} tatara.ntp=a,b tatara.ntp=b,c tatara.report=https://h/r quiet"
    ));
    assert_eq!(parsed.request.origin, Origin::Disk);
    assert_eq!(parsed.request.slot, Some(Slot::B));
    assert!(parsed.request.refresh);
    assert_eq!(parsed.config_url.as_deref(), Some("https://h/${mac}.yaml"));
    assert_eq!(parsed.ca_pins.iter().map(ToString::to_string).collect::<Vec<_>>(), [pin]);
    assert_eq!(parsed.keys, [key]);
    assert_eq!(parsed.ntp, ["a", "b", "c"]);
    assert_eq!(parsed.report_url.as_deref(), Some("https://h/r"));
    assert_eq!(parsed.all.len(), 11);
}

#[test]
fn the_last_one_counts() {
    assert_eq!(
        line("tatara.config=https://a/ tatara.config=https://b/").config_url.as_deref(),
        Some("https://b/")
    );
}

#[test]
fn what_is_ours_and_wrong_is_refused() {
    for (text, says) in [
        ("tatara.confg=https://h/", "did you mean `tatara.config`?"),
        ("tatara.something-else", "known are config, ca"),
        ("tatara.config", "needs a value"),
        ("tatara.config=", "needs a value"),
        ("tatara.config=ftp://h/", "https://HOST"),
        ("tatara.config=https:///x", "https://HOST"),
        ("tatara.ca=abc", "sha256:"),
        ("tatara.ca=sha256:abc", "64 hex digits"),
        ("tatara.key=RWQ", "minisign"),
        ("tatara.ntp=a,,b", "empty item"),
        ("tatara.boot=dsk", "did you mean `disk`?"),
        ("tatara.boot=disk tatara.slot=c", "neither"),
        ("tatara.slot=a", "needs `tatara.boot=disk`"),
        ("tatara.refresh=1", "takes no value"),
        ("ip=eth0", "unknown method"),
        ("ip=eth0:dhpc", "did you mean `dhcp`?"),
        ("ip=off", "no network"),
        ("ip=ibft", "not supported"),
        ("ip=192.0.2.1::192.0.2.254::h:eth0:none", "needs a netmask"),
        ("ip=192.0.2.1:::255.0.255.0::eth0:none", "not a prefix"),
        ("ip=192.0.2.1:::33::eth0:none", "no netmask"),
        ("ip=2001:db8::1:::64::eth0:none", "IP address"),
        ("ip=[2001:db8::1", "without its `]`"),
        ("ip=eth0:dhcp:67", "MTU"),
        ("ip=eth0:dhcp:1500:zz", "MAC"),
        ("ip=interface-name-too-long:dhcp", "neither an interface name"),
        ("nameserver=dns.example", "IP address"),
        ("vlan=eth0.0:eth0", "VLAN id"),
        ("vlan=vlan4095:eth0", "VLAN id"),
        ("vlan=vlan5", "NAME:INTERFACE"),
        ("bond=b:eth0:mode", "NAME=VALUE"),
        ("bond=b:e:mode=1:1500:x", "NAME:MEMBERS"),
    ] {
        let message = refused(text);
        assert!(message.contains(says), "{text}: {message}");
    }
}

#[test]
fn ip_short_forms() {
    for (word, method) in [
        ("dhcp", IpMethod::Dhcp4),
        ("on", IpMethod::Dhcp4),
        ("any", IpMethod::Dhcp4),
        ("single-dhcp", IpMethod::Dhcp4),
        ("dhcp6", IpMethod::Dhcp6),
        ("auto6", IpMethod::Auto6),
        ("either6", IpMethod::Auto6),
    ] {
        assert_eq!(ip(&format!("ip={word}")), IpArg { method, ..NONE });
        let interface = Some("eno1".to_owned());
        assert_eq!(ip(&format!("ip=eno1:{word}")), IpArg { method, interface, ..NONE });
    }
    let expected = IpArg {
        interface: Some("eth0".to_owned()),
        method: IpMethod::Dhcp4,
        mtu: Some(9000),
        set_mac: Some("52:54:00:12:34:56".to_owned()),
        ..NONE
    };
    assert_eq!(ip("ip=eth0:dhcp:9000:52:54:00:12:34:56"), expected);
    assert_eq!(ip("ip=eth0:dhcp::52-54-00-12-34-56"), IpArg { mtu: None, ..expected });
}

#[test]
fn a_mac_names_the_interface() {
    let expected = Some("52:54:00:ab:cd:ef".to_owned());
    for text in ["52:54:00:AB:CD:EF", "52-54-00-ab-cd-ef", "[52:54:00:ab:cd:ef]"] {
        assert_eq!(ip(&format!("ip={text}:dhcp")).interface, expected, "{text}");
        assert_eq!(ip(&format!("ip=::::h:{text}:dhcp")).interface, expected, "{text}");
    }
}

#[test]
fn ip_full_form_with_name_servers() {
    let parsed =
        line("ip=192.0.2.10::192.0.2.1:255.255.255.0:node-1:eth0:none:192.0.2.53:[2001:db8::53]").network;
    let expected = IpArg {
        interface: Some("eth0".to_owned()),
        address: Some(([192, 0, 2, 10].into(), 24)),
        gateway: Some([192, 0, 2, 1].into()),
        hostname: Some("node-1".to_owned()),
        ..NONE
    };
    assert_eq!(parsed.ip, std::slice::from_ref(&expected));
    let servers: Vec<String> = parsed.nameservers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53", "2001:db8::53"]);
    assert_eq!(ip("ip=192.0.2.10/24::192.0.2.1::node-1:eth0"), expected);
    assert_eq!(ip("ip=192.0.2.10:192.0.2.9:192.0.2.1:24:node-1:eth0:off:1400").mtu, Some(1400));
}

#[test]
fn ip_full_form_with_ipv6() {
    let arg = ip("ip=[2001:db8::10]::[2001:db8::1]:64::eth0:none");
    assert_eq!(arg.address, Some(("2001:db8::10".parse().expect("address"), 64)));
    assert_eq!(arg.gateway, Some("2001:db8::1".parse().expect("address")));
    assert_eq!(ip("ip=::::node:eth0:auto6").method, IpMethod::Auto6);
}

#[test]
fn vlans_bonds_and_name_servers() {
    for (name, id) in [("vlan0005", 5), ("vlan5", 5), ("eth0.0007", 7), ("eth0.7", 7)] {
        let expected = VlanArg { name: name.to_owned(), id, parent: "eth0".to_owned() };
        assert_eq!(line(&format!("vlan={name}:eth0")).network.vlans, [expected]);
    }
    let option = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut bond = BondArg {
        name: "bond1".to_owned(),
        members: vec!["eno1".to_owned(), "eno2".to_owned()],
        options: vec![option("mode", "802.3ad"), option("miimon", "100")],
        mtu: Some(9000),
    };
    assert_eq!(line("bond=bond1:eno1,eno2:mode=802.3ad,miimon=100:9000").network.bonds, [bond.clone()]);
    bond.name = "bond0".to_owned();
    bond.members = vec!["eth0".to_owned(), "eth1".to_owned()];
    bond.options = vec![option("mode", "balance-rr")];
    bond.mtu = None;
    assert_eq!(line("bond").network.bonds, [bond]);
    assert_eq!(line("nameserver=[2001:db8::1] nameserver=192.0.2.1").network.nameservers.len(), 2);
}

/// Every argument of ours and every one that an installed node keeps is explained where operators look.
#[test]
fn every_argument_is_documented() {
    let text = include_str!("../../../../docs/pxe.md");
    let rows: Vec<&str> = text.lines().filter_map(|line| line.split('|').nth(1)).collect();
    let has = |argument: &str| {
        rows.iter().any(|row| {
            row.split('`').skip(1).step_by(2).any(|code| code.split(['=', '[']).next() == Some(argument))
        })
    };
    for name in super::NAMES {
        assert!(has(&format!("tatara.{name}")), "docs/pxe.md has no row for `tatara.{name}`");
    }
    for name in super::CARRIED {
        assert!(has(name), "docs/pxe.md has no row for `{name}`");
    }
}

#[test]
fn a_refused_argument_shows_no_secret() {
    let message = refused("tatara.config=ftp://me:S3CRET@h/x?token=S3CRET");
    assert!(message.contains("ftp://h/x?") && !message.contains("S3CRET"), "{message}");
    let fault = Placeholders::default().fill("https://me:S3CRET@h/${uuid}?t=S3CRET").expect_err("no value");
    assert!(!fault.message.contains("S3CRET"), "{}", fault.message);
}

#[test]
fn placeholders() {
    let values = Placeholders {
        mac: Some("52:54:00:12:34:56".to_owned()),
        serial: Some("AB/12 3".to_owned()),
        uuid: None,
        hostname: Some(String::new()),
    };
    let fill = |url: &str| values.fill(url).map_err(|fault| (fault.code, fault.message));
    assert_eq!(
        fill("https://h/${mac}/${serial}?$x=$"),
        Ok("https://h/52:54:00:12:34:56/AB%2F12%203?$x=$".to_owned())
    );
    for (url, says) in [
        ("https://h/${macc}", "did you mean `mac`?"),
        ("https://h/${uuid}", "no value for `${uuid}`"),
        ("https://h/${hostname}", "no value for `${hostname}`"),
        ("https://h/${mac", "without its `}`"),
    ] {
        let (code, message) = fill(url).expect_err(url);
        assert_eq!(code, Code::UrlBad);
        assert!(message.contains(says), "{message}");
    }
    let nobodys = Placeholders {
        uuid: Some("03000200-0400-0500-0006-000700080009".to_owned()),
        serial: Some("Default string".to_owned()),
        hostname: Some("none".to_owned()),
        ..Placeholders::default()
    };
    for (url, value) in [("https://h/${serial}", "`Default string`"), ("https://h/${uuid}", "`03000200-")] {
        let fault = nobodys.fill(url).expect_err(url);
        assert_eq!(fault.code, Code::UrlBad);
        assert!(fault.message.contains(value) && fault.message.contains("use `${mac}`"), "{}", fault.message);
    }
    assert_eq!(nobodys.fill("https://h/${hostname}").expect("an operator chose it"), "https://h/none");
    let up = Placeholders { hostname: Some("..".to_owned()), ..Placeholders::default() };
    let fault = up.fill("https://h/nodes/${hostname}/node.yaml").expect_err("a step up the path");
    assert!(fault.message.contains("no name of a file"), "{}", fault.message);
}

#[test]
fn an_installed_node_keeps_what_it_needs_to_come_back() {
    let parsed = line(
        "BOOT_IMAGE=/x root=/dev/sda tatara.config=https://h/ tatara.refresh tatara.boot=usb ip=dhcp console=tty0 \
         console=ttyS0,115200 console=tty0 quiet rd.neednet=1",
    );
    let expected =
        ["tatara.config=https://h/", "ip=dhcp", "console=tty0", "console=ttyS0,115200", "rd.neednet=1"];
    assert_eq!(carried(&parsed), expected);
}

#[test]
fn arguments_are_compared_as_sets() {
    let parsed = line("nohz_full=1-3 b dyndbg=\"file x +p\" a");
    let wanted: Vec<String> =
        ["a", "dyndbg=\"file x +p\"", "nohz_full=1-2", "b"].iter().map(ToString::to_string).collect();
    assert_eq!(missing(&parsed, &wanted), ["nohz_full=1-2"]);
}

#[test]
fn a_line_too_long_for_the_kernel_is_refused() {
    assert!(join(&["a".repeat(2047)]).is_ok());
    let fault = join(&["a".repeat(2000), "b".repeat(47)]).expect_err("2048 bytes");
    assert_eq!(fault.code, Code::CmdlineBad);
}

proptest! {
    #[test]
    fn split_undoes_join(args in prop::collection::vec("[!#-~]([ !#-~]{0,20}[!#-~])?", 0..8)) {
        let joined = join(&args).expect("no quotes, no control characters");
        assert_eq!(split(&joined), args);
    }

    #[test]
    fn never_panics(text: String) {
        let _ = parse(&text);
        let _ = join(&[text]);
    }

    #[test]
    fn network_arguments_never_panic(name in "(ip|vlan|bond|nameserver)", value in "[0-9a-f:.,\\[\\]/=édhcpnone-]{0,40}") {
        let _ = parse(&format!("{name}={value}"));
    }

    #[test]
    fn static_addresses_round_trip(client: [u8; 4], gateway: [u8; 4], prefix in 1u8..=32, mtu in 68u32..=65535) {
        let (client, gateway) = (std::net::Ipv4Addr::from(client), std::net::Ipv4Addr::from(gateway));
        let mask = std::net::Ipv4Addr::from(u32::MAX << (32 - prefix));
        for mask in [mask.to_string(), prefix.to_string()] {
            let arg = ip(&format!("ip={client}::{gateway}:{mask}:h:eth0:none:{mtu}"));
            assert_eq!(arg.address, Some((client.into(), prefix)));
            assert_eq!(arg.gateway, Some(gateway.into()));
            assert_eq!(arg.mtu, Some(mtu));
        }
    }

    #[test]
    fn six_byte_addresses_are_one_field(mac: [u8; 6]) {
        let text: Vec<String> = mac.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = text.join(":");
        assert_eq!(ip(&format!("ip={text}:dhcp")).interface, Some(text));
    }
}

#[test]
fn the_esp_is_a_guid_and_stays_with_its_disk() {
    let parsed = line("tatara.boot=disk tatara.esp=E95675AF-b889-4836-8800-a5f5bb1b4430");
    assert_eq!(parsed.esp.as_deref(), Some("e95675af-b889-4836-8800-a5f5bb1b4430"));
    assert_eq!(carried(&parsed), Vec::<String>::new(), "another disk has another ESP");
    for wrong in ["", "sda2", "e95675afb88948368800a5f5bb1b4430", "g95675af-b889-4836-8800-a5f5bb1b4430"] {
        let fault = parse(&format!("tatara.esp={wrong}")).expect_err(wrong);
        assert_eq!(fault.code, Code::CmdlineBad, "{wrong}");
    }
}

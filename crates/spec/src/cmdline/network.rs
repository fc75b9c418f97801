//! dracut's network arguments, as in dracut.cmdline(7), section "Network".

use super::{BondArg, IpArg, IpMethod, NetworkArgs, VlanArg, text};
use std::net::IpAddr;

/// Smallest MTU of IPv4 (RFC 791) and the largest that a link can have in Linux, in bytes.
const MTU_BYTES: std::ops::RangeInclusive<u32> = 68..=65535;

/// Longest interface name in bytes (`IFNAMSIZ` - 1, `include/uapi/linux/if.h`).
const INTERFACE_NAME_BYTES: usize = 15;

/// Words of the `autoconf` field.
const METHODS: [&str; 11] =
    ["none", "off", "static", "dhcp", "on", "any", "single-dhcp", "dhcp6", "auto6", "either6", "link6"];

/// Takes one argument if it is one of dracut's; the error says what was expected.
pub(super) fn take(to: &mut NetworkArgs, name: &str, value: Option<&str>) -> Result<(), String> {
    let value = value.unwrap_or_default();
    match name {
        "ip" => {
            let (arg, nameservers) = ip(value)?;
            to.ip.push(arg);
            to.nameservers.extend(nameservers);
        }
        "nameserver" => to.nameservers.push(address(value)?),
        "vlan" => to.vlans.push(vlan(value)?),
        "bond" => to.bonds.push(bond(value)?),
        _ => {}
    }
    Ok(())
}

/// Splits at colons, but not inside brackets, and not inside a MAC address: six groups of two hex digits are one field.
fn fields(value: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut bracketed = false;
    for c in value.chars() {
        match c {
            '[' if !bracketed => bracketed = true,
            ']' if bracketed => bracketed = false,
            ':' if !bracketed => fields.push(String::new()),
            _ => fields.last_mut().into_iter().for_each(|field| field.push(c)),
        }
    }
    if bracketed {
        return Err("`[` without its `]`".to_owned());
    }
    let mut merged = Vec::new();
    let mut rest = fields.as_slice();
    while let Some((first, tail)) = rest.split_first() {
        match rest.get(..6) {
            Some(six) if six.iter().all(|group| is_hex_pair(group)) => {
                merged.push(six.join(":").to_ascii_lowercase());
                rest = &rest[6..];
            }
            _ => {
                merged.push(first.clone());
                rest = tail;
            }
        }
    }
    Ok(merged)
}

fn is_hex_pair(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A MAC address with colons or hyphens, as lower-case with colons.
fn mac(text: &str) -> Option<String> {
    let colons = text.replace('-', ":").to_ascii_lowercase();
    let groups: Vec<&str> = colons.split(':').collect();
    (groups.len() == 6 && groups.iter().all(|group| is_hex_pair(group))).then_some(colons)
}

/// The three forms of `ip=`: `METHOD`, `IFACE:METHOD[:[MTU][:MAC]]`, and
/// `CLIENT:[PEER]:GATEWAY:NETMASK:HOSTNAME:IFACE:METHOD[:…]` with `MTU:MAC` or `DNS1:DNS2` at its end.
fn ip(value: &str) -> Result<(IpArg, Vec<IpAddr>), String> {
    let fields = fields(value)?;
    let field = |i: usize| fields.get(i).map(String::as_str).unwrap_or_default();
    let first = field(0);
    let mut arg = IpArg {
        interface: None,
        method: IpMethod::Any,
        address: None,
        gateway: None,
        hostname: None,
        mtu: None,
        set_mac: None,
    };
    if fields.len() == 1 && first.parse::<IpAddr>().is_err() {
        arg.method = method(first)?;
        return match arg.method {
            IpMethod::Static => Err(format!("`{first}` for every interface leaves no network at all")),
            _ => Ok((arg, Vec::new())),
        };
    }
    let full = first.is_empty() || first.parse::<IpAddr>().is_ok() || first.contains('/') || fields.len() > 4;
    if !full {
        arg.interface = Some(interface(first)?);
        arg.method = method(field(1))?;
        tail(&mut arg, &fields[2.min(fields.len())..])?;
        return Ok((arg, Vec::new()));
    }
    arg.address = client(first, field(3))?;
    // Field 1 is the peer of point-to-point links and the kernel's NFS server: neither is of use here.
    arg.gateway = optional(field(2), address)?;
    arg.hostname = optional(field(4), |name| Ok(name.to_owned()))?;
    arg.interface = optional(field(5), interface)?;
    arg.method = match (field(6), &arg.address) {
        ("", Some(_)) => IpMethod::Static,
        ("", None) => IpMethod::Dhcp4,
        (word, _) => method(word)?,
    };
    if arg.method == IpMethod::Static && arg.address.is_none() && arg.gateway.is_some() {
        return Err("a gateway without an address".to_owned());
    }
    let nameservers = tail(&mut arg, &fields[7.min(fields.len())..])?;
    Ok((arg, nameservers))
}

/// What follows the method: `MTU:MAC`, or name servers.
fn tail(arg: &mut IpArg, fields: &[String]) -> Result<Vec<IpAddr>, String> {
    let present: Vec<&String> = fields.iter().filter(|field| !field.is_empty()).collect();
    if let Some(extra) = fields.get(2..).unwrap_or_default().iter().find(|field| !field.is_empty()) {
        return Err(format!("`{extra}` at its end is one field too many"));
    }
    if !present.is_empty() && present.iter().all(|field| field.parse::<IpAddr>().is_ok()) {
        return present.into_iter().map(|field| address(field)).collect();
    }
    arg.mtu = optional(fields.first().map(String::as_str).unwrap_or_default(), mtu)?;
    arg.set_mac = optional(fields.get(1).map(String::as_str).unwrap_or_default(), |text| {
        mac(text).ok_or_else(|| format!("`{text}` is not a MAC address"))
    })?;
    Ok(Vec::new())
}

fn optional<T>(text: &str, parse: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

fn method(word: &str) -> Result<IpMethod, String> {
    Ok(match word {
        "none" | "off" | "static" | "link6" => IpMethod::Static,
        "dhcp" | "on" | "any" | "single-dhcp" => IpMethod::Dhcp4,
        "dhcp6" => IpMethod::Dhcp6,
        "auto6" | "either6" => IpMethod::Auto6,
        "ibft" | "link-local" => return Err(format!("method `{word}` is not supported")),
        other => return Err(text::unknown("method", "", other, &METHODS)),
    })
}

/// The client address with its prefix length, from a netmask, a prefix length, or `ADDRESS/PREFIX`.
fn client(text: &str, netmask: &str) -> Result<Option<(IpAddr, u8)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (text, mask) = text.split_once('/').unwrap_or((text, netmask));
    let ip = address(text)?;
    let width = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match (mask.parse::<u8>(), mask.parse::<IpAddr>()) {
        (Ok(prefix), _) if (1..=width).contains(&prefix) => prefix,
        (_, Ok(IpAddr::V4(mask))) if ip.is_ipv4() => contiguous(mask.into())?,
        _ if mask.is_empty() => return Err(format!("address {ip} needs a netmask or prefix length")),
        _ => return Err(format!("`{mask}` is no netmask or prefix length for {ip}")),
    };
    Ok(Some((ip, prefix)))
}

fn contiguous(mask: u32) -> Result<u8, String> {
    let prefix = mask.leading_ones();
    if prefix == 0 || mask.count_ones() != prefix {
        return Err(format!("netmask {} is not a prefix", std::net::Ipv4Addr::from(mask)));
    }
    Ok(u8::try_from(prefix).unwrap_or(32))
}

fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse().map_err(|_| format!("`{text}` is not an IP address (IPv6 is written in brackets)"))
}

fn mtu(text: &str) -> Result<u32, String> {
    let bytes = text.parse().ok().filter(|bytes| MTU_BYTES.contains(bytes));
    bytes.ok_or_else(|| {
        format!("`{text}` is not an MTU from {} to {} bytes", MTU_BYTES.start(), MTU_BYTES.end())
    })
}

/// An interface name, or a MAC address.
fn interface(text: &str) -> Result<String, String> {
    if let Some(mac) = mac(text) {
        return Ok(mac);
    }
    // As the kernel's dev_valid_name (net/core/dev.c).
    let wrong = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if text.is_empty()
        || text.len() > INTERFACE_NAME_BYTES
        || text == "."
        || text == ".."
        || text.contains(wrong)
    {
        return Err(format!("`{text}` is neither an interface name nor a MAC address"));
    }
    Ok(text.to_owned())
}

/// `VLANNAME:PHYSDEV`; the id is the number at the name's end: `vlan0005`, `vlan5`, `eth0.0005`, `eth0.5`.
fn vlan(value: &str) -> Result<VlanArg, String> {
    let fields = fields(value)?;
    let [name, parent] = fields.as_slice() else {
        return Err("expected `vlan=NAME:INTERFACE`".to_owned());
    };
    let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
    let id = name[name.len() - digits..].parse().ok().filter(|id| (1..=4094).contains(id));
    let id = id.ok_or_else(|| format!("`{name}` does not end in a VLAN id from 1 to 4094"))?;
    Ok(VlanArg { name: interface(name)?, id, parent: interface(parent)? })
}

/// `NAME[:MEMBERS[:OPTIONS[:MTU]]]`; what is left out is as dracut has it: `bond0:eth0,eth1:mode=balance-rr`.
fn bond(value: &str) -> Result<BondArg, String> {
    let fields = fields(value)?;
    if fields.len() > 4 {
        return Err("expected `bond=NAME:MEMBERS:OPTIONS:MTU`".to_owned());
    }
    let or = |i: usize, default: &'static str| {
        fields.get(i).map(String::as_str).filter(|field| !field.is_empty()).unwrap_or(default)
    };
    let option = |text: &str| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => Err(format!("bond option `{text}` is not NAME=VALUE")),
    };
    Ok(BondArg {
        name: interface(or(0, "bond0"))?,
        members: or(1, "eth0,eth1").split(',').map(interface).collect::<Result<_, _>>()?,
        options: or(2, "mode=balance-rr").split(',').map(option).collect::<Result<_, _>>()?,
        mtu: optional(or(3, ""), mtu)?,
    })
}

//! Names and addresses of the network.

use super::{Checked, expect};
use crate::config::diagnostic::{alternatives, did_you_mean};
use crate::redact;
use std::net::IpAddr;
use url::Url;

/// Linux, `include/uapi/linux/utsname.h`: __NEW_UTS_LEN.
const HOST_NAME_MAX_BYTES: usize = 64;
/// RFC 1035, section 2.3.4.
const DOMAIN_NAME_MAX_BYTES: usize = 253;
const LABEL_MAX_BYTES: usize = 63;
/// Linux, `include/uapi/linux/if.h`: IFNAMSIZ, without the closing NUL.
const INTERFACE_NAME_MAX_BYTES: usize = 15;

/// RFC 1123, section 2.1: labels of letters, digits and inner hyphens.
pub(super) fn is_domain_name(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_MAX_BYTES
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= DOMAIN_NAME_MAX_BYTES && text.split('.').all(label)
}

pub(super) fn host_name(text: &str) -> Checked {
    let lower = text.to_ascii_lowercase().replace('_', "-");
    let valid = |name: &str| is_domain_name(name) && name.len() <= HOST_NAME_MAX_BYTES;
    let hint =
        if lower != text && valid(&lower) { format!("; did you mean `{lower}`?") } else { String::new() };
    expect(
        valid(text) && lower == text,
        &format!(
            "a host name of lower-case letters, digits and inner hyphens, at most {HOST_NAME_MAX_BYTES} bytes{hint}"
        ),
    )
}

pub(super) fn domain_name(text: &str) -> Checked {
    expect(is_domain_name(text), "a domain name, e.g. `example.com`")
}

/// A name or an address. A name's last label is never a number, so a mistyped address is not taken for a name (RFC 3696, section 2).
pub(super) fn is_host(text: &str) -> bool {
    let numeric =
        text.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    text.parse::<IpAddr>().is_ok() || (!numeric && is_domain_name(text))
}

pub(super) fn host(text: &str) -> Checked {
    expect(is_host(text), "a host name or an IP address")
}

pub(super) fn ip(text: &str) -> Checked {
    let hint = match text.split_once('/') {
        Some((address, _)) if address.parse::<IpAddr>().is_ok() => format!("; did you mean `{address}`?"),
        _ => String::new(),
    };
    expect(text.parse::<IpAddr>().is_ok(), &format!("an IP address without a prefix length{hint}"))
}

/// An address and its prefix length.
fn prefix(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = text.split_once('/')?;
    let address: IpAddr = address.parse().ok()?;
    let digits = length.bytes().all(|byte| byte.is_ascii_digit());
    let length: u8 = length.parse().ok().filter(|_| digits)?;
    (length <= address_bits(address)).then_some((address, length))
}

fn address_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

pub(super) fn interface_address(text: &str) -> Checked {
    const EXPECTED: &str = "an address with its prefix length, e.g. `192.0.2.10/24`";
    match prefix(text) {
        Some((address, _)) => expect(
            !address.is_unspecified() && !address.is_multicast() && !address.is_loopback(),
            "an address that an interface can have: not the unspecified one, multicast or loopback",
        ),
        None => match text.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => Err(format!("expected {EXPECTED}; did you mean `{text}/24`?")),
            Ok(IpAddr::V6(_)) => Err(format!("expected {EXPECTED}; did you mean `{text}/64`?")),
            Err(_) => expect(false, EXPECTED),
        },
    }
}

pub(super) fn network_address(text: &str) -> Checked {
    let Some((address, length)) = prefix(text) else {
        return expect(false, "a network with its prefix length, e.g. `10.0.0.0/8`");
    };
    let network = network(address, length);
    expect(network == address, &format!("no bits after the prefix; did you mean `{network}/{length}`?"))
}

/// The address with the bits after the prefix cleared.
fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}

/// Linux, `net/core/dev.c`, dev_valid_name(): no `/`, `:` or white space.
pub(super) fn interface_name(text: &str) -> Checked {
    let valid = !text.is_empty()
        && text.len() <= INTERFACE_NAME_MAX_BYTES
        && !matches!(text, "." | "..")
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    expect(
        valid,
        &format!("a name of letters, digits, `.`, `_` and `-`, at most {INTERFACE_NAME_MAX_BYTES} bytes"),
    )
}

pub(super) fn mac(text: &str) -> Checked {
    let colons = text.replace('-', ":");
    let bytes: Vec<&str> = colons.split(':').collect();
    let is_byte = |byte: &&str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    if bytes.len() != 6 || !bytes.iter().all(is_byte) {
        return expect(false, "a MAC address, e.g. `52:54:00:12:34:56`");
    }
    if colons != text {
        return Err(format!("expected colons between the bytes; did you mean `{colons}`?"));
    }
    // IEEE 802, clause 8.2: the lowest bit of the first byte says "group".
    let group = u8::from_str_radix(bytes[0], 16).is_ok_and(|first| first & 1 == 1);
    let zero = bytes.iter().all(|byte| *byte == "00");
    expect(!group && !zero, "the address of one interface, not a group's or zero")
}

/// systemd.netdev(5), `Mode=` of a bond.
const BOND_MODES: [&str; 7] =
    ["balance-rr", "active-backup", "balance-xor", "broadcast", "802.3ad", "balance-tlb", "balance-alb"];

pub(super) fn bond_mode(text: &str) -> Checked {
    let hint = if text.eq_ignore_ascii_case("lacp") {
        "; did you mean `802.3ad`?".to_owned()
    } else {
        did_you_mean(text, BOND_MODES)
    };
    expect(BOND_MODES.contains(&text), &format!("{}{hint}", alternatives(&BOND_MODES)))
}

/// An absolute URL with one of these schemes and a host. The parser of browsers is lenient, so what it would repair
/// is refused: white space, backslashes, missing slashes.
fn is_url(text: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| text.strip_prefix(*scheme)?.strip_prefix("://"));
    let written = rest.is_some_and(|rest| !rest.starts_with('/'));
    let clean = !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    written
        && clean
        && Url::parse(text)
            .is_ok_and(|url| url.has_host() && url.username().is_empty() && url.password().is_none())
}

pub(super) fn https_url(text: &str) -> Checked {
    let hint = match text.strip_prefix("http://") {
        Some(rest) if is_url(text, &["http"]) => {
            format!("; did you mean `https://{}`?", redact::url(rest))
        }
        _ => String::new(),
    };
    expect(is_url(text, &["https"]), &format!("an https:// URL without user name and password{hint}"))
}

pub(super) fn release_url(text: &str) -> Checked {
    let scheme = text.split_once(':').is_some_and(|(scheme, _)| !scheme.contains('/'));
    let relative = !scheme
        && !text.is_empty()
        && !text.starts_with("//")
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\');
    expect(
        relative || is_url(text, &["https", "http"]),
        "an https:// or http:// URL, or one relative to the config's",
    )
}

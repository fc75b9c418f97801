//! The kernel command line: tatara's arguments, and dracut's `ip=` family.
//!
//! Sources: kernel `Documentation/admin-guide/kernel-parameters.rst` (quoting), dracut.cmdline(7) (network).

mod identity;
mod network;
mod text;

pub use identity::is_own as is_of_one_machine;
pub use text::{join, split};

use crate::error::{Code, Fault};
use crate::plan::{Origin, Request};
use crate::redact;
use crate::release::Digest;
use crate::step::Step;
use std::net::IpAddr;

/// What the kernel command line says to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// How we were started, and what is asked for.
    pub request: Request,
    /// `tatara.config=URL`, placeholders not yet filled in.
    pub config_url: Option<String>,
    /// `tatara.ca=sha256:HEX[,sha256:HEX…]`: SHA-256 of the DER SubjectPublicKeyInfo of a CA to trust, as kubeadm's caCertHashes.
    pub ca_pins: Vec<Digest>,
    /// `tatara.key=`: minisign public keys (base64) for config and release signatures, comma separated.
    pub keys: Vec<String>,
    /// `tatara.ntp=HOST[,HOST…]`.
    pub ntp: Vec<String>,
    /// `tatara.report=URL`: failures are POSTed there, from before there is a config.
    pub report_url: Option<String>,
    /// `ip=`, `nameserver=`, `vlan=`, `bond=`, `rd.neednet` of dracut.cmdline(7).
    pub network: NetworkArgs,
    /// `tatara.esp=GUID`: the partition GUID of the EFI system partition that this kernel was loaded from, lower-case, as systemd's
    /// `LoaderDevicePartUUID`. An install writes it into the disk's own node.cfg, so a boot from disk knows its disk.
    pub esp: Option<String>,
    /// `tatara.kexec`: this kernel was started by ours, so that a second kexec would be a loop.
    pub kexeced: bool,
    /// `tatara.panic=STEP[,STEP…]`: the worker panics once at the begin of each, to rehearse what becomes of a boot then.
    pub panics: Vec<Step>,
    /// Every argument as written, quotes removed, in order.
    pub all: Vec<String>,
}

/// dracut's network arguments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkArgs {
    /// One entry an `ip=`; empty means DHCPv4 and SLAAC on every link.
    pub ip: Vec<IpArg>,
    /// `nameserver=IP`, and the DNS fields of `ip=`.
    pub nameservers: Vec<IpAddr>,
    /// `vlan=VLANNAME:PHYSDEV`.
    pub vlans: Vec<VlanArg>,
    /// `bond=NAME:SLAVES:OPTIONS:MTU`.
    pub bonds: Vec<BondArg>,
}

/// One `ip=` argument.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpArg {
    /// Interface name, or MAC address with colons; `None` is every interface.
    pub interface: Option<String>,
    /// How addresses come about.
    pub method: IpMethod,
    /// Static address with prefix length.
    pub address: Option<(IpAddr, u8)>,
    /// Default route.
    pub gateway: Option<IpAddr>,
    /// Host name.
    pub hostname: Option<String>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// MAC address that the interface shall take, lower-case with colons.
    pub set_mac: Option<String>,
}

/// `autoconf` field of `ip=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpMethod {
    /// `none`, `off`, `static`, and `link6`: the kernel makes the link-local address by itself.
    Static,
    /// `dhcp`, `on`, `any`.
    Dhcp4,
    /// `dhcp6`.
    Dhcp6,
    /// `auto6`, `either6`: SLAAC.
    Auto6,
    /// No `ip=` at all: DHCPv4 and SLAAC at once.
    Any,
}

/// A VLAN interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanArg {
    /// Name of the VLAN interface; the id is in it (`vlan5`, `eth0.5`).
    pub name: String,
    /// VLAN id, 1 to 4094.
    pub id: u16,
    /// The interface below.
    pub parent: String,
}

/// A bond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BondArg {
    /// Name of the bond.
    pub name: String,
    /// Its interfaces.
    pub members: Vec<String>,
    /// Options, `mode=802.3ad,miimon=100`.
    pub options: Vec<(String, String)>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
}

/// Values for the placeholders of `tatara.config=`; the same text that iPXE's settings expand to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Placeholders {
    /// `${mac}`: lower-case, colons, of the interface in use.
    pub mac: Option<String>,
    /// `${uuid}`: SMBIOS system UUID, lower-case.
    pub uuid: Option<String>,
    /// `${serial}`: SMBIOS system serial number.
    pub serial: Option<String>,
    /// `${hostname}`: from DHCP option 12 or `ip=`.
    pub hostname: Option<String>,
}

/// Our arguments, without the `tatara.` in front.
const NAMES: [&str; 11] =
    ["config", "ca", "key", "ntp", "report", "boot", "slot", "esp", "refresh", "kexec", "panic"];

/// Parses a whole command line. An argument that is not ours is kept in `all` only; one that is ours and wrong is refused.
/// Of an argument given twice the last one counts, as in the kernel; lists (`ca`, `key`, `ntp`) and network arguments add up.
///
/// # Errors
/// [`Code::CmdlineBad`] with the argument, what was expected, and the nearest known `tatara.` name.
pub fn parse(text: &str) -> Result<CommandLine, Fault> {
    let mut line = CommandLine {
        request: Request { origin: Origin::Network, slot: None, refresh: false },
        config_url: None,
        ca_pins: Vec::new(),
        keys: Vec::new(),
        ntp: Vec::new(),
        report_url: None,
        network: NetworkArgs::default(),
        esp: None,
        kexeced: false,
        panics: Vec::new(),
        all: split(text),
    };
    for arg in line.all.clone() {
        let (name, value) = match arg.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (arg.as_str(), None),
        };
        let parsed = match name.strip_prefix("tatara.") {
            Some(own) => take_own(&mut line, own, value),
            None => network::take(&mut line.network, name, value),
        };
        parsed.map_err(|why| {
            let shown = value.map_or_else(|| arg.clone(), |value| format!("{name}={}", redact::url(value)));
            Fault::new(Code::CmdlineBad, format!("kernel argument `{shown}`: {why}"))
        })?;
    }
    if let (Some(slot), true) = (line.request.slot, line.request.origin != Origin::Disk) {
        let why = format!(
            "kernel argument `tatara.slot={slot}`: only a disk boot has a slot; it needs `tatara.boot=disk`"
        );
        return Err(Fault::new(Code::CmdlineBad, why));
    }
    Ok(line)
}

/// Takes one `tatara.NAME[=VALUE]`; the error says what was expected.
fn take_own(line: &mut CommandLine, name: &str, value: Option<&str>) -> Result<(), String> {
    if name == "refresh" || name == "kexec" {
        let flag = if name == "refresh" { &mut line.request.refresh } else { &mut line.kexeced };
        *flag = true;
        return value.map_or(Ok(()), |_| Err("takes no value".to_owned()));
    }
    if !NAMES.contains(&name) {
        return Err(text::unknown("name", "tatara.", name, &NAMES));
    }
    let value = value.filter(|v| !v.is_empty()).ok_or("needs a value after `=`")?;
    match name {
        "config" => line.config_url = Some(url(value)?),
        "report" => line.report_url = Some(url(value)?),
        "ca" => add(&mut line.ca_pins, value, pin)?,
        "key" => add(&mut line.keys, value, key)?,
        "ntp" => add(&mut line.ntp, value, |host| Ok(host.to_owned()))?,
        "slot" => line.request.slot = Some(value.parse()?),
        "esp" => line.esp = Some(guid(value)?),
        "panic" => add(&mut line.panics, value, step)?,
        "boot" => {
            line.request.origin = match value {
                "disk" => Origin::Disk,
                "usb" => Origin::Usb,
                other => return Err(text::unknown("value", "", other, &["disk", "usb"])),
            };
        }
        _ => return Err(text::unknown("name", "tatara.", name, &NAMES)),
    }
    Ok(())
}

/// Adds the items of a comma separated list that are not there yet.
fn add<T: PartialEq>(
    to: &mut Vec<T>,
    list: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<(), String> {
    for item in list.split(',') {
        if item.is_empty() {
            return Err("has an empty item in its comma separated list".to_owned());
        }
        let item = parse(item)?;
        if !to.contains(&item) {
            to.push(item);
        }
    }
    Ok(())
}

/// Only the scheme is checked here: what follows can still hold placeholders.
fn url(value: &str) -> Result<String, String> {
    let rest = value.strip_prefix("https://").or_else(|| value.strip_prefix("http://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(value.to_owned()),
        _ => Err("expected `https://HOST/…`".to_owned()),
    }
}

fn pin(item: &str) -> Result<Digest, String> {
    let hex = item.strip_prefix("sha256:").ok_or("expected `sha256:` and 64 hex digits")?;
    hex.parse()
}

fn step(item: &str) -> Result<Step, String> {
    let names = Step::ALL.map(Step::name);
    Step::ALL
        .into_iter()
        .find(|step| step.name() == item)
        .ok_or_else(|| text::unknown("step", "", item, &names))
}

/// A GUID as text: 8-4-4-4-12 hex digits (RFC 9562, section 4).
fn guid(value: &str) -> Result<String, String> {
    let groups: Vec<&str> = value.split('-').collect();
    let is_hex = |group: &&str| group.bytes().all(|b| b.is_ascii_hexdigit());
    if groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(is_hex) {
        Ok(value.to_ascii_lowercase())
    } else {
        Err("expected a partition GUID, hex digits in groups of 8-4-4-4-12".to_owned())
    }
}

/// A minisign public key is 42 bytes: `Ed`, 8 of key id, 32 of key; in base64 56 characters that begin with `RW`.
fn key(item: &str) -> Result<String, String> {
    let base64 = |b: u8| b.is_ascii_alphanumeric() || b == b'+' || b == b'/';
    if item.len() == 56 && item.starts_with("RW") && item.bytes().all(base64) {
        Ok(item.to_owned())
    } else {
        Err("expected a minisign public key, 56 base64 characters that begin with `RW`".to_owned())
    }
}

impl Placeholders {
    /// Fills in a URL's placeholders. Values are percent-encoded where RFC 3986 wants it in a path segment, so that a serial
    /// number with a blank or a slash stays one segment.
    ///
    /// # Errors
    /// [`Code::UrlBad`] when a placeholder is unknown (with the nearest known one) or this machine has no value for it.
    pub fn fill(&self, url: &str) -> Result<String, Fault> {
        let bad = |why: String| Fault::new(Code::UrlBad, format!("URL `{}`: {why}", redact::url(url)));
        let mut out = String::with_capacity(url.len());
        let mut rest = url;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, tail) =
                after.split_once('}').ok_or_else(|| bad("a placeholder `${` without its `}`".to_owned()))?;
            out.push_str(before);
            let value = self.value(name).map_err(bad)?;
            // URL parsers take these for steps up the path, encoded or not; DHCP servers give host names, and anybody can be one.
            if matches!(value, "." | "..") {
                return Err(bad(format!(
                    "the value of `${{{name}}}` is `{value}`, which is no name of a file"
                )));
            }
            out.push_str(&text::percent_encoded(value));
            rest = tail;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value(&self, name: &str) -> Result<&str, String> {
        let value = match name {
            "mac" => &self.mac,
            "uuid" => &self.uuid,
            "serial" => &self.serial,
            "hostname" => &self.hostname,
            _ => return Err(text::unknown("placeholder", "", name, &["mac", "uuid", "serial", "hostname"])),
        };
        let value = value.as_deref().filter(|v| !v.is_empty()).ok_or_else(|| {
            format!("this machine has no value for `${{{name}}}`; `${{mac}}` always has one")
        })?;
        let of_firmware = matches!(name, "uuid" | "serial");
        if of_firmware && !identity::is_own(value) {
            return Err(format!(
                "`${{{name}}}` is `{value}` in this machine's firmware, which its maker left on many machines; use `${{mac}}`"
            ));
        }
        Ok(value)
    }
}

/// Names of the arguments that an installed node keeps, beside `tatara.*`.
const CARRIED: [&str; 7] = ["ip", "nameserver", "vlan", "bond", "rd.neednet", "console", "earlycon"];

/// The arguments that an installed node keeps from the command line it was installed with: `tatara.config`, `tatara.ca`,
/// `tatara.key`, `tatara.ntp`, `tatara.report`, dracut's network arguments, and `console=`, `earlycon`. Each once, in order.
#[must_use]
pub fn carried(line: &CommandLine) -> Vec<String> {
    let mut kept: Vec<String> = Vec::new();
    for arg in &line.all {
        let name = arg.split_once('=').map_or(arg.as_str(), |(name, _)| name);
        let keep = match name.strip_prefix("tatara.") {
            Some(own) => matches!(own, "config" | "ca" | "key" | "ntp" | "report"),
            None => CARRIED.contains(&name),
        };
        if keep && !kept.contains(arg) {
            kept.push(arg.clone());
        }
    }
    kept
}

/// The wanted arguments that the running command line lacks: compared as sets, never by order, quotes aside.
#[must_use]
pub fn missing(running: &CommandLine, wanted: &[String]) -> Vec<String> {
    wanted.iter().filter(|arg| !running.all.contains(&arg.replace('"', ""))).cloned().collect()
}

#[cfg(test)]
mod tests;

//! The kernel command line: tatara's arguments, and dracut's `ip=` family.
//!
//! Sources: kernel `Documentation/admin-guide/kernel-parameters.rst` (quoting), dracut.cmdline(7) (network).

use crate::error::Fault;
use crate::plan::{Origin, Request};
use crate::release::Digest;
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
}

/// `autoconf` field of `ip=`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IpMethod {
    /// `none`, `off`, `static`.
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

/// Splits at white space outside double quotes and removes the quotes, as the kernel does (`lib/cmdline.c`, next_arg).
#[must_use]
pub fn split(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Parses a whole command line. An argument that is not ours is kept in `all` only; one that is ours and wrong is refused.
///
/// # Errors
/// [`crate::Code::CmdlineBad`] with the argument, what was expected, and the nearest known `tatara.` name.
pub fn parse(text: &str) -> Result<CommandLine, Fault> {
    Ok(CommandLine {
        request: Request { origin: Origin::Network, slot: None, refresh: false },
        config_url: None,
        ca_pins: Vec::new(),
        keys: Vec::new(),
        ntp: Vec::new(),
        report_url: None,
        network: NetworkArgs::default(),
        all: split(text),
    })
}

impl Placeholders {
    /// Fills in a URL's placeholders.
    ///
    /// # Errors
    /// [`crate::Code::UrlBad`] when a placeholder is unknown (with the nearest known one) or this machine has no value for it.
    pub fn fill(&self, url: &str) -> Result<String, Fault> {
        Ok(url.to_owned())
    }
}

/// The arguments that an installed node keeps from the command line it was installed with: `tatara.config`, `tatara.ca`,
/// `tatara.key`, `tatara.ntp`, `tatara.report`, dracut's network arguments, and `console=`, `earlycon`.
#[must_use]
pub fn carried(line: &CommandLine) -> Vec<String> {
    let _ = line;
    Vec::new()
}

/// The wanted arguments that the running command line lacks: compared as sets, never by order.
#[must_use]
pub fn missing(running: &CommandLine, wanted: &[String]) -> Vec<String> {
    wanted.iter().filter(|arg| !running.all.contains(arg)).cloned().collect()
}

//! The types of `tatara.dev/v1alpha1`. Doc comments become the config reference and the JSON Schema.

use super::accept::Accept;
use super::{Firewall, Kubernetes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The `apiVersion` of these types.
pub(super) const API_VERSION: &str = "tatara.dev/v1alpha1";
/// Their `kind`.
pub(super) const KIND: &str = "NodeConfig";

/// One node.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeConfig {
    /// `tatara.dev/v1alpha1`.
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// `NodeConfig`.
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// Who this node is.
    pub metadata: Metadata,
    /// What is installed where.
    pub install: Install,
    /// Network of the installed node; without it every Ethernet link uses DHCP and SLAAC.
    #[serde(default)]
    pub network: Network,
    /// People who may log in, by SSH key only.
    #[serde(default)]
    pub users: Vec<User>,
    /// Time servers and time zone.
    #[serde(default)]
    pub time: Time,
    /// CPU isolation, kernel arguments, sysctls, modules.
    #[serde(default)]
    pub tuning: Tuning,
    /// Membership in a Kubernetes cluster.
    #[serde(default)]
    pub kubernetes: Option<Kubernetes>,
    /// Who may open connections to the node; without it everybody may.
    #[serde(default)]
    pub firewall: Option<Firewall>,
    /// Further files below /etc.
    #[serde(default)]
    pub files: Vec<FileEntry>,
    /// Where failures are reported.
    #[serde(default)]
    pub report: Option<Report>,
}

/// Who this node is.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// Host name: lower-case letters, digits and hyphens, dots between labels (RFC 1123), at most 64 bytes (Linux).
    #[schemars(extend("format" = "host-name"))]
    pub name: String,
    /// Raised with every change that must not be undone by replaying an older file; a lower one than last accepted is refused.
    #[serde(default)]
    pub serial: u64,
}

/// What is installed where.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Install {
    /// Raise it to have the node reinstalled at its next boot.
    #[serde(default = "one")]
    pub generation: u64,
    /// The release to run.
    pub release: ReleaseRef,
    /// Which disk; every condition must hold, and exactly one disk must match.
    #[serde(default)]
    pub disk: DiskSelector,
    /// What may be overwritten.
    #[serde(default)]
    pub wipe: Wipe,
    /// How the installed system is started the first time.
    #[serde(default)]
    pub handover: Handover,
    /// Whether somebody must confirm the wipe plan.
    #[serde(default)]
    pub confirm: Confirm,
}

fn one() -> u64 {
    1
}

/// A release.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReleaseRef {
    /// URL of its release.json; the files are beside it. A relative URL is relative to the config's.
    #[schemars(extend("format" = "release-url"))]
    pub url: String,
    /// minisign public key (base64) that must have signed release.json; the signature is at the URL with `.sig` appended.
    #[serde(default)]
    #[schemars(extend("format" = "minisign-key"))]
    pub key: Option<String>,
    /// The oldest release that may be installed: one dated before this moment is refused, though its signature be right.
    /// RFC 3339, `2026-11-21T00:00:00Z`; `tatara image build` prints a release's own.
    #[serde(default)]
    #[schemars(extend("format" = "moment"))]
    pub not_before: Option<String>,
}

/// Conditions on a disk.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DiskSelector {
    /// World wide name, exact, as `lsblk -o WWN` shows it.
    #[schemars(extend("format" = "word"))]
    pub wwn: Option<String>,
    /// Serial number, exact.
    #[schemars(extend("format" = "word"))]
    pub serial: Option<String>,
    /// Model, a glob.
    #[schemars(extend("format" = "glob"))]
    pub model: Option<String>,
    /// Bus.
    pub transport: Option<DiskTransport>,
    /// Smallest size, e.g. `100GiB` or `1TB`.
    #[schemars(extend("format" = "size"))]
    pub min_size: Option<String>,
    /// Largest size.
    #[schemars(extend("format" = "size"))]
    pub max_size: Option<String>,
    /// Spinning or not.
    pub rotational: Option<bool>,
    /// Device node, e.g. `/dev/nvme0n1`; names can change between boots, so prefer the others.
    #[schemars(extend("format" = "device-path"))]
    pub path: Option<String>,
}

/// The bus of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DiskTransport {
    /// NVM Express.
    Nvme,
    /// Serial ATA.
    Sata,
    /// SCSI, RAID controllers included.
    Scsi,
    /// Serial attached SCSI.
    Sas,
    /// USB.
    Usb,
    /// virtio-blk.
    Virtio,
    /// SD and eMMC.
    Mmc,
}

/// What may be overwritten.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Wipe {
    /// Only an empty disk, or an install of this node.
    #[default]
    Never,
    /// Also a disk that holds something else, another node's install included.
    Foreign,
}

/// How the installed system is started the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Handover {
    /// By kexec: no second pass through the firmware.
    #[default]
    Kexec,
    /// By a reboot through the firmware.
    Firmware,
}

/// Whether somebody must confirm the wipe plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Confirm {
    /// Unattended.
    #[default]
    None,
    /// The disk's name, as `vda`, is typed twice on one console before a disk is laid out; until then none is. An upgrade
    /// lays nothing out, and asks nobody.
    Console,
}

/// Network of the installed node.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Interfaces; the first whose `match` holds configures a link.
    pub interfaces: Vec<Interface>,
    /// DNS servers beside those from DHCP.
    pub dns: Vec<IpAddr>,
    /// Search domains.
    #[schemars(extend("items" = {"type": "string", "format": "domain-name"}))]
    pub domains: Vec<String>,
}

/// One interface, rendered as one systemd.network(5) file.
///
/// The default of every key is its zero value, but a name it must have: that is what the error messages speak of.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["name"]))]
pub struct Interface {
    /// A name for it in files and messages; for a VLAN or bond, the name of the link.
    #[schemars(extend("format" = "interface-name"))]
    pub name: String,
    /// Which links it is for.
    #[serde(rename = "match")]
    pub matches: InterfaceMatch,
    /// DHCPv4.
    pub dhcp4: bool,
    /// Router advertisements: SLAAC, and DHCPv6 where they say so.
    pub ipv6: bool,
    /// Static addresses with prefix length, `192.0.2.10/24`.
    #[schemars(extend("items" = {"type": "string", "format": "interface-address"}))]
    pub addresses: Vec<String>,
    /// Default routers.
    pub gateways: Vec<IpAddr>,
    /// Further routes.
    pub routes: Vec<Route>,
    /// MTU in bytes, 68 to 65535.
    #[schemars(range(min = 68, max = 65535))]
    pub mtu: Option<u32>,
    /// Makes it a VLAN on top of another interface.
    pub vlan: Option<Vlan>,
    /// Makes it a bond of other interfaces.
    pub bond: Option<Bond>,
}

/// Conditions on a link; every one must hold.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InterfaceMatch {
    /// Permanent MAC address.
    #[schemars(extend("format" = "mac"))]
    pub mac: Option<String>,
    /// Kernel driver, a glob.
    #[schemars(extend("format" = "glob"))]
    pub driver: Option<String>,
    /// Interface name, a glob.
    #[schemars(extend("format" = "glob"))]
    pub name: Option<String>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Destination, `10.0.0.0/8`.
    #[schemars(extend("format" = "network-address"))]
    pub to: String,
    /// Router.
    pub via: IpAddr,
    /// Metric.
    #[serde(default)]
    pub metric: Option<u32>,
}

/// A VLAN.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vlan {
    /// Id, 1 to 4094.
    #[schemars(range(min = 1, max = 4094))]
    pub id: u16,
    /// `name` of the interface below.
    #[schemars(extend("format" = "interface-name"))]
    pub parent: String,
}

/// A bond.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Bond {
    /// `name`s of its interfaces. The bond has the MAC address of the first one with a `match.mac`; where none has, of the one that joins first.
    #[schemars(length(min = 1), extend("items" = {"type": "string", "format": "interface-name"}))]
    pub members: Vec<String>,
    /// Mode as in systemd.netdev(5), e.g. `802.3ad`, `active-backup`.
    #[schemars(extend("format" = "bond-mode"))]
    pub mode: String,
}

/// Somebody who may log in.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct User {
    /// Login name: lower-case letter, then letters, digits, `-`, `_`; at most 32 bytes. Not `root`.
    #[schemars(extend("format" = "login-name"))]
    pub name: String,
    /// Number of the user and of its group, 1000 to 59999. Without it the number follows from the name, from 10000 on: it is the same on
    /// every node, and stays when others are added or removed.
    #[serde(default)]
    #[schemars(range(min = 1000, max = 59999))]
    pub uid: Option<u32>,
    /// SSH public keys, as in authorized_keys(5).
    #[serde(default)]
    #[schemars(extend("items" = {"type": "string", "format": "ssh-public-key"}))]
    pub keys: Vec<String>,
    /// HTTPS URL with further keys, one a line (as GitHub's `https://github.com/NAME.keys`).
    #[serde(default)]
    #[schemars(extend("format" = "https-url"))]
    pub keys_url: Option<String>,
    /// May use sudo without a password.
    #[serde(default)]
    pub sudo: bool,
    /// Login shell.
    #[serde(default)]
    #[schemars(extend("format" = "absolute-path"))]
    pub shell: Option<String>,
}

/// Time.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Time {
    /// NTP servers, names or addresses.
    #[schemars(extend("items" = {"type": "string", "format": "host"}))]
    pub servers: Vec<String>,
    /// Time zone, e.g. `Asia/Tokyo`; UTC by default.
    #[schemars(extend("format" = "time-zone"))]
    pub zone: Option<String>,
}

/// CPU isolation, kernel arguments, sysctls, modules.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tuning {
    /// CPUs for the kernel's and systemd's own work.
    pub housekeeping: Option<Housekeeping>,
    /// How the other CPUs are kept free.
    pub isolation: Isolation,
    /// The isolated CPUs as a list, `2-7`. Without it they are all that are not in housekeeping; without `housekeeping`,
    /// housekeeping is the rest. With both, every online CPU must be on exactly one side.
    #[schemars(extend("format" = "cpu-list"))]
    pub isolated_cpus: Option<String>,
    /// Huge pages that are set aside at boot, on every NUMA node that has CPUs.
    pub hugepages: Vec<Hugepages>,
    /// Frequency governor of every CPU that has it; `performance` when CPUs are isolated.
    pub governor: Option<Governor>,
    /// Longest time an idle isolated CPU may take to wake, in microseconds: deeper C-states are not entered. 0 allows none.
    pub wakeup_latency_us: Option<u32>,
    /// How quiet every isolated CPU must be, under a busy loop at each boot, for the node to join its cluster.
    pub accept: Option<Accept>,
    /// Further kernel arguments, each one argument, without blanks, quotes and backslashes (GRUB could not pass them on).
    #[schemars(extend("items" = {"type": "string", "format": "kernel-argument"}))]
    pub kernel_arguments: Vec<String>,
    /// Sysctls, `net.ipv4.ip_forward: 1`.
    #[schemars(extend("propertyNames" = {"format": "sysctl-name"}, "additionalProperties" = {"type": "string", "format": "one-line"}))]
    pub sysctls: BTreeMap<String, String>,
    /// Kernel modules to load.
    #[schemars(extend("items" = {"type": "string", "format": "module-name"}))]
    pub modules: Vec<String>,
}

/// Housekeeping CPUs: either a number of cores a NUMA node, or an explicit list.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Housekeeping {
    /// The first so many cores of every NUMA node, all their threads.
    #[serde(default)]
    #[schemars(range(min = 1, max = 8192))]
    pub cores_per_numa_node: Option<u32>,
    /// A CPU list, `0-1,8`.
    #[serde(default)]
    #[schemars(extend("format" = "cpu-list"))]
    pub cpus: Option<String>,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Hugepages {
    /// Size of a page.
    pub size: HugepageSize,
    /// Pages on every NUMA node that has CPUs.
    #[schemars(range(min = 1, max = 1048576))]
    pub per_numa_node: u32,
}

/// Size of a huge page (x86-64).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
pub enum HugepageSize {
    /// 2 MiB.
    #[serde(rename = "2M")]
    Mib2,
    /// 1 GiB; the CPU needs `pdpe1gb`.
    #[serde(rename = "1G")]
    Gib1,
}

impl HugepageSize {
    /// As the kernel's `hugepagesz=` takes it.
    #[must_use]
    pub fn argument(self) -> &'static str {
        match self {
            Self::Mib2 => "2M",
            Self::Gib1 => "1G",
        }
    }

    /// KiB a page, as in the names of `/sys/devices/system/node/nodeN/hugepages/hugepages-2048kB`.
    #[must_use]
    pub fn kib(self) -> u32 {
        match self {
            Self::Mib2 => 2048,
            Self::Gib1 => 1 << 20,
        }
    }
}

/// A governor of cpufreq (kernel, `Documentation/admin-guide/pm/cpufreq.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Governor {
    /// The highest frequency.
    Performance,
    /// The lowest; with intel_pstate and amd_pstate the hardware's choice.
    Powersave,
    /// By the scheduler's load.
    Schedutil,
}

impl Governor {
    /// As in `scaling_governor`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Performance => "performance",
            Self::Powersave => "powersave",
            Self::Schedutil => "schedutil",
        }
    }
}

/// How CPUs are isolated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Not at all.
    #[default]
    None,
    /// `isolcpus=managed_irq,…` and `nohz_full=…`: the scheduler still balances.
    Balanced,
    /// `isolcpus=domain,managed_irq,…`: only pinned tasks run there.
    Static,
}

/// A file below /etc.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FileEntry {
    /// Absolute path below /etc.
    #[schemars(extend("format" = "etc-path"))]
    pub path: String,
    /// Its text.
    pub content: String,
    /// Mode in octal, `"0644"`.
    #[serde(default)]
    #[schemars(extend("format" = "file-mode"))]
    pub mode: Option<String>,
}

/// Where failures go.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// HTTPS URL that gets each failure of a boot that has a network, as JSON by POST; `tatara.report=` has precedence. Failures of
    /// the running node are in `tatara-node status`.
    #[schemars(extend("format" = "https-url"))]
    pub url: String,
}

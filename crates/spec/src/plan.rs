//! The one decision: what to do with this machine. Pure, so that it can be tested as a table.

mod decide;
mod describe;
mod offline;
mod select;
mod serials;
mod staged;

pub use decide::{needs_network, plan};
pub use describe::{describe, wipe_plan};
pub use offline::{OFFLINE_DEADLINE, is_unreachable, may_do_without};
pub use select::{matching, mismatch};
pub use serials::Serials;
pub use staged::{Staged, may_follow, staged};

use crate::config::NodeConfig;
use crate::error::Fault;
use crate::record::InstallRecord;
use crate::slot::{BootEnv, Slot};

/// How this kernel was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the network, or by hand with kernel and initramfs (no `tatara.boot=` argument).
    Network,
    /// From the USB stick (`tatara.boot=usb`).
    Usb,
    /// From an installed disk, by its GRUB (`tatara.boot=disk`), or by kexec from ourselves.
    Disk,
}

/// What the kernel command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// How this kernel was started.
    pub origin: Origin,
    /// The slot that GRUB chose (`tatara.slot=`); only with [`Origin::Disk`].
    pub slot: Option<Slot>,
    /// Fetch the config although the disk could boot without (`tatara.refresh`).
    pub refresh: bool,
}

/// What the operator wants; absent parts mean "as it is".
#[derive(Debug, Clone, Copy)]
pub struct Desired<'a> {
    /// The newest config known.
    pub config: &'a NodeConfig,
    /// Identity of the release that the config points at; `None` when the manifest was not fetched (disk boot).
    pub release: Option<&'a str>,
}

/// One disk as found.
#[derive(Debug, Clone, PartialEq)]
pub struct Disk {
    /// Device node, `/dev/NAME`.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes, 512 or 4096.
    pub sector_bytes: u32,
    /// World wide name, `eui.…`, `naa.…` or `nvme.…` as sysfs gives it.
    pub wwn: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Model, trimmed.
    pub model: Option<String>,
    /// `nvme`, `sata`, `scsi`, `sas`, `usb`, `virtio`, `mmc`.
    pub transport: Option<String>,
    /// Spinning.
    pub rotational: bool,
    /// Removable medium.
    pub removable: bool,
    /// Write-protected.
    pub read_only: bool,
    /// This machine was booted from it (the USB stick): never a candidate.
    pub boot_medium: bool,
    /// What is on it.
    pub content: Content,
}

/// What a disk holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// No table, no file system, no other signature that is known.
    Empty,
    /// An install of ours that was completed.
    Installed(Box<Installed>),
    /// Our partitions, but no install record: an install that was cut off.
    Interrupted,
    /// Something else; each finding in words, e.g. `LVM2 physical volume on /dev/sda2`.
    Foreign(Vec<String>),
    /// It cannot be read; the cause in words.
    Unreadable(String),
}

/// A completed install.
#[derive(Debug, Clone, PartialEq)]
pub struct Installed {
    /// Its record.
    pub record: InstallRecord,
    /// GRUB's environment.
    pub env: BootEnv,
}

/// The answer.
#[derive(Debug)]
pub enum Plan {
    /// Write the release to an empty, interrupted or (if the config allows) foreign disk.
    Install(Target),
    /// Write the release anew over an install of ours; the state partition is made anew too.
    Reinstall(Target),
    /// Write the release into the slot that is not in use; state is kept.
    Upgrade(Target),
    /// Boot what is there.
    Boot(Target),
    /// Do nothing, and say why.
    Refuse(Fault),
}

/// Which disk and slot, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The disk's device node.
    pub disk: String,
    /// The slot to write, or to boot.
    pub slot: Slot,
    /// Why, in words, for the console.
    pub reason: String,
}

#[cfg(test)]
mod tests;

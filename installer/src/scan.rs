//! The disks of this machine and what they hold.

use crate::content::{Found, ReadRecord, judge};
use crate::fault::because;
use crate::state::StateMount;
use crate::{Disk, content, parts};
use std::cell::Cell;
use std::path::Path;
use tatara_disk::gpt::table::Entry;
use tatara_spec::layout::ESP;
use tatara_spec::plan::{self, Content};
use tatara_spec::record::InstallRecord;
use tatara_spec::{Code, Fault};
use tatara_sys::block::{Access, BlockDevice};

pub use content::USB_ESP_LABEL;

/// Lists the disks in `block` below `sys_root`, with nodes in `dev_root`, and looks at what is on each. Nothing is written, but that
/// mounting a state partition replays its journal; it stays mounted, see [`StateMount::mount`].
///
/// `boot_medium` is what this machine was booted from, if it was no disk of ours: a device node, or the label of a partition
/// ([`USB_ESP_LABEL`]).
///
/// `driver` sees to the driver of the state partition's file system, and is asked before one is mounted.
///
/// # Errors
/// [`Code::Sys`] when sysfs cannot be read; what `driver` says. A disk that cannot be read is [`Content::Unreadable`], no error.
pub fn disks(
    sys_root: &Path,
    dev_root: &Path,
    boot_medium: Option<&str>,
    driver: &dyn Fn() -> Result<(), Fault>,
) -> Result<Vec<plan::Disk>, Fault> {
    let found = tatara_sys::block::enumerate(sys_root, dev_root)
        .map_err(because(Code::Sys, "cannot list the disks"))?;
    found.into_iter().map(|device| look(device, boot_medium, driver)).collect()
}

/// Whether a disk of ours (`/dev/NAME`) has the EFI system partition with this GUID (`tatara.esp=`): the one that GRUB booted from.
#[must_use]
pub fn has_esp(disk: &str, guid: &str) -> bool {
    Disk::open(Path::new(disk), Access::Read)
        .and_then(|disk| parts::read(&disk.medium()))
        .is_ok_and(|table| parts::entry(&table.partitions, &ESP).is_ok_and(|e| e.guid.to_string() == guid))
}

fn look(
    device: BlockDevice,
    boot_medium: Option<&str>,
    driver: &dyn Fn() -> Result<(), Fault>,
) -> Result<plan::Disk, Fault> {
    let path = device.dev_path.to_string_lossy().into_owned();
    let found = open_and_judge(&path, &device, driver)?;
    let boot_medium =
        boot_medium.is_some_and(|medium| medium == path || found.labels.iter().any(|label| label == medium));
    Ok(plan::Disk {
        path,
        bytes: device.bytes,
        sector_bytes: device.logical_sector,
        wwn: device.wwid,
        serial: device.serial,
        model: device.model,
        transport: device.transport.map(|transport| transport.name().to_owned()),
        rotational: device.rotational,
        removable: device.removable,
        read_only: device.read_only,
        boot_medium,
        content: found.content,
    })
}

fn open_and_judge(
    path: &str,
    device: &BlockDevice,
    driver: &dyn Fn() -> Result<(), Fault>,
) -> Result<Found, Fault> {
    let disk = match Disk::open(Path::new(path), Access::Read) {
        Ok(disk) => disk,
        Err(fault) => {
            return Ok(Found { content: Content::Unreadable(fault.chain()), labels: Vec::new() });
        }
    };
    // Nothing is wrong with a disk for which there is no driver: it must not be judged.
    let no_driver = Cell::new(None);
    let read_record = |entry: &Entry| match driver() {
        Ok(()) => mounted_record(path, entry),
        Err(fault) => {
            let told = Fault::new(fault.code, fault.chain());
            no_driver.set(Some(fault));
            Err(told)
        }
    };
    let reader: ReadRecord<'_> = &read_record;
    let mut found = judge(&disk.medium(), reader);
    if let Some(fault) = no_driver.take() {
        return Err(fault);
    }
    if let (Content::Empty, false) = (&found.content, device.holders.is_empty()) {
        found.content = Content::Foreign(vec![format!("in use by {}", device.holders.join(", "))]);
    }
    Ok(found)
}

fn mounted_record(path: &str, entry: &Entry) -> Result<Option<InstallRecord>, Fault> {
    // An install that failed in this boot has left a table that nobody told the kernel of.
    if !parts::is_known(Path::new("/sys"), Path::new("/dev"), path, entry)? {
        let disk = Disk::open(Path::new(path), Access::Write)?;
        let table = parts::read(&disk.medium())?;
        disk.reread_partitions(&parts::extents(&table.partitions))?;
    }
    StateMount::mount_entry(path, entry)?.record()
}

//! What GRUB reads at the next boot: the environment block and a slot's node.cfg, written in place on the ESP.

use crate::artifact::Handover;
use crate::span::Medium;
use crate::{Disk, esp, parts, write};
use std::path::Path;
use tatara_disk::gpt::table::Entry;
use tatara_spec::layout::{ESP, esp as esp_path};
use tatara_spec::record::InstallRecord;
use tatara_spec::slot::{self, BootEnv, Slot};
use tatara_spec::{Code, Fault};
use tatara_sys::block::Access;

/// Reads the environment block of an installed disk (`/dev/NAME`).
///
/// # Errors
/// [`Code::DiskRead`] when the ESP or the block cannot be read.
pub fn read(disk: &str) -> Result<BootEnv, Fault> {
    let open = Disk::open(Path::new(disk), Access::Read)?;
    let medium = open.medium();
    let table = parts::read(&medium)?;
    read_from(&medium, &table.partitions)?.ok_or_else(|| {
        Fault::new(Code::DiskRead, format!("{} on {disk} is missing or damaged", esp_path::GRUBENV))
    })
}

/// Writes the environment block of an installed disk in place, durable when this returns.
///
/// # Errors
/// [`Code::DiskWrite`], [`Code::DiskRead`].
pub fn write(disk: &str, env: &BootEnv) -> Result<(), Fault> {
    let open = Disk::open(Path::new(disk), Access::WriteShared)?;
    let medium = open.medium();
    write_to(&medium, &parts::read(&medium)?.partitions, env)
}

/// The environment block; `None` when it is missing or damaged.
pub(crate) fn read_from(medium: &Medium<'_>, partitions: &[Entry]) -> Result<Option<BootEnv>, Fault> {
    let block = esp::read_small(medium, parts::entry(partitions, &ESP)?, esp_path::GRUBENV)?;
    Ok(block.and_then(|block| BootEnv::parse(&block).ok()))
}

pub(crate) fn write_to(medium: &Medium<'_>, partitions: &[Entry], env: &BootEnv) -> Result<(), Fault> {
    esp::overwrite(medium, parts::entry(partitions, &ESP)?, esp_path::GRUBENV, &env.to_block())
}

/// What is taken for the environment of an install whose block is lost: its first slot, not on trial. The state partition is worth
/// more than the block, so the install still counts.
pub(crate) fn assumed(record: &InstallRecord) -> BootEnv {
    let slot = record.slots.keys().next().copied().unwrap_or(Slot::A);
    BootEnv { slot, trial: None, request: None }
}

/// `tatara.esp=GUID`: the argument by which a kernel knows the disk that it was loaded from.
///
/// # Errors
/// [`Code::DiskRead`].
pub fn esp_argument(disk: &str) -> Result<String, Fault> {
    let open = Disk::open(Path::new(disk), Access::Read)?;
    let table = parts::read(&open.medium())?;
    Ok(argument(parts::entry(&table.partitions, &ESP)?))
}

fn argument(esp: &Entry) -> String {
    format!("tatara.esp={}", esp.guid)
}

/// A slot's node.cfg on this ESP.
pub(crate) fn node_cfg(esp: &Entry, args: &[String]) -> Result<String, Fault> {
    let mut all = vec![argument(esp)];
    all.extend_from_slice(args);
    slot::node_cfg(&all)
}

/// A slot's kernel and initramfs, read into memory for kexec.
///
/// # Errors
/// [`Code::DiskRead`].
pub fn read_slot_kernel(disk: &str, slot: Slot) -> Result<Handover, Fault> {
    let open = Disk::open(Path::new(disk), Access::Read)?;
    let medium = open.medium();
    let table = parts::read(&medium)?;
    esp::load(&medium, parts::entry(&table.partitions, &ESP)?, slot)
}

/// Writes a slot's node.cfg if it says something else; tells whether it was written.
///
/// # Errors
/// [`Code::CmdlineBad`] for an argument that GRUB cannot pass on; [`Code::DiskWrite`], [`Code::DiskRead`].
pub fn write_node_cfg(disk: &str, slot: Slot, args: &[String]) -> Result<bool, Fault> {
    let open = Disk::open(Path::new(disk), Access::WriteShared)?;
    let medium = open.medium();
    let table = parts::read(&medium)?;
    put_node_cfg(&medium, parts::entry(&table.partitions, &ESP)?, slot, args)
}

/// As [`write_node_cfg`], with the partition named. The slot is one that boots: nothing but the file's data is written, so that a power
/// cut leaves the old arguments or the new ones; the few bytes that differ are in one sector on most nodes.
pub(crate) fn put_node_cfg(
    medium: &Medium<'_>,
    entry: &Entry,
    slot: Slot,
    args: &[String],
) -> Result<bool, Fault> {
    let path = esp_path::node_cfg(slot);
    let wanted = node_cfg(entry, args)?;
    let found = esp::read_small(medium, entry, &path)?;
    if found.as_deref() == Some(wanted.as_bytes()) {
        return Ok(false);
    }
    let files = [(path.clone(), esp::Content::Bytes(wanted.as_bytes()))];
    if found.is_some_and(|found| found.len() == wanted.len()) {
        esp::overwrite(medium, entry, &path, wanted.as_bytes())?;
    } else {
        // Written by a release that did not fill the file up: it is made anew, this once.
        esp::write(medium, entry, &files)?;
    }
    esp::verify(medium, entry, &files)?;
    Ok(true)
}

/// Writes the BIOS boot sector of an installed disk if an install was cut off just before it; tells whether it did. Without it, a
/// BIOS machine would for ever depend on the network to boot.
///
/// # Errors
/// [`Code::DiskWrite`], [`Code::DiskRead`].
pub fn complete_boot_sector(disk: &str) -> Result<bool, Fault> {
    let open = Disk::open(Path::new(disk), Access::WriteShared)?;
    write::boot_sector(&open.medium())
}

#[cfg(test)]
mod tests {
    use super::node_cfg;
    use tatara_disk::gpt::table;
    use tatara_spec::cmdline;
    use tatara_spec::layout::{DISK_MIN_BYTES, ESP};

    #[test]
    fn node_cfg_names_the_esp_that_it_is_on() {
        let planned = table::plan(DISK_MIN_BYTES, 512).unwrap();
        let esp = crate::parts::entry(&planned, &ESP).unwrap();
        let text = node_cfg(esp, &["quiet".to_owned()]).unwrap();
        let args =
            text.lines().next().unwrap().strip_prefix("set node_args='").unwrap().trim_end_matches('\'');
        let line = cmdline::parse(args).unwrap();
        assert_eq!(line.esp, Some(esp.guid.to_string()));
        assert_eq!(line.all.last().map(String::as_str), Some("quiet"));
    }
}

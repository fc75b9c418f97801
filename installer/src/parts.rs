//! The partitions of an installed disk: in its table, and as nodes that can be mounted.

use crate::cached::Pieces;
use crate::fault::because;
use crate::span::Medium;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tatara_disk::gpt::table::{self, Entry, Table};
use tatara_spec::layout::{PartitionSpec, ROOT_A, ROOT_B};
use tatara_spec::slot::Slot;
use tatara_spec::{Code, Fault};
use tatara_sys::block::Extent;

/// How long partition nodes may take after the table was read anew: the kernel makes them before the ioctl returns, so this is
/// for machines that are very busy.
const NODE_DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks at sysfs.
const NODE_POLL: Duration = Duration::from_millis(20);

/// Reads the table of a disk of ours.
///
/// # Errors
/// [`Code::DiskRead`] when it cannot be read or the disk is not ours.
pub(crate) fn read(medium: &Medium<'_>) -> Result<Table, Fault> {
    let found = table::read(&mut medium.cached(Pieces::Small), medium.sector_bytes)
        .map_err(because(Code::DiskRead, "cannot read the partition table"))?;
    found
        .filter(table::is_ours)
        .ok_or_else(|| Fault::new(Code::DiskRead, "the disk has no partitions of tatara".to_owned()))
}

/// One partition of a table.
///
/// # Errors
/// [`Code::DiskRead`] when it is not there.
pub(crate) fn entry<'a>(partitions: &'a [Entry], spec: &PartitionSpec) -> Result<&'a Entry, Fault> {
    partitions.iter().find(|entry| entry.number == spec.number && entry.label == spec.label).ok_or_else(
        || Fault::new(Code::DiskRead, format!("partition {} ({}) is missing", spec.number, spec.label)),
    )
}

/// The partition of a slot's root.
#[must_use]
pub(crate) fn root_of(slot: Slot) -> &'static PartitionSpec {
    match slot {
        Slot::A => &ROOT_A,
        Slot::B => &ROOT_B,
    }
}

/// A table as the kernel is told about it.
pub(crate) fn extents(partitions: &[Entry]) -> Vec<Extent> {
    partitions
        .iter()
        .map(|entry| Extent { number: entry.number, start_bytes: entry.first_byte, bytes: entry.bytes })
        .collect()
}

/// The node of a partition, found by the disk it is on and the place it lies at: never by a label, which another disk can bear too.
/// Waits until the kernel knows it and the node is there.
///
/// # Errors
/// [`Code::DiskRead`] when there is none in time; [`Code::Sys`] when sysfs cannot be read.
pub(crate) fn node(sys_root: &Path, dev_root: &Path, disk: &str, entry: &Entry) -> Result<PathBuf, Fault> {
    let deadline = Instant::now() + NODE_DEADLINE;
    loop {
        if let Some(path) = look(sys_root, dev_root, disk, entry)? {
            return Ok(path);
        }
        if Instant::now() >= deadline {
            let text = format!(
                "the kernel has no partition {} of {disk} at byte {}; it knows another table",
                entry.number, entry.first_byte
            );
            return Err(Fault::new(Code::DiskRead, text));
        }
        std::thread::sleep(NODE_POLL);
    }
}

/// Whether the kernel knows a partition, or comes to know it within a second: it reads tables by itself when a disk appears.
///
/// # Errors
/// [`Code::Sys`] when sysfs cannot be read.
pub(crate) fn is_known(sys_root: &Path, dev_root: &Path, disk: &str, entry: &Entry) -> Result<bool, Fault> {
    const GRACE: Duration = Duration::from_secs(1);
    let deadline = Instant::now() + GRACE;
    loop {
        if look(sys_root, dev_root, disk, entry)?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(NODE_POLL);
    }
}

fn look(sys_root: &Path, dev_root: &Path, disk: &str, entry: &Entry) -> Result<Option<PathBuf>, Fault> {
    let known = tatara_sys::block::partitions(sys_root, dev_root, Path::new(disk))
        .map_err(because(Code::Sys, format!("cannot list the partitions of {disk}")))?;
    let part = known.into_iter().find(|part| part.number == entry.number);
    Ok(part
        .filter(|p| p.start_bytes == entry.first_byte && p.bytes == entry.bytes && p.dev_path.exists())
        .map(|p| p.dev_path))
}

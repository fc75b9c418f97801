//! Plan, write, read and erase a GUID partition table.

use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::header::read_header_from_arbitrary_device;
use gpt::mbr::ProtectiveMBR;
use gpt::partition::{Partition, file_read_partitions};
use gpt::partition_types::{OperatingSystem, Type};
use std::collections::BTreeMap;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};
use tatara_spec::layout::{ALIGNMENT_BYTES, DISK_MIN_BYTES, MIB, PARTITIONS};

pub use uuid::Uuid as Guid;

/// Partition entries that every table here has room for: the minimum of the specification (5.3).
const ENTRIES: u32 = 128;
/// Bytes of one partition entry (UEFI specification, table 22); what everybody writes.
const ENTRY_BYTES: u32 = 128;
/// A table with more entries than this is taken for garbage before memory is spent on it.
const ENTRIES_MAX: u32 = 1024;

/// One partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number in the table, from 1.
    pub number: u32,
    /// GPT partition name, at most 36 UTF-16 units.
    pub label: String,
    /// GPT partition type.
    pub type_guid: Guid,
    /// Where it starts, in bytes from the start of the disk.
    pub first_byte: u64,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// The partition's own GUID.
    pub guid: Guid,
}

/// A table that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// GUID of the disk.
    pub disk_guid: Guid,
    /// The used entries, in order of number.
    pub partitions: Vec<Entry>,
    /// Which copies were valid.
    pub copies: Copies,
}

/// Which of the two copies of a table are valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copies {
    /// Both, as it should be.
    Both,
    /// Only the one at the start of the disk.
    PrimaryOnly,
    /// Only the one at the end of the disk.
    BackupOnly,
}

/// What can go wrong with a table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sector size is neither 512 nor 4096.
    #[error("a sector size of {0} bytes is not supported (512 or 4096 is)")]
    SectorSize(u32),
    /// The disk has no room for the layout.
    #[error("the disk has {found} bytes, the layout needs {needed}")]
    DiskSmall {
        /// Size of the disk in bytes.
        found: u64,
        /// Size needed in bytes.
        needed: u64,
    },
    /// A partition cannot be written as asked.
    #[error("partition {number} (`{label}`) {problem}")]
    Partition {
        /// Its number.
        number: u32,
        /// Its label.
        label: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The device failed.
    #[error("cannot {operation} the partition table")]
    Io {
        /// `read`, `write`, …
        operation: &'static str,
        /// What the device said.
        source: io::Error,
    },
    /// The table could not be encoded.
    #[error("cannot write the partition table")]
    Encode(#[source] gpt::GptError),
}

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Lays out [`PARTITIONS`] on a disk of `disk_bytes`, aligned to [`ALIGNMENT_BYTES`], with random GUIDs.
/// The partition of size 0 takes what is left.
///
/// # Errors
/// [`Error::DiskSmall`], [`Error::SectorSize`].
pub fn plan(disk_bytes: u64, sector_bytes: u32) -> Result<Vec<Entry>> {
    block_size(sector_bytes)?;
    if disk_bytes < DISK_MIN_BYTES {
        return Err(Error::DiskSmall { found: disk_bytes, needed: DISK_MIN_BYTES });
    }
    let fixed: u64 = PARTITIONS.iter().map(|p| p.bytes).sum();
    // The first MiB holds the primary table; the backup's last MiB is given up for round numbers.
    let end = (disk_bytes - MIB) / ALIGNMENT_BYTES * ALIGNMENT_BYTES;
    let mut at = ALIGNMENT_BYTES;
    let mut entries = Vec::with_capacity(PARTITIONS.len());
    for spec in PARTITIONS {
        let bytes = if spec.bytes == 0 { end - ALIGNMENT_BYTES - fixed } else { spec.bytes };
        entries.push(Entry {
            number: spec.number,
            label: spec.label.to_owned(),
            type_guid: spec.type_guid.parse().unwrap_or(Guid::nil()),
            first_byte: at,
            bytes,
            guid: Guid::new_v4(),
        });
        at += bytes;
    }
    Ok(entries)
}

/// Whether the table is one of ours: every partition of [`PARTITIONS`] is there with its label and type.
/// More partitions may follow.
#[must_use]
pub fn is_ours(table: &Table) -> bool {
    PARTITIONS.iter().all(|spec| {
        table.partitions.iter().any(|entry| {
            entry.number == spec.number
                && entry.label == spec.label
                && spec.type_guid.parse() == Ok(entry.type_guid)
        })
    })
}

/// Writes both copies of a table and a protective MBR, with a random disk GUID. See [`write_with_guid`].
///
/// # Errors
/// As [`write_with_guid`].
pub fn write(
    dev: &mut (impl Read + Write + Seek),
    sector_bytes: u32,
    disk_bytes: u64,
    partitions: &[Entry],
) -> Result<()> {
    write_with_guid(dev, sector_bytes, disk_bytes, partitions, Guid::new_v4())
}

/// Writes both copies of a table and a protective MBR, and flushes. Boot code in the first sector is erased: an
/// installer writes it last, so that no half-written disk boots.
///
/// # Errors
/// [`Error::Partition`] for overlaps, gaps in the numbers, wrong alignment or names that are too long; nothing was
/// written then. [`Error::Io`] and [`Error::Encode`] when the device fails.
pub fn write_with_guid(
    dev: &mut (impl Read + Write + Seek),
    sector_bytes: u32,
    disk_bytes: u64,
    partitions: &[Entry],
    disk_guid: Guid,
) -> Result<()> {
    let lb_size = block_size(sector_bytes)?;
    let sectors = disk_bytes / u64::from(sector_bytes);
    check(partitions, sector_bytes, sectors)?;
    // The protective entry covers the disk, or as much of it as 32 bits can say (UEFI specification, table 5.4).
    let covered = u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut first_sector = ProtectiveMBR::with_lb_size(covered).to_bytes().to_vec();
    first_sector.resize(sector_bytes as usize, 0);
    write_at(dev, 0, &first_sector)?;

    let config = GptConfig::new().writable(true).logical_block_size(lb_size);
    let mut window = crate::window::Window::new(&mut *dev, 0, sectors * u64::from(sector_bytes));
    let mut disk = config.create_from_device(&mut window, Some(disk_guid)).map_err(Error::Encode)?;
    disk.update_partitions(encode(partitions, sector_bytes)).map_err(Error::Encode)?;
    disk.write().map_err(Error::Encode)?;
    dev.flush().map_err(|source| Error::Io { operation: "flush", source })
}

/// Reads the table of a disk: the primary copy, or the backup at the disk's end. Both checksums of a copy must
/// be right. `None` when no copy is valid, whatever else is there.
///
/// # Errors
/// [`Error::Io`] when the device fails, [`Error::SectorSize`].
pub fn read(dev: &mut (impl Read + Seek), sector_bytes: u32) -> Result<Option<Table>> {
    block_size(sector_bytes)?;
    let failed = |source| Error::Io { operation: "read", source };
    let sector = u64::from(sector_bytes);
    let disk_bytes = dev.seek(SeekFrom::End(0)).map_err(failed)?;
    let last = (disk_bytes / sector).saturating_sub(1);
    let primary = read_copy(dev, sector, 1, disk_bytes).map_err(failed)?;
    let backup = if last > 1 { read_copy(dev, sector, last, disk_bytes).map_err(failed)? } else { None };
    let (copies, copy) = match (primary, backup) {
        (Some(primary), Some(_)) => (Copies::Both, primary),
        (Some(primary), None) => (Copies::PrimaryOnly, primary),
        (None, Some(backup)) => (Copies::BackupOnly, backup),
        (None, None) => return Ok(None),
    };
    Ok(Some(Table { disk_guid: copy.disk_guid, partitions: copy.partitions, copies }))
}

/// Overwrites both copies and the protective MBR with zeros: the first and the last MiB of the disk.
///
/// # Errors
/// [`Error::Io`], [`Error::SectorSize`].
pub fn erase(dev: &mut (impl Read + Write + Seek), sector_bytes: u32, disk_bytes: u64) -> Result<()> {
    block_size(sector_bytes)?;
    let span = MIB.min(disk_bytes);
    let zeros = vec![0; usize::try_from(span).unwrap_or(0)];
    write_at(dev, disk_bytes - span, &zeros)?;
    write_at(dev, 0, &zeros)?;
    dev.flush().map_err(|source| Error::Io { operation: "flush", source })
}

fn write_at(dev: &mut (impl Write + Seek), offset: u64, data: &[u8]) -> Result<()> {
    dev.seek(SeekFrom::Start(offset))
        .and_then(|_| dev.write_all(data))
        .map_err(|source| Error::Io { operation: "write", source })
}

fn block_size(sector_bytes: u32) -> Result<LogicalBlockSize> {
    match sector_bytes {
        512 => Ok(LogicalBlockSize::Lb512),
        4096 => Ok(LogicalBlockSize::Lb4096),
        other => Err(Error::SectorSize(other)),
    }
}

/// Refuses what the encoder would write wrongly or not at all.
fn check(partitions: &[Entry], sector_bytes: u32, sectors: u64) -> Result<()> {
    let sector = u64::from(sector_bytes);
    let array = u64::from(ENTRIES * ENTRY_BYTES).div_ceil(sector);
    let needed = 2 * (array + 1) + 1;
    if sectors <= needed {
        return Err(Error::DiskSmall { found: sectors * sector, needed: (needed + 1) * sector });
    }
    // MBR, header, array at the start; array, header at the end.
    let (mut free_from, end) = ((2 + array) * sector, (sectors - 1 - array) * sector);
    for (entry, number) in partitions.iter().zip(1..) {
        let wrong =
            |problem| Err(Error::Partition { number: entry.number, label: entry.label.clone(), problem });
        if entry.number != number || number > ENTRIES {
            return wrong("is out of order: numbers run from 1 without gaps");
        }
        if entry.bytes == 0 || !entry.first_byte.is_multiple_of(sector) || !entry.bytes.is_multiple_of(sector)
        {
            return wrong("does not consist of whole sectors");
        }
        if entry.first_byte < free_from {
            return wrong("overlaps the one before it or the table");
        }
        match entry.first_byte.checked_add(entry.bytes) {
            Some(stop) if stop <= end => free_from = stop,
            _ => return wrong("ends behind the disk's usable space"),
        }
        if entry.label.encode_utf16().count() > 36 {
            return wrong("has a label of more than 36 UTF-16 units");
        }
        if entry.type_guid.is_nil() {
            return wrong("has the type of an unused entry");
        }
    }
    Ok(())
}

fn encode(partitions: &[Entry], sector_bytes: u32) -> BTreeMap<u32, Partition> {
    let sector = u64::from(sector_bytes);
    let encoded = |entry: &Entry| Partition {
        part_type_guid: Type { guid: entry.type_guid, os: OperatingSystem::None },
        part_guid: entry.guid,
        first_lba: entry.first_byte / sector,
        last_lba: (entry.first_byte + entry.bytes) / sector - 1,
        flags: 0,
        name: entry.label.clone(),
    };
    partitions.iter().map(|entry| (entry.number, encoded(entry))).collect()
}

/// One copy, decoded.
struct Copy {
    disk_guid: Guid,
    partitions: Vec<Entry>,
}

/// Reads the copy whose header is in sector `lba`. `None` unless its checksums are right.
///
/// The header is looked at before the `gpt` crate sees it, because that asserts the size of an entry, trusts the
/// number of entries and looks for the backup only in the last sector.
fn read_copy(
    dev: &mut (impl Read + Seek),
    sector: u64,
    lba: u64,
    disk_bytes: u64,
) -> io::Result<Option<Copy>> {
    let mut header = [0; 92];
    if disk_bytes < (lba + 1) * sector {
        return Ok(None);
    }
    dev.seek(SeekFrom::Start(lba * sector))?;
    dev.read_exact(&mut header)?;
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    let (entries, entry_bytes) = (u32_at(80), u32_at(84));
    let plausible = header.starts_with(b"EFI PART")
        && u32_at(12) == 92
        && u64_at(24) == lba
        && entry_bytes == ENTRY_BYTES
        && (1..=ENTRIES_MAX).contains(&entries);
    if !plausible {
        return Ok(None);
    }
    let array_bytes = u64::from(entries) * u64::from(ENTRY_BYTES);
    let Some(array_at) = u64_at(72).checked_mul(sector) else { return Ok(None) };
    if array_at.checked_add(array_bytes).is_none_or(|end| end > disk_bytes) {
        return Ok(None);
    }
    let mut array = vec![0; usize::try_from(array_bytes).unwrap_or(0)];
    dev.seek(SeekFrom::Start(array_at))?;
    dev.read_exact(&mut array)?;
    Ok(decode(&header, array, sector))
}

/// Decodes header and array with the `gpt` crate, which checks both checksums.
fn decode(header: &[u8], array: Vec<u8>, sector: u64) -> Option<Copy> {
    let lb_size = block_size(u32::try_from(sector).ok()?).ok()?;
    let mut first_sectors = vec![0; usize::try_from(sector).ok()?];
    first_sectors.extend_from_slice(header);
    let mut parsed = read_header_from_arbitrary_device(&mut Cursor::new(first_sectors), lb_size).ok()?;
    parsed.part_start = 0;
    let used = file_read_partitions(&mut Cursor::new(array), &parsed, lb_size).ok()?;
    let mut partitions = Vec::new();
    for (number, partition) in used.iter().filter(|(_, partition)| partition.is_used()) {
        // All of a partition has an address, its end too; otherwise this is no table.
        let end_byte = partition.last_lba.checked_add(1)?.checked_mul(sector)?;
        let first_byte = partition.first_lba.checked_mul(sector)?;
        partitions.push(Entry {
            number: *number,
            label: partition.name.clone(),
            type_guid: partition.part_type_guid.guid,
            first_byte,
            bytes: end_byte.checked_sub(first_byte).filter(|bytes| *bytes > 0)?,
            guid: partition.part_guid,
        });
    }
    Some(Copy { disk_guid: parsed.disk_guid, partitions })
}

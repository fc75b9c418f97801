//! The writes of an install, one function a stage, over any [`Medium`]; [`crate::install`] says in which order.

use crate::artifact::BootFiles;
use crate::cached::Pieces;
use crate::fault::{because, reading, table as table_fault, writing};
use crate::span::{Beheaded, Medium, get, put};
use crate::{ext4, grub, parts};
use std::io::{Seek as _, SeekFrom, Write as _};
use tatara_disk::gpt::table::{self, Entry};
use tatara_disk::stream::Target;
use tatara_spec::layout::{BIOS, MIB, STATE};
use tatara_spec::{Code, Fault};

/// Erased at the start of a disk, in bytes: behind 1 MiB lie VMFS's signatures, before it all others that are known.
const DISK_HEAD_BYTES: u64 = 4 * MIB;
/// Erased at the end of a disk and at both ends of partitions, in bytes: ZFS keeps labels in the last 512 KiB, RAID in the last 128.
const EDGE_BYTES: u64 = MIB;

/// Stands in place of the boot sector until the partition table is written. No firmware boots it, for it lacks the signature 55 AA,
/// and no table is believed without it; half-erased signatures and a half-written table need not be understood.
const MARK: &[u8] = b"tatara: an install of this disk is not complete\n";

/// Marks the disk in place of its boot sector; erases what makes an older install of ours complete, then all signatures: those of
/// the disk, of the partitions that it has and of those that it will get. Every stage is durable before the next begins.
pub(crate) fn erase(medium: &Medium<'_>, planned: &[Entry]) -> Result<(), Fault> {
    let failed = || writing("over what the disk held before");
    let old = table::read(&mut medium.cached(Pieces::Small), medium.sector_bytes)
        .map_err(because(Code::DiskRead, "cannot read the old partition table"))?;
    let old = old.map(|table| table.partitions).unwrap_or_default();
    mark(medium).map_err(failed())?;
    for entry in old.iter().chain(planned).filter(|entry| entry.label == STATE.label) {
        zero(medium, entry.first_byte, EDGE_BYTES).map_err(failed())?;
    }
    medium.target.flush().map_err(failed())?;
    for entry in old.iter().chain(planned) {
        let edge = EDGE_BYTES.min(entry.bytes);
        zero(medium, entry.first_byte, edge).map_err(failed())?;
        zero(medium, entry.first_byte.saturating_add(entry.bytes - edge), edge).map_err(failed())?;
    }
    medium.target.flush().map_err(failed())?;
    erase_table(medium).map_err(failed())
}

/// Both copies of the table: each header before the rest, so that no copy is ever half there, and the primary last.
fn erase_table(medium: &Medium<'_>) -> std::io::Result<()> {
    let sector = u64::from(medium.sector_bytes);
    zero(medium, medium.bytes.saturating_sub(sector), sector)?;
    medium.target.flush()?;
    zero(medium, medium.bytes.saturating_sub(EDGE_BYTES), EDGE_BYTES)?;
    zero(medium, sector, sector)?;
    medium.target.flush()?;
    zero(medium, sector, DISK_HEAD_BYTES - sector)?;
    medium.target.flush()
}

/// The first write: from now on the disk is one whose install was cut off, whatever else can still be read on it.
fn mark(medium: &Medium<'_>) -> std::io::Result<()> {
    let mut sector = vec![0; medium.sector_bytes as usize];
    sector[..MARK.len()].copy_from_slice(MARK);
    put(medium.target, 0, &sector)?;
    medium.target.flush()
}

/// Whether an install of this disk was begun and got no further than to its partition table.
pub(crate) fn is_marked(medium: &Medium<'_>) -> std::io::Result<bool> {
    let mut sector = vec![0; medium.sector_bytes as usize];
    get(medium.target, 0, &mut sector)?;
    Ok(sector.starts_with(MARK))
}

/// Zeros a range as far as it lies on the disk and behind the mark: an old table can say anything.
fn zero(medium: &Medium<'_>, offset: u64, bytes: u64) -> std::io::Result<()> {
    let sector = u64::from(medium.sector_bytes);
    let start = (offset / sector * sector).clamp(sector, medium.bytes.max(sector));
    let end = offset.saturating_add(bytes).min(medium.bytes) / sector * sector;
    if start >= end { Ok(()) } else { medium.target.zero_range(start, end - start) }
}

/// Writes both copies of the table; in place of boot code, what has a BIOS go on to the next device.
pub(crate) fn table(medium: &Medium<'_>, planned: &[Entry]) -> Result<(), Fault> {
    let mut view = medium.cached(Pieces::Large);
    table::write(&mut view, medium.sector_bytes, medium.bytes, planned).map_err(table_fault)?;
    let hand_back = view.seek(SeekFrom::Start(0)).and_then(|_| view.write_all(grub::NOT_BOOTABLE));
    hand_back.and_then(|()| view.sync()).map_err(writing("the partition table"))
}

/// Gives the state file system a UUID of its own and makes it a file system: its first block comes last.
pub(crate) fn state_head(
    medium: &Medium<'_>,
    entry: &Entry,
    image: &Beheaded<'_>,
    uuid: [u8; 16],
) -> Result<(), Fault> {
    let mut head = image.head();
    ext4::set_uuid(&mut head, uuid)?;
    let span = medium.span(entry);
    let what = "the state file system";
    span.flush().and_then(|()| put(&span, 0, &head)).map_err(writing(what))?;
    span.flush().map_err(writing(what))?;
    let mut found = [0; ext4::HEAD_BYTES];
    get(&span, 0, &mut found).map_err(reading(what))?;
    if found == head { Ok(()) } else { Err(read_back(what)) }
}

fn read_back(what: &str) -> Fault {
    Fault::new(Code::DiskVerify, format!("{what} reads back differently"))
}

/// Writes GRUB's core image to the BIOS boot partition, and to that partition's last sector the boot sector that will load it:
/// [`boot_sector`] takes it from there, in this boot or in one after a power cut.
pub(crate) fn bios_core(medium: &Medium<'_>, entry: &Entry, files: &BootFiles) -> Result<(), Fault> {
    let sector_bytes = medium.sector_bytes as usize;
    let first = entry.first_byte / grub::SECTOR_BYTES as u64;
    let mut core =
        grub::core_image(&files.grub_bios_core, first, entry.bytes - u64::from(medium.sector_bytes))?;
    core.resize(core.len().next_multiple_of(sector_bytes), 0);
    let mut last = vec![0; sector_bytes];
    let boot = grub::boot_sector(&files.grub_bios_boot, &[0; grub::SECTOR_BYTES], first)?;
    last[..grub::SECTOR_BYTES].copy_from_slice(&boot);
    let span = medium.span(entry);
    let at = entry.bytes - u64::from(medium.sector_bytes);
    let what = "the BIOS boot loader";
    put(&span, 0, &core).and_then(|()| put(&span, at, &last)).map_err(writing(what))?;
    span.flush().map_err(writing(what))?;
    let mut found = vec![0; core.len()];
    get(&span, 0, &mut found).map_err(reading(what))?;
    if found == core { Ok(()) } else { Err(read_back(what)) }
}

/// Writes the boot sector that [`bios_core`] left ready, if the disk has none yet; says whether it did. After this, BIOS firmware
/// boots the disk.
pub(crate) fn boot_sector(medium: &Medium<'_>) -> Result<bool, Fault> {
    let table = parts::read(medium)?;
    write_boot_sector(medium, parts::entry(&table.partitions, &BIOS)?)
}

/// As [`boot_sector`], with the partition named.
pub(crate) fn write_boot_sector(medium: &Medium<'_>, bios: &Entry) -> Result<bool, Fault> {
    let what = "the boot sector";
    let mut first = vec![0; medium.sector_bytes as usize];
    get(medium.target, 0, &mut first).map_err(reading(what))?;
    let mbr = head(&first);
    if grub::has_boot_code(&mbr) {
        return Ok(false);
    }
    let mut ready = vec![0; medium.sector_bytes as usize];
    let at = bios.bytes - u64::from(medium.sector_bytes);
    get(&medium.span(bios), at, &mut ready).map_err(reading(what))?;
    let core_sector = bios.first_byte / grub::SECTOR_BYTES as u64;
    let sector = grub::boot_sector(&ready[..grub::SECTOR_BYTES], &mbr, core_sector)?;
    first[..grub::SECTOR_BYTES].copy_from_slice(&sector);
    put(medium.target, 0, &first).and_then(|()| medium.target.flush()).map_err(writing(what))?;
    Ok(true)
}

/// The first 512 bytes of a sector, which hold boot code and protective MBR whatever the sector's size.
pub(crate) fn head(sector: &[u8]) -> [u8; grub::SECTOR_BYTES] {
    let mut head = [0; grub::SECTOR_BYTES];
    head.copy_from_slice(&sector[..grub::SECTOR_BYTES]);
    head
}

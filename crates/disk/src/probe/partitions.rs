//! Partition tables, and where their partitions are.

use super::{Area, Kind, Signature, text, u16_at, u32_at};
use crate::gpt::table;
use std::io::{self, Read, Seek};

/// Offset of the four entries of an MBR and the size of one, in bytes (UEFI specification, table 5.1).
const MBR_ENTRIES: usize = 446;
const MBR_ENTRY_BYTES: usize = 16;
/// Type of the entry that protects a GPT.
const MBR_PROTECTIVE: u8 = 0xEE;

/// The tables on the disk. Both GPT copies are looked for at both sector sizes: a disk may have moved between controllers.
pub(super) fn tables<D: Read + Seek>(
    area: &mut Area<'_, D>,
    sector_bytes: u32,
) -> io::Result<Vec<Signature>> {
    let mut found = Vec::new();
    for sector in [512, 4096] {
        for offset in [sector, area.bytes.saturating_sub(sector)] {
            if area.read(offset, 8)?.is_some_and(|magic| magic == b"EFI PART") {
                let detail = if offset == sector { "primary" } else { "backup" };
                found.push(Signature {
                    kind: Kind::Gpt,
                    offset: area.first + offset,
                    detail: detail.to_owned(),
                });
            }
        }
    }
    if let (Some(first), Some(table)) = (found.first_mut(), gpt(area, sector_bytes)?) {
        let labels: Vec<_> = table.partitions.iter().map(|entry| text(entry.label.as_bytes())).collect();
        first.detail = format!("partitions: {}", labels.join(", "));
    }
    let types: Vec<_> =
        mbr(area)?.into_iter().filter(|entry| entry.kind != MBR_PROTECTIVE).map(|e| e.kind).collect();
    if !types.is_empty() {
        let detail = types.iter().map(|kind| format!("type {kind:02x}")).collect::<Vec<_>>().join(", ");
        found.push(Signature { kind: Kind::Mbr, offset: area.first + 510, detail });
    }
    Ok(found)
}

/// First byte and size of every partition, in bytes.
pub(super) fn ranges<D: Read + Seek>(
    area: &mut Area<'_, D>,
    sector_bytes: u32,
) -> io::Result<Vec<(u64, u64)>> {
    if let Some(table) = gpt(area, sector_bytes)? {
        return Ok(table.partitions.iter().map(|entry| (entry.first_byte, entry.bytes)).collect());
    }
    let sector = u64::from(sector_bytes);
    let ranges = mbr(area)?.into_iter().map(|entry| (entry.first * sector, entry.sectors * sector));
    Ok(ranges.collect())
}

/// The valid GPT, at the disk's sector size or the other one.
fn gpt<D: Read + Seek>(area: &mut Area<'_, D>, sector_bytes: u32) -> io::Result<Option<table::Table>> {
    for sector in [sector_bytes, 512, 4096] {
        match table::read(area.dev, sector) {
            Ok(Some(table)) => return Ok(Some(table)),
            Ok(None) | Err(table::Error::SectorSize(_)) => {}
            Err(table::Error::Io { source, .. }) => return Err(source),
            Err(other) => return Err(io::Error::other(other)),
        }
    }
    Ok(None)
}

/// A used entry of an MBR.
struct MbrEntry {
    kind: u8,
    /// In sectors of the disk.
    first: u64,
    sectors: u64,
}

/// The used entries. A boot sector of FAT or NTFS has the same last two bytes: entries count only when their
/// boot flags are 0 or 0x80 and there is one with a place and a size.
fn mbr<D: Read + Seek>(area: &mut Area<'_, D>) -> io::Result<Vec<MbrEntry>> {
    let Some(sector) = area.read(0, 512)? else { return Ok(Vec::new()) };
    let raw = || sector[MBR_ENTRIES..510].chunks_exact(MBR_ENTRY_BYTES);
    if u16_at(&sector, 510) != 0xAA55 || raw().any(|entry| entry[0] & 0x7F != 0) {
        return Ok(Vec::new());
    }
    let entry = |raw: &[u8]| MbrEntry {
        kind: raw[4],
        first: u64::from(u32_at(raw, 8)),
        sectors: u64::from(u32_at(raw, 12)),
    };
    Ok(raw().map(entry).filter(|e| e.kind != 0 && e.first != 0 && e.sectors != 0).collect())
}

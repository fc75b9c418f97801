//! What a disk already holds: the reason to refuse it, or to call it empty.
//!
//! Places and magic numbers are those of libblkid's probers (util-linux, `libblkid/src/superblocks`,
//! `libblkid/src/partitions`). A false alarm costs the operator one line of config; a missed signature costs the data: when
//! in doubt a prober says yes.

mod magic;
mod partitions;
mod superblock;

pub use superblock::{Erofs, Ext4, erofs_superblock, ext4_superblock};

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};
use tatara_spec::layout::MIB;

/// What was recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the names of the formats")]
pub enum Kind {
    Gpt,
    Mbr,
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    F2fs,
    Jfs,
    Reiserfs,
    Ocfs2,
    Bcachefs,
    Lvm2,
    MdRaid,
    IntelRaid,
    DdfRaid,
    Drbd,
    Vdo,
    Zfs,
    Luks,
    Swap,
    Hibernation,
    Ntfs,
    Fat,
    ExFat,
    Iso9660,
    Udf,
    Erofs,
    Squashfs,
    Bcache,
    CephBluestore,
    Vmfs,
    /// Bytes that are not zero, in the first or last MiB, and that nothing recognised.
    Unknown,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::F2fs => "f2fs",
            Self::Jfs => "jfs",
            Self::Reiserfs => "reiserfs",
            Self::Ocfs2 => "ocfs2",
            Self::Bcachefs => "bcachefs",
            Self::Lvm2 => "LVM2 physical volume",
            Self::MdRaid => "Linux RAID member",
            Self::IntelRaid => "Intel RAID member",
            Self::DdfRaid => "DDF RAID member",
            Self::Drbd => "DRBD",
            Self::Vdo => "VDO",
            Self::Zfs => "ZFS member",
            Self::Luks => "LUKS",
            Self::Swap => "swap",
            Self::Hibernation => "hibernation image",
            Self::Ntfs => "NTFS",
            Self::Fat => "FAT",
            Self::ExFat => "exFAT",
            Self::Iso9660 => "ISO 9660",
            Self::Udf => "UDF",
            Self::Erofs => "erofs",
            Self::Squashfs => "squashfs",
            Self::Bcache => "bcache",
            Self::CephBluestore => "Ceph BlueStore",
            Self::Vmfs => "VMFS",
            Self::Unknown => "unknown data",
        })
    }
}

/// One thing found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// What it is.
    pub kind: Kind,
    /// Where its magic number is, in bytes from the start of the disk.
    pub offset: u64,
    /// What tells it apart: a version, a label, a UUID. May be empty.
    pub detail: String,
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.kind, self.offset)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// Everything found on a disk of `bytes` bytes, in order of place: on the disk as a whole and in its partitions. Empty only
/// if nothing was recognised and the first and last MiB are zero.
///
/// # Errors
/// What the device says. Damaged structures are no error: they are what they look like, or unknown data.
pub fn signatures(dev: &mut (impl Read + Seek), bytes: u64, sector_bytes: u32) -> io::Result<Vec<Signature>> {
    let mut area = Area { dev, first: 0, bytes };
    let mut found = partitions::tables(&mut area, sector_bytes)?;
    let mut ranges = vec![(0, bytes)];
    ranges.extend(partitions::ranges(&mut area, sector_bytes)?);
    for (first, bytes) in ranges {
        found.extend(magic::scan(&mut Area { dev: &mut *area.dev, first, bytes })?);
    }
    found.sort_by_key(|signature| (signature.offset, signature.kind));
    found.dedup();
    if found.is_empty() {
        found.extend(unknown(&mut area)?);
    }
    Ok(found)
}

/// The first byte that is not zero in the first or last MiB.
fn unknown<D: Read + Seek>(area: &mut Area<'_, D>) -> io::Result<Option<Signature>> {
    let span = MIB.min(area.bytes);
    for start in [0, area.bytes - span] {
        let data = area.read(start, usize::try_from(span).unwrap_or(0))?.unwrap_or_default();
        if let Some(at) = data.iter().position(|byte| *byte != 0) {
            let offset = start + at as u64;
            return Ok(Some(Signature { kind: Kind::Unknown, offset, detail: String::new() }));
        }
    }
    Ok(None)
}

/// A disk or a partition of it.
struct Area<'d, D> {
    dev: &'d mut D,
    /// Where it starts on the disk, in bytes.
    first: u64,
    /// Its size in bytes.
    bytes: u64,
}

impl<D: Read + Seek> Area<'_, D> {
    /// `count` bytes from `offset`; `None` when they are not all inside.
    fn read(&mut self, offset: u64, count: usize) -> io::Result<Option<Vec<u8>>> {
        let inside = offset.checked_add(count as u64).is_some_and(|end| end <= self.bytes);
        let Some(at) = self.first.checked_add(offset).filter(|_| inside) else { return Ok(None) };
        self.dev.seek(SeekFrom::Start(at))?;
        let mut data = vec![0; count];
        match self.dev.read_exact(&mut data) {
            Ok(()) => Ok(Some(data)),
            // A partition that says it is longer than the disk.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn u16_at(data: &[u8], at: usize) -> u16 {
    data.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]))
}

fn u32_at(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// A text field that ends at its first zero, with what is not printable replaced.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    let text = String::from_utf8_lossy(&field[..end]);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>().trim().to_owned()
}

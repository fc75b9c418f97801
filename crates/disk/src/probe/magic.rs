//! Magic numbers at fixed places, and the few that need more than a comparison.

use super::superblock::{parse_erofs, parse_ext4};
use super::{Area, Kind, Signature, text, u16_at, u32_at};
use std::io::{self, Read, Seek};

/// Bytes at a fixed place, and what they mean.
struct Magic {
    kind: Kind,
    /// In bytes from the start of the area.
    offset: u64,
    bytes: &'static [u8],
    detail: &'static str,
}

const fn magic(kind: Kind, offset: u64, bytes: &'static [u8], detail: &'static str) -> Magic {
    Magic { kind, offset, bytes, detail }
}

/// Names and places as in libblkid's `struct blkid_idmag` tables.
const MAGICS: &[Magic] = &[
    magic(Kind::Xfs, 0, b"XFSB", ""),
    magic(Kind::Btrfs, 0x10040, b"_BHRfS_M", ""),
    magic(Kind::F2fs, 0x400, b"\x10\x20\xf5\xf2", ""),
    magic(Kind::Jfs, 0x8000, b"JFS1", ""),
    magic(Kind::Reiserfs, 0x10034, b"ReIsEr", ""),
    magic(Kind::Reiserfs, 0x2034, b"ReIsErFs", ""),
    magic(Kind::Ocfs2, 0x400, b"OCFSV2", ""),
    magic(Kind::Ocfs2, 0x800, b"OCFSV2", ""),
    magic(Kind::Ocfs2, 0x1000, b"OCFSV2", ""),
    magic(Kind::Ocfs2, 0x2000, b"OCFSV2", ""),
    magic(Kind::Bcachefs, 0x1018, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef", ""),
    magic(Kind::Bcache, 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81", ""),
    magic(Kind::Vdo, 0, b"dmvdo001", ""),
    magic(Kind::CephBluestore, 0, b"bluestore block device", ""),
    magic(Kind::Vmfs, 0x10_0000, b"\x0d\xd0\x01\xc0", "volume"),
    magic(Kind::Vmfs, 0x20_0000, b"\x5e\xf1\xab\x2f", "file system"),
    magic(Kind::Luks, 0, b"LUKS\xba\xbe\x00\x01", "version 1"),
    magic(Kind::Luks, 0, b"LUKS\xba\xbe\x00\x02", "version 2"),
    magic(Kind::Luks, 0x4000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x8000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x10000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x20000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x40000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x80000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x10_0000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x20_0000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Luks, 0x40_0000, b"SKUL\xba\xbe", "version 2, second header"),
    magic(Kind::Ntfs, 3, b"NTFS    ", ""),
    magic(Kind::ExFat, 3, b"EXFAT   ", ""),
    magic(Kind::Fat, 0x52, b"FAT32   ", "FAT32"),
    magic(Kind::Fat, 0x52, b"MSWIN", "FAT32"),
    magic(Kind::Fat, 0x36, b"FAT16   ", "FAT16"),
    magic(Kind::Fat, 0x36, b"FAT12   ", "FAT12"),
    magic(Kind::Fat, 0x36, b"FAT     ", ""),
    magic(Kind::Fat, 0x36, b"MSDOS", ""),
    magic(Kind::Iso9660, 0x8001, b"CD001", ""),
    magic(Kind::Udf, 0x8001, b"BEA01", ""),
    magic(Kind::Udf, 0x8001, b"NSR02", ""),
    magic(Kind::Udf, 0x8001, b"NSR03", ""),
    magic(Kind::Squashfs, 0, b"hsqs", "little endian"),
    magic(Kind::Squashfs, 0, b"sqsh", "big endian"),
];

/// Swap signatures end with the first page; page sizes from 4 to 64 KiB (libblkid, superblocks/swap.c).
const SWAP_PAGES: [u64; 5] = [0x1000, 0x2000, 0x4000, 0x8000, 0x10000];
/// `MD_SB_MAGIC` (kernel, include/uapi/linux/raid/md_p.h), little and big endian.
const MD: [[u8; 4]; 2] = [[0xfc, 0x4e, 0x2b, 0xa9], [0xa9, 0x2b, 0x4e, 0xfc]];
/// Size and alignment of a version 0.90 superblock's reservation, in bytes.
const MD_RESERVED: u64 = 64 * 1024;
/// A ZFS label's size and where its uberblocks start, in bytes (OpenZFS, include/sys/vdev_impl.h).
const ZFS_LABEL: u64 = 256 * 1024;
const ZFS_UBERBLOCKS: u64 = 128 * 1024;
/// `UBERBLOCK_MAGIC`, 0x00bab10c, as a 64-bit number of either byte order.
const ZFS: [[u8; 8]; 2] = [[0x0c, 0xb1, 0xba, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0xba, 0xb1, 0x0c]];

/// Everything found in one area.
pub(super) fn scan<D: Read + Seek>(area: &mut Area<'_, D>) -> io::Result<Vec<Signature>> {
    let mut found = Vec::new();
    for magic in MAGICS {
        if area.read(magic.offset, magic.bytes.len())?.is_some_and(|data| data == magic.bytes) {
            add(&mut found, area.first, magic.kind, magic.offset, magic.detail);
        }
    }
    superblocks(area, &mut found)?;
    lvm2(area, &mut found)?;
    swap(area, &mut found)?;
    raid(area, &mut found)?;
    zfs(area, &mut found)?;
    drbd(area, &mut found)?;
    Ok(found)
}

fn add(found: &mut Vec<Signature>, first: u64, kind: Kind, offset: u64, detail: impl Into<String>) {
    found.push(Signature { kind, offset: first + offset, detail: detail.into() });
}

fn superblocks<D: Read + Seek>(area: &mut Area<'_, D>, found: &mut Vec<Signature>) -> io::Result<()> {
    let Some(data) = area.read(1024, 1024)? else { return Ok(()) };
    if let Some(ext4) = parse_ext4(&data) {
        add(found, area.first, ext4.kind, 1024 + 56, format!("label `{}`, UUID {}", ext4.label, ext4.uuid));
    } else if u16_at(&data, 56) == 0xEF53 {
        add(found, area.first, Kind::Ext2, 1024 + 56, "damaged");
    }
    if let Some(erofs) = parse_erofs(&data) {
        add(found, area.first, Kind::Erofs, 1024, format!("label `{}`, UUID {}", erofs.label, erofs.uuid));
    } else if u32_at(&data, 0) == 0xE0F5_E1E2 {
        add(found, area.first, Kind::Erofs, 1024, "damaged");
    }
    Ok(())
}

/// The label is in one of the first four sectors (LVM2, lib/label/label.h).
fn lvm2<D: Read + Seek>(area: &mut Area<'_, D>, found: &mut Vec<Signature>) -> io::Result<()> {
    for offset in [0, 512, 1024, 1536] {
        let Some(data) = area.read(offset, 64)? else { continue };
        if data.starts_with(b"LABELONE") && data[24..32] == *b"LVM2 001" {
            add(found, area.first, Kind::Lvm2, offset, format!("UUID {}", text(&data[32..64])));
        }
    }
    Ok(())
}

fn swap<D: Read + Seek>(area: &mut Area<'_, D>, found: &mut Vec<Signature>) -> io::Result<()> {
    for page in SWAP_PAGES {
        let Some(data) = area.read(page - 10, 10)? else { continue };
        if data == b"SWAPSPACE2" || data == b"SWAP-SPACE" {
            add(found, area.first, Kind::Swap, page - 10, "");
        }
        let asleep = [&b"S1SUSPEND"[..], b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"];
        if asleep.iter().any(|magic| data.starts_with(magic)) {
            add(found, area.first, Kind::Hibernation, page - 10, "");
        }
    }
    Ok(())
}

/// Linux software RAID, and the firmware formats that keep their metadata at the end.
fn raid<D: Read + Seek>(area: &mut Area<'_, D>, found: &mut Vec<Signature>) -> io::Result<()> {
    let bytes = area.bytes;
    let end_090 = (bytes / MD_RESERVED * MD_RESERVED).checked_sub(MD_RESERVED);
    // 8 KiB from the end, on a multiple of 4 KiB (kernel, drivers/md/md.c, super_1_load).
    let end_1 = (bytes / 512).checked_sub(16).map(|sector| sector / 8 * 8 * 512);
    for (place, name) in [(end_090, "0.90"), (end_1, "1.0"), (Some(0), "1.1"), (Some(4096), "1.2")] {
        let Some(offset) = place else { continue };
        let Some(data) = area.read(offset, 8)? else { continue };
        let version_fits = name == "0.90" || u32_at(&data, 4) == 1;
        if MD.iter().any(|magic| data.starts_with(magic)) && version_fits {
            add(found, area.first, Kind::MdRaid, offset, format!("version {name}"));
        }
    }
    // Intel: the last but one sector; DDF: the last one (libblkid, superblocks/isw_raid.c, ddf_raid.c).
    for sector in [512, 4096] {
        if let Some(offset) = bytes.checked_sub(2 * sector) {
            let magic = b"Intel Raid ISM Cfg Sig. ";
            if area.read(offset, magic.len())?.is_some_and(|data| data == magic) {
                add(found, area.first, Kind::IntelRaid, offset, "");
            }
        }
    }
    if let Some(offset) = bytes.checked_sub(512) {
        let magics = [[0xde, 0x11, 0xde, 0x11], [0x11, 0xde, 0x11, 0xde]];
        if area.read(offset, 4)?.is_some_and(|data| magics.iter().any(|magic| data == *magic)) {
            add(found, area.first, Kind::DdfRaid, offset, "");
        }
    }
    Ok(())
}

/// Two labels at the start, two at the end; an uberblock in any of them counts.
fn zfs<D: Read + Seek>(area: &mut Area<'_, D>, found: &mut Vec<Signature>) -> io::Result<()> {
    let end = area.bytes / ZFS_LABEL * ZFS_LABEL;
    let places = [Some(0), Some(ZFS_LABEL), end.checked_sub(2 * ZFS_LABEL), end.checked_sub(ZFS_LABEL)];
    let size = usize::try_from(ZFS_LABEL - ZFS_UBERBLOCKS).unwrap_or(0);
    for label in places.into_iter().flatten() {
        let Some(data) = area.read(label + ZFS_UBERBLOCKS, size)? else { continue };
        let hit = |slot: &[u8]| ZFS.iter().any(|magic| slot.starts_with(magic));
        if let Some(slot) = data.chunks(1024).position(hit) {
            add(found, area.first, Kind::Zfs, label + ZFS_UBERBLOCKS + slot as u64 * 1024, "");
        }
    }
    Ok(())
}

/// The last 4 KiB; the magic (`DRBD_MAGIC` 0x83740267 plus 4, 5 or 6) is big endian behind 7 numbers of 64 bits and 1 of 32 (libblkid, superblocks/drbd.c).
fn drbd<D: Read + Seek>(area: &mut Area<'_, D>, found: &mut Vec<Signature>) -> io::Result<()> {
    let Some(offset) = (area.bytes / 4096 * 4096).checked_sub(4096) else { return Ok(()) };
    let Some(data) = area.read(offset + 60, 4)? else { return Ok(()) };
    if data[..3] == [0x83, 0x74, 0x02] && [0x6b, 0x6c, 0x6d].contains(&data[3]) {
        add(found, area.first, Kind::Drbd, offset + 60, "");
    }
    Ok(())
}

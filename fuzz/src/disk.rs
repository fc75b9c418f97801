//! Disks: partition tables, the FAT of the ESP, and what is recognised on a disk.
//!
//! An input is a list of patches to a good disk, because random bytes do not get past a magic number: the place (two bytes),
//! the number of bytes (one), and the bytes.

use crate::sectors::Sectors;
use crc::{CRC_32_ISO_HDLC, Crc};
use std::sync::LazyLock;
use tatara_disk::fat::{self, FormatOptions, Volume};
use tatara_disk::gpt::table::{self, Entry, Guid};
use tatara_disk::probe::{erofs_superblock, ext4_superblock, signatures};
use tatara_spec::layout::{MIB, PARTITIONS};

/// The patches of an input: place, bytes.
fn patches(mut input: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let [low, high, count, rest @ ..] = input {
        let (data, rest) = rest.split_at(rest.len().min(usize::from(*count)));
        found.push((u16::from_le_bytes([*low, *high]), data));
        input = rest;
    }
    found
}

/// Patches count in the sectors that hold something, one after the other.
fn patch(disk: &mut Sectors, input: &[u8]) {
    let sectors = disk.written();
    for (place, data) in patches(input) {
        let (sector, inside) = (usize::from(place) / 512, u64::from(place) % 512);
        disk.put(sectors[sector % sectors.len()] * 512 + inside, data);
    }
}

const GPT_DISK_BYTES: u64 = 256 << 10;

/// A disk with the labels of ours and small partitions.
static GPT_DISK: LazyLock<Sectors> = LazyLock::new(|| {
    let mut disk = Sectors::new(GPT_DISK_BYTES);
    let entry = |spec: &tatara_spec::layout::PartitionSpec| Entry {
        number: spec.number,
        label: spec.label.to_owned(),
        type_guid: spec.type_guid.parse().expect("a GUID"),
        first_byte: u64::from(spec.number) * 32768,
        bytes: 16384,
        guid: Guid::from_u128(u128::from(spec.number)),
    };
    let entries: Vec<Entry> = PARTITIONS.iter().map(entry).collect();
    table::write_with_guid(&mut disk, 512, GPT_DISK_BYTES, &entries, Guid::from_u128(1)).expect("a table");
    disk
});

/// A partition table. The first byte says whether its checksums are made right again after the patches.
pub(crate) fn gpt(input: &[u8]) {
    let Some((mode, input)) = input.split_first() else { return };
    let mut disk = GPT_DISK.clone();
    patch(&mut disk, input);
    if mode & 1 == 1 {
        for header in [512, GPT_DISK_BYTES - 512] {
            checksums(&mut disk, header);
        }
    }
    disk.limit(4 * MIB);
    for sector in [512, 4096] {
        let Ok(Some(found)) = table::read(&mut disk, sector) else { continue };
        let _ = table::is_ours(&found);
        for entry in &found.partitions {
            assert!(entry.number >= 1 && entry.bytes > 0, "{entry:?}");
            assert!(entry.first_byte.checked_add(entry.bytes).is_some(), "{entry:?}");
        }
    }
    recognised(&mut disk, GPT_DISK_BYTES);
}

/// UEFI specification, table 5.5: the checksum of the array at 88, then that of the header at 16.
fn checksums(disk: &mut Sectors, at: u64) {
    let crc = Crc::<u32>::new(&CRC_32_ISO_HDLC);
    let header = disk.get(at, 92);
    let u32_at =
        |offset: usize| u32::from_le_bytes(header[offset..offset + 4].try_into().expect("four bytes"));
    let array_at = u64::from(u32_at(72)) * 512;
    let array_bytes = u64::from(u32_at(80)).saturating_mul(u64::from(u32_at(84))).min(GPT_DISK_BYTES);
    let array = disk.get(array_at, array_bytes as usize);
    disk.put(at + 88, &crc.checksum(&array).to_le_bytes());
    disk.put(at + 16, &[0; 4]);
    let header_bytes = (u32_at(12) as usize).min(512);
    let sum = crc.checksum(&disk.get(at, header_bytes));
    disk.put(at + 16, &sum.to_le_bytes());
}

/// What is recognised: never nothing where something is, and its words are safe on a console.
fn recognised(disk: &mut Sectors, bytes: u64) {
    for sector in [512, 4096] {
        let found = signatures(disk, bytes, sector).expect("this device does not fail");
        assert!(!found.is_empty() || disk.is_zero() || bytes > 2 * MIB, "data taken for nothing");
        for signature in &found {
            let text = signature.to_string();
            assert!(!text.contains(char::is_control) && text.len() < 64 * 1024, "{text:?}");
        }
    }
}

const PROBE_DISK_BYTES: u64 = 1 << 20;

/// Anything on a disk of 1 MiB: patches at 16 bytes each.
pub(crate) fn probe(input: &[u8]) {
    let mut disk = Sectors::new(PROBE_DISK_BYTES);
    for (place, data) in patches(input) {
        disk.put(u64::from(place) * 16, data);
    }
    disk.limit(64 * MIB);
    recognised(&mut disk, PROBE_DISK_BYTES);
    for first in [0, 4096, u64::MAX] {
        let _ = ext4_superblock(&mut disk, first).expect("this device does not fail");
        let _ = erofs_superblock(&mut disk, first).expect("this device does not fail");
    }
}

/// The least that is FAT32: 65,525 clusters of 512 bytes.
const FAT_DISK_BYTES: u64 = 34 << 20;

static FAT_DISK: LazyLock<Sectors> = LazyLock::new(|| {
    let mut disk = Sectors::new(FAT_DISK_BYTES);
    let options = FormatOptions {
        bytes: FAT_DISK_BYTES,
        sector_bytes: 512,
        label: "TATARA-ESP".to_owned(),
        volume_id: 7,
    };
    fat::format(&mut disk, &options).expect("a volume");
    let mut volume = Volume::open(disk).expect("a volume");
    for (path, bytes) in [("grub/grubenv", 1024), ("slot-a/node.cfg", 100), ("slot-a/vmlinuz", 3000)] {
        volume.write(path, &mut std::io::repeat(b'x'), bytes).expect("room");
    }
    volume.into_inner()
});

/// The volume of an ESP: whatever is on it, every operation ends, and none takes memory for what the volume only claims.
pub(crate) fn fat(input: &[u8]) {
    let mut disk = FAT_DISK.clone();
    patch(&mut disk, input);
    disk.limit(512 * MIB);
    let Ok(mut volume) = Volume::open(disk) else { return };
    let limit = 64 * 1024;
    for path in ["grub/grubenv", "slot-a/node.cfg", "slot-b/none", "grub"] {
        if let Ok(Some(data)) = volume.read_if_exists(path, limit) {
            assert!(data.len() as u64 <= limit, "{path}");
        }
    }
    let _ = volume.overwrite("grub/grubenv", &[b'#'; 1024]);
    let free = volume.free_bytes();
    assert!(free.is_err() || free.is_ok_and(|bytes| bytes <= FAT_DISK_BYTES), "more room than the disk has");
    // On a damaged volume what was written may be lost, or belong to two files: who writes a kernel reads it back.
    let _ = volume.write("slot-b/vmlinuz", &mut &[7; 3000][..], 3000);
    let _ = volume.read_if_exists("slot-b/vmlinuz", limit);
    let _ = volume.remove("slot-a/vmlinuz");
}

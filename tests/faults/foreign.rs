//! Disks that hold something else: refused and untouched with `wipe: never`; with `wipe: foreign` installed to, and nothing is left
//! by which the old owner would recognise its disk.

use crate::{direct, good, installs, served};
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use support::guest::Bus;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

/// One machine: refused, then allowed by a new config, which it takes at its next try.
fn foreign(done: &'static str, bus: (Bus, u32), make: impl FnOnce(&Path), says: &str, seen_as: &str) {
    let setup = direct().disks(&[bus]);
    let disk = setup.disk_paths()[0].clone();
    make(&disk);
    let known = signatures(&disk);
    assert!(known.contains(seen_as), "libblkid takes it for `{known}`, not for `{seen_as}`");
    let mut trial = Trial::new("disk", done, setup);
    let mut config = good();
    let server = served(&trial.setup, &config.text());
    let guest = trial.start(&server);
    trial.refused(&guest, Code::DiskForeign, says);
    trial.untouched();
    config.wipe = "foreign";
    server.publish(&trial.setup.mac(), &config.text());
    guest.expect("EVERYTHING ON IT IS OVERWRITTEN", SOON);
    installs(&guest);
    let left = signatures(&disk);
    assert!(left.lines().all(|kind| kind == "gpt" || kind == "PMBR"), "left over: {left}");
    trial.ends(guest, Disks::RefusedThenInstalled);
}

/// What libblkid recognises on the whole disk, one a line.
fn signatures(disk: &Path) -> String {
    let output = Command::new("wipefs").args(["--noheadings", "--output", "TYPE"]).arg(disk).output();
    String::from_utf8_lossy(&output.expect("wipefs").stdout).trim().to_owned()
}

fn run(program: &str, arguments: &[&str], disk: &Path, input: &str) {
    let mut command = Command::new(program);
    command.args(arguments).arg(disk).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{program}: {e}"));
    child.stdin.take().expect("its input").write_all(input.as_bytes()).expect("its input");
    let output = child.wait_with_output().expect("its end");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

fn put(disk: &Path, at: u64, bytes: &[u8]) {
    File::options().write(true).open(disk).and_then(|file| file.write_all_at(bytes, at)).expect("the disk");
}

const VIRTIO: (Bus, u32) = (Bus::VirtioBlk, 512);
const GPT: &str = "label: gpt\nsize=1GiB, type=linux\n";

#[test]
fn ext4() {
    let make = |disk: &Path| run("mkfs.ext4", &["-q", "-F"], disk, "");
    foreign("a disk with an ext4 file system", VIRTIO, make, "ext4", "ext4");
}

#[test]
fn gpt() {
    foreign("a disk with a GPT", VIRTIO, |disk| run("sfdisk", &["-q"], disk, GPT), "GPT", "gpt");
}

/// As after a move from a controller that shows the same disk with other sectors: no kernel shows its partitions there.
#[test]
fn gpt_of_other_sectors() {
    let make = |disk: &Path| run("sfdisk", &["-q"], disk, GPT);
    let done = "a GPT for sectors of 512 bytes on a disk with 4096";
    foreign(done, (Bus::Nvme, 4096), make, "GPT", "gpt");
}

#[test]
fn mbr() {
    let table = "label: dos\nsize=1GiB, type=83\n";
    foreign("a disk with an MBR", VIRTIO, |disk| run("sfdisk", &["-q"], disk, table), "MBR", "dos");
}

/// LVM2, lib/label/label.h and lib/format_text/layout.h: what `pvcreate` writes to the second sector.
#[test]
fn lvm() {
    let make = |disk: &Path| {
        let mut sector = [0; 512];
        sector[..8].copy_from_slice(b"LABELONE");
        sector[8] = 1;
        sector[20..24].copy_from_slice(&32_u32.to_le_bytes());
        sector[24..32].copy_from_slice(b"LVM2 001");
        sector[32..64].copy_from_slice(b"abcdefghijklmnopqrstuvwxyz012345");
        sector[64..72].copy_from_slice(&(12_u64 << 30).to_le_bytes());
        let sum = lvm_checksum(&sector[20..]);
        sector[16..20].copy_from_slice(&sum.to_le_bytes());
        put(disk, 512, &sector);
    };
    foreign("a disk that is an LVM physical volume", VIRTIO, make, "LVM2 physical volume", "LVM2_member");
}

/// CRC-32 with LVM2's own first value (lib/misc/crc.h, `INITIAL_CRC`).
fn lvm_checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0xf597_a6cf, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

/// `struct mdp_superblock_1` of version 1.2 (kernel, include/uapi/linux/raid/md_p.h).
#[test]
fn mdraid() {
    let make = |disk: &Path| {
        let mut block = [0; 256];
        block[..4].copy_from_slice(&0xa92b_4efc_u32.to_le_bytes());
        block[4] = 1;
        block[16..32].copy_from_slice(b"0123456789abcdef");
        block[32..38].copy_from_slice(b"node:0");
        block[144..152].copy_from_slice(&8_u64.to_le_bytes());
        let sum =
            block.chunks(4).map(|w| u64::from(u32::from_le_bytes([w[0], w[1], w[2], w[3]]))).sum::<u64>();
        let sum = (sum & 0xffff_ffff) + (sum >> 32);
        block[216..220].copy_from_slice(&(sum as u32).to_le_bytes());
        put(disk, 4096, &block);
    };
    foreign("a member of a Linux RAID", VIRTIO, make, "Linux RAID member", "linux_raid_member");
}

/// Uberblocks in all four labels (OpenZFS, include/sys/vdev_impl.h): those at the end of the disk outlive most installers.
#[test]
fn zfs() {
    const LABEL: u64 = 256 << 10;
    let make = |disk: &Path| {
        let bytes = std::fs::metadata(disk).expect("the disk").len();
        for label in [0, LABEL, bytes - 2 * LABEL, bytes - LABEL] {
            for slot in 0..8 {
                put(disk, label + (128 << 10) + slot * 1024, &0x00ba_b10c_u64.to_le_bytes());
            }
        }
    };
    foreign("a member of a ZFS pool", VIRTIO, make, "ZFS member", "zfs_member");
}

/// LUKS2 on-disk format specification, section 2.1: both binary headers.
#[test]
fn luks() {
    let make = |disk: &Path| {
        for (magic, at) in [(b"LUKS\xba\xbe", 0_u64), (b"SKUL\xba\xbe", 0x4000)] {
            let mut header = [0; 4096];
            header[..6].copy_from_slice(magic);
            header[6..8].copy_from_slice(&2_u16.to_be_bytes());
            header[8..16].copy_from_slice(&0x4000_u64.to_be_bytes());
            header[168..204].copy_from_slice(b"01234567-89ab-cdef-0123-456789abcdef");
            header[256..264].copy_from_slice(&at.to_be_bytes());
            put(disk, at, &header);
        }
    };
    foreign("a LUKS volume", VIRTIO, make, "LUKS", "crypto_LUKS");
}

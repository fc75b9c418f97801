//! Signatures of real file systems and tables, made by their own tools, and of recorded bytes for the others.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end the test")]

use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::fs::File;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::process::Command;
use tatara_disk::probe::{Kind, Signature, erofs_superblock, ext4_superblock, signatures};

const BYTES: u64 = 64 << 20;

struct Disk(tempfile::NamedTempFile);

impl Disk {
    fn new() -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(BYTES).unwrap();
        Self(file)
    }

    fn made_by(program: &str, arguments: &[&str]) -> Self {
        let disk = Self::new();
        disk.run(program, arguments);
        disk
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let done = Command::new(program).args(arguments).arg(self.0.path()).output().unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn open(&self) -> File {
        File::options().read(true).write(true).open(self.0.path()).unwrap()
    }

    fn found(&self) -> Vec<Signature> {
        signatures(&mut self.open(), BYTES, 512).unwrap()
    }

    fn kinds(&self) -> Vec<Kind> {
        self.found().into_iter().map(|signature| signature.kind).collect()
    }
}

#[test]
fn real_file_systems_are_recognised() {
    let cases: [(Kind, &str, &[&str]); 6] = [
        (Kind::Ext4, "mkfs.ext4", &["-q", "-F"]),
        (Kind::Ext3, "mkfs.ext3", &["-q", "-F"]),
        (Kind::Ext2, "mkfs.ext2", &["-q", "-F"]),
        (Kind::Swap, "mkswap", &["-q"]),
        (Kind::Fat, "mkfs.vfat", &["-F32"]),
        (Kind::Fat, "mkfs.vfat", &["-F16"]),
    ];
    for (kind, program, arguments) in cases {
        assert_eq!(Disk::made_by(program, arguments).kinds(), [kind], "{program} {arguments:?}");
    }
}

#[test]
fn superblocks_say_what_the_tools_were_told() {
    let uuid = "01234567-89ab-cdef-0123-456789abcdef";
    let disk = Disk::made_by("mkfs.ext4", &["-q", "-F", "-L", "state", "-U", uuid]);
    let ext4 = ext4_superblock(&mut disk.open(), 0).unwrap().unwrap();
    assert_eq!((ext4.uuid.to_string().as_str(), ext4.label.as_str(), ext4.bytes), (uuid, "state", BYTES));
    assert!(disk.found()[0].detail.contains("label `state`"));

    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("file"), [7; 100_000]).unwrap();
    let image = tempfile::NamedTempFile::new().unwrap();
    let done =
        Command::new("mkfs.erofs").args(["-U", uuid]).arg(image.path()).arg(root.path()).output().unwrap();
    assert!(done.status.success());
    let bytes = image.as_file().metadata().unwrap().len();
    let mut file = image.reopen().unwrap();
    let erofs = erofs_superblock(&mut file, 0).unwrap().unwrap();
    assert_eq!((erofs.uuid.to_string().as_str(), erofs.bytes), (uuid, bytes));
    assert_eq!(signatures(&mut file, bytes, 512).unwrap()[0].kind, Kind::Erofs);
    assert_eq!(ext4_superblock(&mut file, 0).unwrap(), None);
    assert_eq!(erofs_superblock(&mut file, u64::MAX).unwrap(), None);
}

#[test]
fn partitions_are_looked_into() {
    let disk = Disk::made_by("sgdisk", &["-n1:0:+8M", "-c1:boot", "-n2:0:+8M", "-c2:data"]);
    let at = 1024 * 1024 + 8 * 1024 * 1024;
    let mut dev = disk.open();
    dev.seek(SeekFrom::Start(at)).unwrap();
    dev.write_all(b"XFSB").unwrap();
    let found = disk.found();
    let kinds: Vec<_> = found.iter().map(|signature| (signature.kind, signature.offset)).collect();
    assert_eq!(kinds, [(Kind::Gpt, 512), (Kind::Xfs, at), (Kind::Gpt, BYTES - 512)]);
    assert_eq!(found[0].to_string(), "GPT at byte 512 (partitions: boot, data)");

    let disk = Disk::new();
    let mut sfdisk = Command::new("sfdisk")
        .arg("-q")
        .arg(disk.0.path())
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    sfdisk.stdin.take().unwrap().write_all(b"label: dos\n2048,8192,83\n").unwrap();
    assert!(sfdisk.wait().unwrap().success());
    let mut dev = disk.open();
    dev.seek(SeekFrom::Start(2048 * 512)).unwrap();
    dev.write_all(b"hsqs").unwrap();
    assert_eq!(disk.kinds(), [Kind::Mbr, Kind::Squashfs]);
    assert_eq!(disk.found()[0].detail, "type 83");
}

/// Magic bytes at the place where the format's own tool writes them.
#[test]
fn recorded_bytes_are_recognised() {
    let end = BYTES as usize;
    let cases: &[(Kind, usize, &[u8])] = &[
        (Kind::Btrfs, 0x10040, b"_BHRfS_M"),
        (Kind::Luks, 0, b"LUKS\xba\xbe\x00\x02"),
        (Kind::Luks, 0x4000, b"SKUL\xba\xbe\x00\x02"),
        (Kind::MdRaid, 4096, b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00"),
        (Kind::MdRaid, 0, b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00"),
        (Kind::MdRaid, end - 8192, b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00"),
        (Kind::MdRaid, end - 65536, b"\xfc\x4e\x2b\xa9\x00\x00\x00\x00\x5a\x00\x00\x00"),
        (Kind::Zfs, 128 * 1024 + 3 * 1024, b"\x0c\xb1\xba\x00\x00\x00\x00\x00\x88\x13"),
        (Kind::Zfs, end - 128 * 1024, b"\x0c\xb1\xba\x00\x00\x00\x00\x00\x88\x13"),
        (Kind::Ntfs, 3, b"NTFS    "),
        (Kind::ExFat, 3, b"EXFAT   "),
        (Kind::Iso9660, 0x8001, b"CD001"),
        (Kind::Bcache, 0x1018, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
        (Kind::CephBluestore, 0, b"bluestore block device\n"),
        (Kind::Vmfs, 0x10_0000, b"\x0d\xd0\x01\xc0"),
        (Kind::IntelRaid, end - 1024, b"Intel Raid ISM Cfg Sig. 1.3.00"),
        (Kind::DdfRaid, end - 512, b"\xde\x11\xde\x11"),
        (Kind::Drbd, end - 4096 + 60, b"\x83\x74\x02\x6d"),
        (Kind::Hibernation, 4086, b"S1SUSPEND\0"),
        (Kind::Unknown, 4000, b"\x01"),
        (Kind::Unknown, end - 1, b"\x01"),
    ];
    let mut disk = Cursor::new(vec![0; end]);
    assert_eq!(signatures(&mut disk, BYTES, 512).unwrap(), []);
    for (kind, offset, magic) in cases {
        disk.get_mut()[*offset..offset + magic.len()].copy_from_slice(magic);
        let found = signatures(&mut disk, BYTES, 512).unwrap();
        let kinds: Vec<_> = found.iter().map(|signature| signature.kind).collect();
        assert_eq!(kinds, [*kind], "{magic:?}");
        disk.get_mut()[*offset..offset + magic.len()].fill(0);
    }
    let mut lvm = vec![0; 64];
    lvm[..8].copy_from_slice(b"LABELONE");
    lvm[24..32].copy_from_slice(b"LVM2 001");
    disk.get_mut()[512..576].copy_from_slice(&lvm);
    assert_eq!(signatures(&mut disk, BYTES, 512).unwrap()[0].kind, Kind::Lvm2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Garbage, also behind real magic numbers, is data, never a panic, and never "empty".
    #[test]
    fn garbage_is_never_a_panic_and_never_empty(
        data in prop::collection::vec(any::<u8>(), 1..3000), at in 0_usize..5000, size in 0_usize..300_000, marks in any::<u8>(),
    ) {
        let mut disk = vec![0; size.max(at + data.len())];
        disk[at..at + data.len()].copy_from_slice(&data);
        let places: [(usize, &[u8]); 4] =
            [(510, b"\x55\xaa"), (512, b"EFI PART"), (1080, b"\x53\xef"), (1024, b"\xe2\xe1\xf5\xe0")];
        for (bit, (place, magic)) in places.into_iter().enumerate() {
            if marks & 1 << bit != 0 && place + magic.len() <= disk.len() {
                disk[place..place + magic.len()].copy_from_slice(magic);
            }
        }
        let bytes = disk.len() as u64;
        let empty = disk.iter().all(|byte| *byte == 0);
        for sector in [512, 4096] {
            let found = signatures(&mut Cursor::new(&disk), bytes, sector).unwrap();
            assert_eq!(found.is_empty(), empty);
        }
    }
}

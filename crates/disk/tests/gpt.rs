//! Tables on sparse files, judged by sgdisk and sfdisk.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end the test")]

use proptest::prelude::{any, prop, proptest};
use std::fs::File;
use std::io::{Cursor, Seek, SeekFrom, Write};
use std::process::Command;
use tatara_disk::gpt::table::{self, Copies, Entry, Guid};
use tatara_spec::layout::{DISK_MIN_BYTES, MIB, PARTITIONS};

fn sparse(bytes: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(bytes).unwrap();
    file
}

fn open(file: &tempfile::NamedTempFile) -> File {
    File::options().read(true).write(true).open(file.path()).unwrap()
}

/// Output of a checker, which must succeed.
fn output(program: &str, arguments: &[&str], file: &tempfile::NamedTempFile) -> String {
    let done = Command::new(program).args(arguments).arg(file.path()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{program}: {text}");
    text
}

#[test]
fn a_planned_table_is_clean_for_sgdisk_and_sfdisk() {
    for bytes in [DISK_MIN_BYTES, 20_000_000_000 / 512 * 512, 3 << 40] {
        let file = sparse(bytes);
        let mut dev = open(&file);
        // An older, larger boot sector's code and entries must not survive.
        dev.write_all(&[0xEE; 440]).unwrap();
        let entries = table::plan(bytes, 512).unwrap();
        table::write(&mut dev, 512, bytes, &entries).unwrap();
        assert!(output("sgdisk", &["-v"], &file).contains("No problems found"));
        let verdict = output("sfdisk", &["-V"], &file);
        assert!(verdict.contains("No errors detected") && !verdict.contains("mismatch"), "{verdict}");
        let found = table::read(&mut dev, 512).unwrap().unwrap();
        assert_eq!((found.copies, &found.partitions), (Copies::Both, &entries));
        assert!(table::is_ours(&found));
        let end = entries[4].first_byte + entries[4].bytes;
        assert!(bytes - end < 2 * MIB, "the last partition takes what is left");
    }
}

#[test]
fn a_table_with_4096_byte_sectors_reads_back_from_either_copy() {
    let bytes = DISK_MIN_BYTES;
    let file = sparse(bytes);
    let mut dev = open(&file);
    let entries = table::plan(bytes, 4096).unwrap();
    table::write(&mut dev, 4096, bytes, &entries).unwrap();
    assert_eq!(table::read(&mut dev, 512).unwrap(), None);
    for (lba, expected) in [(1, Copies::BackupOnly), (bytes / 4096 - 1, Copies::PrimaryOnly)] {
        let mut dev = open(&file);
        dev.seek(SeekFrom::Start(lba * 4096)).unwrap();
        dev.write_all(b"gone").unwrap();
        let found = table::read(&mut dev, 4096).unwrap().unwrap();
        assert_eq!((found.copies, &found.partitions), (expected, &entries));
        table::write(&mut dev, 4096, bytes, &entries).unwrap();
    }
    table::erase(&mut dev, 4096, bytes).unwrap();
    assert_eq!(table::read(&mut dev, 4096).unwrap(), None);
}

#[test]
fn sgdisk_tables_are_read_and_are_not_ours() {
    let file = sparse(64 * MIB);
    output("sgdisk", &["-n1:0:+8M", "-c1:data", "-t1:8300"], &file);
    let found = table::read(&mut open(&file), 512).unwrap().unwrap();
    assert_eq!((found.partitions[0].label.as_str(), found.partitions[0].bytes), ("data", 8 * MIB));
    assert!(!table::is_ours(&found));
}

#[test]
fn a_corrupt_entry_array_is_no_table() {
    let mut disk = Cursor::new(vec![0; 8 << 20]);
    table::write(&mut disk, 512, 8 << 20, &[entry(1, MIB, MIB)]).unwrap();
    for at in [1024, (8 << 20) - 512 - 16384] {
        disk.get_mut()[at + 40] ^= 1;
    }
    assert_eq!(table::read(&mut disk, 512).unwrap(), None);
}

fn entry(number: u32, first_byte: u64, bytes: u64) -> Entry {
    let type_guid = PARTITIONS[4].type_guid.parse().unwrap();
    Entry { number, label: format!("p{number}"), type_guid, first_byte, bytes, guid: Guid::from_u128(7) }
}

#[test]
fn wrong_partitions_are_refused_before_anything_is_written() {
    let wrong = [
        vec![entry(1, 0, MIB)],
        vec![entry(2, MIB, MIB)],
        vec![entry(1, MIB, 8 * MIB)],
        vec![entry(1, MIB + 1, MIB)],
        vec![entry(1, MIB, 0)],
        vec![entry(1, MIB, 2 * MIB), entry(2, 2 * MIB, MIB)],
        vec![Entry { label: "x".repeat(37), ..entry(1, MIB, MIB) }],
        vec![Entry { first_byte: u64::MAX - 511, ..entry(1, MIB, 512) }],
    ];
    for partitions in wrong {
        let mut disk = Cursor::new(vec![0; 8 << 20]);
        let error = table::write(&mut disk, 512, 8 << 20, &partitions).unwrap_err();
        assert!(matches!(error, table::Error::Partition { .. }), "{error}");
        assert!(disk.get_ref().iter().all(|byte| *byte == 0));
    }
    assert!(matches!(table::plan(DISK_MIN_BYTES - 1, 512), Err(table::Error::DiskSmall { .. })));
    assert!(matches!(table::plan(DISK_MIN_BYTES, 520), Err(table::Error::SectorSize(520))));
}

#[test]
fn the_same_guid_gives_the_same_bytes() {
    let make = || {
        let mut disk = Cursor::new(vec![0; 4 << 20]);
        let parts = [entry(1, MIB, MIB)];
        table::write_with_guid(&mut disk, 512, 4 << 20, &parts, Guid::from_u128(1)).unwrap();
        disk.into_inner()
    };
    assert_eq!(make(), make());
}

proptest! {
    /// A valid header with anything in it, with and without a right checksum, is a table or none, never a panic.
    #[test]
    fn garbage_is_never_a_panic(
        flips in prop::collection::vec((512_usize..1700, any::<u8>()), 0..20), tail in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let mut disk = Cursor::new(vec![0; 256 << 10]);
        table::write(&mut disk, 512, 256 << 10, &[entry(1, 64 << 10, 64 << 10)]).unwrap();
        for (at, value) in flips {
            disk.get_mut()[at] = value;
        }
        let _ = table::read(&mut disk, 512).unwrap();
        let _ = table::read(&mut Cursor::new(tail), 512).unwrap();
    }
}

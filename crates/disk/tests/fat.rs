//! FAT volumes on sparse files, judged by fsck.vfat and mtools.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end the test")]

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom, Write};
use std::process::Command;
use tatara_disk::fat::{Error, FormatOptions, Volume, format};
use tatara_disk::window::Window;

const BYTES: u64 = 512 << 20;

fn options(sector_bytes: u32) -> FormatOptions {
    FormatOptions { bytes: BYTES, sector_bytes, label: "TATARA-ESP".to_owned(), volume_id: 0x1234_ABCD }
}

fn formatted(sector_bytes: u32) -> (tempfile::NamedTempFile, Volume<File>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(BYTES).unwrap();
    let mut dev = File::options().read(true).write(true).open(file.path()).unwrap();
    format(&mut dev, &options(sector_bytes)).unwrap();
    (file, Volume::open(dev).unwrap())
}

/// fsck.vfat must end well and say no more than its version and the summary.
fn fsck(file: &tempfile::NamedTempFile) {
    let done = Command::new("fsck.vfat").arg("-n").arg(file.path()).output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && text.lines().count() == 2, "{text}");
}

fn put(volume: &mut Volume<impl Read + Write + Seek>, path: &str, data: &[u8]) {
    volume.write(path, &mut &*data, data.len() as u64).unwrap();
}

/// Bytes that differ everywhere.
fn noise(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

#[test]
fn files_and_directories_pass_fsck_with_both_sector_sizes() {
    for sector_bytes in [512, 4096] {
        let (file, mut volume) = formatted(sector_bytes);
        fsck(&file);
        let before = volume.free_bytes().unwrap();
        let kernel = noise(9_000_001);
        let paths = [
            "EFI/BOOT/BOOTX64.EFI",
            "grub/grub.cfg",
            "slot-a/initramfs.zst",
            "slot-b/a rather long Näme.cfg",
        ];
        for path in paths {
            put(&mut volume, path, &kernel);
        }
        put(&mut volume, "empty", b"");
        // Replaced by a shorter one: its clusters are free again.
        put(&mut volume, "slot-a/initramfs.zst", b"short");
        for path in paths.iter().filter(|path| !path.contains("initramfs")) {
            assert_eq!(volume.read(path, 10 << 20).unwrap(), kernel, "{path}");
        }
        assert_eq!(volume.read("SLOT-A/InitRamFS.zst", 5).unwrap(), b"short");
        assert_eq!(volume.read("empty", 0).unwrap(), b"");
        volume.remove("grub/grub.cfg").unwrap();
        assert_eq!(volume.read_if_exists("grub/grub.cfg", 10 << 20).unwrap(), None);
        assert!(before - volume.free_bytes().unwrap() < 2 * 9_100_000);
        fsck(&file);
    }
}

#[test]
fn mtools_reads_what_we_wrote() {
    let (file, mut volume) = formatted(512);
    put(&mut volume, "slot-a/initramfs.zst", &noise(100_000));
    let out =
        Command::new("mtype").arg("-i").arg(file.path()).arg("::slot-a/initramfs.zst").output().unwrap();
    assert!(out.status.success() && out.stdout == noise(100_000));
}

#[test]
fn overwriting_in_place_changes_the_data_and_nothing_else() {
    let (_file, mut volume) = formatted(512);
    put(&mut volume, "grub/grubenv", &[b'#'; 1024]);
    let mut dev = volume.into_inner();
    let whole = |dev: &mut File| {
        let mut start = vec![0; 8 << 20];
        dev.seek(SeekFrom::Start(0)).unwrap();
        dev.read_exact(&mut start).unwrap();
        start
    };
    let before = whole(&mut dev);
    let mut volume = Volume::open(dev).unwrap();
    volume.overwrite("grub/grubenv", &[b'x'; 1024]).unwrap();
    assert_eq!(volume.read("grub/grubenv", 1024).unwrap(), [b'x'; 1024]);
    let after = whole(&mut volume.into_inner());
    let changed: Vec<_> = (0..before.len()).filter(|i| before[*i] != after[*i]).collect();
    assert_eq!(changed.len(), 1024);
    assert_eq!(changed[1023] - changed[0], 1023);
}

#[test]
fn the_same_calls_give_the_same_bytes_also_inside_a_disk() {
    let make = |offset: u64| {
        let bytes = 64 << 20;
        let mut disk = Cursor::new(vec![0xEE; usize::try_from(offset + bytes + 512).unwrap()]);
        let mut window = Window::new(&mut disk, offset, bytes);
        format(&mut window, &FormatOptions { bytes, ..options(512) }).unwrap();
        let mut volume = Volume::open(window).unwrap();
        put(&mut volume, "slot-a/vmlinuz", &noise(3_000_000));
        assert_eq!(volume.read("slot-a/vmlinuz", 3_000_000).unwrap(), noise(3_000_000));
        let disk = disk.into_inner();
        assert!(disk[..offset as usize].iter().chain(&disk[disk.len() - 512..]).all(|b| *b == 0xEE));
        disk[offset as usize..disk.len() - 512].to_vec()
    };
    assert!(make(1 << 20) == make(3 << 20));
}

#[test]
fn refusals_name_the_file_and_the_numbers() {
    let bytes = 40 << 20;
    let mut disk = Cursor::new(vec![0; bytes]);
    format(&mut disk, &FormatOptions { bytes: bytes as u64, ..options(512) }).unwrap();
    let mut volume = Volume::open(disk).unwrap();
    put(&mut volume, "grub/grubenv", &[0; 1024]);
    let full = volume.write("big", &mut std::io::repeat(1), 60 << 20).unwrap_err();
    assert!(matches!(full, Error::Full { needed, .. } if needed == 60 << 20), "{full}");
    assert_eq!(volume.read_if_exists("big", 1).unwrap(), None);
    let large = volume.read("grub/grubenv", 1023).unwrap_err();
    assert!(matches!(large, Error::Large { bytes: 1024, limit: 1023, .. }), "{large}");
    let size = volume.overwrite("grub/grubenv", &[0; 1023]).unwrap_err();
    assert!(matches!(size, Error::Size { found: 1024, given: 1023, .. }), "{size}");
    let short = volume.write("short", &mut &[1, 2][..], 3).unwrap_err();
    assert!(matches!(short, Error::Short { found: 2, expected: 3, .. }), "{short}");
    let missing = volume.read("nothing/here", 1).unwrap_err();
    assert!(matches!(missing, Error::Io { ref source, .. } if source.kind() == std::io::ErrorKind::NotFound));
    let tiny = format(&mut Cursor::new(vec![0; 1 << 20]), &FormatOptions { bytes: 1 << 20, ..options(512) });
    assert!(matches!(tiny, Err(Error::Options(_))), "{tiny:?}");
    assert!(Volume::open(Cursor::new(vec![0; 1 << 20])).is_err());
}

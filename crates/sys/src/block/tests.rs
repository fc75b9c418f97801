//! Enumeration, on directories made like the kernel's.

use super::{Transport, enumerate, partitions, vpd_serial};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

struct FakeSys(TempDir);

impl FakeSys {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A disk at a path below devices/, linked from block/; returns its directory.
    fn disk(&self, parent: &str, name: &str, attributes: &[(&str, &[u8])]) -> PathBuf {
        let dir = self.0.path().join("devices").join(parent).join("block").join(name);
        fs::create_dir_all(&dir).unwrap();
        for (attribute, value) in attributes {
            write(&dir.join(attribute), value);
        }
        fs::create_dir_all(self.0.path().join("block")).unwrap();
        symlink(&dir, self.0.path().join("block").join(name)).unwrap();
        dir
    }

    fn disks(&self) -> Vec<super::BlockDevice> {
        enumerate(self.0.path(), Path::new("/dev")).unwrap()
    }
}

fn write(path: &Path, value: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value).unwrap();
}

#[test]
fn a_sata_disk_with_partitions() {
    let sys = FakeSys::new();
    let dir = sys.disk(
        "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0",
        "sda",
        &[
            ("size", b"2097152\n"),
            ("queue/logical_block_size", b"512\n"),
            ("queue/physical_block_size", b"4096\n"),
            ("queue/rotational", b"1\n"),
            ("ro", b"0\n"),
            ("removable", b"0\n"),
            ("device/model", b"QEMU HARDDISK   \n"),
            ("device/vpd_pg80", b"\0\x80\0\x08QM00001 trailing"),
            ("device/wwid", b"naa.5000c500a1b2c3d4\n"),
            ("sda10/partition", b"10\n"),
            ("sda10/start", b"4096\n"),
            ("sda10/size", b"8\n"),
            ("sda2/partition", b"2\n"),
            ("sda2/start", b"2048\n"),
            ("sda2/size", b"2048\n"),
        ],
    );
    fs::create_dir_all(dir.join("sda2/holders/dm-0")).unwrap();
    let disks = sys.disks();
    let [disk] = disks.as_slice() else { panic!("{disks:?}") };
    assert_eq!((disk.bytes, disk.logical_sector, disk.physical_sector), (1 << 30, 512, 4096));
    assert_eq!((disk.rotational, disk.removable, disk.read_only), (true, false, false));
    assert_eq!(disk.model.as_deref(), Some("QEMU HARDDISK"));
    assert_eq!(disk.serial.as_deref(), Some("QM00001"));
    assert_eq!(disk.wwid.as_deref(), Some("naa.5000c500a1b2c3d4"));
    assert_eq!((disk.transport, disk.dev_path.as_path()), (Some(Transport::Sata), Path::new("/dev/sda")));
    assert_eq!(disk.partitions.iter().map(|p| p.number).collect::<Vec<_>>(), [2, 10]);
    assert_eq!((disk.partitions[0].start_bytes, disk.partitions[0].bytes), (1 << 20, 1 << 20));
    let known = |disk| partitions(sys.0.path(), Path::new("/dev"), Path::new(disk)).unwrap();
    assert_eq!(known("/dev/sda"), disk.partitions);
    assert!(known("/dev/sdb").is_empty());
    assert_eq!(disk.holders, ["dm-0"]);
}

#[test]
fn every_bus_is_known_by_its_path() {
    let sys = FakeSys::new();
    let size: &[(&str, &[u8])] = &[("size", b"8\n")];
    sys.disk("pci0000:00/0000:00:04.0/nvme/nvme0", "nvme0n1", size);
    sys.disk("pci0000:00/0000:00:05.0/virtio1", "vda", size);
    sys.disk("pci0000:00/0000:00:06.0/virtio2/host2/target2:0:0/2:0:0:0", "sdb", size);
    sys.disk("pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0", "sdc", size);
    sys.disk("pci0000:00/0000:03:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0", "sdd", size);
    sys.disk("pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001", "mmcblk0", size);
    sys.disk("virtual", "pmem0", size);
    let found: Vec<_> = sys.disks().into_iter().map(|d| (d.name, d.transport.map(Transport::name))).collect();
    let wanted = [
        ("mmcblk0", Some("mmc")),
        ("nvme0n1", Some("nvme")),
        ("pmem0", None),
        ("sdb", Some("scsi")),
        ("sdc", Some("usb")),
        ("sdd", Some("sas")),
        ("vda", Some("virtio")),
    ];
    assert_eq!(found, wanted.map(|(name, bus)| (name.to_owned(), bus)));
}

#[test]
fn serials_are_found_where_each_driver_has_them() {
    let sys = FakeSys::new();
    sys.disk(
        "pci/nvme/nvme0",
        "nvme0n1",
        &[("size", b"8"), ("device/serial", b"S4EVNF0M   \n"), ("wwid", b"eui.01\n")],
    );
    sys.disk("pci/virtio1", "vda", &[("size", b"8"), ("serial", b"disk-1")]);
    sys.disk("pci/virtio2", "vdb", &[("size", b"8"), ("serial", b"")]);
    let serials: Vec<_> = sys.disks().into_iter().map(|d| d.serial).collect();
    assert_eq!(serials, [Some("S4EVNF0M".to_owned()), Some("disk-1".to_owned()), None]);
}

#[test]
fn what_is_no_disk_is_left_out() {
    let sys = FakeSys::new();
    for name in ["loop0", "ram0", "zram0", "dm-0", "md127", "sr0", "fd0", "mmcblk0boot0", "mmcblk0rpmb"] {
        sys.disk("virtual", name, &[("size", b"8")]);
    }
    sys.disk("usb1/card-reader", "sdz", &[("size", b"0")]);
    sys.disk("virtual/nvme", "nvme0c0n1", &[("size", b"8"), ("hidden", b"1")]);
    assert_eq!(sys.disks(), []);
}

#[test]
fn no_block_directory_is_no_disks() {
    assert_eq!(FakeSys::new().disks(), []);
}

#[test]
fn damaged_vpd_pages_are_survived() {
    assert_eq!(vpd_serial(b"\0\x80\0\x20SHORT"), Some("SHORT".to_owned()));
    for page in [&b""[..], b"\0\x80", b"\0\x83\0\x04ABCD", b"\0\x80\0\x04    ", b"\0\x80\0\0ABCD"] {
        assert_eq!(vpd_serial(page), None, "{page:?}");
    }
}

//! Disks: what sysfs says about them (Documentation/ABI/stable/sysfs-block), and open devices.

mod device;

pub use device::{Access, Caching, Device, Extent};

use crate::error::Result;
use crate::sysfs;
use std::fs;
use std::path::{Path, PathBuf};

/// sysfs counts sizes in units of 512 bytes whatever the sector size is (Documentation/ABI/stable/sysfs-block).
const SYSFS_UNIT_BYTES: u64 = 512;

/// Names of what is no disk of its own: made by software, or an optical or floppy drive.
const NOT_DISKS: [&str; 9] = ["loop", "ram", "zram", "dm-", "md", "sr", "fd", "mtdblock", "bcache"];

/// The bus of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// NVM Express.
    Nvme,
    /// Serial ATA, and parallel ATA.
    Sata,
    /// Serial attached SCSI.
    Sas,
    /// SCSI of another kind, RAID controllers and virtio-scsi included.
    Scsi,
    /// USB.
    Usb,
    /// virtio-blk.
    Virtio,
    /// SD and eMMC.
    Mmc,
}

impl Transport {
    /// The name that configs use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Transport::Nvme => "nvme",
            Transport::Sata => "sata",
            Transport::Sas => "sas",
            Transport::Scsi => "scsi",
            Transport::Usb => "usb",
            Transport::Virtio => "virtio",
            Transport::Mmc => "mmc",
        }
    }

    /// Judges by the disk's path below /sys/devices, as lsblk(8) and udev's path_id do; `None` for one that no bus is known for.
    fn of(name: &str, device_path: &Path) -> Option<Self> {
        let has = |prefix: &str| {
            device_path.components().any(|part| {
                let part = part.as_os_str().to_string_lossy();
                part.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        };
        // USB comes first: a bridge to SATA or NVMe behind it is still unplugged with its cable.
        if has("usb") {
            Some(Transport::Usb)
        } else if name.starts_with("nvme") {
            Some(Transport::Nvme)
        } else if name.starts_with("mmcblk") {
            Some(Transport::Mmc)
        } else if name.starts_with("vd") {
            Some(Transport::Virtio)
        } else if has("ata") {
            Some(Transport::Sata)
        } else if has("end_device-") {
            Some(Transport::Sas)
        } else {
            has("host").then_some(Transport::Scsi)
        }
    }
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Kernel name, e.g. `nvme0n1`.
    pub name: String,
    /// Device node.
    pub dev_path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes.
    pub logical_sector: u32,
    /// Physical sector size in bytes.
    pub physical_sector: u32,
    /// Spinning.
    pub rotational: bool,
    /// Removable medium.
    pub removable: bool,
    /// Write-protected.
    pub read_only: bool,
    /// Model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// World wide identifier as the kernel writes it: `naa.…`, `eui.…`, `nvme.…`, `t10.…`.
    pub wwid: Option<String>,
    /// Bus.
    pub transport: Option<Transport>,
    /// Partitions that the kernel knows, by number.
    pub partitions: Vec<Partition>,
    /// Devices built on the disk or its partitions, e.g. `dm-0`.
    pub holders: Vec<String>,
}

/// A partition that the kernel knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Number in the table, from 1.
    pub number: u32,
    /// Kernel name, e.g. `sda1`.
    pub name: String,
    /// Device node.
    pub dev_path: PathBuf,
    /// First byte on the disk.
    pub start_bytes: u64,
    /// Size in bytes.
    pub bytes: u64,
}

/// Lists the disks in `block` below `sys`, sorted by name, with their nodes in `dev`. Left out: what [`NOT_DISKS`] names, eMMC's boot
/// areas, hidden paths of multipath NVMe, and drives without a medium.
///
/// # Errors
/// When the directory is there and cannot be read; a disk that vanishes meanwhile is left out.
pub fn enumerate(sys: &Path, dev: &Path) -> Result<Vec<BlockDevice>> {
    let block = sys.join("block");
    let mut disks = Vec::new();
    for name in sysfs::names(&block)? {
        if is_disk(&name) {
            disks.extend(read_disk(&block.join(&name), &name, dev)?);
        }
    }
    Ok(disks)
}

/// The partitions that the kernel knows of one disk (`/dev/NAME`, below `dev`), by number; none for a disk that it does not know.
///
/// # Errors
/// As [`enumerate`].
pub fn partitions(sys: &Path, dev: &Path, disk: &Path) -> Result<Vec<Partition>> {
    let name = disk.strip_prefix(dev).unwrap_or(disk).to_string_lossy().replace('/', "!");
    read_partitions(&sys.join("block").join(&name), &name, dev)
}

fn is_disk(name: &str) -> bool {
    let special_area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !special_area && !NOT_DISKS.iter().any(|prefix| name.starts_with(prefix))
}

fn read_disk(dir: &Path, name: &str, dev: &Path) -> Result<Option<BlockDevice>> {
    let units = sysfs::number::<u64>(dir, "size").unwrap_or(0);
    if units == 0 || sysfs::flag(dir, "hidden") {
        return Ok(None);
    }
    let device_path = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let logical_sector = sysfs::number(dir, "queue/logical_block_size").unwrap_or(512);
    let partitions = read_partitions(dir, name, dev)?;
    let mut holders = sysfs::names(&dir.join("holders"))?;
    for partition in &partitions {
        holders.extend(sysfs::names(&dir.join(&partition.name).join("holders"))?);
    }
    holders.sort();
    holders.dedup();
    Ok(Some(BlockDevice {
        name: name.to_owned(),
        dev_path: node(dev, name),
        bytes: units * SYSFS_UNIT_BYTES,
        logical_sector,
        physical_sector: sysfs::number(dir, "queue/physical_block_size").unwrap_or(logical_sector),
        rotational: sysfs::flag(dir, "queue/rotational"),
        removable: sysfs::flag(dir, "removable"),
        read_only: sysfs::flag(dir, "ro"),
        model: sysfs::text(dir, "device/model").or_else(|| sysfs::text(dir, "device/name")).map(printable),
        serial: serial(dir).map(printable),
        wwid: sysfs::text(dir, "wwid").or_else(|| sysfs::text(dir, "device/wwid")).map(printable),
        transport: Transport::of(name, &device_path),
        partitions,
        holders,
    }))
}

/// A name that a device gives itself, as one line: with a line feed in its model a USB stick could write lines of our console.
fn printable(name: String) -> String {
    name.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// The kernel writes a slash in a name as an exclamation mark (`cciss!c0d0`; drivers/base/core.c, device_get_devnode).
fn node(dev: &Path, name: &str) -> PathBuf {
    dev.join(name.replace('!', "/"))
}

fn read_partitions(dir: &Path, disk: &str, dev: &Path) -> Result<Vec<Partition>> {
    let mut partitions = Vec::new();
    for name in sysfs::names(dir)? {
        if !name.starts_with(disk) {
            continue;
        }
        let below = dir.join(&name);
        let Some(number) = sysfs::number(&below, "partition") else { continue };
        let units = |attribute| sysfs::number::<u64>(&below, attribute).unwrap_or(0) * SYSFS_UNIT_BYTES;
        partitions.push(Partition {
            number,
            dev_path: node(dev, &name),
            start_bytes: units("start"),
            bytes: units("size"),
            name,
        });
    }
    partitions.sort_by_key(|partition| partition.number);
    Ok(partitions)
}

/// virtio-blk has it beside the disk, NVMe and MMC in the device, SCSI and ATA in VPD page 0x80.
fn serial(dir: &Path) -> Option<String> {
    sysfs::text(dir, "serial")
        .or_else(|| sysfs::text(dir, "device/serial"))
        .or_else(|| vpd_serial(&fs::read(dir.join("device/vpd_pg80")).ok()?))
}

/// SPC-4, "Unit Serial Number VPD page": device type, 0x80, length (two bytes, big endian), then ASCII.
fn vpd_serial(page: &[u8]) -> Option<String> {
    let [_, 0x80, high, low, rest @ ..] = page else { return None };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    let text = String::from_utf8_lossy(rest.get(..length).unwrap_or(rest));
    let text = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;

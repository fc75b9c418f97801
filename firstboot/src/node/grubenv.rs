//! GRUB's environment block on the ESP, which is never mounted.

use super::{Node, lock};
use std::io::{Read, Seek, Write};
use std::path::Path;
use tatara_disk::fat::Volume;
use tatara_disk::gpt::table;
use tatara_disk::window::Window;
use tatara_spec::layout::{ESP, esp};
use tatara_spec::slot::{BootEnv, GRUBENV_BYTES};
use tatara_spec::{Code, Fault};
use tatara_sys::block::{Access, Caching, Device};

/// Reads the block of a disk, `/dev/NAME`.
pub(super) fn read(disk: &str) -> Result<BootEnv, Fault> {
    let device = open(disk, Access::Read)?;
    let mut volume = volume(disk, &device)?;
    read_block(disk, &mut volume)
}

/// Changes the block in place, and only when the change makes a difference. Nobody else on this node changes it meanwhile.
pub(super) fn update(
    node: &Node,
    disk: &str,
    change: impl FnOnce(&BootEnv) -> BootEnv,
) -> Result<BootEnv, Fault> {
    let _lock = lock::acquire(node)?;
    let device = open(disk, Access::WriteShared)?;
    let mut volume = volume(disk, &device)?;
    let before = read_block(disk, &mut volume)?;
    let after = change(&before);
    if after != before {
        volume
            .overwrite(esp::GRUBENV, &after.to_block())
            .and_then(|()| volume.flush())
            .map_err(|error| write_fault(disk, error))?;
        device.flush().map_err(|error| write_fault(disk, error))?;
    }
    Ok(after)
}

/// The whole disk, not the partition's node: the two have separate page caches, and the installer and initramfs use
/// this one. What it holds may be older than what GRUB wrote, so it is dropped first.
fn open(disk: &str, access: Access) -> Result<Device, Fault> {
    let device =
        Device::open(Path::new(disk), access, Caching::Buffered).map_err(|error| read_fault(disk, error))?;
    device.drop_cache().map_err(|error| read_fault(disk, error))?;
    Ok(device)
}

fn volume<'a>(
    disk: &str,
    device: &'a Device,
) -> Result<Volume<Window<impl Read + Write + Seek + 'a>>, Fault> {
    let sector_bytes = device.logical_sector().map_err(|error| read_fault(disk, error))?;
    let mut file = device.file();
    let found = table::read(&mut file, sector_bytes).map_err(|error| read_fault(disk, error))?;
    let partitions = found.map(|table| table.partitions).unwrap_or_default();
    let esp = partitions.iter().find(|entry| entry.label == ESP.label).ok_or_else(|| {
        Fault::new(Code::DiskRead, format!("{disk} has no partition labelled `{}`", ESP.label))
    })?;
    Volume::open(Window::new(file, esp.first_byte, esp.bytes)).map_err(|error| read_fault(disk, error))
}

fn read_block(disk: &str, volume: &mut Volume<Window<impl Read + Write + Seek>>) -> Result<BootEnv, Fault> {
    let block = volume.read(esp::GRUBENV, GRUBENV_BYTES as u64).map_err(|error| read_fault(disk, error))?;
    BootEnv::parse(&block).map_err(|error| read_fault(disk, error))
}

fn read_fault(disk: &str, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::caused(Code::DiskRead, format!("read {} of {disk}", esp::GRUBENV), error)
}

fn write_fault(disk: &str, error: impl std::error::Error + Send + Sync + 'static) -> Fault {
    Fault::caused(Code::DiskWrite, format!("write {} of {disk}", esp::GRUBENV), error)
}

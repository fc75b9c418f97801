//! Refusals before the first write.

use crate::artifact::{self, SMALL};
use crate::fault::because;
use crate::install::Job;
use crate::span::Medium;
use crate::{Disk, esp, image, state};
use std::path::Path;
use tatara_disk::gpt::table::Entry;
use tatara_spec::layout::{DISK_MIN_BYTES, ESP, MIB, ROOT_SLOT_BYTES, STATE_MIN_BYTES, esp as esp_path};
use tatara_spec::plan;
use tatara_spec::release::artifact as name;
use tatara_spec::{Code, Fault};
use tatara_sys::block::Access;

/// What the process itself and network buffers take beside images and artifacts, in bytes: a whole install with its buffers was
/// measured to have 26 to 28 MiB.
const WORKING_BYTES: u64 = 16 * MIB;
/// How often kernel and initramfs are in memory at once: in the memory file, and in the segments that kexec loads.
const KERNEL_COPIES: u64 = 2;

/// What job, release and machine say without a look at the disk.
pub(crate) fn job(job: &Job<'_>, proc_root: &Path) -> Result<(), Fault> {
    disk(job.disk)?;
    for name in SMALL {
        artifact::find(job.release, name)?;
    }
    fits(image::of(job.release, name::ROOT)?.bytes, ROOT_SLOT_BYTES, name::ROOT)?;
    fits(image::of(job.release, name::STATE)?.bytes, STATE_MIN_BYTES, name::STATE)?;
    let kernel = kernel_bytes(job)?;
    if !esp::fits(kernel, ESP.bytes) {
        let text = format!(
            "kernel and initramfs have {kernel} bytes; two of them do not fit the EFI system partition"
        );
        return Err(Fault::new(Code::EspFull, text));
    }
    tatara_spec::slot::node_cfg(&job.node_args)?;
    memory(job, proc_root)
}

fn disk(disk: &plan::Disk) -> Result<(), Fault> {
    if disk.read_only {
        return Err(Fault::new(Code::DiskReadOnly, format!("{} is write-protected", disk.path)));
    }
    if disk.bytes < DISK_MIN_BYTES {
        let text = format!("{} has {} bytes, {DISK_MIN_BYTES} are needed", disk.path, disk.bytes);
        return Err(Fault::new(Code::DiskSmall, text));
    }
    Ok(())
}

fn fits(bytes: u64, room: u64, name: &str) -> Result<(), Fault> {
    if bytes <= room {
        return Ok(());
    }
    Err(Fault::new(Code::ReleaseBad, format!("{name} unpacks to {bytes} bytes, its partition has {room}")))
}

/// Kernel and initramfs together.
fn kernel_bytes(job: &Job<'_>) -> Result<u64, Fault> {
    let bytes = |name| artifact::find(job.release, name).map(|artifact| artifact.bytes);
    Ok(bytes(name::KERNEL)?.saturating_add(bytes(name::INITRAMFS)?))
}

fn memory(job: &Job<'_>, proc_root: &Path) -> Result<(), Fault> {
    let memory = tatara_sys::memory::memory(proc_root)
        .map_err(because(Code::Sys, "cannot tell how much memory there is"))?;
    let grub: u64 = job
        .release
        .artifacts
        .iter()
        .filter(|(name, _)| name.starts_with("grub"))
        .fold(0, |sum: u64, (_, artifact)| sum.saturating_add(artifact.bytes));
    let frames = image::worker_bytes(image::of(job.release, name::ROOT)?);
    let parts = [KERNEL_COPIES.saturating_mul(kernel_bytes(job)?), grub, frames, WORKING_BYTES];
    let needed = parts.into_iter().fold(0, u64::saturating_add);
    if memory.available >= needed {
        return Ok(());
    }
    let text = format!(
        "an install needs {} MiB of free memory; {} of {} MiB are free",
        needed.div_ceil(MIB),
        memory.available / MIB,
        memory.total / MIB
    );
    Err(Fault::new(Code::MemoryLow, text))
}

/// Whether the whole disk can be claimed. Our own mount of its state partition is given up for that.
pub(crate) fn holders(disk: &plan::Disk, sys_root: &Path, dev_root: &Path) -> Result<(), Fault> {
    let path = Path::new(&disk.path);
    let found = tatara_sys::block::enumerate(sys_root, dev_root)
        .map_err(because(Code::Sys, "cannot list the disks"))?;
    let holders = found.into_iter().find(|found| found.dev_path == path).map(|found| found.holders);
    if let Some(holders) = holders.filter(|holders| !holders.is_empty()) {
        let text = format!("{} is in use by {}", disk.path, holders.join(", "));
        return Err(Fault::new(Code::DiskWrite, text));
    }
    state::unmount(&disk.path)?;
    Disk::open(path, Access::Write).map(drop)
}

/// Whether kernel and initramfs fit beside the other slot's.
pub(crate) fn esp_room(medium: &Medium<'_>, entry: &Entry, job: &Job<'_>) -> Result<(), Fault> {
    let replaced = [esp_path::kernel(job.slot), esp_path::initramfs(job.slot), esp_path::node_cfg(job.slot)];
    let room = esp::room(medium, entry, &replaced)?;
    let needed = kernel_bytes(job)?.saturating_add(MIB);
    if needed <= room {
        return Ok(());
    }
    let text = format!("kernel and initramfs need {needed} bytes, {room} are free");
    Err(Fault::new(Code::EspFull, text))
}

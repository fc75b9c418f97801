//! Writing a release to a disk: the whole disk, or the slot that is not in use.

use crate::artifact::{self, BootFiles, Handover, Progress, Source};
use crate::check;
use crate::files::StateFile;
use crate::span::{Beheaded, Medium};
use crate::state::{self, StateMount};
use crate::{Disk, bootenv, esp, image, parts, write};
use std::path::Path;
use tatara_disk::gpt::table::{self, Entry};
use tatara_spec::layout::{BIOS, ESP, STATE, esp as esp_path};
use tatara_spec::plan;
use tatara_spec::record::{InstallRecord, SlotRecord};
use tatara_spec::release::{Release, artifact as name};
use tatara_spec::slot::{BootEnv, Slot};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};
use tatara_sys::block::Access;

/// What is to be installed where.
#[derive(Debug)]
pub struct Job<'a> {
    /// The disk, as [`crate::scan::disks`] found it.
    pub disk: &'a plan::Disk,
    /// The slot to write.
    pub slot: Slot,
    /// The release to write.
    pub release: &'a Release,
    /// The node's kernel arguments, each one argument.
    pub node_args: Vec<String>,
    /// The record to leave; the entry of [`Job::slot`] is filled in here. An upgrade starts from the record that is there.
    pub record: InstallRecord,
    /// Further files of the state partition: the accepted config, the keys, the machine id.
    pub state_files: Vec<StateFile>,
}

/// A completed install.
#[derive(Debug)]
pub struct Completed {
    /// The kernel and initramfs that were written, for kexec.
    pub handover: Handover,
    /// The state partition, mounted and writable.
    pub state: StateMount,
    /// The record as written.
    pub record: InstallRecord,
}

/// Refuses everything that can be refused before the first write.
///
/// # Errors
/// [`Code::DiskReadOnly`], [`Code::DiskSmall`], [`Code::EspFull`], [`Code::MemoryLow`], [`Code::ReleaseBad`] when an artifact is
/// missing or does not fit its place, [`Code::DiskWrite`] when the disk is in use.
pub fn check(job: &Job<'_>) -> Result<(), Fault> {
    check::job(job, Path::new("/proc"))?;
    check::holders(job.disk, Path::new("/sys"), Path::new("/dev"))
}

/// Writes a release to a whole disk, in the order that ARCHITECTURE.md gives ("Order of writes"): a power cut at any point leaves
/// a disk that firmware does not boot, or that goes on installing.
///
/// # Errors
/// Those of [`check`] and of the source; [`Code::DiskWrite`], [`Code::DiskRead`], [`Code::DiskVerify`], [`Code::PayloadDigest`],
/// [`Code::PayloadShort`], [`Code::StateMount`].
pub fn run(job: &Job<'_>, source: &dyn Source, progress: &dyn Progress) -> Result<Completed, Fault> {
    check(job)?;
    let files = artifact::fetch_all(job.release, source)?;
    for name in [name::ROOT, name::STATE] {
        image::probe(job.release, name, source)?;
    }
    progress.info("kernel, initramfs and boot loader are fetched and verified");
    state::unmount(&job.disk.path)?;
    let path = Path::new(&job.disk.path);
    let disk = Disk::open(path, Access::Write)?;
    let planned = whole_disk(&disk.medium(), job, &files, source, progress)?;
    disk.reread_partitions(&parts::extents(&planned))?;
    // The claim on the disk ends here: a partition of it is mounted next.
    drop(disk);

    progress.begin(Step::Record);
    let state = StateMount::mount_entry(&job.disk.path, parts::entry(&planned, &STATE)?)?;
    let record = recorded(job, InstallRecord { slots: [].into(), ..job.record.clone() })?;
    commit(&state, job, &record)?;
    let disk = Disk::open(path, Access::WriteShared)?;
    write::boot_sector(&disk.medium())?;
    progress.ok(Step::Record, &format!("generation {} of {}", record.generation, record.node));
    Ok(Completed { handover: files.handover, state, record })
}

/// Writes a release to the slot that is not in use, and puts it on trial; the state partition is kept.
///
/// # Errors
/// As [`run`].
pub fn upgrade(job: &Job<'_>, source: &dyn Source, progress: &dyn Progress) -> Result<Completed, Fault> {
    check::job(job, Path::new("/proc"))?;
    let path = Path::new(&job.disk.path);
    let disk = Disk::open(path, Access::WriteShared)?;
    let medium = disk.medium();
    let table = parts::read(&medium)?;
    check::esp_room(&medium, parts::entry(&table.partitions, &ESP)?, job)?;
    let files = artifact::fetch_all(job.release, source)?;
    progress.info("kernel and initramfs are fetched and verified");
    let state = StateMount::mount_entry(&job.disk.path, parts::entry(&table.partitions, &STATE)?)?;
    state.writable()?;
    let mut kept = state.record()?.unwrap_or_else(|| job.record.clone());
    let env = bootenv::read_from(&medium, &table.partitions)?.unwrap_or_else(|| bootenv::assumed(&kept));
    if !kept.slots.contains_key(&job.slot.other()) {
        let text = format!("slot {} is the only one with a release and cannot be overwritten", job.slot);
        return Err(Fault::new(Code::Internal, text));
    }
    // Nothing may choose the slot, or believe that it holds a release, while it is being written.
    let env = env.while_writing(job.slot);
    bootenv::write_to(&medium, &table.partitions, &env)?;
    kept.slots.remove(&job.slot);
    state.write_record(&kept)?;

    slot_contents(&medium, &table.partitions, job, &files, source, progress)?;

    progress.begin(Step::Record);
    let record = recorded(job, InstallRecord { slots: kept.slots, ..job.record.clone() })?;
    commit(&state, job, &record)?;
    bootenv::write_to(&medium, &table.partitions, &env.on_trial(job.slot))?;
    progress.ok(Step::Record, &format!("slot {} is on trial", job.slot));
    Ok(Completed { handover: files.handover, state, record })
}

/// Everything of a whole-disk install but the record and the boot sector; gives the partitions.
pub(crate) fn whole_disk(
    medium: &Medium<'_>,
    job: &Job<'_>,
    files: &BootFiles,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<Vec<Entry>, Fault> {
    progress.begin(Step::Partition);
    let planned = table::plan(medium.bytes, medium.sector_bytes).map_err(crate::fault::table)?;
    write::erase(medium, &planned)?;
    write::table(medium, &planned)?;
    progress.ok(Step::Partition, &format!("{} partitions on {}", planned.len(), job.disk.path));

    progress.begin(Step::Payload);
    let state = parts::entry(&planned, &STATE)?;
    let target = Beheaded::new(medium.span(state));
    let state_image = image::of(job.release, name::STATE)?;
    image::write(state_image, name::STATE, source, job.release, &target, &|_| ())?;
    write::state_head(medium, state, &target, state::random()?)?;
    root(medium, &planned, job, source, progress)?;

    progress.begin(Step::BootLoader);
    let esp_entry = parts::entry(&planned, &ESP)?;
    esp::format_installed(medium, esp_entry)?;
    let node_cfg = bootenv::node_cfg(esp_entry, &job.node_args)?;
    let grubenv = BootEnv::after_install(job.slot).to_block();
    let mut list = esp::slot_files(job.slot, &files.handover, node_cfg.as_bytes());
    list.extend(esp::grub_files(files, &grubenv));
    // The loader comes last: firmware finds it when all that it loads is there.
    let loader = [(esp_path::UEFI_LOADER.to_owned(), esp::Content::Bytes(&files.grub_efi))];
    esp::write(medium, esp_entry, &list)?;
    esp::write(medium, esp_entry, &loader)?;
    esp::verify(medium, esp_entry, &list)?;
    esp::verify(medium, esp_entry, &loader)?;
    write::bios_core(medium, parts::entry(&planned, &BIOS)?, files)?;
    progress.ok(Step::BootLoader, "kernel, initramfs and GRUB for UEFI and BIOS");
    Ok(planned)
}

/// Root image, kernel and initramfs of one slot.
fn slot_contents(
    medium: &Medium<'_>,
    partitions: &[Entry],
    job: &Job<'_>,
    files: &BootFiles,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<(), Fault> {
    progress.begin(Step::Payload);
    root(medium, partitions, job, source, progress)?;
    progress.begin(Step::BootLoader);
    let entry = parts::entry(partitions, &ESP)?;
    let node_cfg = bootenv::node_cfg(entry, &job.node_args)?;
    let list = esp::slot_files(job.slot, &files.handover, node_cfg.as_bytes());
    esp::write(medium, entry, &list)?;
    esp::verify(medium, entry, &list)?;
    progress.ok(Step::BootLoader, &format!("kernel and initramfs of slot {}", job.slot));
    Ok(())
}

/// The root image of a slot, written and read back. [`Step::Payload`] has begun.
fn root(
    medium: &Medium<'_>,
    partitions: &[Entry],
    job: &Job<'_>,
    source: &dyn Source,
    progress: &dyn Progress,
) -> Result<(), Fault> {
    let span = medium.span(parts::entry(partitions, parts::root_of(job.slot))?);
    let root = image::of(job.release, name::ROOT)?;
    let report = |done| progress.bytes(Step::Payload, done, root.bytes);
    let stats = image::write(root, name::ROOT, source, job.release, &span, &report)?;
    let zeros = stats.zeroed_bytes;
    progress.ok(Step::Payload, &format!("{} bytes in slot {}, {zeros} of them zeros", root.bytes, job.slot));
    // Each frame was read back while the next one was fetched; what is left is to say so.
    progress.begin(Step::Verify);
    progress.ok(Step::Verify, &format!("{} bytes read back", stats.verified_bytes));
    Ok(())
}

/// The record with the slot that was written.
fn recorded(job: &Job<'_>, mut record: InstallRecord) -> Result<InstallRecord, Fault> {
    let root_bytes = image::of(job.release, name::ROOT)?.bytes;
    record.slots.insert(job.slot, SlotRecord { release: job.release.id.clone(), root_bytes });
    Ok(record)
}

/// The state partition's files, the record last.
fn commit(state: &StateMount, job: &Job<'_>, record: &InstallRecord) -> Result<(), Fault> {
    state.writable()?;
    for file in &job.state_files {
        state.write(file)?;
    }
    state.write_record(record)
}

/// The kernel's command line for a slot, as GRUB makes it.
#[must_use]
pub fn command_line(slot: Slot, node_args: &[String]) -> String {
    let mut line = format!("tatara.boot=disk tatara.slot={slot}");
    for arg in node_args {
        line.push(' ');
        line.push_str(arg);
    }
    line
}

/// The command line of the node's kernel, for kexec: as GRUB makes it, with the mark that kexec was done.
#[must_use]
pub fn kexec_line(slot: Slot, node_args: &[String]) -> String {
    format!("{} tatara.kexec", command_line(slot, node_args))
}

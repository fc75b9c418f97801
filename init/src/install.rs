//! Steps: writing a release to the disk, through `tatara-installer`.

use crate::enter::{self, Exit};
use crate::machine::{Machine, json};
use crate::network::online;
use crate::staged;
use crate::wanted::{self, FetchedRelease, Source as Whence, Wanted};
use reqwest::Url;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use tatara_http::fetch::{self, Attempt, Authenticity, Client, Verdict};
use tatara_http::genuine::SshKeys;
use tatara_init::console::Reporter;
use tatara_installer::install::{self, Completed, Job};
use tatara_installer::state::machine_id;
use tatara_installer::{Source, StateFile, StateMount, bootenv};
use tatara_spec::config::Handover;
use tatara_spec::layout::state;
use tatara_spec::plan::{Content, Disk, Installed, Origin, Target};
use tatara_spec::record::InstallRecord;
use tatara_spec::release::{Archives, Artifact, Release};
use tatara_spec::slot::Slot;
use tatara_spec::{Code, Fault, cmdline, redact};

/// Failed attempts at one file in a row after which the install starts over: the release may have been replaced meanwhile.
const ATTEMPTS: u32 = 8;

/// A release's files over HTTPS; what breaks off is resumed.
struct Download {
    client: Client,
    base: Url,
    reporter: Arc<Reporter>,
}

impl Source for Download {
    fn open(&self, name: &str, artifact: &Artifact) -> Result<Box<dyn Read + Send + '_>, Fault> {
        let url = self.base.join(name).map_err(|e| {
            let base = redact::urls(self.base.as_str());
            Fault::caused(Code::UrlBad, format!("`{name}` makes no URL with {base}"), e)
        })?;
        let wanted = fetch::Artifact {
            url: url.into(),
            what: format!("file {name}"),
            bytes: artifact.bytes,
            authenticity: Authenticity::Content,
        };
        let reporter = Arc::clone(&self.reporter);
        let reader = self.client.open(&wanted, move |attempt| retry(&reporter, attempt))?;
        Ok(Box::new(reader))
    }
}

/// A status like 404 may be mended by the time the whole install is tried again, a reset in the next second.
fn retry(reporter: &Reporter, attempt: &Attempt) -> Verdict {
    if attempt.failures >= ATTEMPTS {
        return Verdict::Stop;
    }
    let Attempt { fault, received, wait, failures, .. } = attempt;
    let seconds = wait.as_secs_f64().ceil();
    reporter.info(&format!(
        "{}: {}; {received} bytes so far, again in {seconds} s",
        fault.code,
        fault.chain()
    ));
    // It may go on for minutes before the step has failed.
    if *failures == 1 {
        reporter.info(&format!("  hint: {}", fault.code.hint()));
    }
    Verdict::Retry
}

/// Install or reinstall.
pub(crate) fn whole_disk(
    m: &mut Machine,
    wanted: &Wanted,
    disk: &Disk,
    target: &Target,
) -> Result<(), Fault> {
    let mut job = job(m, wanted, disk, target)?;
    job.state_files.push(machine_id()?);
    let done = install::run(&job, &download(m, wanted)?, m)?;
    finish(m, &done)
}

/// Upgrade.
pub(crate) fn other_slot(
    m: &mut Machine,
    wanted: &Wanted,
    disk: &Disk,
    target: &Target,
) -> Result<(), Fault> {
    let job = job(m, wanted, disk, target)?;
    let done = install::upgrade(&job, &download(m, wanted)?, m)?;
    finish(m, &done)
}

fn finish(m: &Machine, done: &Completed) -> Result<(), Fault> {
    m.tell_memory();
    // An upgrade keeps the state partition; what it was asked for by is done.
    done.state.erase(state::STAGED)?;
    m.save_timeline(&done.state);
    Ok(())
}

/// After an install: into the node, or through the firmware.
pub(crate) fn hand_over(m: &mut Machine, wanted: &Wanted, target: &Target) -> Result<Exit, Fault> {
    match wanted.config.install.handover {
        Handover::Kexec => enter::node(m, wanted, target),
        Handover::Firmware => {
            tatara_installer::state::unmount(&target.disk)?;
            Ok(Exit::Reboot)
        }
    }
}

/// On a boot without an install: a config that is new is accepted. Gives what the node is to boot with.
pub(crate) fn accept(m: &mut Machine, wanted: Wanted, disk: &Disk, target: &Target) -> Result<Wanted, Fault> {
    let Content::Installed(installed) = &disk.content else { return Ok(wanted) };
    match wanted.source {
        Whence::Accepted => {
            staged::complete_erasure(m, disk);
            complete_accepted(m, &wanted, disk, installed, target);
            Ok(wanted)
        }
        // An older file, of which `plan()` says that nothing is changed: the node boots with the accepted one.
        Whence::Fetched if wanted.config.install.generation < installed.record.generation => {
            wanted::accepted_on(disk)
        }
        // Before the new one is there: what was staged before must not come after it.
        Whence::Fetched => match staged::erase(disk).and_then(|()| keep(m, &wanted, disk, installed, target))
        {
            Ok(()) => Ok(wanted),
            // Say, the state partition is full: only on the node can somebody make room.
            Err(fault) => {
                not_kept(m, &fault);
                wanted::accepted_on(disk)
            }
        },
        Whence::Staged => {
            match keep(m, &wanted, disk, installed, target).and_then(|()| staged::erase(disk)) {
                Ok(()) => Ok(wanted),
                // Nobody waits for this very change: what the disk has, old or new, boots.
                Err(fault) => {
                    staged::not_used(m, &fault);
                    wanted::accepted_on(disk)
                }
            }
        }
    }
}

/// Says that a config could not be made the accepted one; also on the node, as degraded.
fn not_kept(m: &mut Machine, fault: &Fault) {
    let why = format!(
        "the config that was fetched could not be kept, so the node boots with the accepted one: {}: {}",
        fault.code,
        fault.chain()
    );
    m.reporter.info(&format!("degraded: {why}"));
    m.reporter.info(&format!("  hint: {}", fault.code.hint()));
    m.degraded.push(why);
}

/// Makes a config the accepted one. It is that from the moment its file is written: what it needs is there before, and what follows from
/// it is completed by any later boot, so that a power cut or an error on the way leaves the old one or the new one.
fn keep(
    m: &mut Machine,
    wanted: &Wanted,
    disk: &Disk,
    installed: &Installed,
    target: &Target,
) -> Result<(), Fault> {
    // Before the first write: a config whose arguments are impossible here must not become the accepted one.
    enter::node_args(m, wanted)?;
    let mount = StateMount::mount(&disk.path)?;
    let keys = wanted::keys_on(&mount).unwrap_or_default();
    for file in needed_files(wanted, keys)? {
        mount.write_changed(&file)?;
    }
    if let Some(release) = &wanted.release
        && holds(&installed.record, target.slot, &release.manifest)
    {
        mount.write_changed(&archives(&release.manifest, target.slot)?)?;
    }
    mount.write_changed(&private(state::CONFIG, wanted.bytes.clone()))?;
    let only_its_keys = json(&wanted.keys).and_then(|keys| mount.write_changed(&private(state::KEYS, keys)));
    m.or_say("keys of the config before are kept", only_its_keys);
    follow(m, wanted, disk, installed, target);
    Ok(())
}

/// What a config needs beside it, also while the old one is the accepted one: the keys of both.
fn needed_files(wanted: &Wanted, mut keys: SshKeys) -> Result<Vec<StateFile>, Fault> {
    keys.extend(wanted.keys.clone());
    let mut files = vec![private(state::KEYS, json(&keys)?)];
    files.extend(wanted.from.as_ref().map(|url| private(state::CONFIG_URL, url.as_str().into())));
    Ok(files)
}

/// Writes what follows from the accepted config: its serial, below which none is accepted any more, and the arguments that GRUB gives the
/// node's kernel. An error keeps nobody from booting; it is said, and the next boot tries again.
fn follow(m: &mut Machine, wanted: &Wanted, disk: &Disk, installed: &Installed, target: &Target) {
    let record = InstallRecord { serial: wanted.config.metadata.serial, ..installed.record.clone() };
    let recorded = if record == installed.record {
        Ok(())
    } else {
        StateMount::mount(&disk.path).and_then(|mount| mount.write_record(&record))
    };
    let args = enter::node_args(m, wanted);
    let written = args.and_then(|args| bootenv::write_node_cfg(&disk.path, target.slot, &args));
    for fault in [recorded.err(), written.err()].into_iter().flatten() {
        let why = format!("the config is accepted in part: {}: {}", fault.code, fault.chain());
        m.reporter.info(&format!("degraded: {why}"));
        m.degraded.push(why);
    }
}

/// Completes what a power cut or an error left undone when the config was accepted: a serial that is not recorded yet, or a kernel that
/// GRUB started with other arguments.
fn complete_accepted(m: &mut Machine, wanted: &Wanted, disk: &Disk, installed: &Installed, target: &Target) {
    let serial = wanted.config.metadata.serial > installed.record.serial;
    let from_grub = m.line.request.origin == Origin::Disk && !m.line.kexeced;
    let args = from_grub && enter::node_args(m, wanted).is_ok_and(|args| !missing(m, &args).is_empty());
    if serial || args {
        follow(m, wanted, disk, installed, target);
    }
}

/// What an install that was cut off after its record left undone. A boot from the disk has shown that it is not needed.
pub(crate) fn complete(m: &Machine, target: &Target) {
    if m.line.request.origin == Origin::Disk {
        return;
    }
    match bootenv::complete_boot_sector(&target.disk) {
        Ok(false) => {}
        Ok(true) => {
            m.reporter.info(&format!("the boot sector of {} was missing and is written", target.disk));
        }
        // The node boots all the same, and at the next boot from the network it is tried again.
        Err(fault) => m.reporter.info(&format!("{}: {}", fault.code, fault.chain())),
    }
}

fn download(m: &Machine, wanted: &Wanted) -> Result<Download, Fault> {
    let base = release(wanted)?.url.clone();
    Ok(Download { client: online(m)?.client()?, base, reporter: Arc::clone(&m.reporter) })
}

fn release(wanted: &Wanted) -> Result<&FetchedRelease, Fault> {
    // `plan()` installs only what was fetched.
    wanted.release.as_ref().ok_or_else(|| Fault::new(Code::Internal, "an install without a release"))
}

fn job<'a>(m: &Machine, wanted: &'a Wanted, disk: &'a Disk, target: &Target) -> Result<Job<'a>, Fault> {
    let release = &release(wanted)?.manifest;
    let mut state_files = state_files(wanted)?;
    state_files.push(archives(release, target.slot)?);
    Ok(Job {
        disk,
        slot: target.slot,
        release,
        node_args: enter::node_args(m, wanted)?,
        record: record(wanted, disk),
        state_files,
    })
}

fn record(wanted: &Wanted, disk: &Disk) -> InstallRecord {
    let slots = match &disk.content {
        Content::Installed(installed) => installed.record.slots.clone(),
        _ => [].into(),
    };
    InstallRecord {
        node: wanted.config.metadata.name.clone(),
        generation: wanted.config.install.generation,
        serial: wanted.config.metadata.serial,
        slots,
    }
}

fn private(path: &str, bytes: Vec<u8>) -> StateFile {
    StateFile { path: path.to_owned(), mode: 0o600, bytes }
}

/// What the node knows of the archives in its release, when it fetches one: from this manifest, which was verified.
fn archives(release: &Release, slot: Slot) -> Result<StateFile, Fault> {
    Ok(private(&state::archives(slot), json(&Archives::of(release))?))
}

/// Whether a slot holds this release.
fn holds(record: &InstallRecord, slot: Slot, release: &Release) -> bool {
    record.slots.get(&slot).is_some_and(|slot| slot.release == release.id)
}

fn state_files(wanted: &Wanted) -> Result<Vec<StateFile>, Fault> {
    let mut files =
        vec![private(state::CONFIG, wanted.bytes.clone()), private(state::KEYS, json(&wanted.keys)?)];
    files.extend(wanted.from.as_ref().map(|url| private(state::CONFIG_URL, url.as_str().into())));
    Ok(files)
}

/// The arguments that the running kernel lacks.
pub(crate) fn missing(m: &Machine, args: &[String]) -> Vec<String> {
    cmdline::missing(&m.line, args)
}

/// Whether the root has modules for the running kernel. A root without any needs none.
pub(crate) fn has_modules(root: &Path, release: &str) -> bool {
    let modules = root.join("usr/lib/modules");
    let none = std::fs::read_dir(&modules).map_or(true, |mut entries| entries.next().is_none());
    none || modules.join(release).is_dir()
}

#[cfg(test)]
mod tests {
    use super::{archives, holds};
    use tatara_spec::layout::state;
    use tatara_spec::record::{InstallRecord, SlotRecord};
    use tatara_spec::release::{Archives, Artifact, Digest, Release, archive_file};
    use tatara_spec::slot::Slot;

    fn release(id: &str) -> Release {
        let artifact = Artifact { bytes: 9, sha256: Digest([9; 32]), image: None };
        let artifacts = [("vmlinuz".to_owned(), artifact.clone()), (archive_file("a.tar"), artifact)].into();
        Release { id: id.to_owned(), artifacts, ..Release::default() }
    }

    #[test]
    fn each_slot_has_the_list_of_its_own_release() {
        let (old, new) = (release("old"), release("new"));
        let slots = [(Slot::A, SlotRecord { release: "old".into(), root_bytes: 4096 })].into();
        let record = InstallRecord { node: "n".into(), generation: 1, serial: 1, slots };
        assert!(holds(&record, Slot::A, &old));
        assert!(!holds(&record, Slot::A, &new) && !holds(&record, Slot::B, &old));
        let (a, b) = (archives(&old, Slot::A).unwrap(), archives(&new, Slot::B).unwrap());
        assert_ne!(a.path, b.path, "an upgrade leaves the other slot its list");
        assert_eq!((b.path, b.mode), (state::archives(Slot::B), 0o600));
        let kept: Archives = serde_json::from_slice(&b.bytes).unwrap();
        assert_eq!((kept.release.as_str(), kept.get("a.tar").unwrap().bytes), ("new", 9));
    }
}

//! Steps: into the node — kexec when its kernel arguments need one, its root, its files, switch_root.

use crate::machine::{FILE_SYSTEMS, Machine, json, write_run};
use crate::network::CA_FILE;
use crate::wanted::Wanted;
use crate::{failure, install};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use tatara_firstboot::rehearsal::{self, Candidate};
use tatara_firstboot::render::{self, BaseFiles, Input};
use tatara_firstboot::{apply, topology};
use tatara_init::handover::{self, Kexec};
use tatara_init::supervisor;
use tatara_installer::{Progress as _, StateMount, boot, bootenv, state as state_partition};
use tatara_spec::cpu::{self, CpuPlan};
use tatara_spec::layout::{run, state};
use tatara_spec::plan::{Origin, Target};
use tatara_spec::record::{BootRecord, InstallRecord};
use tatara_spec::release::Versions;
use tatara_spec::slot::BootEnv;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault, layout, redact};

/// Where the node's root is put together.
const SYSROOT: &str = "/sysroot";
/// The environment block as it was left when this boot was counted.
const COUNTED: &str = "/run/tatara/counted-boot";
/// How the worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// /sysroot is ready.
    SwitchRoot,
    /// The node's kernel is loaded.
    Kexec,
    /// Through the firmware.
    Reboot,
}

impl Exit {
    /// The status that the supervisor understands.
    pub(crate) fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Exit::SwitchRoot => supervisor::SWITCH_ROOT,
            Exit::Kexec => supervisor::KEXEC,
            Exit::Reboot => supervisor::REBOOT,
        })
    }
}

pub(crate) fn cpu_plan(wanted: &Wanted) -> Result<CpuPlan, Fault> {
    cpu::split(&wanted.config.tuning, &topology(Path::new("/sys"))?)
}

/// The node's kernel arguments: those of its config, and those that it keeps from the command line it was installed with.
pub(crate) fn node_args(m: &Machine, wanted: &Wanted) -> Result<Vec<String>, Fault> {
    rehearsal::node_args(&wanted.config, &m.line, Path::new("/sys"))
}

/// Refuses what would be refused when the node is entered.
pub(crate) fn rehearse(m: &Machine, wanted: &Wanted) -> Result<(), Fault> {
    let release = wanted.release.as_ref().map(|release| &release.manifest);
    let candidate = Candidate { config: &wanted.config, keys: &wanted.keys, release };
    rehearsal::rehearse(&candidate, &m.line, Path::new("/sys"))
}

/// Enters the node, by at most one kexec.
pub(crate) fn node(m: &mut Machine, wanted: &Wanted, target: &Target) -> Result<Exit, Fault> {
    if m.line.request.origin != Origin::Disk {
        count_boot(m, target)?;
    }
    let args = node_args(m, wanted)?;
    let missing = install::missing(m, &args);
    if !missing.is_empty()
        && let Some(exit) = try_kexec(m, wanted, target, &args, &format!("for {}", missing.join(" ")))?
    {
        return Ok(exit);
    }
    let mut state = m.step(Step::Root, |m| mount_root(m, target))?;
    let release = tatara_sys::module::kernel_release();
    let mut degraded = m.degraded.clone();
    if !install::has_modules(Path::new(SYSROOT), &release) {
        let why = format!("the root has no modules for {release}");
        if kexec(m, wanted).may() {
            leave_root()?;
            if let Some(exit) = try_kexec(m, wanted, target, &args, &why)? {
                return Ok(exit);
            }
            state = m.step(Step::Root, |m| mount_root(m, target))?;
        }
        degraded.push(why);
    }
    degraded.extend(kexec(m, wanted).degraded(&missing));
    // The node is entered from here, or nothing is: until its thread ends the root cannot be unmounted.
    let reading = std::thread::Builder::new().spawn(|| boot::read_ahead(Path::new(SYSROOT)));
    let entered = finish(m, wanted, target, &state, degraded);
    if entered.is_err() {
        // Without memory for a thread there is none.
        let _ = reading.map(std::thread::JoinHandle::join);
        if let Err(fault) = leave_root() {
            m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
        }
    }
    entered
}

/// What speaks for and against kexec. The hint of E-KEXEC names `handover` for machines that forbid it: then none is tried at a later
/// boot either.
fn kexec(m: &Machine, wanted: &Wanted) -> Kexec {
    let handover = wanted.config.install.handover;
    Kexec { done: m.line.kexeced, handover, refused: handover::refusal(Path::new("/")) }
}

/// Loads the node's kernel if that may be; `None` when the node has to go on with the running one.
fn try_kexec(
    m: &mut Machine,
    wanted: &Wanted,
    target: &Target,
    args: &[String],
    why: &str,
) -> Result<Option<Exit>, Fault> {
    if !kexec(m, wanted).may() {
        return Ok(None);
    }
    match m.step(Step::Kexec, |m| load_kernel(m, target, args, why)) {
        Ok(exit) => Ok(Some(exit)),
        Err(fault) if fault.code == Code::KexecFailed => {
            m.reporter.fail(Step::Kexec, &fault);
            handover::refuse(Path::new("/"), &fault);
            m.reporter.info("the node boots with the kernel that runs, and says so as degraded");
            Ok(None)
        }
        Err(fault) => Err(fault),
    }
}

/// Does what GRUB does before it boots a slot on trial: one boot less is left. GRUB was not asked this time.
///
/// Counted once a power-on: further tries of the same boot, also by another worker, must not use a trial up.
fn count_boot(m: &Machine, target: &Target) -> Result<(), Fault> {
    let env = match bootenv::read(&target.disk) {
        Ok(env) => env,
        // Without a block nothing is on trial, and the install counts all the same.
        Err(fault) => {
            m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
            return Ok(());
        }
    };
    let booted = env.booted();
    if booted == env || fs::read(COUNTED).is_ok_and(|left| left == env.to_block()) {
        return Ok(());
    }
    bootenv::write(&target.disk, &booted)?;
    write_run(COUNTED, &booted.to_block())
}

/// Takes the network down. The node configures its links itself, so what could not be removed is no reason not to boot it.
fn leave_network(m: &mut Machine) {
    if let Some(online) = m.online.take()
        && let Err(fault) = online.network.down()
    {
        m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
    }
}

/// The last steps, with the root mounted.
fn finish(
    m: &mut Machine,
    wanted: &Wanted,
    target: &Target,
    state: &StateMount,
    degraded: Vec<String>,
) -> Result<Exit, Fault> {
    m.step(Step::Render, |_| render_files(wanted))?;
    m.begin(Step::SwitchRoot);
    leave_network(m);
    let warnings = cpu_plan(wanted)?.warnings.iter().map(ToString::to_string).collect();
    let said = Said { degraded, warnings };
    leave_records(m, target, state, said)?;
    m.finish_loading();
    m.ok(Step::SwitchRoot, &format!("slot={} disk={}", target.slot, target.disk));
    m.hand_timeline_over()?;
    Ok(Exit::SwitchRoot)
}

/// Takes everything below /sysroot away again, for another try or another kernel.
fn leave_root() -> Result<(), Fault> {
    boot::unmount_root(Path::new(SYSROOT))
}

/// Takes away what a worker that died left at /sysroot: the kernel mounts no file system read-only a second time while it is mounted
/// writable there, so the disk could not be looked at.
pub(crate) fn clean_up() -> Result<(), Fault> {
    let left = tatara_sys::mount::is_mount_point(Path::new(SYSROOT)).unwrap_or(false);
    if left { leave_root() } else { Ok(()) }
}

fn load_kernel(
    m: &mut Machine,
    target: &Target,
    args: &[String],
    why: &str,
) -> Result<(Exit, String), Fault> {
    let handover = bootenv::read_slot_kernel(&target.disk, target.slot)?;
    // As GRUB's node.cfg on this disk says it.
    let mut args = args.to_vec();
    args.push(bootenv::esp_argument(&target.disk)?);
    let line = tatara_installer::install::kexec_line(target.slot, &args);
    tatara_sys::kexec::load(&handover.kernel, &handover.initramfs, &line)
        .map_err(|e| Fault::caused(Code::KexecFailed, "the node's kernel could not be loaded", e))?;
    if let Err(fault) = leave_state(m, target) {
        // The next try loads it anew; until then its memory is needed.
        let _ = tatara_sys::kexec::unload();
        return Err(fault);
    }
    Ok((Exit::Kexec, why.to_owned()))
}

/// The last writes of this kernel.
fn leave_state(m: &mut Machine, target: &Target) -> Result<(), Fault> {
    leave_network(m);
    let state = StateMount::mount(&target.disk)?;
    m.save_timeline(&state);
    m.or_say("what is degraded is not kept", handover::keep_degraded(&state, &m.degraded));
    state_partition::unmount(&target.disk)
}

/// Whether the node's files can be made in its root, which is left as it was: they go to memory.
///
/// # Errors
/// What entering the node would fail with.
pub(crate) fn try_in_root(m: &mut Machine, wanted: &Wanted, target: &Target) -> Result<(), Fault> {
    mount_root(m, target)?;
    let rendered = render_files(wanted);
    leave_root()?;
    rendered.map(drop)
}

fn mount_root(m: &mut Machine, target: &Target) -> Result<(StateMount, String), Fault> {
    for name in FILE_SYSTEMS {
        m.drivers.load(name)?;
    }
    let mut state = StateMount::mount_to_read(&target.disk)?;
    if m.line.kexeced {
        m.resume_timeline(&state)?;
        m.degraded = handover::kept_degraded(&state);
    }
    boot::mount_root(&target.disk, target.slot, Path::new(SYSROOT), &mut state)?;
    Ok((state, format!("slot={}", target.slot)))
}

fn text(path: &str) -> Result<String, Fault> {
    let path = Path::new(SYSROOT).join(path);
    fs::read_to_string(&path)
        .map_err(|e| Fault::caused(Code::Render, format!("cannot read {}", path.display()), e))
}

/// What the root has for Kubernetes: nothing where its builder does not say.
fn versions() -> Result<Versions, Fault> {
    let path = Path::new(SYSROOT).join(layout::VERSIONS.trim_start_matches('/'));
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|e| Fault::caused(Code::Render, format!("{} is damaged", path.display()), e)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Versions::default()),
        Err(e) => Err(Fault::caused(Code::Render, format!("cannot read {}", path.display()), e)),
    }
}

fn render_files(wanted: &Wanted) -> Result<((), String), Fault> {
    let base = BaseFiles {
        passwd: text("etc/passwd")?,
        group: text("etc/group")?,
        shadow: text("etc/shadow")?,
        gshadow: text("etc/gshadow")?,
    };
    let machine_id = text(&format!("var/{}", state::MACHINE_ID))?;
    let input = Input {
        config: &wanted.config,
        cpu: &cpu_plan(wanted)?,
        fetched_keys: &wanted.keys,
        machine_id: machine_id.trim(),
        base: &base,
        versions: Some(&versions()?),
    };
    let files = render::render(&input)?;
    apply(Path::new(SYSROOT), &files)?;
    Ok(((), format!("files={}", files.len())))
}

/// What is to be said on the node about this boot.
struct Said {
    /// What is not as configured, one sentence each.
    degraded: Vec<String>,
    /// What is as configured, and questionable.
    warnings: Vec<String>,
}

/// The node trusts whom its initramfs trusts.
fn leave_ca() -> Result<(), Fault> {
    match fs::read(CA_FILE) {
        Ok(pem) => write_run(run::CA, &pem),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        Err(e) => Err(Fault::caused(Code::Tls, format!("cannot read {CA_FILE}"), e)),
    }
}

/// What `tatara-node` shows: how this boot came about.
fn leave_records(m: &Machine, target: &Target, state: &StateMount, said: Said) -> Result<(), Fault> {
    m.or_say("the failure that was shown is shown again", failure::was_shown(state));
    leave_ca()?;
    write_run(run::SIGNERS, m.keys.join("\n").as_bytes())?;
    // Without a block nothing is on trial.
    let env = bootenv::read(&target.disk).ok();
    let record = boot_record(&m.plan, target, state.record()?, env.as_ref(), &said);
    write_run(run::BOOT, &json(&record)?)
}

/// The record that every user of the node may read: it holds no secret, and what only root may read elsewhere.
fn boot_record(
    plan: &str,
    target: &Target,
    install: Option<InstallRecord>,
    env: Option<&BootEnv>,
    said: &Said,
) -> BootRecord {
    let slot = install.as_ref().and_then(|record| record.slots.get(&target.slot));
    BootRecord {
        plan: redact::urls(plan),
        slot: target.slot,
        disk: target.disk.clone(),
        release: slot.map(|slot| slot.release.clone()).unwrap_or_default(),
        node: install.as_ref().map(|record| record.node.clone()),
        generation: install.as_ref().map(|record| record.generation),
        serial: install.as_ref().map(|record| record.serial),
        trial: env.and_then(|env| env.trial),
        fallen_back_from: env.and_then(BootEnv::fallen_back),
        degraded: redact::all(&said.degraded),
        warnings: redact::all(&said.warnings),
    }
}

#[cfg(test)]
mod tests {
    use super::{Said, boot_record};
    use tatara_spec::plan::Target;
    use tatara_spec::record::InstallRecord;
    use tatara_spec::slot::{BootEnv, Slot};

    #[test]
    fn the_record_for_everybody_holds_no_secret_and_what_status_shows() {
        let target = Target { disk: "/dev/vda".into(), slot: Slot::A, reason: String::new() };
        let install = InstallRecord { node: "n1".into(), generation: 2, serial: 3, slots: [].into() };
        let secret = || vec!["without tatara.config=https://u:S3CRET@h/x?t=S3CRET".to_owned()];
        let said = Said { degraded: secret(), warnings: secret() };
        let env = BootEnv::after_install(Slot::A).on_trial(Slot::B);
        let record = boot_record("from https://h/?S3CRET", &target, Some(install), Some(&env), &said);
        let text = serde_json::to_string(&record).unwrap();
        assert!(!text.contains("S3CRET"), "{text}");
        assert_eq!(
            (record.node.as_deref(), record.generation, record.serial),
            (Some("n1"), Some(2), Some(3))
        );
        assert_eq!(record.trial, env.trial);
    }
}

//! Steps: into the node — kexec when its kernel arguments need one, its root, its files, switch_root.

use crate::machine::{FILE_SYSTEMS, Machine, json, write_run};
use crate::wanted::Wanted;
use crate::{failure, install};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use tatara_firstboot::render::{self, BaseFiles, Input};
use tatara_firstboot::{apply, kernel, topology};
use tatara_init::supervisor;
use tatara_installer::{Progress as _, StateMount, boot, bootenv, state as state_partition};
use tatara_spec::config::Handover;
use tatara_spec::cpu::{self, CpuPlan};
use tatara_spec::layout::{run, state};
use tatara_spec::plan::{Origin, Target};
use tatara_spec::record::BootRecord;
use tatara_spec::slot::{self, Slot};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault, cmdline};

/// Where the node's root is put together.
const SYSROOT: &str = "/sysroot";
/// The environment block as it was left when this boot was counted.
const COUNTED: &str = "/run/tatara/counted-boot";
/// What else a slot's command line can get, in bytes: `BOOT_IMAGE=/slot-a/vmlinuz`, a one-shot `tatara.refresh`, `tatara.esp=GUID`.
const GRUB_ADDS_BYTES: usize = 96;
/// In place of the machine id when files are only rendered to see whether they can be.
const ANY_MACHINE_ID: &str = "00000000000000000000000000000000";

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

fn cpu_plan(wanted: &Wanted) -> Result<CpuPlan, Fault> {
    cpu::split(&wanted.config.tuning, &topology(Path::new("/sys"))?)
}

/// The node's kernel arguments: those of its config, and those that it keeps from the command line it was installed with.
pub(crate) fn node_args(m: &Machine, wanted: &Wanted) -> Result<Vec<String>, Fault> {
    let mut args = cmdline::carried(&m.line);
    args.extend(kernel::arguments(&wanted.config, &cpu_plan(wanted)?)?);
    Ok(args)
}

/// Refuses what would be refused when the node is entered, as far as it can be known without its root: a config that cannot be
/// rendered must neither replace a system that works nor become the accepted one.
pub(crate) fn rehearse(m: &Machine, wanted: &Wanted) -> Result<(), Fault> {
    let args = node_args(m, wanted)?;
    slot::node_cfg(&args)?;
    let bytes = install::kexec_line(Slot::A, &args).len() + GRUB_ADDS_BYTES;
    if bytes >= kernel::COMMAND_LINE_SIZE {
        let most = kernel::COMMAND_LINE_SIZE - 1;
        let why = format!("the node's kernel command line would have {bytes} bytes; the kernel takes {most}");
        return Err(Fault::new(Code::CmdlineBad, why));
    }
    let input = Input {
        config: &wanted.config,
        cpu: &cpu_plan(wanted)?,
        fetched_keys: &wanted.keys,
        machine_id: ANY_MACHINE_ID,
        base: &BaseFiles::default(),
    };
    render::render(&input).map(drop)
}

/// Enters the node, by at most one kexec.
pub(crate) fn node(m: &mut Machine, wanted: &Wanted, target: &Target) -> Result<Exit, Fault> {
    // The hint of E-KEXEC names this key for machines that forbid kexec: then none is tried at a later boot either.
    let may_kexec = !m.line.kexeced && wanted.config.install.handover == Handover::Kexec;
    if m.line.request.origin != Origin::Disk {
        count_boot(m, target)?;
    }
    let args = node_args(m, wanted)?;
    let missing = install::missing(m, &args);
    if !missing.is_empty() && may_kexec {
        return m.step(Step::Kexec, |m| load_kernel(m, target, &args, &format!("for {}", missing.join(" "))));
    }
    // Said once, on the node: a second kexec would be no better than the first.
    let mut degraded: Vec<String> =
        missing.iter().map(|arg| format!("the kernel runs without {arg}")).collect();
    let state = m.step(Step::Root, |m| mount_root(m, target))?;
    let release = tatara_sys::module::kernel_release();
    if !install::has_modules(Path::new(SYSROOT), &release) {
        let why = format!("the root has no modules for {release}");
        if may_kexec {
            leave_root()?;
            return m.step(Step::Kexec, |m| load_kernel(m, target, &args, &why));
        }
        degraded.push(why);
    }
    let entered = finish(m, wanted, target, &state, degraded);
    if entered.is_err()
        && let Err(fault) = leave_root()
    {
        m.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
    }
    entered
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
    leave_records(m, target, state, degraded)?;
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
    let line = install::kexec_line(target.slot, &args);
    tatara_sys::kexec::load(&handover.kernel, &handover.initramfs, &line)
        .map_err(|e| Fault::caused(Code::KexecFailed, "the node's kernel could not be loaded", e))?;
    leave_network(m);
    m.save_timeline(&StateMount::mount(&target.disk)?)?;
    state_partition::unmount(&target.disk)?;
    Ok((Exit::Kexec, why.to_owned()))
}

fn mount_root(m: &mut Machine, target: &Target) -> Result<(StateMount, String), Fault> {
    for name in FILE_SYSTEMS {
        m.drivers.load(name)?;
    }
    let mut state = StateMount::mount(&target.disk)?;
    if m.line.kexeced {
        m.resume_timeline(&state)?;
    }
    boot::mount_root(&target.disk, target.slot, Path::new(SYSROOT), &mut state)?;
    Ok((state, format!("slot={}", target.slot)))
}

fn text(path: &str) -> Result<String, Fault> {
    let path = Path::new(SYSROOT).join(path);
    fs::read_to_string(&path)
        .map_err(|e| Fault::caused(Code::Render, format!("cannot read {}", path.display()), e))
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
    };
    let files = render::render(&input)?;
    apply(Path::new(SYSROOT), &files)?;
    Ok(((), format!("files={}", files.len())))
}

/// What `tatara-node` shows: how this boot came about.
fn leave_records(
    m: &Machine,
    target: &Target,
    state: &StateMount,
    degraded: Vec<String>,
) -> Result<(), Fault> {
    failure::was_shown(state)?;
    let record = state.record()?;
    let slot = record.as_ref().and_then(|record| record.slots.get(&target.slot));
    let record = BootRecord {
        plan: m.plan.clone(),
        slot: target.slot,
        disk: target.disk.clone(),
        release: slot.map(|slot| slot.release.clone()).unwrap_or_default(),
        degraded,
    };
    write_run(run::BOOT, &json(&record)?)
}

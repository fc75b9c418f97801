//! Steps: into the node — kexec when its kernel arguments need one, its root, its files, switch_root.

use crate::install;
use crate::machine::{Machine, kernel_release};
use crate::wanted::Wanted;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use tatara_firstboot::render::{self, BaseFiles, Input};
use tatara_firstboot::{apply, kernel, topology};
use tatara_init::supervisor;
use tatara_installer::state::{self as state_partition, StateMount};
use tatara_installer::{Progress as _, boot, bootenv};
use tatara_spec::cpu::{self, CpuPlan};
use tatara_spec::layout::{run, state};
use tatara_spec::plan::Target;
use tatara_spec::record::BootRecord;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault, cmdline};

/// Where the node's root is put together.
const SYSROOT: &str = "/sysroot";
/// File systems of a node; the kernel would ask for them one after the other.
const FILE_SYSTEMS: [&str; 3] = ["erofs", "ext4", "overlay"];

/// How the worker ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// /sysroot is ready.
    SwitchRoot,
    /// The node's kernel is loaded.
    Kexec,
    /// Through the firmware.
    Reboot,
}

impl Exit {
    /// The status that the supervisor understands.
    pub fn code(self) -> ExitCode {
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
pub fn node_args(m: &Machine, wanted: &Wanted) -> Result<Vec<String>, Fault> {
    let mut args = cmdline::carried(&m.line);
    args.extend(kernel::arguments(&wanted.config, &cpu_plan(wanted)?)?);
    Ok(args)
}

/// Enters the node, by at most one kexec.
pub fn node(m: &mut Machine, wanted: &Wanted, target: &Target) -> Result<Exit, Fault> {
    let args = node_args(m, wanted)?;
    let missing = install::missing(m, &args);
    if !missing.is_empty() && !m.line.kexeced {
        return m.step(Step::Kexec, |m| load_kernel(m, target, &args, &format!("for {}", missing.join(" "))));
    }
    // Said once, on the node: a second kexec would be no better than the first.
    let mut degraded: Vec<String> = missing.iter().map(|arg| format!("the kernel runs without {arg}")).collect();
    m.step(Step::Root, |m| mount_root(m, target))?;
    let release = kernel_release();
    if !install::has_modules(Path::new(SYSROOT), &release) {
        if !m.line.kexeced {
            boot::unmount_root(Path::new(SYSROOT))?;
            let why = format!("the root has no modules for {release}");
            return m.step(Step::Kexec, |m| load_kernel(m, target, &args, &why));
        }
        degraded.push(format!("the root has no modules for {release}"));
    }
    m.step(Step::Render, |_| render_files(wanted))?;
    m.begin(Step::SwitchRoot);
    if let Some(online) = &mut m.online {
        online.network.down()?;
    }
    leave_records(m, wanted, target, degraded)?;
    m.ok(Step::SwitchRoot, &format!("slot={} disk={}", target.slot, target.disk));
    m.reporter.save(Path::new(run::TIMELINE))?;
    Ok(Exit::SwitchRoot)
}

fn load_kernel(m: &mut Machine, target: &Target, args: &[String], why: &str) -> Result<(Exit, String), Fault> {
    let handover = bootenv::read_slot_kernel(&target.disk, target.slot)?;
    let line = install::kexec_line(target.slot, args);
    tatara_sys::kexec::load(&handover.kernel, &handover.initramfs, &line)
        .map_err(|e| Fault::caused(Code::KexecFailed, "the node's kernel could not be loaded", e))?;
    if let Some(online) = &mut m.online {
        online.network.down()?;
    }
    m.save_timeline(&StateMount::mount(&target.disk)?)?;
    state_partition::unmount(&target.disk)?;
    Ok((Exit::Kexec, why.to_owned()))
}

fn mount_root(m: &mut Machine, target: &Target) -> Result<((), String), Fault> {
    for name in FILE_SYSTEMS {
        m.drivers.load(name)?;
    }
    boot::mount_root(&target.disk, target.slot, Path::new(SYSROOT))?;
    Ok(((), format!("slot={}", target.slot)))
}

fn text(path: &str) -> Result<String, Fault> {
    let path = Path::new(SYSROOT).join(path);
    fs::read_to_string(&path).map_err(|e| Fault::caused(Code::Render, format!("cannot read {}", path.display()), e))
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
fn leave_records(m: &Machine, wanted: &Wanted, target: &Target, degraded: Vec<String>) -> Result<(), Fault> {
    let mount = StateMount::at(Path::new(SYSROOT).join("var"));
    let release = mount.record()?.and_then(|record| record.slots.get(&target.slot).map(|slot| slot.release.clone()));
    let record = BootRecord {
        plan: m.plan.clone(),
        slot: target.slot,
        disk: target.disk.clone(),
        release: release.or_else(|| wanted.release.as_ref().map(|r| r.manifest.id.clone())).unwrap_or_default(),
        degraded,
    };
    let json = serde_json::to_vec_pretty(&record)
        .map_err(|e| Fault::caused(Code::Internal, "the boot record cannot be written as JSON", e))?;
    fs::create_dir_all(run::DIR)
        .and_then(|()| fs::write(run::BOOT, json))
        .map_err(|e| Fault::caused(Code::Sys, format!("cannot write {}", run::BOOT), e))
}

//! The boot, top to bottom.

use crate::enter::{self, Exit};
use crate::machine::Machine;
use crate::staged::Newer;
use crate::wanted::{self, Wanted};
use crate::{confirm, failure, install, network, staged};
use std::process::ExitCode;
use std::time::Instant;
use tatara_spec::config::Confirm;
use tatara_spec::plan::{self, Disk, Plan, Target};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// The worker: boots, and after a failure tries again with growing back-off, for ever.
pub(crate) fn worker() -> ExitCode {
    let mut machine = match Machine::new() {
        Ok(machine) => machine,
        // Nothing can be said yet; the supervisor reports the line and starts the worker anew.
        Err(fault) => {
            eprintln!("{}: {}", fault.code, fault.chain());
            return ExitCode::FAILURE;
        }
    };
    loop {
        let cleaned = enter::clean_up();
        machine.or_say("what the last try left", cleaned);
        match boot(&mut machine) {
            Ok(exit) => return exit.code(),
            Err(fault) => failure::wait_after(&mut machine, &fault),
        }
    }
}

/// The steps of ARCHITECTURE.md. What was brought up by an earlier try stays up.
fn boot(m: &mut Machine) -> Result<Exit, Fault> {
    m.degraded.clear();
    m.accepted_can_boot = false;
    m.step(Step::CommandLine, Machine::read_command_line)?;
    m.step(Step::Drivers, Machine::load_storage_drivers)?;
    let mut disks = m.step(Step::FindDisk, Machine::find_disks)?;
    failure::show_last_once(m);
    let wanted = if let Some(wanted) = boots_alone(m, &disks) {
        wanted
    } else {
        m.load_late_drivers()?;
        let wanted = match fetch(m) {
            Ok(wanted) => wanted,
            Err(fault) => do_without(m, fault)?,
        };
        // Disks that came late count: nothing is chosen before all that are there are known.
        disks = m.settled_disks()?;
        wanted
    };
    match m.step(Step::Plan, |m| decide(m, &wanted, &disks))? {
        Plan::Install(target) | Plan::Reinstall(target) => {
            if wanted.config.install.confirm == Confirm::Console {
                let disk = find(&disks, &target)?;
                // What nobody has asked for at this very boot keeps no node down: it has an accepted config to boot with.
                let within = m.accepted_can_boot.then(staged::time_left);
                m.step(Step::Confirm, |m| confirm::disk(m, disk, within))?;
            }
            install::whole_disk(m, &wanted, find(&disks, &target)?, &target)?;
            install::hand_over(m, &wanted, &target)
        }
        Plan::Upgrade(target) => {
            install::other_slot(m, &wanted, find(&disks, &target)?, &target)?;
            install::hand_over(m, &wanted, &target)
        }
        Plan::Boot(target) => {
            let disk = find(&disks, &target)?;
            let wanted = staged::tried(m, wanted, disk, &target)?;
            let wanted = install::accept(m, wanted, disk, &target)?;
            install::complete(m, &target);
            enter::node(m, &wanted, &target)
        }
        Plan::Refuse(fault) => Err(fault),
    }
}

/// What is wanted of this node, from its servers.
fn fetch(m: &mut Machine) -> Result<Wanted, Fault> {
    m.step(Step::Network, network::up)?;
    m.step(Step::Clock, network::set_clock)?;
    let config = m.step(Step::Config, wanted::fetch_config)?;
    let wanted = m.step(Step::Release, |m| wanted::fetch_release(m, config))?;
    m.offline_since = None;
    Ok(wanted)
}

/// What an installed node boots with when nobody gives it a config for long: a server that is down must not keep it down. Gives the
/// failure back where it must go on trying.
fn do_without(m: &mut Machine, fault: Fault) -> Result<Wanted, Fault> {
    if !plan::is_unreachable(fault.code) {
        m.offline_since = None;
        return Err(fault);
    }
    let waited = m.offline_since.get_or_insert_with(Instant::now).elapsed();
    if !plan::may_do_without(&m.line.request, fault.code, waited) {
        return Err(fault);
    }
    let disks = m.settled_disks()?;
    let Ok(Some(wanted)) = wanted::accepted(&disks) else { return Err(fault) };
    let boots = matches!(plan::plan(wanted.desired(), &disks, &m.line.request), Plan::Boot(_));
    if !boots || enter::rehearse(m, &wanted).is_err() {
        return Err(fault);
    }
    m.reporter.fail(m.running(), &fault);
    let why = format!(
        "no config could be fetched for {} s, so the node boots with the one it accepted last ({}: {})",
        waited.as_secs(),
        fault.code,
        fault.chain()
    );
    m.reporter.info(&format!("degraded: {why}"));
    m.degraded.push(why);
    Ok(wanted)
}

/// What the disk can boot with, without asking anybody; `None` when config and release must be fetched first.
fn boots_alone(m: &mut Machine, disks: &[Disk]) -> Option<Wanted> {
    // Also what has become impossible, say since CPUs were taken out: a newer config may be right.
    let usable = |wanted: Option<Wanted>| match wanted {
        Some(wanted) => enter::rehearse(m, &wanted).map(|()| Some(wanted)),
        None => Ok(None),
    };
    let accepted = wanted::accepted(disks).and_then(usable).map_err(|fault| {
        m.reporter.info(&format!("{}: {}; a newer one is needed", fault.code, fault.chain()));
    });
    let accepted = accepted.unwrap_or_default();
    let config = accepted.as_ref().map(|wanted| &wanted.config);
    if let Some(why) = plan::needs_network(config, disks, &m.line.request) {
        m.reporter.info(&format!("config and release are fetched: {why}"));
        return None;
    }
    match staged::look(m, disks) {
        Some(Newer::Boots(wanted)) => Some(*wanted),
        // Whatever it is that fails: nobody may have meant this very reboot to be the one that does it.
        Some(Newer::Asks(why)) => {
            if accepted.is_some() && staged::time_left().is_zero() {
                let why = format!(
                    "what the staged config asks for ({why}) could not be done for {} s",
                    plan::OFFLINE_DEADLINE.as_secs()
                );
                m.reporter.info(&format!("degraded: {why}; the node boots with the accepted one"));
                m.degraded.push(why);
                return accepted;
            }
            m.reporter.info(&format!(
                "config and release are fetched, as the staged config asks for more than a boot: {why}"
            ));
            m.accepted_can_boot = accepted.is_some();
            None
        }
        None => accepted,
    }
}

/// Asks `plan()`, refuses what can be refused, and prints the answer, its reason, and what will happen to each disk.
fn decide(m: &mut Machine, wanted: &Wanted, disks: &[Disk]) -> Result<(Plan, String), Fault> {
    m.serials.note(disks);
    m.serials.check(&wanted.config)?;
    let plan = plan::plan(wanted.desired(), disks, &m.line.request);
    if let Plan::Refuse(fault) = plan {
        return Err(fault);
    }
    if wanted.release.is_some() {
        enter::rehearse(m, wanted)?;
    }
    for warning in enter::cpu_plan(wanted)?.warnings {
        m.reporter.info(&format!("tuning: {warning}"));
    }
    for line in plan::wipe_plan(&plan, disks, &wanted.config.install.disk) {
        m.reporter.info(&line);
    }
    m.plan = in_words(&plan);
    Ok((plan, m.plan.clone()))
}

/// The answer on one line.
fn in_words(plan: &Plan) -> String {
    let (action, target) = match plan {
        Plan::Install(target) => ("install", target),
        Plan::Reinstall(target) => ("reinstall", target),
        Plan::Upgrade(target) => ("upgrade", target),
        Plan::Boot(target) => ("boot", target),
        Plan::Refuse(fault) => return format!("refuse: {fault}"),
    };
    format!("action={action} disk={} slot={} because {}", target.disk, target.slot, target.reason)
}

/// The disk that the plan names; the plan names only disks that it was given.
fn find<'a>(disks: &'a [Disk], target: &Target) -> Result<&'a Disk, Fault> {
    let gone = || {
        Fault::new(
            Code::Internal,
            format!("the plan names {}, which is no disk of this machine", target.disk),
        )
    };
    disks.iter().find(|disk| disk.path == target.disk).ok_or_else(gone)
}

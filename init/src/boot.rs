//! The boot, top to bottom.

use crate::enter::{self, Exit};
use crate::machine::Machine;
use crate::wanted::{self, Wanted};
use crate::{failure, install, network};
use std::process::ExitCode;
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
    if let Err(fault) = enter::clean_up() {
        machine.reporter.info(&format!("{}: {}", fault.code, fault.chain()));
    }
    loop {
        match boot(&mut machine) {
            Ok(exit) => return exit.code(),
            Err(fault) => failure::wait_after(&mut machine, &fault),
        }
    }
}

/// The steps of design.md. What was brought up by an earlier try stays up.
fn boot(m: &mut Machine) -> Result<Exit, Fault> {
    m.step(Step::CommandLine, Machine::read_command_line)?;
    m.step(Step::Drivers, Machine::load_storage_drivers)?;
    let mut disks = m.step(Step::FindDisk, Machine::find_disks)?;
    failure::show_last_once(m);
    let wanted = if let Some(wanted) = boots_alone(m, &disks) {
        wanted
    } else {
        m.load_late_drivers()?;
        m.step(Step::Network, network::up)?;
        m.step(Step::Clock, network::set_clock)?;
        let config = m.step(Step::Config, wanted::fetch_config)?;
        let wanted = m.step(Step::Release, |m| wanted::fetch_release(m, config))?;
        // Disks that came late count: nothing is chosen before all that are there are known.
        disks = m.scan()?;
        wanted
    };
    match m.step(Step::Plan, |m| decide(m, &wanted, &disks))? {
        Plan::Install(target) | Plan::Reinstall(target) => {
            install::whole_disk(m, &wanted, find(&disks, &target)?, &target)?;
            install::hand_over(m, &wanted, &target)
        }
        Plan::Upgrade(target) => {
            install::other_slot(m, &wanted, find(&disks, &target)?, &target)?;
            install::hand_over(m, &wanted, &target)
        }
        Plan::Boot(target) => {
            let wanted = install::accept(m, wanted, find(&disks, &target)?, &target)?;
            enter::node(m, &wanted, &target)
        }
        Plan::Refuse(fault) => Err(fault),
    }
}

/// What the disk can boot with, without asking anybody; `None` when config and release must be fetched first.
fn boots_alone(m: &Machine, disks: &[Disk]) -> Option<Wanted> {
    // Also what has become impossible, say since CPUs were taken out: a newer config may be right.
    let usable = |wanted: Option<Wanted>| match wanted {
        Some(wanted) => enter::rehearse(m, &wanted).map(|()| Some(wanted)),
        None => Ok(None),
    };
    let accepted = wanted::accepted(disks).and_then(usable).unwrap_or_else(|fault| {
        m.reporter.info(&format!("{}: {}; fetching it anew", fault.code, fault.chain()));
        None
    });
    let config = accepted.as_ref().map(|wanted| &wanted.config);
    match plan::needs_network(config, disks, &m.line.request) {
        None => accepted,
        Some(why) => {
            m.reporter.info(&format!("config and release are fetched: {why}"));
            None
        }
    }
}

/// Asks `plan()`, refuses what can be refused, and prints the answer, its reason, and what will happen to each disk.
fn decide(m: &mut Machine, wanted: &Wanted, disks: &[Disk]) -> Result<(Plan, String), Fault> {
    let plan = plan::plan(wanted.desired(), disks, &m.line.request);
    if let Plan::Refuse(fault) = plan {
        return Err(fault);
    }
    if wanted.release.is_some() {
        enter::rehearse(m, wanted)?;
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

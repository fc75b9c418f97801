//! `tatara-node bless`: the end of a boot.

use super::console::{announce, seconds_since_boot};
use super::{Node, grubenv, health, print, systemd, timeline};
use std::process::ExitCode;
use tatara_spec::record::StepTime;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// There when this boot was blessed; holds the seconds since the kernel's start.
pub(super) const BLESSED: &str = "/run/tatara/blessed";

/// Checks the node, marks its slot good, completes the timeline, and says so on the console. Doing it twice is harmless.
pub(crate) fn run(node: &Node) -> Result<ExitCode, Fault> {
    let begin_s = seconds_since_boot();
    let boot = node.boot()?;
    let units = systemd::loaded()?;
    let findings = health::findings(&units, &requirements(&units)?);
    if !findings.is_empty() {
        return Err(Fault::new(Code::Unhealthy, findings.join("; ")));
    }
    let env = grubenv::update(node, &boot.disk, |env| env.blessed(boot.slot))?;
    let end_s = seconds_since_boot();
    if !node.run(BLESSED).exists() {
        let mut steps = timeline::of_systemd()?;
        steps.push(StepTime { name: Step::Bless.name().to_owned(), begin_s, end_s: Some(end_s) });
        timeline::complete(node, steps, end_s)?;
    }
    let line = format!(
        "tatara: step={} state=ok t={end_s:.3} slot={} release={} default={}",
        Step::Bless,
        boot.slot,
        boot.release,
        env.slot
    );
    announce(node, &line);
    print(&format!("{line}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// What requires what, for the findings: asked for only when something failed, because it takes systemd long.
fn requirements(units: &[systemd::Unit]) -> Result<Vec<systemd::Properties>, Fault> {
    if units.iter().all(|unit| unit.state != "failed") {
        return Ok(Vec::new());
    }
    systemd::units(&["*"], health::PROPERTIES)
}

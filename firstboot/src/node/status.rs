//! `tatara-node status`: what runs, and what is not as it should be.

use super::stage::{self, StageStatus};
use super::tuning::accept::{self, AcceptReport};
use super::tuning::pin::{self, Outcome, PinReport};
use super::{Format, Node, bless, grubenv, print, print_json, read_json, systemd, tuning};
use serde::Serialize;
use std::fmt::Write;
use std::process::ExitCode;
use tatara_spec::config::Isolation;
use tatara_spec::cpu::{CpuSet, Warning};
use tatara_spec::layout::{run, state};
use tatara_spec::record::{BootRecord, FailureRecord, InstallRecord, JoinRecord, JoinState, TuningRecord};
use tatara_spec::slot::{BootEnv, Slot};
use tatara_spec::{Code, Fault};

/// The node runs, and something is not as it should be.
const DEGRADED: u8 = 3;

/// The answer; field names are the JSON's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// `metadata.name`; absent when only root may read the record.
    node: Option<String>,
    /// `install.generation` of the accepted config.
    generation: Option<u64>,
    /// `metadata.serial` of the accepted config.
    serial: Option<u64>,
    /// Id of the running release.
    release: String,
    /// The running slot.
    slot: Slot,
    /// The disk booted from.
    disk: String,
    /// What was decided at this boot, and why.
    plan: String,
    /// Whether this boot was found healthy.
    blessed: bool,
    /// Boots that the slot on trial has left.
    trial: Option<Trial>,
    /// The slot whose trial ended without a blessing.
    fallen_back_from: Option<Slot>,
    /// What is not as configured, one sentence each.
    degraded: Vec<String>,
    /// What is as configured, and questionable.
    warnings: Vec<String>,
    /// What only root may see.
    not_shown: Vec<String>,
    /// Failed units.
    failed_units: Vec<String>,
    /// The last failure of a boot, if one is on record.
    last_failure: Option<FailureRecord>,
    /// CPU isolation; absent where this boot has no record of it.
    tuning: Option<TuningStatus>,
    /// How the node stands with its cluster; absent where the config names none.
    join: Option<JoinRecord>,
    /// The config that waits for the next boot; absent when only root may see it.
    staged: Option<StageStatus>,
}

/// CPU isolation as it is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct TuningStatus {
    isolation: Isolation,
    housekeeping: CpuSet,
    isolated: CpuSet,
    /// What is allowed but unwise.
    warnings: Vec<Warning>,
    /// What the last run of `pin` came to; absent until it has run.
    pin: Option<PinReport>,
    /// How quiet the isolated CPUs were found before the node joined; absent without `tuning.accept`.
    accept: Option<AcceptReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Trial {
    slot: Slot,
    boots_left: u8,
}

/// Prints the status; exit status 3 when something is degraded.
pub(crate) fn run(node: &Node, format: Format) -> Result<ExitCode, Fault> {
    let reader = if rustix::process::geteuid().is_root() { Reader::Root } else { Reader::User };
    let status = collect(node, reader)?;
    match format {
        Format::Json => print_json(&status)?,
        Format::Text => print(&text(&status))?,
    }
    let good =
        status.degraded.is_empty() && status.failed_units.is_empty() && status.fallen_back_from.is_none();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(DEGRADED) })
}

/// Who asks. The state partition's records and the disk are root's; the boot record says most of it as it was at boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Root,
    User,
}

fn collect(node: &Node, reader: Reader) -> Result<Status, Fault> {
    let boot = node.boot()?;
    let mut unknown = Vec::new();
    let failed_units = known(systemd::failed(), &mut unknown).unwrap_or_default();
    let blessed = node.run(bless::BLESSED).exists();
    let staged = match reader {
        Reader::Root => known(stage::status(node), &mut unknown),
        Reader::User => None,
    };
    let mut status = match reader {
        Reader::Root => {
            let record =
                known(read_json::<InstallRecord>(&node.state(state::RECORD)), &mut unknown).flatten();
            let failure =
                known(read_json::<FailureRecord>(&node.state(state::FAILURE)), &mut unknown).flatten();
            let env = known(grubenv::read(&boot.disk), &mut unknown);
            Status { last_failure: failure, ..assemble(boot, record, env, blessed) }
        }
        Reader::User => for_a_user(boot, blessed),
    };
    status.degraded.extend(unknown);
    status.degraded.extend(staged.as_ref().and_then(StageStatus::refused));
    status.staged = staged;
    status.failed_units = failed_units;
    status.tuning = tuning_status(node, &mut status.degraded);
    status.join = join_status(node, &mut status.degraded);
    Ok(status)
}

/// From what everybody may read.
fn for_a_user(boot: BootRecord, blessed: bool) -> Status {
    // Blessing ends the trial of what runs.
    let trial = boot.trial.filter(|trial| !(blessed && trial.slot == boot.slot));
    let env = BootEnv { slot: boot.slot, trial, request: None };
    let fallen_back_from = boot.fallen_back_from;
    let not_shown = vec!["the last failure and what is staged, which only root may read".to_owned()];
    Status { fallen_back_from, not_shown, ..assemble(boot, None, Some(env), blessed) }
}

/// A node that waits for its cluster is not what was asked for, whoever's fault it is.
fn join_status(node: &Node, degraded: &mut Vec<String>) -> Option<JoinRecord> {
    let record = known(read_json::<JoinRecord>(&node.run(run::JOIN)), degraded).flatten()?;
    if let Some(reason) = &record.reason {
        let code = record.code.as_ref().map_or_else(String::new, |code| format!("{code}: "));
        let hint = record.hint.as_ref().map_or_else(String::new, |hint| format!(" (hint: {hint})"));
        degraded.push(format!("{code}{reason}{hint}"));
    }
    Some(record)
}

fn tuning_status(node: &Node, degraded: &mut Vec<String>) -> Option<TuningStatus> {
    let record = known(tuning::record(node), degraded)?;
    let pin = known(pin::last(node), degraded).flatten();
    for point in pin.iter().flat_map(PinReport::failed) {
        let code = Code::Pin;
        degraded.push(format!("{code}: {} is {}, wanted {}", point.name, point.actual, point.wanted));
    }
    let accept = known(accept::last(node), degraded).flatten();
    let excesses = accept.iter().flat_map(|report| &report.excesses);
    degraded.extend(excesses.map(|excess| format!("{}: {excess}", Code::CpuNoise)));
    let warnings = tuning::warnings(&node.kernel(), &record);
    let TuningRecord { isolation, housekeeping, isolated, .. } = record;
    Some(TuningStatus { isolation, housekeeping, isolated, warnings, pin, accept })
}

/// A part that cannot be read makes the answer incomplete and says so; it does not take the rest away.
fn known<T>(part: Result<T, Fault>, unknown: &mut Vec<String>) -> Option<T> {
    part.map_err(|fault| unknown.push(format!("{}: {}", fault.code, fault.chain()))).ok()
}

fn assemble(boot: BootRecord, record: Option<InstallRecord>, env: Option<BootEnv>, blessed: bool) -> Status {
    let fallen_back_from = env.as_ref().and_then(BootEnv::fallen_back);
    let trial = env.and_then(|env| env.trial).filter(|_| fallen_back_from.is_none());
    Status {
        node: record.as_ref().map(|record| record.node.clone()).or(boot.node),
        generation: record.as_ref().map(|record| record.generation).or(boot.generation),
        serial: record.as_ref().map(|record| record.serial).or(boot.serial),
        release: boot.release,
        slot: boot.slot,
        disk: boot.disk,
        plan: boot.plan,
        blessed,
        trial: trial.map(|trial| Trial { slot: trial.slot, boots_left: trial.boots_left }),
        fallen_back_from,
        degraded: boot.degraded,
        warnings: boot.warnings,
        not_shown: Vec::new(),
        failed_units: Vec::new(),
        last_failure: None,
        tuning: None,
        join: None,
        staged: None,
    }
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let mut line = |key: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{key:<14}{value}");
    };
    let number = |value: Option<u64>| value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
    line("node", status.node.clone().unwrap_or_else(|| "unknown".to_owned()));
    line("release", status.release.clone());
    line("slot", format!("{} on {}, {}", status.slot, status.disk, trial_text(status)));
    line("plan", status.plan.clone());
    line("generation", number(status.generation));
    line("serial", number(status.serial));
    if let Some(slot) = status.fallen_back_from {
        let code = Code::SlotFallback;
        line("fallback", format!("{code}: slot {slot} was not blessed in time. {}", code.hint()));
    }
    if let Some(tuning) = status.tuning.as_ref().filter(|tuning| !tuning.isolated.is_empty()) {
        line("isolated", format!("CPUs {}; housekeeping {}", tuning.isolated, tuning.housekeeping));
        if let Some(pin) = &tuning.pin {
            let kept = pin.count(Outcome::KeptByKernel);
            line("pinned", format!("{} points, {kept} of them kept by the kernel", pin.points));
        }
        if let Some(accept) = &tuning.accept {
            line(
                "accepted",
                if accept.accepted { "quiet enough" } else { "no: too much noise, see below" }.to_owned(),
            );
        }
        for warning in &tuning.warnings {
            line("warning", warning.to_string());
        }
    }
    if let Some(join) = &status.join {
        line("cluster", join_text(join));
    }
    for said in status.staged.iter().flat_map(StageStatus::lines) {
        line("staged", said);
    }
    for reason in &status.degraded {
        line("degraded", reason.clone());
    }
    // The list above has these too.
    let shown = status.tuning.as_ref().is_some_and(|tuning| !tuning.isolated.is_empty());
    for warning in status.warnings.iter().filter(|_| !shown) {
        line("warning", warning.clone());
    }
    for unit in &status.failed_units {
        line("failed unit", unit.clone());
    }
    if let Some(failure) = &status.last_failure {
        let FailureRecord { code, step, message, hint, attempt, .. } = failure;
        line("last failure", format!("{code} in step {step}, attempt {attempt}: {message}"));
        line("", format!("hint: {hint}"));
    }
    for part in &status.not_shown {
        line("not shown", part.clone());
    }
    text
}

fn join_text(join: &JoinRecord) -> String {
    let JoinRecord { node_name, endpoint, state, step, attempts, .. } = join;
    match (state, attempts) {
        (JoinState::Joined, _) => format!("{endpoint}, joined as {node_name}"),
        (_, 0) => format!("{endpoint}, {state} as {node_name}: step {step}"),
        _ => format!("{endpoint}, {state} as {node_name}: step {step}, tried {attempts} times in vain"),
    }
}

fn trial_text(status: &Status) -> String {
    match (&status.trial, status.blessed) {
        (_, true) => "blessed".to_owned(),
        (Some(trial), false) if trial.slot == status.slot => {
            format!("on trial, {} boots left", trial.boots_left)
        }
        _ => "not blessed yet at this boot".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{assemble, for_a_user, text};
    use tatara_spec::record::BootRecord;
    use tatara_spec::slot::{BootEnv, Slot, Trial};

    fn boot(slot: Slot) -> BootRecord {
        BootRecord {
            plan: "boot slot a: nothing asks for a change".into(),
            slot,
            disk: "/dev/vda".into(),
            release: "0123456789abcdef".into(),
            node: Some("node-1".into()),
            generation: Some(2),
            serial: Some(7),
            trial: Some(Trial { slot: Slot::B, boots_left: 1 }),
            fallen_back_from: None,
            degraded: vec![],
            warnings: vec!["CPU 1 is isolated without its sibling".into()],
        }
    }

    #[test]
    fn whoever_is_not_root_sees_what_runs() {
        let shown = text(&for_a_user(boot(Slot::B), false));
        for wanted in
            ["node-1", "generation    2", "serial        7", "on trial, 1 boots left", "only root", "sibling"]
        {
            assert!(shown.contains(wanted), "no `{wanted}` in {shown}");
        }
        let blessed = for_a_user(boot(Slot::B), true);
        assert!(blessed.trial.is_none() && blessed.degraded.is_empty());
        assert!(text(&blessed).contains("blessed"));
    }

    #[test]
    fn a_trial_shows_its_boots() {
        let env =
            BootEnv { slot: Slot::A, trial: Some(Trial { slot: Slot::B, boots_left: 2 }), request: None };
        let status = assemble(boot(Slot::B), None, Some(env), false);
        assert!(text(&status).contains("on trial, 2 boots left"), "{}", text(&status));
        assert_eq!(status.fallen_back_from, None);
    }

    #[test]
    fn a_fallback_names_the_slot_and_its_code() {
        let env =
            BootEnv { slot: Slot::A, trial: Some(Trial { slot: Slot::B, boots_left: 0 }), request: None };
        let status = assemble(boot(Slot::A), None, Some(env), true);
        assert!(text(&status).contains("E-SLOT-FALLBACK: slot b"), "{}", text(&status));
        assert!(text(&status).contains("blessed"));
        assert!(status.trial.is_none());
    }
}

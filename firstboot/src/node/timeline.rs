//! `tatara-node timeline`: where the time of a boot went.

use super::console::announce;
use super::systemd::{Properties, loaded, manager, seconds, units};
use super::{Format, Node, bless, history, lock, print, print_json, read_json, svg, table, write_atomically};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use tatara_spec::layout::run;
use tatara_spec::record::{StepTime, Timeline};
use tatara_spec::{Code, Fault};

/// Where this boot's timeline was kept. By its name it could not be found again: the clock may have gone back.
const KEPT: &str = "/run/tatara/timeline-kept.json";
/// Units that took less are left out; seconds.
const SHOWN_FROM_S: f64 = 0.1;
/// The slowest units that are shown.
const SHOWN_UNITS: usize = 15;
/// Moments worth seeing, though they take no time.
const MILESTONES: [&str; 4] = ["sysinit.target", "basic.target", "network.target", "multi-user.target"];

/// Which boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one that runs.
    ThisBoot,
    /// The last one that installed.
    Install,
}

/// Where it goes.
#[derive(Debug)]
pub(crate) enum Output {
    /// A table on standard output.
    Text,
    /// JSON on standard output.
    Json,
    /// A drawing in this file.
    Svg(PathBuf),
}

impl From<Format> for Output {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

pub(crate) fn run(node: &Node, which: Which, output: &Output) -> Result<ExitCode, Fault> {
    let timeline = match which {
        Which::ThisBoot => this_boot(node)?,
        Which::Install => install(node)?,
    };
    match output {
        Output::Text => print(&table::render(&timeline))?,
        Output::Json => print_json(&timeline)?,
        Output::Svg(path) => write_atomically(path, svg::render(&timeline).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Until the boot is blessed systemd's part is asked for; then it is on record.
fn this_boot(node: &Node) -> Result<Timeline, Fault> {
    let mut timeline = read_json::<Timeline>(&node.run(run::TIMELINE))?.unwrap_or_default();
    if !node.run(bless::BLESSED).exists() {
        extend(&mut timeline, of_systemd()?);
    }
    Ok(timeline)
}

fn install(node: &Node) -> Result<Timeline, Fault> {
    let missing = || Fault::new(Code::NodeState, "the timeline of an install is not on the state partition");
    let path = history::newest_install(&node.history())?.ok_or_else(missing)?;
    read_json(&path)?.ok_or_else(missing)
}

/// Puts a step of the node's own on record, in the place of an earlier attempt at it: what is tried for days is one line. A step that
/// was done is done also when that cannot be written.
pub(super) fn record(node: &Node, step: StepTime) {
    said(node, try_record(node, step));
}

/// Puts what came after the blessing into what was kept of this boot.
pub(super) fn keep(node: &Node) {
    said(node, try_keep(node));
}

fn said(node: &Node, written: Result<(), Fault>) {
    if let Err(fault) = written {
        announce(node, &format!("tatara: timeline: {}: {}", fault.code, fault.chain()));
    }
}

fn try_record(node: &Node, step: StepTime) -> Result<(), Fault> {
    let _lock = lock::acquire(node)?;
    let path = node.run(run::TIMELINE);
    let mut timeline = read_json::<Timeline>(&path)?.unwrap_or_default();
    if let Some(kernel) = timeline.kernels.last_mut() {
        kernel.retain(|earlier| earlier.name != step.name);
    }
    extend(&mut timeline, vec![step]);
    write_atomically(&path, &json(&timeline)?)
}

fn try_keep(node: &Node) -> Result<(), Fault> {
    let _lock = lock::acquire(node)?;
    if !node.run(bless::BLESSED).exists() {
        return Ok(());
    }
    let Some(timeline) = read_json::<Timeline>(&node.run(run::TIMELINE))? else { return Ok(()) };
    let Some(kept) = read_json::<PathBuf>(&node.run(KEPT))? else { return Ok(()) };
    write_atomically(&kept, &json(&timeline)?)
}

/// Ends this boot's record with these steps, keeps it on the state partition, and notes when that was.
pub(super) fn complete(node: &Node, steps: Vec<StepTime>, end_s: f64) -> Result<(), Fault> {
    let _lock = lock::acquire(node)?;
    let path = node.run(run::TIMELINE);
    let mut timeline = read_json::<Timeline>(&path)?.unwrap_or_default();
    extend(&mut timeline, steps);
    let json = json(&timeline)?;
    write_atomically(&path, &json)?;
    let kept = history::keep(&node.history(), &timeline, &json)?;
    write_atomically(&node.run(KEPT), &self::json(&kept)?)?;
    write_atomically(&node.run(bless::BLESSED), format!("{end_s:.3}\n").as_bytes())
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, Fault> {
    serde_json::to_vec_pretty(value)
        .map_err(|error| Fault::caused(Code::Internal, "write the timeline as JSON", error))
}

/// Adds steps to the kernel that runs, which is the last one.
fn extend(timeline: &mut Timeline, steps: Vec<StepTime>) {
    match timeline.kernels.last_mut() {
        Some(kernel) => kernel.extend(steps),
        None => timeline.kernels.push(steps),
    }
}

/// systemd's own phases, its milestones and its slowest units.
pub(super) fn of_systemd() -> Result<Vec<StepTime>, Fault> {
    const TIMES: &str =
        "Id,InactiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic,ActiveExitTimestampMonotonic";
    let loaded = loaded()?;
    let names: Vec<&str> = loaded
        .iter()
        .filter(|unit| unit.state == "active" && has_times(&unit.name))
        .map(|unit| unit.name.as_str())
        .collect();
    Ok(steps_of(&manager()?, &units(&names, TIMES)?))
}

/// Whether the times of a unit tell something: targets take none, and devices, slices and scopes count from systemd's start.
fn has_times(name: &str) -> bool {
    const SILENT: [&str; 4] = [".device", ".slice", ".scope", ".target"];
    MILESTONES.contains(&name) || !SILENT.iter().any(|kind| name.ends_with(kind))
}

fn steps_of(manager: &Properties, units: &[Properties]) -> Vec<StepTime> {
    let Some(start) = seconds(manager, "UserspaceTimestampMonotonic") else { return Vec::new() };
    let loaded = seconds(manager, "UnitsLoadFinishTimestampMonotonic");
    let mut steps = vec![StepTime { name: "systemd".to_owned(), begin_s: start, end_s: loaded }];
    let mut slow = units.iter().filter_map(|unit| span_of(unit, start)).collect::<Vec<_>>();
    slow.sort_by(|a, b| took(b).total_cmp(&took(a)));
    slow.truncate(SHOWN_UNITS);
    steps.extend(slow);
    for unit in units {
        let name = unit.get("Id").map(String::as_str).unwrap_or_default();
        if let (true, Some(at)) = (MILESTONES.contains(&name), seconds(unit, "ActiveEnterTimestampMonotonic"))
        {
            steps.push(StepTime { name: name.to_owned(), begin_s: at, end_s: Some(at) });
        }
    }
    steps.sort_by(|a, b| a.begin_s.total_cmp(&b.begin_s));
    steps
}

/// From a unit's activation to its being active.
fn span_of(unit: &Properties, start: f64) -> Option<StepTime> {
    let name = unit.get("Id").filter(|name| has_times(name) && !MILESTONES.contains(&name.as_str()))?;
    let begin_s = seconds(unit, "InactiveExitTimestampMonotonic")?;
    let end_s = seconds(unit, "ActiveEnterTimestampMonotonic")?;
    let step = StepTime { name: name.clone(), begin_s, end_s: Some(end_s) };
    (begin_s >= start && took(&step) >= SHOWN_FROM_S).then_some(step)
}

/// Seconds that a step took; 0 for one that did not end.
pub(super) fn took(step: &StepTime) -> f64 {
    step.end_s.map_or(0.0, |end| end - step.begin_s)
}

/// What one line of table or drawing shows.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Row<'a> {
    /// A step.
    Step(&'a StepTime),
    /// Nothing on record between two steps, seconds since the kernel's start.
    Gap { begin_s: f64, end_s: f64 },
}

/// Gaps shorter than this are the steps' own joints; seconds.
const GAP_S: f64 = 0.05;

/// The steps of one kernel in order of begin, and the gaps between them, from the kernel's start on.
pub(super) fn rows(steps: &[StepTime]) -> Vec<Row<'_>> {
    let mut sorted = steps.iter().collect::<Vec<_>>();
    sorted.sort_by(|a, b| a.begin_s.total_cmp(&b.begin_s));
    let mut rows = Vec::new();
    let mut covered_s = 0.0_f64;
    for step in sorted {
        if step.begin_s - covered_s >= GAP_S {
            rows.push(Row::Gap { begin_s: covered_s, end_s: step.begin_s });
        }
        covered_s = covered_s.max(step.end_s.unwrap_or(step.begin_s));
        rows.push(Row::Step(step));
    }
    rows
}

/// When the last step of a kernel ended, in its seconds.
pub(super) fn end_of(steps: &[StepTime]) -> f64 {
    steps.iter().map(|step| step.end_s.unwrap_or(step.begin_s)).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::{Row, end_of, rows, steps_of};
    use crate::node::systemd::parse;
    use proptest::prelude::{prop, prop_assert, proptest};
    use tatara_spec::record::StepTime;

    pub(crate) fn step(name: &str, begin_s: f64, end_s: f64) -> StepTime {
        StepTime { name: name.into(), begin_s, end_s: Some(end_s) }
    }

    #[test]
    fn gaps_are_what_no_step_covers() {
        let steps =
            [step("b", 3.0, 4.0), step("a", 1.0, 2.5), step("inside", 1.5, 1.6), step("next", 4.01, 5.0)];
        let gaps = rows(&steps).into_iter().filter(|row| matches!(row, Row::Gap { .. })).collect::<Vec<_>>();
        assert_eq!(gaps, [Row::Gap { begin_s: 0.0, end_s: 1.0 }, Row::Gap { begin_s: 2.5, end_s: 3.0 }]);
        assert_eq!(end_of(&steps), 5.0);
    }

    #[test]
    fn slow_units_and_milestones_are_shown() {
        let manager =
            parse("UserspaceTimestampMonotonic=5000000\nUnitsLoadFinishTimestampMonotonic=5600000\n");
        let units = parse(
            "Id=slow.service\nInactiveExitTimestampMonotonic=6000000\nActiveEnterTimestampMonotonic=7000000\n\n\
             Id=fast.service\nInactiveExitTimestampMonotonic=6000000\nActiveEnterTimestampMonotonic=6010000\n\n\
             Id=sda.device\nInactiveExitTimestampMonotonic=5000000\nActiveEnterTimestampMonotonic=9000000\n\n\
             Id=running.service\nInactiveExitTimestampMonotonic=6000000\nActiveEnterTimestampMonotonic=0\n\n\
             Id=multi-user.target\nInactiveExitTimestampMonotonic=8000000\nActiveEnterTimestampMonotonic=8000000\n",
        );
        let names = steps_of(&manager[0], &units).into_iter().map(|step| step.name).collect::<Vec<_>>();
        assert_eq!(names, ["systemd", "slow.service", "multi-user.target"]);
    }

    proptest! {
        #[test]
        fn rows_and_gaps_go_forward(spans in prop::collection::vec((0.0..100.0_f64, 0.0..10.0_f64), 0..20)) {
            let steps = spans.iter().map(|(begin, length)| step("x", *begin, begin + length)).collect::<Vec<_>>();
            let mut last = 0.0;
            for row in rows(&steps) {
                let begin = match row {
                    Row::Step(step) => step.begin_s,
                    Row::Gap { begin_s, end_s } => { prop_assert!(end_s > begin_s); begin_s }
                };
                prop_assert!(begin >= last);
                if let Row::Step(step) = row { last = step.begin_s; }
            }
        }
    }
}

//! `tatara-node pin`: sets every point that is not as wanted, and says what the kernel would not take.

use super::kernel::Kernel;
use super::point::{Place, Point, Topic};
use super::{Live, metrics, points, record};
use crate::node::{Format, Node, print, print_json, read_json, write_atomically};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tatara_spec::layout::run;
use tatara_spec::record::TuningRecord;
use tatara_spec::{Code, Fault};

/// After how long the next look is taken while a device is still setting itself up, at first and at most: each costs a
/// housekeeping CPU some milliseconds, also while the node boots.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_AT_MOST: Duration = Duration::from_secs(1);

/// What became of a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// It was as wanted before.
    AsWanted,
    /// It is now.
    Set,
    /// It moves at its next interrupt, and until then nothing is delivered.
    Pending,
    /// The kernel decides about it alone: managed interrupts, the timer's and the cascade's.
    KeptByKernel,
    /// It is not as wanted.
    Wrong,
    /// The housekeeping CPUs have no interrupt vectors left.
    NoVectors,
}

impl Outcome {
    pub(super) const ALL: [Self; 6] =
        [Self::AsWanted, Self::Set, Self::Pending, Self::KeptByKernel, Self::Wrong, Self::NoVectors];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::AsWanted => "as-wanted",
            Self::Set => "set",
            Self::Pending => "pending",
            Self::KeptByKernel => "kept-by-kernel",
            Self::Wrong => "wrong",
            Self::NoVectors => "no-vectors",
        }
    }
}

/// A point that is not simply as wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pinned {
    pub(crate) topic: Topic,
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    /// What it is.
    pub(crate) actual: String,
    /// What it should be.
    pub(crate) wanted: String,
    /// What the kernel said.
    pub(crate) error: Option<String>,
}

/// What the last run came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PinReport {
    /// Points that were looked at.
    pub(crate) points: usize,
    /// Those that were as wanted.
    pub(crate) as_wanted: usize,
    /// Those that were not.
    pub(crate) others: Vec<Pinned>,
    /// How long it took, in seconds.
    pub(crate) took_s: f64,
}

impl PinReport {
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        match outcome {
            Outcome::AsWanted => self.as_wanted,
            other => self.others.iter().filter(|point| point.outcome == other).count(),
        }
    }

    /// Those that ought to be as wanted.
    pub(crate) fn failed(&self) -> impl Iterator<Item = &Pinned> {
        let failed = |point: &&Pinned| matches!(point.outcome, Outcome::Wrong | Outcome::NoVectors);
        self.others.iter().filter(failed)
    }
}

/// Sets the points, and again as long as `during` if devices are still coming up.
pub(crate) fn run(node: &Node, kernel: &Live, during: Duration, format: Format) -> Result<ExitCode, Fault> {
    let record = record(node)?;
    let until = Instant::now() + during;
    let mut report = once(kernel, &record);
    keep(node, &report)?;
    let mut pause = AGAIN;
    while Instant::now() < until {
        std::thread::sleep(pause);
        pause = (pause * 2).min(AGAIN_AT_MOST);
        let again = once(kernel, &record);
        if again.count(Outcome::Set) > 0 || again.points != report.points {
            report = again;
            keep(node, &report)?;
        }
    }
    match format {
        Format::Json => print_json(&report)?,
        Format::Text => print(&text(&report))?,
    }
    let failed: Vec<&str> = report.failed().map(|point| point.name.as_str()).collect();
    if failed.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Fault::new(Code::Pin, format!("not as wanted: {}", failed.join(", "))))
}

/// The report of the last run on this boot.
pub(crate) fn last(node: &Node) -> Result<Option<PinReport>, Fault> {
    read_json(&node.run(run::PIN))
}

fn keep(node: &Node, report: &PinReport) -> Result<(), Fault> {
    let json = serde_json::to_vec_pretty(report)
        .map_err(|error| Fault::caused(Code::Internal, "write the report as JSON", error))?;
    write_atomically(&node.run(run::PIN), &json)?;
    write_atomically(&metrics_path(node), metrics::render(report).as_bytes())
}

fn metrics_path(node: &Node) -> PathBuf {
    node.run(run::METRICS)
}

/// One pass over all points.
pub(super) fn once(kernel: &dyn Kernel, record: &TuningRecord) -> PinReport {
    let begin = Instant::now();
    let points = points::settable(kernel, record);
    let mut report = PinReport { points: points.len(), ..PinReport::default() };
    for point in points {
        match pin(kernel, &point) {
            None => report.as_wanted += 1,
            Some(pinned) => report.others.push(pinned),
        }
    }
    // What went away meanwhile is no point any more.
    report.points = report.as_wanted + report.others.len();
    report.took_s = begin.elapsed().as_secs_f64();
    report
}

/// Sets a point; `None` when there was nothing to do, or it went away: a process that ended, a card that was pulled.
fn pin(kernel: &dyn Kernel, point: &Point) -> Option<Pinned> {
    let (outcome, error) = match state(kernel, point) {
        Ok(State::AsWanted) => return None,
        Ok(State::Pending) => (Outcome::Pending, None),
        Ok(State::Other) => match point.set(kernel) {
            Ok(()) => (now(kernel, point), None),
            Err(error) => (classify(point, &error), Some(error)),
        },
        Err(error) => (Outcome::Wrong, Some(error)),
    };
    let actual = match point.actual(kernel) {
        Err(gone) if is_gone(&gone) && point.topic != Topic::Hugepages => return None,
        actual => actual.unwrap_or_default(),
    };
    Some(Pinned {
        topic: point.topic,
        name: point.name.clone(),
        outcome,
        actual,
        wanted: point.wanted.to_string(),
        error: error.map(|error| error.to_string()),
    })
}

/// How a point stands.
enum State {
    AsWanted,
    /// Set, and not in force yet.
    Pending,
    Other,
}

fn state(kernel: &dyn Kernel, point: &Point) -> io::Result<State> {
    let set = match &point.place {
        Place::Effective { set, .. } => Some(point.wanted.is(&kernel.read(set)?)),
        _ => None,
    };
    Ok(match (set, point.wanted.is(&point.actual(kernel)?)) {
        (Some(true) | None, true) => State::AsWanted,
        (Some(true), false) => State::Pending,
        (Some(false), _) | (None, false) => State::Other,
    })
}

/// Whether it is set, and comes into force with the next interrupt.
pub(super) fn is_pending(kernel: &dyn Kernel, point: &Point) -> bool {
    matches!(state(kernel, point), Ok(State::Pending))
}

/// After a write that the kernel took: it may keep another value, as the huge pages for which it has memory.
fn now(kernel: &dyn Kernel, point: &Point) -> Outcome {
    match state(kernel, point) {
        Ok(State::AsWanted) => Outcome::Set,
        Ok(State::Pending) => Outcome::Pending,
        Ok(State::Other) | Err(_) => Outcome::Wrong,
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::NOENT | Errno::SRCH | Errno::NODEV))
}

/// What a refusal means (kernel, `kernel/irq/proc.c` and `arch/x86/kernel/apic/vector.c`): EIO until 6.1 and EPERM since are
/// interrupts that only the kernel moves; ENOSPC is that the CPUs' vectors are used up. Everything else is our mistake.
fn classify(point: &Point, error: &io::Error) -> Outcome {
    let interrupt = matches!(point.place, Place::Effective { .. });
    match Errno::from_io_error(error) {
        Some(Errno::IO | Errno::PERM) if interrupt => Outcome::KeptByKernel,
        Some(Errno::NOSPC) if interrupt => Outcome::NoVectors,
        _ => Outcome::Wrong,
    }
}

fn text(report: &PinReport) -> String {
    let mut text = String::new();
    for outcome in Outcome::ALL {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<16}{}", outcome.name(), report.count(outcome));
    }
    for point in report.others.iter().filter(|point| point.outcome != Outcome::Set) {
        let error = point.error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "{}: {} is {}, wanted {}{error}",
            point.outcome.name(),
            point.name,
            point.actual,
            point.wanted
        );
    }
    text
}

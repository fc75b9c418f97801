//! `tatara-node tuning verify`: intended against actual, point by point.

use super::checks::{self, Compared, Difference};
use super::kernel::Kernel;
use super::noise::{self, Noise};
use super::pin::{Outcome, PinReport, Pinned, is_pending, last};
use super::point::Point;
use super::{Live, noise_svg, noise_text, points, record, warnings};
use crate::node::{Format, Node, print, print_json, read_json, write_atomically};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tatara_spec::config::Isolation;
use tatara_spec::cpu::{CpuSet, Warning};
use tatara_spec::record::TuningRecord;
use tatara_spec::{Code, Fault};

/// The answer; field names are the JSON's.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Verdict {
    isolation: Isolation,
    housekeeping: CpuSet,
    isolated: CpuSet,
    /// Points that were compared.
    pub(super) points: usize,
    /// Those that differ.
    pub(super) differences: Vec<Difference>,
    /// What the kernel keeps to itself, and where it is.
    pub(super) kept_by_kernel: Vec<Difference>,
    /// What moves at its next interrupt.
    pub(super) pending: Vec<Difference>,
    warnings: Vec<Warning>,
    noise: Option<Noise>,
}

/// What to do beside the comparison.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) noise: Option<Duration>,
    pub(crate) svg: Option<PathBuf>,
    /// What is wanted, instead of what this boot wants.
    pub(crate) record: Option<PathBuf>,
    pub(crate) format: Format,
}

/// Compares, measures, prints; exit status 1 when something differs.
pub(crate) fn run(node: &Node, kernel: &Live, options: &Options) -> Result<ExitCode, Fault> {
    let record = match &options.record {
        Some(path) => given(path)?,
        None => record(node)?,
    };
    let pinned = last(node)?.unwrap_or_default();
    let mut verdict = compare(kernel, &record, &pinned);
    if let Some(during) = options.noise {
        let noise = noise::measure(kernel, &record, during)?;
        if let Some(path) = &options.svg {
            write_atomically(path, noise_svg::render(&noise).as_bytes())?;
        }
        verdict.noise = Some(noise);
    }
    match options.format {
        Format::Json => print_json(&verdict)?,
        Format::Text => print(&text(&verdict))?,
    }
    Ok(if verdict.differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn given(path: &Path) -> Result<TuningRecord, Fault> {
    let missing = || Fault::new(Code::NodeState, format!("{} is missing", path.display()));
    read_json(path)?.ok_or_else(missing)
}

/// Compares everything. What the kernel refused to move is named, and is no difference.
pub(super) fn compare(kernel: &dyn Kernel, record: &TuningRecord, pinned: &PinReport) -> Verdict {
    let mut compared = checks::compare(kernel, record);
    let kept_by_kernel = |point: &Point| {
        let same = |pinned: &&Pinned| pinned.name == point.name;
        pinned.others.iter().find(same).is_some_and(|pinned| pinned.outcome == Outcome::KeptByKernel)
    };
    let (mut kept, mut pending) = (Vec::new(), Vec::new());
    for point in points::settable(kernel, record) {
        let mut one = Compared::default();
        one.file(kernel, &point);
        compared.points += one.points;
        // Whoever has set it: what is only not in force yet is no difference.
        let list = if is_pending(kernel, &point) {
            &mut pending
        } else if kept_by_kernel(&point) {
            &mut kept
        } else {
            &mut compared.differences
        };
        list.extend(one.differences);
    }
    Verdict {
        isolation: record.isolation,
        housekeeping: record.housekeeping.clone(),
        isolated: record.isolated.clone(),
        points: compared.points,
        differences: compared.differences,
        kept_by_kernel: kept,
        pending,
        warnings: warnings(kernel, record),
        noise: None,
    }
}

fn text(verdict: &Verdict) -> String {
    let mut text = String::new();
    let Verdict { housekeeping, isolated, points, differences, kept_by_kernel, .. } = verdict;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "housekeeping  {housekeeping}");
    let _ = writeln!(
        text,
        "isolated      {}",
        if isolated.is_empty() { "none".to_owned() } else { isolated.to_string() }
    );
    let _ = writeln!(text, "points        {points}, {} differ", differences.len());
    for Difference { name, wanted, actual, .. } in differences {
        let _ = writeln!(text, "differs       {name}: is {actual}, wanted {wanted}");
    }
    for Difference { name, actual, .. } in kept_by_kernel {
        let _ = writeln!(text, "kept          {name}: the kernel keeps it on CPUs {actual}");
    }
    for Difference { name, actual, .. } in &verdict.pending {
        let _ = writeln!(text, "pending       {name}: leaves CPUs {actual} at its next interrupt");
    }
    for warning in &verdict.warnings {
        let _ = writeln!(text, "warning       {warning}");
    }
    if let Some(noise) = &verdict.noise {
        text.push_str(&noise_text::render(noise));
    }
    text
}

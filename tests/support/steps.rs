//! The steps of a machine, by its console's lines and when they came.

use crate::console::Console;
use crate::server::word;
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::time::Instant;

/// A step; seconds since power-on.
#[derive(Debug, Clone, PartialEq)]
pub struct Timed {
    /// Its name on the console.
    pub name: String,
    /// Its begin.
    pub begin_s: f64,
    /// Its end; nothing where the machine has said none.
    pub end_s: Option<f64>,
}

impl Timed {
    /// A span that is no step of the machine's own.
    #[must_use]
    pub fn new(name: &str, begin_s: f64, end_s: f64) -> Self {
        Self { name: name.to_owned(), begin_s, end_s: Some(end_s) }
    }

    /// As in `result.json`.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({"name": self.name, "begin_s": self.begin_s, "end_s": self.end_s})
    }
}

/// Seconds from power-on to another moment.
#[must_use]
pub fn seconds(power_on: Instant, at: Instant) -> f64 {
    at.saturating_duration_since(power_on).as_secs_f64()
}

/// The steps in order of their begin, with the firmware's before the first kernel.
///
/// # Errors
/// A step has failed, or no kernel was started.
pub fn of(console: &Console, power_on: Instant) -> Result<Vec<Timed>> {
    let mut steps: Vec<Timed> = Vec::new();
    for (at, line) in console.all(MARK) {
        let (Some(name), Some(state)) = (word(&line, "step"), word(&line, "state")) else { continue };
        let at = seconds(power_on, at);
        if state == "begin" {
            steps.push(Timed { name: name.to_owned(), begin_s: at, end_s: None });
        } else if let Some(step) = steps.iter_mut().rev().find(|step| step.name == name) {
            ensure!(state == "ok", "step {name} failed: {line}");
            step.end_s = Some(at);
        }
    }
    let kernels = console.all("] Linux version ");
    let (first, _) = kernels.first().context("no kernel was started")?;
    steps.insert(0, Timed::new("firmware", 0.0, seconds(power_on, *first)));
    steps.sort_by(|a, b| a.begin_s.total_cmp(&b.begin_s));
    Ok(steps)
}

/// Seconds from power-on to the start of the kernel that runs: a step's line has the kernel's own time before it.
///
/// # Errors
/// The node has printed no step yet.
pub fn kernel_start(console: &Console, power_on: Instant) -> Result<f64> {
    let stamped = |(at, line): &(Instant, String)| {
        let (stamp, _) = line.trim_start().strip_prefix('[')?.split_once(']')?;
        Some(seconds(power_on, *at) - stamp.trim().parse::<f64>().ok()?)
    };
    console.all(MARK).iter().rev().find_map(stamped).context("no step with the kernel's time")
}

const MARK: &str = "tatara: step=";

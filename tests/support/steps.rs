//! The steps of a machine, by its console's lines and when they came.

use crate::console::Console;
use crate::server::word;
use anyhow::{Result, ensure};
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

/// The steps in order of their begin, with those of the firmware before and of systemd after the machine's own.
///
/// # Errors
/// A step has failed, or no kernel was started.
pub fn of(console: &Console, power_on: Instant) -> Result<Vec<Timed>> {
    let mut steps: Vec<Timed> = Vec::new();
    for (at, line) in console.all("tatara: step=") {
        let (Some(name), Some(state)) = (word(&line, "step"), word(&line, "state")) else { continue };
        let at = seconds(power_on, at);
        if state == "begin" {
            steps.push(Timed { name: name.to_owned(), begin_s: at, end_s: None });
        } else if let Some(step) = steps.iter_mut().rev().find(|step| step.name == name) {
            ensure!(state == "ok", "step {name} failed: {line}");
            step.end_s = Some(at);
        }
    }
    let first = |needle: &str| console.all(needle).first().map(|(at, _)| seconds(power_on, *at));
    let kernel = first("] Linux version ");
    ensure!(kernel.is_some(), "no kernel was started");
    steps.extend(kernel.map(|end| Timed::new("firmware", 0.0, end)));
    let handed_over = steps.iter().rev().find(|step| step.name == "switch-root").and_then(|step| step.end_s);
    if let (Some(begin), Some(end)) = (handed_over, first(MULTI_USER)) {
        steps.push(Timed::new("systemd", begin, end));
    }
    steps.sort_by(|a, b| a.begin_s.total_cmp(&b.begin_s));
    Ok(steps)
}

/// systemd's line at the end of its boot.
pub const MULTI_USER: &str = "Reached target multi-user.target";

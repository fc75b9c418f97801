//! Progress on standard error: bars on a terminal, one plain line a step elsewhere.

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

/// Where progress goes.
#[derive(Debug)]
pub struct Progress {
    terminal: bool,
    done: RefCell<Vec<(String, Duration)>>,
}

/// One step while it runs. It can be shared with threads.
#[derive(Debug)]
pub struct Running {
    bar: ProgressBar,
    detail: std::sync::Mutex<String>,
}

impl Running {
    /// Bytes done of a known total.
    pub fn bytes(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
        }
        self.bar.set_position(done);
    }

    /// What the step's line says when it is done.
    pub fn detail(&self, text: impl Into<String>) {
        if let Ok(mut detail) = self.detail.lock() {
            *detail = text.into();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress {
    /// Bars when standard error is a terminal.
    #[must_use]
    pub fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), done: RefCell::new(Vec::new()) }
    }

    /// Runs one step and reports it with its seconds.
    ///
    /// # Errors
    /// The step's own; it is not reported here.
    pub fn step<T>(&self, name: &str, work: impl FnOnce(&Running) -> Result<T>) -> Result<T> {
        let bar = if self.terminal { terminal_bar(name) } else { ProgressBar::hidden() };
        let running = Running { bar, detail: std::sync::Mutex::default() };
        let begin = Instant::now();
        let result = work(&running);
        let took = begin.elapsed();
        running.bar.finish_and_clear();
        let detail = running.detail.into_inner().unwrap_or_default();
        let state = if result.is_ok() { "ok" } else { "failed" };
        eprintln!("{name:<12} {state:<6} {:>7.1} s  {detail}", took.as_secs_f64());
        self.done.borrow_mut().push((name.to_owned(), took));
        result
    }

    /// Seconds of all steps together.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.done.borrow().iter().map(|(_, took)| *took).sum()
    }

    /// A line that is no step.
    pub fn note(&self, text: &str) {
        eprintln!("{text}");
    }
}

/// Redraws itself ten times a second, so that a step without a known length is seen to be alive.
fn terminal_bar(name: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg:<12} {elapsed:>5} {wide_bar} {bytes}") {
        bar.set_style(style);
    }
    bar.set_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// A size as a person reads it.
#[must_use]
pub fn mib(bytes: u64) -> String {
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit after the point")]
    let value = bytes as f64 / f64::from(1 << 20);
    format!("{value:.1} MiB")
}

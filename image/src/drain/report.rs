//! What a drain says, on a terminal and in a log alike: a line each, with the seconds since its begin.

use std::io::Write as _;
use std::time::Instant;

/// Where it goes: standard output.
#[derive(Debug)]
pub(super) struct Report(Instant);

impl Report {
    pub(super) fn begin() -> Self {
        Self(Instant::now())
    }

    /// A line of the plan.
    pub(super) fn line(&self, text: &str) {
        // Whoever reads may have gone; the drain goes on.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Something that has happened.
    pub(super) fn say(&self, text: &str) {
        self.line(&format!("{:>6.1} s  {text}", self.0.elapsed().as_secs_f64()));
    }
}

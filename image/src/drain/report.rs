//! What a drain says, on a terminal and in a log alike: a line each, with the seconds since its begin.

use std::cell::RefCell;
use std::io::Write;
use std::time::Instant;
use tatara_spec::redact::printable;

/// Where it goes.
pub(super) struct Report {
    begun: Instant,
    out: RefCell<Box<dyn Write>>,
}

impl Report {
    pub(super) fn begin(out: impl Write + 'static) -> Self {
        Self { begun: Instant::now(), out: RefCell::new(Box::new(out)) }
    }

    /// A line of the plan. Much of it is the cluster's text, so nothing of it may reach a terminal that would obey it.
    pub(super) fn line(&self, text: &str) {
        // Whoever reads may have gone; the drain goes on.
        let _ = writeln!(self.out.borrow_mut(), "{}", printable(text));
    }

    /// Something that has happened.
    pub(super) fn say(&self, text: &str) {
        self.line(&format!("{:>6.1} s  {text}", self.begun.elapsed().as_secs_f64()));
    }
}

//! `tatara.panic=`: a panic on purpose, to see what becomes of a boot then.

use crate::machine::write_run;
use tatara_spec::step::Step;

/// The steps that have had their panic; a worker that is started again finds them here.
const DONE: &str = "/run/tatara/panicked";

/// Panics if that is wanted at this step and has not been yet.
///
/// Where it cannot be kept that it was, it does not: it would never end.
#[expect(clippy::panic, reason = "it is what was asked for")]
pub(crate) fn panic_at(step: Step, wanted: &[Step]) {
    if !wanted.contains(&step) {
        return;
    }
    let done = std::fs::read_to_string(DONE).unwrap_or_default();
    if done.lines().any(|line| line == step.name()) {
        return;
    }
    if write_run(DONE, format!("{done}{step}\n").as_bytes()).is_ok() {
        panic!("tatara.panic={step} asks for this");
    }
}

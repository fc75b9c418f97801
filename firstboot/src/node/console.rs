//! Steps of the node on its consoles and in its log, as PID 1 prints its own.

use super::Node;
use std::io::Write;
use tatara_spec::step::Step;
use tatara_spec::{Fault, redact};

/// How a step stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mark<'a> {
    /// It begins.
    Begin,
    /// It is done, with this detail.
    Ok(&'a str),
    /// It failed.
    Fail(&'a Fault),
}

/// One line on standard output, the journal's, and on the console.
pub(super) fn step(node: &Node, step: Step, mark: Mark<'_>) {
    let t = seconds_since_boot();
    let line = match mark {
        Mark::Begin => format!("tatara: step={step} state=begin t={t:.3}"),
        Mark::Ok("") => format!("tatara: step={step} state=ok t={t:.3}"),
        Mark::Ok(detail) => format!("tatara: step={step} state=ok t={t:.3} {detail}"),
        Mark::Fail(fault) => {
            format!("tatara: step={step} state=fail t={t:.3} code={} {}", fault.code, fault.chain())
        }
    };
    let line = redact::urls(&line);
    announce(node, &line);
    // The journal that went away is no reason to stop what is being done.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// The kernel refuses a longer record, so the line would be lost (kernel, kernel/printk/internal.h: PRINTKRB_RECORD_MAX, 1024 bytes); some
/// of them are the level's. The journal has all of it.
const RECORD_BYTES: usize = 1000;

/// Cut where the kernel would refuse it.
fn bounded(line: &str) -> String {
    if line.len() <= RECORD_BYTES {
        return line.to_owned();
    }
    format!("{}...", &line[..line.floor_char_boundary(RECORD_BYTES - 3)])
}

/// Seconds since the kernel's start.
pub(super) fn seconds_since_boot() -> f64 {
    tatara_sys::time::since_boot().as_secs_f64()
}

/// To every console through the kernel log, at level 5 (notice): a quiet console still has it in the log. Best effort,
/// as what was done is done also where /dev/kmsg cannot be written.
pub(super) fn announce(node: &Node, line: &str) {
    if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open(node.run("/dev/kmsg")) {
        let _ = kmsg.write_all(format!("<5>{}\n", bounded(line)).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::{RECORD_BYTES, bounded};

    #[test]
    fn a_long_line_is_cut_between_letters() {
        assert_eq!(bounded("short"), "short");
        let long = bounded(&"\u{fc}".repeat(RECORD_BYTES));
        assert!(long.len() <= RECORD_BYTES && long.ends_with("\u{fc}..."), "{}", long.len());
    }
}

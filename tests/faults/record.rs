//! The failure record, and the waits between tries.

use crate::{direct, good, installs, served};
use support::guest::{Guest, Start};
use support::server::word;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

/// The first line of the next boot about the disk: what failed the last time, with its code.
const BEFORE: &str = "the last failure on /dev/vda";

/// An upgrade fails, the machine is switched off: the node's next boot says what had failed.
#[test]
fn shown_at_the_next_boot() {
    let mut trial = Trial::new("record", "an upgrade fails, then a restart from the disk", direct());
    let server = served(&trial.setup, &good().text());
    let first = trial.start(&server);
    installs(&first);
    drop(first);
    server.other_release();
    server.replace("root.erofs.zst", crate::payload::flipped);
    let guest = trial.start(&server);
    trial.refused(&guest, Code::PayloadDigest, "root.erofs.zst");
    assert!(guest.never(BEFORE), "there was none before:\n{}", guest.tail());
    drop(guest);
    let alone = Guest::start(&trial.setup.again(Start::Disk), None);
    let line = alone.expect(BEFORE, SOON);
    assert!(line.contains(Code::PayloadDigest.name()) && line.contains("step=payload"), "{line}");
    alone.printed(Code::PayloadDigest.hint(), SOON);
    assert_eq!(alone.findings(SOON)["boots"], 2, "the node as it was");
    trial.ends(alone, Disks::Irrelevant);
}

/// A first install fails half-way, the machine is switched off: the next boot says what had failed, from the half-written disk.
#[test]
fn shown_after_half_an_install() {
    let mut trial = Trial::new("record", "an install fails half-way, then a restart", direct());
    let server = served(&trial.setup, &good().text());
    server.replace("root.erofs.zst", crate::payload::flipped);
    let guest = trial.start(&server);
    trial.refused(&guest, Code::PayloadDigest, "root.erofs.zst");
    drop(guest);
    server.restore("root.erofs.zst");
    let again = trial.start(&server);
    let line = again.expect(BEFORE, SOON);
    assert!(line.contains(Code::PayloadDigest.name()), "{line}");
    installs(&again);
    trial.ends(again, Disks::Installed);
}

/// Each wait is between half and the whole of its step; the cap is a unit test's.
#[test]
fn waits_grow() {
    let setup = direct().disk_gib(2);
    let trial = Trial::new("record", "five tries in a row fail: the waits between them", setup);
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    let mut failed = Vec::new();
    for step in [1.0, 2.0, 4.0, 8.0, 16.0] {
        let line = guest.expect("code=E-DISK-SMALL", SOON);
        let at: f64 = word(&line, "t").and_then(|t| t.parse().ok()).expect("t=");
        failed.push((at, step));
        let text = guest.expect("try again in", SOON);
        let said = text.rsplit("try again in ").next().and_then(|rest| rest.split(' ').next());
        let said: f64 = said.and_then(|seconds| seconds.parse().ok()).expect("seconds");
        assert!(said >= (step / 2.0_f64).ceil() && said <= step, "{text} where a step is {step} s");
    }
    for pair in failed.windows(2) {
        let [(from, step), (to, _)] = pair else { continue };
        assert!(to - from >= step / 2.0, "only {} s between two tries, a step is {step} s", to - from);
    }
    trial.ends(guest, Disks::Untouched);
}

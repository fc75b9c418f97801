//! What an installed node does without that what it was told to become cannot be had.

use crate::{direct, good, installs, served};
use std::time::{Duration, Instant};
use support::config::NodeYaml;
use support::guest::{Guest, Start};
use support::state;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;
use tatara_spec::plan::OFFLINE_DEADLINE;

/// How late a line of the machine may be seen here.
const LATE: Duration = Duration::from_secs(30);

/// The longest wait between two tries is a minute; the last begins before the end.
const GIVES_UP: Duration = OFFLINE_DEADLINE.saturating_add(Duration::from_secs(150));

/// A node that has staged a config with a higher generation boots from its disk. Its release is not there, and when it is there again nobody
/// confirms at the console. It tries, for the five minutes that a node goes without what it was told, and boots as it is.
#[test]
fn staged_reinstall_that_cannot_be_done() {
    let done = "a staged reinstall without its release, then without whoever has to confirm it; after five minutes the node boots as it was";
    let mut trial = Trial::new("staged", done, direct());
    let server = served(&trial.setup, &good().text());
    installs(&trial.start(&server));
    let confirmed = NodeYaml { generation: 2, install: "  confirm: console\n", ..good() };
    server.publish(&trial.setup.mac(), &confirmed.text());
    state::stage(&trial.setup, &server);
    server.withhold("release.json");
    let guest = Guest::start(&trial.setup.again(Start::Disk), None);
    guest.expect("config and release are fetched, as the staged config asks for more than a boot: ", SOON);
    let asked = Instant::now();
    trial.refused(&guest, Code::HttpStatus, "release.json");
    server.restore("release.json");
    guest.expect("type `vda` and Enter, twice", SOON);
    trial.refused(&guest, Code::Confirm, "nobody has confirmed in time");
    let line = guest.expect("what the staged config asks for (", GIVES_UP);
    // The line that was waited for came before the clock was looked at.
    assert!(asked.elapsed() + LATE >= OFFLINE_DEADLINE, "{line}");
    let found = guest.findings(SOON);
    guest.ended(SOON);
    assert_eq!((&found["texts"]["/etc/hostname"], &found["boots"]), (&"node-1".into(), &2.into()));
    let boot = found["texts"]["/run/tatara/boot.json"].as_str().unwrap_or_default();
    assert!(boot.contains("could not be done for"), "it is not degraded: {boot}");
    assert!(guest.never("step=partition") && guest.never("step=payload"), "{}", guest.tail());
    assert!(state::is_staged(&trial.setup), "the next boot tries again");
    trial.ends(guest, Disks::Irrelevant);
}

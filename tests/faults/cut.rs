//! The power goes during an install. Whatever was on the disk then: started again, the machine ends installed and booted.
//!
//! `make faults` runs every cut; `make test` a dozen, chosen by a seed that is printed.

use crate::{boots, direct, good, installs, served};
use std::sync::LazyLock;
use support::config::NodeYaml;
use support::guest::{Guest, Setup, Start};
use support::medium::{Cache, Log, logged};
use support::seed::{mixed, seed, some};
use support::server::Server;
use support::trial::{Disks, SOON, Trial};

/// Cuts by bytes written, in all.
const POINTS: u64 = 40;
/// Tests that share them, to run side by side, and how many of its ten each takes in `make test`.
const PARTS: u64 = 4;
const SAMPLE: usize = 2;

/// One install, write by write. The log's file has no name any more when it is read.
static RECORDING: LazyLock<Log> = LazyLock::new(|| {
    let setup = direct();
    let path = setup.scratch().join("writes.log");
    let node = logged(&setup.disk_paths()[0], &path);
    let setup = setup.between(node);
    let server = served(&setup, &good().text());
    installs(&Guest::start(&setup, Some(&server)));
    Log::read(&path)
});

/// Started again after a cut: installs if there was anything left to do, and boots; then once more, from its disk alone.
fn recovers(setup: &Setup, server: &Server, cache: Cache, alone: bool) {
    let guest = Guest::start(setup, Some(server));
    let allowed = NodeYaml { wipe: "foreign", ..good() };
    // Half a table of which everything else is lost may be anybody's: it is refused, with a hint, until the operator allows it. A disk
    // that keeps what it says that it has kept never looks so.
    if matches!(cache, Cache::Lies(..))
        && !guest.reaches("step=plan state=ok", &["code=E-DISK-FOREIGN"], SOON)
    {
        server.publish(&setup.mac(), &allowed.text());
    }
    boots(&guest);
    server.publish(&setup.mac(), &good().text());
    drop(guest);
    if alone {
        boots(&Guest::start(&setup.again(Start::Disk), None));
    }
}

/// What the disk's cache does at a cut: nothing, lose what was not flushed, or even lose what it said was flushed.
fn cache(point: u64) -> Cache {
    let number = mixed(seed() ^ point);
    match point % 4 {
        0 => Cache::None,
        1 | 2 => Cache::Loses(number),
        _ => Cache::Lies(number, 2),
    }
}

fn after_bytes(done: &'static str, part: u64) {
    let trial = Trial::new("power", done, direct());
    let server = served(&trial.setup, &good().text());
    let log = &*RECORDING;
    let points: Vec<u64> = (0..POINTS).filter(|point| point % PARTS == part).collect();
    let chosen = some(&points, SAMPLE, part);
    for point in &chosen {
        let bytes = log.bytes() * (point + 1) / (POINTS + 1);
        let cache = cache(point / PARTS);
        println!("the power goes after {bytes} of {} bytes; the cache: {cache:?}", log.bytes());
        log.replay(bytes, cache, &trial.setup.disk_paths()[0]);
        recovers(&trial.setup, &server, cache, *point == chosen[0]);
    }
    trial.keeps(Disks::Installed);
}

#[test]
fn after_bytes_1() {
    after_bytes("power cut after a number of bytes written, ten of forty", 0);
}

#[test]
fn after_bytes_2() {
    after_bytes("the same, another ten", 1);
}

#[test]
fn after_bytes_3() {
    after_bytes("the same, another ten", 2);
}

#[test]
fn after_bytes_4() {
    after_bytes("the same, another ten", 3);
}

/// One disk: cut at a line, started again, cut at the next one.
fn at_lines(done: &'static str, salt: u64, lines: &[&str]) {
    let trial = Trial::new("power", done, direct());
    let server = served(&trial.setup, &good().text());
    for line in some(lines, 1, salt) {
        let guest = trial.start(&server);
        println!("the power goes at `{line}`");
        guest.expect(line, SOON);
        drop(guest);
    }
    recovers(&trial.setup, &server, Cache::None, true);
    trial.keeps(Disks::Installed);
}

#[test]
fn at_console_lines_before_the_first_write() {
    let lines = [
        "step=drivers state=ok",
        "step=network state=ok",
        "step=config state=ok",
        "step=plan state=begin",
        "are fetched and verified",
    ];
    at_lines("power cut at five steps before the first write, one after the other", 11, &lines);
}

#[test]
fn at_console_lines_of_the_payload() {
    let lines = [
        "step=partition state=begin",
        "step=partition state=ok",
        "step=payload state=begin",
        "payload: ",
        "step=payload state=ok",
    ];
    at_lines("power cut at five steps of table and payload, one after the other", 12, &lines);
}

#[test]
fn at_console_lines_of_the_boot_loader() {
    let lines = [
        "step=verify state=ok",
        "step=boot-loader state=begin",
        "step=boot-loader state=ok",
        "step=record state=begin",
        "step=record state=ok",
    ];
    at_lines("power cut at five steps of boot loader and record, one after the other", 13, &lines);
}

#[test]
fn at_console_lines_of_the_first_boot() {
    let lines = [
        "step=root state=begin",
        "step=root state=ok",
        "step=render state=ok",
        "step=switch-root state=begin",
        "step=switch-root state=ok",
    ];
    at_lines("power cut at five steps of the first boot, one after the other", 14, &lines);
}

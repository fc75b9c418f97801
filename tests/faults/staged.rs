//! The power goes while a node makes a staged config its accepted one. Whatever was on the disk then: the next boot from it is with that
//! config, all of it, and without a network.

use crate::{direct, good, installs, served};
use std::path::Path;
use support::config::NodeYaml;
use support::guest::{Guest, Setup, Start};
use support::medium::{Cache, Log, logged};
use support::seed::{mixed, seed, some};
use support::state;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

/// Cuts by bytes written, in all; and how many of them `make test` takes.
const POINTS: u64 = 12;
const SAMPLE: usize = 2;

/// What the config changes: a file of the node, and its kernel's arguments, for which it needs a kexec.
const CHANGE: &str = "users: [{name: newcomer}]\ntuning: {kernelArguments: [newcomer=1]}\n";

/// What is staged takes several sectors, of which a cut may erase some: a long comment.
const LONG: usize = 12 * 1024;

/// Boots from the disk alone, and finds the new config and nothing of it missing.
fn boots_with_it(guest: &Guest) {
    let found = guest.findings(SOON);
    guest.ended(SOON);
    let text = |path: &str| found["texts"][path].as_str().unwrap_or_default().to_owned();
    let (passwd, cmdline, boot) = (text("/etc/passwd"), text("/proc/cmdline"), text("/run/tatara/boot.json"));
    assert!(passwd.contains("\nnewcomer:"), "{passwd}\n{}", guest.tail());
    assert!(cmdline.split(' ').any(|argument| argument == "newcomer=1"), "{cmdline}");
    let boot: serde_json::Value = serde_json::from_str(&boot).expect("boot.json");
    assert_eq!((&boot["serial"], &boot["degraded"]), (&2.into(), &serde_json::json!([])), "{boot}");
    assert!(guest.never("step=network"), "it asked the network:\n{}", guest.tail());
}

/// A boot that accepts it, write by write.
fn accepted(setup: &Setup) -> Log {
    let path = setup.scratch().join("writes.log");
    let between = logged(&setup.disk_paths()[0], &path);
    let guest = Guest::start(&setup.again(Start::Disk).between(between), None);
    guest.expect("step=kexec state=begin", SOON);
    drop(guest);
    Log::read(&path)
}

/// Of the sectors that were not flushed a disk keeps all, or any half.
fn cache(point: u64) -> Cache {
    if point.is_multiple_of(3) { Cache::None } else { Cache::Loses(mixed(seed() ^ point)) }
}

fn copy(from: &Path, to: &Path) {
    let mut cp = std::process::Command::new("cp");
    assert!(cp.arg("--sparse=always").args([from, to]).status().expect("cp").success());
}

#[test]
fn power_cut_while_it_is_accepted() {
    let done = "power cut while a staged config is accepted, after a number of bytes written, twelve of them";
    let trial = Trial::new("staged", done, direct());
    let setup = &trial.setup;
    let server = served(setup, &good().text());
    installs(&trial.start(&server));
    let changes = format!("{CHANGE}# {}\n", "long ".repeat(LONG / 5));
    server.publish(&setup.mac(), &NodeYaml { serial: 2, ..good().with(&changes) }.text());
    state::stage(setup, &server);
    drop(server);
    let disk = &setup.disk_paths()[0];
    let before = setup.scratch().join("before.raw");
    copy(disk, &before);
    let log = accepted(setup);
    for point in some(&(0..POINTS).collect::<Vec<_>>(), SAMPLE, 21) {
        let bytes = log.bytes() * (point + 1) / (POINTS + 1);
        let cache = cache(point);
        println!("the power goes after {bytes} of {} bytes; the cache: {cache:?}", log.bytes());
        copy(&before, disk);
        log.replay_over(bytes, cache, disk);
        boots_with_it(&Guest::start(&setup.again(Start::Disk), None));
        assert!(!state::is_staged(setup), "it is accepted and staged still");
    }
    // The cut that may leave part of a secret, whatever the seed.
    state::half_erase(setup);
    boots_with_it(&Guest::start(&setup.again(Start::Disk), None));
    assert!(!state::is_staged(setup), "it was erased in part, and no boot went on with it");
    trial.keeps(Disks::Irrelevant);
}

/// A node whose state partition is full boots from the network: the config that it fetches cannot be kept. The node boots with the one that it
/// has, since only there can somebody make room, and says so; when there is room it takes the new one.
#[test]
fn no_room_for_a_config() {
    /// Blocks of 4096 bytes; the config is larger.
    const LEFT: u64 = 60;
    let done = "a full state partition: no room for a newer config";
    let mut trial = Trial::new("staged", done, direct());
    let server = served(&trial.setup, &good().text());
    installs(&trial.start(&server));
    let long = "long ".repeat(2 * LEFT as usize * 4096 / 5);
    let newer = NodeYaml { serial: 2, ..good().with(&format!("users: [{{name: newcomer}}]\n# {long}\n")) };
    server.publish(&trial.setup.mac(), &newer.text());
    state::fill(&trial.setup, LEFT);
    let guest = trial.start(&server);
    guest.expect("could not be kept, so the node boots with the accepted one: E-DISK-WRITE", SOON);
    guest.printed(Code::DiskWrite.hint(), SOON);
    trial.saw(Code::DiskWrite);
    let passwd =
        |found: &serde_json::Value| found["texts"]["/etc/passwd"].as_str().unwrap_or_default().to_owned();
    let found = guest.findings(SOON);
    guest.ended(SOON);
    assert!(!passwd(&found).contains("newcomer"), "{}", passwd(&found));
    let boot = found["texts"]["/run/tatara/boot.json"].as_str().unwrap_or_default().to_owned();
    assert!(boot.contains("could not be kept"), "it is not degraded: {boot}");

    state::make_room(&trial.setup);
    let again = trial.start(&server);
    let found = again.findings(SOON);
    assert!(passwd(&found).contains("newcomer"), "{}", passwd(&found));
    trial.ends(again, Disks::Irrelevant);
}

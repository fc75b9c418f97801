//! What becomes of a staged config.

use super::{DISK, config, disk, installed, of_node, on_trial, ours, some_config, some_disks};
use crate::config::NodeConfig;
use crate::plan::{Content, Desired, Disk, Request, Staged, staged};
use crate::slot::{Slot, Trial};
use proptest::prelude::{Just, prop, prop_oneof, proptest};
use proptest::strategy::Strategy as _;

fn short(config: &NodeConfig, release: &str, disks: &[Disk], request: &Request) -> String {
    match staged(Desired { config, release: Some(release) }, disks, request) {
        Staged::Use => "use".to_owned(),
        Staged::Fetch(why) => format!("fetch: {why}"),
        Staged::Wait(_) => "wait".to_owned(),
        Staged::Refuse(fault) => fault.code.to_string(),
    }
}

#[test]
fn one_installed_disk() {
    // generation, serial, release; 2, 5, `old` are installed.
    let rows = [
        (2, 5, "old", "use"),
        (2, 6, "old", "use"),
        (2, 4, "old", "E-CONFIG-SERIAL"),
        (1, 6, "old", "E-CONFIG-SERIAL"),
        (2, 5, "new", "fetch: release old is installed, the config names new"),
        (3, 5, "old", "fetch: `install.generation` was raised from 2 to 3"),
        (3, 6, "new", "fetch: `install.generation` was raised from 2 to 3"),
        (3, 4, "new", "E-CONFIG-SERIAL"),
    ];
    for (generation, serial, release, expected) in rows {
        let found = short(&config(generation, serial), release, &[disk("/dev/vda", ours())], &DISK);
        assert_eq!(found, expected, "generation {generation}, serial {serial}, {release}");
    }
}

#[test]
fn a_slot_on_trial_is_judged_with_the_config_that_it_came_with() {
    let on_b = Request { slot: Some(Slot::B), ..DISK };
    let rows = [
        ("the slot on trial runs", 2, &on_b, "new", "wait"),
        ("its last boot", 0, &on_b, "new", "wait"),
        ("it was given up", 0, &DISK, "old", "use"),
        ("it was given up, and is still named", 0, &DISK, "new", "use"),
    ];
    for (what, left, request, release, expected) in rows {
        let disks = [disk("/dev/vda", Content::Installed(Box::new(on_trial(left))))];
        assert_eq!(short(&config(2, 5), release, &disks, request), expected, "{what}");
    }
    // An install has nothing to go back to, and may need just this config to become healthy.
    let mut first = installed();
    first.env.trial = Some(Trial { slot: Slot::A, boots_left: 1 });
    let disks = [disk("/dev/vda", Content::Installed(Box::new(first)))];
    assert_eq!(short(&config(2, 5), "old", &disks, &DISK), "use");
}

#[test]
fn another_nodes_config_asks_for_nothing() {
    let empty = || disk("/dev/vdb", Content::Empty);
    for generation in [2, 3] {
        let disks = [disk("/dev/vda", of_node("node-2")), empty()];
        assert_eq!(short(&config(generation, 9), "new", &disks, &DISK), "E-DISK-OTHER-NODE");
        assert_eq!(short(&config(generation, 9), "new", &[empty()], &DISK), "E-DISK-NONE");
    }
    let both = [disk("/dev/vda", of_node("node-2")), disk("/dev/vdb", ours())];
    assert_eq!(short(&config(2, 5), "old", &both, &DISK), "use");
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(4000))]

    /// The accepted one is used only to be followed: never by an older one, and never where a slot has another to go back to.
    #[test]
    fn what_is_used_follows_what_was_accepted(
        config in some_config(), disks in some_disks(), b in prop_oneof![Just(false), Just(true)],
        release in prop::sample::select(vec!["old", "new", "newer"]).prop_map(str::to_owned)
    ) {
        let request = Request { slot: Some(if b { Slot::B } else { Slot::A }), ..DISK };
        if let Staged::Use = staged(Desired { config: &config, release: Some(&release) }, &disks, &request) {
            let follows = disks.iter().any(|disk| match &disk.content {
                Content::Installed(installed) => {
                    let record = &installed.record;
                    !disk.boot_medium && record.node == config.metadata.name
                        && record.serial <= config.metadata.serial && record.generation == config.install.generation
                }
                _ => false,
            });
            assert!(follows, "{disks:?}");
        }
    }
}

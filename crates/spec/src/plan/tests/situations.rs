//! Other nodes' disks, and upgrades by which slot runs and why.

use super::{DISK, NETWORK, config, decide, disk, of_node, on_trial, ours, short};
use crate::config::Wipe;
use crate::error::Code;
use crate::plan::{
    Content, Desired, OFFLINE_DEADLINE, Origin, Plan, Request, Serials, may_do_without, needs_network, plan,
};
use crate::slot::{Slot, Trial};
use std::time::Duration;

#[test]
fn a_disk_of_another_node_is_neither_booted_nor_overwritten() {
    let moved = || [disk("/dev/vda", of_node("node-2"))];
    for (generation, release, request) in
        [(2, Some("old"), NETWORK), (3, Some("old"), NETWORK), (2, Some("new"), NETWORK), (2, None, DISK)]
    {
        let found = decide(&config(generation, 5), release, &moved(), &request);
        assert_eq!(found, "E-DISK-OTHER-NODE", "generation {generation}, {release:?}, {request:?}");
    }
    let Plan::Refuse(fault) =
        plan(Some(Desired { config: &config(2, 5), release: Some("old") }), &moved(), &NETWORK)
    else {
        panic!("not refused")
    };
    assert!(fault.message.contains("`node-2`") && fault.message.contains("`node-1`"), "{}", fault.message);
}

#[test]
fn a_disk_of_another_node_is_installed_to_when_it_may_be_wiped() {
    // Its serial is the other node's: it says nothing about this one's configs.
    let mut config = config(1, 0);
    config.install.wipe = Wipe::Foreign;
    let moved = [disk("/dev/vda", of_node("node-2"))];
    assert_eq!(decide(&config, Some("new"), &moved, &NETWORK), "install /dev/vda a");
}

#[test]
fn a_disk_of_another_node_beside_this_nodes_is_left_alone() {
    let disks = [disk("/dev/vda", of_node("node-2")), disk("/dev/vdb", ours())];
    assert_eq!(decide(&config(2, 5), Some("old"), &disks, &NETWORK), "boot /dev/vdb a");
    assert_eq!(decide(&config(2, 5), None, &disks, &DISK), "boot /dev/vdb a");
    assert_eq!(decide(&config(3, 5), Some("old"), &disks, &NETWORK), "E-DISK-AMBIGUOUS");
    let mut at_b = config(3, 5);
    at_b.install.disk.path = Some("/dev/vdb".to_owned());
    assert_eq!(decide(&at_b, Some("old"), &disks, &NETWORK), "reinstall /dev/vdb a");
    let mut at_empty = config(2, 5);
    at_empty.install.disk.path = Some("/dev/vdb".to_owned());
    let disks = [disk("/dev/vda", of_node("node-2")), disk("/dev/vdb", Content::Empty)];
    assert_eq!(decide(&at_empty, Some("old"), &disks, &NETWORK), "install /dev/vdb a");
    assert!(needs_network(Some(&at_empty), &disks, &DISK).is_some(), "this node is not installed");
}

/// Both slots hold a release, `a` is blessed; which is overwritten by `newer`?
fn upgrade(trial: Option<Trial>, running: Option<Slot>) -> String {
    let mut installed = on_trial(0);
    installed.env.trial = trial;
    let disks = [disk("/dev/vda", Content::Installed(Box::new(installed)))];
    let request = match running {
        Some(_) => Request { slot: running, refresh: true, ..DISK },
        None => NETWORK,
    };
    decide(&config(2, 5), Some("newer"), &disks, &request)
}

fn trial(boots_left: u8) -> Option<Trial> {
    Some(Trial { slot: Slot::B, boots_left })
}

#[test]
fn an_upgrade_leaves_the_slot_that_works() {
    let (a, b) = (Some(Slot::A), Some(Slot::B));
    let rows = [
        ("the blessed slot runs", None, a, "upgrade /dev/vda b"),
        ("from the network, nothing on trial", None, None, "upgrade /dev/vda b"),
        ("the trial was given up", trial(0), a, "upgrade /dev/vda b"),
        ("the same from the network", trial(0), None, "upgrade /dev/vda b"),
        ("the slot on trial cannot be loaded", trial(2), a, "upgrade /dev/vda b"),
        ("the slot on trial runs, the blessed one is the way back", trial(2), b, "upgrade /dev/vda b"),
        ("the slot on trial would boot next", trial(2), None, "upgrade /dev/vda b"),
        ("the blessed slot cannot be loaded, so the other one runs", None, b, "upgrade /dev/vda a"),
        ("the last boot of a trial, or a way out of the blessed slot", trial(0), b, "boot /dev/vda b"),
    ];
    for (what, trial, running, expected) in rows {
        assert_eq!(upgrade(trial, running), expected, "{what}");
    }
}

#[test]
fn a_node_does_without_its_config_only_when_nobody_asked_and_nobody_answers() {
    let late = OFFLINE_DEADLINE;
    let usb = Request { origin: Origin::Usb, ..NETWORK };
    let refresh = Request { refresh: true, ..NETWORK };
    let early = late - Duration::from_millis(1);
    let rows = [
        (true, NETWORK, Code::NetConnect, late),
        (true, NETWORK, Code::NetDhcp, late),
        (true, NETWORK, Code::HttpStatus, late),
        (true, NETWORK, Code::TlsTime, late),
        (false, NETWORK, Code::NetConnect, early),
        (false, refresh, Code::NetConnect, late),
        (false, usb, Code::NetConnect, late),
        (false, DISK, Code::NetConnect, late),
        (false, NETWORK, Code::ConfigInvalid, late),
        (false, NETWORK, Code::ConfigSerial, late),
        (false, NETWORK, Code::ConfigSignature, late),
        (false, NETWORK, Code::DiskAmbiguous, late),
        (false, NETWORK, Code::CmdlineBad, late),
    ];
    for (expected, request, code, waited) in rows {
        let found = may_do_without(&request, code, waited);
        assert_eq!(found, expected, "{request:?} {code} {waited:?}");
    }
    // And without a release such a boot is the only thing that a plan can be.
    let found = |content| decide(&config(3, 5), None, &[disk("/dev/vda", content)], &NETWORK);
    assert_eq!(found(ours()), "boot /dev/vda a");
    assert_eq!(found(Content::Empty), "E-DISK-NONE");
    assert_eq!(found(Content::Interrupted), "E-DISK-NONE");
}

#[test]
fn a_reinstall_that_failed_forgets_no_serial() {
    let mut serials = Serials::default();
    let older = config(3, 4);
    serials.check(&older).expect("nothing is known yet");
    serials.note(&[disk("/dev/vda", ours()), disk("/dev/vdb", of_node("node-2"))]);
    // The record, with serial 5, is erased by now.
    serials.note(&[disk("/dev/vda", Content::Interrupted)]);
    assert_eq!(serials.check(&older).expect_err("it is older").code, Code::ConfigSerial);
    serials.check(&config(3, 5)).expect("as new as the last one");
    let mut other = older;
    other.metadata.name = "node-3".to_owned();
    serials.check(&other).expect("another node");
}

#[test]
fn an_upgrade_that_was_cut_goes_to_the_same_slot_again() {
    let mut installed = on_trial(0);
    (installed.env.trial, installed.env.slot) = (None, Slot::A);
    installed.record.slots.remove(&Slot::A);
    let disks = [disk("/dev/vda", Content::Installed(Box::new(installed)))];
    let config = config(2, 5);
    let decided = plan(Some(Desired { config: &config, release: Some("newer") }), &disks, &NETWORK);
    assert_eq!(short(&decided), "upgrade /dev/vda a", "slot b is the only one that holds a release");
}

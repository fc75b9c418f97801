mod situations;
mod staged;

use super::{
    Content, Desired, Disk, Installed, Origin, Plan, Request, matching, needs_network, plan, wipe_plan,
};
use crate::config::{DiskSelector, DiskTransport, NodeConfig, Wipe};
use crate::layout::DISK_MIN_BYTES;
use crate::record::{InstallRecord, SlotRecord};
use crate::slot::{BootEnv, Slot, Trial};
use proptest::prelude::{Just, Strategy, any, prop, prop_oneof, proptest};
use std::collections::BTreeMap;

fn config(generation: u64, serial: u64) -> NodeConfig {
    let yaml = format!(
        "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {{name: node-1, serial: {serial}}}\n\
         install: {{generation: {generation}, release: {{url: 'https://h/release.json'}}}}\n"
    );
    serde_saphyr::from_str(&yaml).expect("config")
}

fn disk(path: &str, content: Content) -> Disk {
    Disk {
        path: path.to_owned(),
        bytes: DISK_MIN_BYTES,
        sector_bytes: 512,
        wwn: None,
        serial: Some(format!("S{path}")),
        model: Some("QEMU HARDDISK".to_owned()),
        transport: Some("virtio".to_owned()),
        rotational: false,
        removable: false,
        read_only: false,
        boot_medium: false,
        content,
    }
}

/// Generation 2, serial 5, release `old` in slot a.
fn installed() -> Installed {
    let slots = BTreeMap::from([(Slot::A, SlotRecord { release: "old".to_owned(), root_bytes: 4096 })]);
    Installed {
        record: InstallRecord { node: "node-1".to_owned(), generation: 2, serial: 5, slots },
        env: BootEnv { slot: Slot::A, trial: None, request: None },
    }
}

fn ours() -> Content {
    Content::Installed(Box::new(installed()))
}

fn of_node(name: &str) -> Content {
    let mut installed = installed();
    installed.record.node = name.to_owned();
    Content::Installed(Box::new(installed))
}

fn foreign() -> Content {
    Content::Foreign(vec!["an LVM2 physical volume".to_owned()])
}

const NETWORK: Request = Request { origin: Origin::Network, slot: None, refresh: false };
const DISK: Request = Request { origin: Origin::Disk, slot: Some(Slot::A), refresh: false };

/// The plan in short: what, disk, slot; or the code.
fn short(plan: &Plan) -> String {
    match plan {
        Plan::Install(t) => format!("install {} {}", t.disk, t.slot),
        Plan::Reinstall(t) => format!("reinstall {} {}", t.disk, t.slot),
        Plan::Upgrade(t) => format!("upgrade {} {}", t.disk, t.slot),
        Plan::Boot(t) => format!("boot {} {}", t.disk, t.slot),
        Plan::Refuse(fault) => fault.code.to_string(),
    }
}

fn decide(config: &NodeConfig, release: Option<&str>, disks: &[Disk], request: &Request) -> String {
    short(&plan(Some(Desired { config, release }), disks, request))
}

#[test]
fn one_disk_by_content() {
    let changed = |change: fn(&mut Disk)| {
        let mut disk = disk("/dev/vda", Content::Empty);
        change(&mut disk);
        disk
    };
    let rows = [
        (disk("/dev/vda", Content::Empty), "install /dev/vda a"),
        (disk("/dev/vda", Content::Interrupted), "install /dev/vda a"),
        (disk("/dev/vda", foreign()), "E-DISK-FOREIGN"),
        (disk("/dev/vda", Content::Unreadable("EIO".to_owned())), "E-DISK-READ"),
        (changed(|disk| disk.bytes -= 1), "E-DISK-SMALL"),
        (changed(|disk| disk.bytes = 0), "E-DISK-NONE"),
        (changed(|disk| disk.read_only = true), "E-DISK-READONLY"),
        (changed(|disk| disk.boot_medium = true), "E-DISK-NONE"),
    ];
    for (disk, expected) in rows {
        let found = decide(&config(1, 0), Some("new"), std::slice::from_ref(&disk), &NETWORK);
        assert_eq!(found, expected, "{disk:?}");
    }
}

#[test]
fn one_installed_disk() {
    // generation, serial, release known, origin
    let rows = [
        (2, 5, Some("old"), NETWORK, "boot /dev/vda a"),
        (2, 5, Some("new"), NETWORK, "upgrade /dev/vda b"),
        (3, 5, Some("old"), NETWORK, "reinstall /dev/vda a"),
        (3, 6, Some("new"), NETWORK, "reinstall /dev/vda a"),
        (1, 5, Some("new"), NETWORK, "boot /dev/vda a"),
        (2, 4, Some("old"), NETWORK, "E-CONFIG-SERIAL"),
        (3, 4, Some("new"), NETWORK, "E-CONFIG-SERIAL"),
        (2, 5, None, DISK, "boot /dev/vda a"),
        (3, 5, None, DISK, "boot /dev/vda a"),
        (3, 5, Some("old"), DISK, "reinstall /dev/vda a"),
        (2, 5, Some("new"), DISK, "upgrade /dev/vda b"),
        (2, 4, None, DISK, "E-CONFIG-SERIAL"),
    ];
    for (generation, serial, release, request, expected) in rows {
        let disks = [disk("/dev/vda", ours())];
        let found = decide(&config(generation, serial), release, &disks, &request);
        assert_eq!(found, expected, "generation {generation}, serial {serial}, {release:?}, {request:?}");
    }
}

#[test]
fn a_foreign_disk_is_taken_only_when_the_config_says_so() {
    let mut config = config(1, 0);
    config.install.wipe = Wipe::Foreign;
    let disks = [disk("/dev/vda", foreign())];
    assert_eq!(decide(&config, Some("new"), &disks, &NETWORK), "install /dev/vda a");
}

#[test]
fn without_a_config_only_a_boot_is_possible() {
    assert_eq!(short(&plan(None, &[disk("/dev/vda", ours())], &DISK)), "boot /dev/vda a");
    assert_eq!(short(&plan(None, &[disk("/dev/vda", Content::Interrupted)], &DISK)), "E-DISK-NONE");
    assert_eq!(
        short(&plan(None, &[disk("/dev/vda", ours()), disk("/dev/vdb", ours())], &DISK)),
        "E-DISK-AMBIGUOUS"
    );
}

#[test]
fn without_a_release_nothing_is_installed() {
    for content in [Content::Empty, Content::Interrupted] {
        assert_eq!(decide(&config(1, 0), None, &[disk("/dev/vda", content)], &DISK), "E-DISK-NONE");
    }
}

#[test]
fn two_disks() {
    let (a, b) = ("/dev/vda", "/dev/vdb");
    let at_b = |generation| {
        let mut config = config(generation, 5);
        config.install.disk.path = Some(b.to_owned());
        config
    };
    let rows = [
        ("both empty and matching", config(2, 5), Content::Empty, Content::Empty, "E-DISK-AMBIGUOUS"),
        ("one of two matches", at_b(2), Content::Empty, Content::Empty, "install /dev/vdb a"),
        ("cut off on the matching one", at_b(2), Content::Empty, Content::Interrupted, "install /dev/vdb a"),
        ("a disk added later keeps nobody down", config(2, 5), ours(), Content::Empty, "boot /dev/vda a"),
        ("but a reinstall must be unambiguous", config(3, 5), ours(), Content::Empty, "E-DISK-AMBIGUOUS"),
        ("the selector no longer matches ours", at_b(2), ours(), foreign(), "boot /dev/vda a"),
        (
            "ours elsewhere, an empty one matches, nothing raised",
            at_b(2),
            ours(),
            Content::Empty,
            "boot /dev/vda a",
        ),
        ("the node moves to a new disk", at_b(3), ours(), Content::Empty, "install /dev/vdb a"),
        ("but not onto somebody else's", at_b(3), ours(), foreign(), "E-DISK-FOREIGN"),
        ("two of ours, no telling", config(2, 5), ours(), ours(), "E-DISK-AMBIGUOUS"),
        ("two of ours, one matches", at_b(2), ours(), ours(), "boot /dev/vdb a"),
    ];
    for (what, config, on_a, on_b, expected) in rows {
        let mut disks = [disk(a, on_a), disk(b, on_b)];
        assert_eq!(decide(&config, Some("old"), &disks, &NETWORK), expected, "{what}");
        disks.reverse();
        assert_eq!(decide(&config, Some("old"), &disks, &NETWORK), expected, "{what}, in another order");
    }
}

/// Release `new` in slot b, on trial with so many boots left.
fn on_trial(boots_left: u8) -> Installed {
    let mut installed = installed();
    installed.record.slots.insert(Slot::B, SlotRecord { release: "new".to_owned(), root_bytes: 4096 });
    installed.env.trial = Some(Trial { slot: Slot::B, boots_left });
    installed
}

#[test]
fn trials() {
    let disks = |installed| [disk("/dev/vda", Content::Installed(Box::new(installed)))];
    let config = config(2, 5);
    assert_eq!(decide(&config, Some("new"), &disks(on_trial(2)), &NETWORK), "boot /dev/vda b");
    // Not blessed in time: the old slot boots, and the bad release is not written again.
    assert_eq!(decide(&config, Some("new"), &disks(on_trial(0)), &NETWORK), "boot /dev/vda a");
    // Another release is: over the bad one, never over the blessed one.
    assert_eq!(decide(&config, Some("newer"), &disks(on_trial(0)), &NETWORK), "upgrade /dev/vda b");
    assert_eq!(decide(&config, Some("newer"), &disks(on_trial(2)), &NETWORK), "upgrade /dev/vda b");
    // GRUB's choice counts on a disk boot, unless that slot is empty.
    let slot_b = Request { slot: Some(Slot::B), ..DISK };
    assert_eq!(decide(&config, None, &disks(on_trial(0)), &slot_b), "boot /dev/vda b");
    assert_eq!(decide(&config, None, &disks(installed()), &slot_b), "boot /dev/vda a");
    let reason = match plan(Some(Desired { config: &config, release: None }), &disks(on_trial(0)), &DISK) {
        Plan::Boot(target) => target.reason,
        other => panic!("{other:?}"),
    };
    assert!(reason.contains("E-SLOT-FALLBACK"), "{reason}");
}

#[test]
fn a_record_without_slots_boots_nothing() {
    let mut installed = installed();
    installed.record.slots.clear();
    let disks = [disk("/dev/vda", Content::Installed(Box::new(installed)))];
    assert_eq!(decide(&config(2, 5), Some("old"), &disks, &NETWORK), "E-ROOT-MOUNT");
}

#[test]
fn a_write_protected_disk_boots_but_takes_no_upgrade() {
    let mut disk = disk("/dev/vda", ours());
    disk.read_only = true;
    let disks = [disk];
    assert_eq!(decide(&config(2, 5), Some("old"), &disks, &NETWORK), "boot /dev/vda a");
    assert_eq!(decide(&config(2, 5), Some("new"), &disks, &NETWORK), "E-DISK-READONLY");
    assert_eq!(decide(&config(3, 5), Some("new"), &disks, &NETWORK), "E-DISK-READONLY");
}

#[test]
fn selectors() {
    type Change = fn(&mut DiskSelector);
    let mut found = disk("/dev/sda", Content::Empty);
    found.wwn = Some("naa.5002538E40B0D5F5".to_owned());
    let wanted = |change: fn(&mut DiskSelector)| {
        let mut selector = DiskSelector::default();
        change(&mut selector);
        selector
    };
    let rows: [(bool, Change); 17] = [
        (true, |_| {}),
        (true, |s| s.wwn = Some("0x5002538e40b0d5f5".to_owned())),
        (false, |s| s.wwn = Some("0x5002538e40b0d5f".to_owned())),
        (true, |s| s.serial = Some("S/dev/sda".to_owned())),
        (false, |s| s.serial = Some("S/dev/sd".to_owned())),
        (true, |s| s.model = Some("QEMU*".to_owned())),
        (true, |s| s.model = Some("QEMU?HARD*[!D]".to_owned())),
        (false, |s| s.model = Some("QEMU".to_owned())),
        (false, |s| s.model = Some("[".to_owned())),
        (true, |s| s.transport = Some(DiskTransport::Virtio)),
        (false, |s| s.transport = Some(DiskTransport::Nvme)),
        (true, |s| s.min_size = Some(DISK_MIN_BYTES.to_string())),
        (false, |s| s.min_size = Some("1TB".to_owned())),
        (false, |s| s.max_size = Some("1GiB".to_owned())),
        (false, |s| s.max_size = Some("lots".to_owned())),
        (false, |s| s.rotational = Some(true)),
        (false, |s| (s.path, s.rotational) = (Some("/dev/sda1".to_owned()), Some(false))),
    ];
    for (i, (expected, change)) in rows.into_iter().enumerate() {
        let selector = wanted(change);
        assert_eq!(
            matching(&selector, std::slice::from_ref(&found)).len() == 1,
            expected,
            "row {i}: {selector:?}"
        );
    }
}

#[test]
fn a_refusal_lists_every_disk_with_the_reason() {
    let mut config = config(1, 0);
    config.install.disk.model = Some("Samsung*".to_owned());
    let mut stick = disk("/dev/sdb", foreign());
    stick.boot_medium = true;
    let disks = [disk("/dev/sda", Content::Empty), stick];
    let Plan::Refuse(fault) = plan(Some(Desired { config: &config, release: Some("r") }), &disks, &NETWORK)
    else {
        panic!("not refused")
    };
    let lines: Vec<&str> = fault.message.lines().collect();
    assert_eq!(lines.len(), 3, "{}", fault.message);
    assert!(
        lines[1].starts_with("/dev/sda 7.5 GiB `QEMU HARDDISK` serial S/dev/sda (virtio): model is"),
        "{}",
        lines[1]
    );
    assert!(lines[2].contains("was booted from it"), "{}", lines[2]);
}

#[test]
fn the_wipe_plan_has_a_line_a_disk() {
    let mut config = config(3, 5);
    config.install.disk.path = Some("/dev/vdb".to_owned());
    let disks = [disk("/dev/vda", ours()), disk("/dev/vdb", Content::Empty), disk("/dev/vdc", foreign())];
    let decided = plan(Some(Desired { config: &config, release: Some("r") }), &disks, &NETWORK);
    let lines = wipe_plan(&decided, &disks, &config.install.disk);
    assert_eq!(lines.len(), 3);
    assert!(lines[0].contains("/dev/vdb") && lines[0].contains("OVERWRITTEN"), "{}", lines[0]);
    assert!(lines[1].contains("/dev/vda") && lines[1].contains("not touched"), "{}", lines[1]);
    assert!(lines[1].contains("the firmware may prefer"), "{}", lines[1]);
    assert!(lines[2].contains("/dev/vdc") && !lines[2].contains("OVERWRITTEN"), "{}", lines[2]);
}

#[test]
fn what_needs_the_network() {
    let needs = |config: Option<&NodeConfig>, content, request: &Request| {
        needs_network(config, &[disk("/dev/vda", content)], request).is_some()
    };
    let (same, raised) = (config(2, 5), config(3, 5));
    assert!(!needs(Some(&same), ours(), &DISK));
    assert!(!needs(None, ours(), &DISK));
    assert!(needs(Some(&raised), ours(), &DISK));
    assert!(needs(Some(&same), Content::Interrupted, &DISK));
    assert!(needs(Some(&same), ours(), &Request { refresh: true, ..DISK }));
    assert!(needs(Some(&same), ours(), &NETWORK));
}

fn contents() -> impl Strategy<Value = Content> {
    prop_oneof![
        Just(Content::Empty),
        Just(Content::Interrupted),
        Just(foreign()),
        Just(Content::Unreadable("EIO".to_owned())),
        (0u8..=3).prop_map(|left| Content::Installed(Box::new(on_trial(left)))),
        Just(ours()),
        Just(of_node("node-2")),
    ]
}

fn some_disks() -> impl Strategy<Value = Vec<Disk>> {
    let flags =
        (prop::bool::weighted(0.2), prop::bool::weighted(0.2), prop::bool::weighted(0.2), any::<bool>());
    prop::collection::vec((contents(), flags), 0..4).prop_map(|disks| {
        let make = |(i, (content, (boot_medium, read_only, small, nvme)))| {
            let mut disk = disk(&format!("/dev/d{i}"), content);
            (disk.boot_medium, disk.read_only) = (boot_medium, read_only);
            disk.bytes -= u64::from(small);
            disk.transport = Some(if nvme { "nvme" } else { "sata" }.to_owned());
            disk
        };
        disks.into_iter().enumerate().map(make).collect()
    })
}

fn some_config() -> impl Strategy<Value = NodeConfig> {
    (1u64..4, 4u64..7, any::<bool>(), any::<bool>()).prop_map(|(generation, serial, wipe, nvme)| {
        let mut config = config(generation, serial);
        config.install.wipe = if wipe { Wipe::Foreign } else { Wipe::Never };
        config.install.disk.transport = nvme.then_some(DiskTransport::Nvme);
        config
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let slot = prop::option::of(prop_oneof![Just(Slot::A), Just(Slot::B)]);
    let origin = prop_oneof![Just(Origin::Network), Just(Origin::Usb), Just(Origin::Disk)];
    (origin, slot, any::<bool>()).prop_map(|(origin, slot, refresh)| Request { origin, slot, refresh })
}

fn is_this_node(config: &NodeConfig, disk: &Disk) -> bool {
    match &disk.content {
        Content::Installed(installed) => installed.record.node == config.metadata.name,
        _ => true,
    }
}

fn written(plan: &Plan) -> Option<&str> {
    match plan {
        Plan::Install(target) | Plan::Reinstall(target) | Plan::Upgrade(target) => Some(&target.disk),
        Plan::Boot(_) | Plan::Refuse(_) => None,
    }
}

proptest! {
    #![proptest_config(proptest::test_runner::Config::with_cases(4000))]

    #[test]
    fn nothing_is_destroyed_that_must_not_be(
        config in some_config(), disks in some_disks(), request in requests(), release in prop::option::of("(old|new|newer)")
    ) {
        let decided = plan(Some(Desired { config: &config, release: release.as_deref() }), &disks, &request);
        if let Some(path) = written(&decided) {
            assert!(release.is_some(), "written without a release");
            let disk = disks.iter().find(|disk| disk.path == path).expect("a disk of this machine");
            assert!(!disk.boot_medium && !disk.read_only);
            assert!(!matches!(disk.content, Content::Unreadable(_)));
            assert!(config.install.wipe == Wipe::Foreign || !matches!(disk.content, Content::Foreign(_)));
            assert!(config.install.wipe == Wipe::Foreign || is_this_node(&config, disk), "{disk:?}");
        }
        if let Plan::Boot(target) | Plan::Reinstall(target) | Plan::Upgrade(target) = &decided {
            let disk = disks.iter().find(|disk| disk.path == target.disk).expect("disk");
            assert!(is_this_node(&config, disk), "{disk:?}");
        }
        let matches = matching(&config.install.disk, &disks);
        if let Plan::Install(target) | Plan::Reinstall(target) = &decided {
            assert_eq!(matches.len(), 1);
            assert_eq!(matches[0].path, target.disk);
            assert!(matches[0].bytes >= DISK_MIN_BYTES);
        }
        if let Plan::Reinstall(target) = &decided {
            let disk = disks.iter().find(|disk| disk.path == target.disk).expect("disk");
            let Content::Installed(installed) = &disk.content else { panic!("{disk:?}") };
            assert!(config.install.generation > installed.record.generation);
            assert!(config.metadata.serial >= installed.record.serial);
        }
        if let Plan::Upgrade(target) = &decided {
            let disk = disks.iter().find(|disk| disk.path == target.disk).expect("disk");
            let Content::Installed(installed) = &disk.content else { panic!("{disk:?}") };
            assert!(installed.record.slots.contains_key(&target.slot.other()), "no way back is left");
            let running = request.slot.filter(|_| request.origin == Origin::Disk);
            let works = running.filter(|slot| installed.record.slots.contains_key(slot)).unwrap_or(installed.env.slot);
            assert!(target.slot != works || target.slot != installed.env.slot, "the only working slot was overwritten");
        }
        let installed = disks.iter().any(|disk| {
            !disk.boot_medium && matches!(disk.content, Content::Installed(_)) && is_this_node(&config, disk)
        });
        if matches.len() != 1 && !installed {
            assert!(matches!(decided, Plan::Refuse(_)), "{decided:?}");
        }
    }

    #[test]
    fn the_order_of_the_disks_does_not_matter(config in some_config(), disks in some_disks(), request in requests()) {
        let desired = Desired { config: &config, release: Some("new") };
        let mut reversed = disks.clone();
        reversed.reverse();
        assert_eq!(short(&plan(Some(desired), &disks, &request)), short(&plan(Some(desired), &reversed, &request)));
    }

    #[test]
    fn every_disk_has_its_line(config in some_config(), disks in some_disks()) {
        let decided = plan(Some(Desired { config: &config, release: Some("new") }), &disks, &NETWORK);
        assert_eq!(wipe_plan(&decided, &disks, &config.install.disk).len(), disks.len());
    }
}

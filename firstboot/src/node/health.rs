//! Whether the node is healthy enough for its slot to be trusted.
//!
//! Healthy means: `multi-user.target` was reached; what makes the node reachable runs; no unit of the release failed; and nothing failed
//! that `multi-user.target` requires, directly or by others (`Requires=`, `Requisite=`, `BindsTo=`, and with them the mounts of
//! `RequiresMountsFor=`). A mount or service that the config or a person added may fail without the release being bad.

use super::systemd::{Properties, Unit};
use std::collections::{BTreeMap, BTreeSet};

/// What [`findings`] needs to know of every unit once one has failed, for systemctl(1).
pub(super) const PROPERTIES: &str = "Id,Requires,Requisite,BindsTo";

/// The state of a node that has booted.
const GOAL: &str = "multi-user.target";

/// Without these nobody can reach or repair the node.
const REQUIRED: [&str; 4] = [GOAL, "ssh.service", "systemd-networkd.service", "systemd-journald.service"];

/// Units of the release whose failure is not its own: the network may be down while a node boots, and the others do what the config says;
/// the cluster and the servers of images and configs may be away for as long as they like; a kernel that keeps work on isolated CPUs would do so from another slot too, and the status names it.
/// Bless itself is `failed` for a moment when it is started again.
const TOLERATED: [&str; 10] = [
    "systemd-networkd-wait-online.service",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "tatara-accept.service",
    "tatara-bless.service",
    "tatara-images.service",
    "tatara-join.service",
    "tatara-pin.service",
    "tatara-pin-again.service",
    "tatara-stage.service",
];

/// Findings, one sentence each; empty when the slot may be blessed.
///
/// `units` are all loaded units, `requirements` the same with [`PROPERTIES`].
pub(super) fn findings(units: &[Unit], requirements: &[Properties]) -> Vec<String> {
    let states: BTreeMap<&str, &str> =
        units.iter().map(|unit| (unit.name.as_str(), unit.state.as_str())).collect();
    let state = |name: &str| states.get(name).copied().unwrap_or("missing");
    let mut findings: Vec<String> = REQUIRED
        .iter()
        .filter(|name| state(name) != "active")
        .map(|name| format!("{name} is {}, not active", state(name)))
        .collect();
    let requirements: BTreeMap<&str, &Properties> =
        requirements.iter().filter_map(|unit| Some((unit.get("Id")?.as_str(), unit))).collect();
    let needed = required_by(GOAL, &requirements);
    for name in states.keys().filter(|name| state(name) == "failed" && !REQUIRED.contains(name)) {
        let ours = name.starts_with("systemd-") || name.starts_with("tatara-");
        if needed.contains(name) {
            findings.push(format!("{name} failed, and {GOAL} requires it"));
        } else if ours && !TOLERATED.contains(name) {
            findings.push(format!("{name} failed"));
        }
    }
    findings
}

/// All units that a unit requires, directly or by others.
fn required_by<'a>(goal: &'a str, units: &BTreeMap<&str, &'a Properties>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut next = vec![goal];
    while let Some(unit) = next.pop().and_then(|name| units.get(name)) {
        let lists = ["Requires", "Requisite", "BindsTo"].iter().filter_map(|list| unit.get(*list));
        next.extend(lists.flat_map(|list| list.split_whitespace()).filter(|name| found.insert(*name)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::node::systemd::{Unit, parse};

    const GOOD: &str = "Id=multi-user.target\nActiveState=active\nRequires=basic.target\n\n\
         Id=ssh.service\nActiveState=active\n\nId=systemd-networkd.service\nActiveState=active\n\n\
         Id=systemd-journald.service\nActiveState=active\n\n\
         Id=basic.target\nActiveState=active\nRequires=missing.target sysinit.target\n\n\
         Id=sysinit.target\nActiveState=active\nBindsTo=var.mount\n\n";

    fn all(text: &str) -> Vec<String> {
        let units = parse(text);
        let listed: Vec<Unit> = units
            .iter()
            .map(|unit| Unit { name: unit["Id"].clone(), state: unit["ActiveState"].clone() })
            .collect();
        findings(&listed, &units)
    }

    fn node(more: &str) -> Vec<String> {
        all(&format!("{GOOD}{more}"))
    }

    #[test]
    fn a_healthy_node_has_no_findings() {
        assert_eq!(node(""), [""; 0]);
    }

    #[test]
    fn failures_of_the_release_count_and_others_do_not() {
        for name in ["systemd-resolved.service", "tatara-hostkeys.service"] {
            assert_eq!(node(&format!("Id={name}\nActiveState=failed")), [format!("{name} failed")]);
        }
        for name in [
            "my-own.service",
            "var-lib-etcd.mount",
            "mnt-usb.mount",
            "systemd-networkd-wait-online.service",
            "systemd-modules-load.service",
            "tatara-pin.service",
            "tatara-accept.service",
            "tatara-images.service",
            "tatara-join.service",
        ] {
            assert_eq!(node(&format!("Id={name}\nActiveState=failed")), [""; 0], "{name}");
        }
    }

    #[test]
    fn what_multi_user_requires_counts_however_far_below() {
        let found = node("Id=var.mount\nActiveState=failed");
        assert_eq!(found, ["var.mount failed, and multi-user.target requires it"]);
    }

    #[test]
    fn a_boot_that_has_not_come_so_far_is_not_blessed() {
        let found = all(&GOOD.replacen("ActiveState=active", "ActiveState=inactive", 1));
        assert_eq!(found, ["multi-user.target is inactive, not active"]);
    }

    #[test]
    fn what_must_run_and_does_not_is_named() {
        let found = all("Id=ssh.service\nActiveState=activating");
        assert_eq!(found[0], "multi-user.target is missing, not active");
        assert_eq!(found[1], "ssh.service is activating, not active");
    }

    /// Units may require each other.
    #[test]
    fn a_circle_ends() {
        assert_eq!(
            node("Id=missing.target\nRequires=basic.target missing.target\nActiveState=failed").len(),
            1
        );
    }
}

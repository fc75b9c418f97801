//! Whether the node is healthy enough for its slot to be trusted.

use super::systemd::Properties;

/// Without these nobody can reach or repair the node.
const REQUIRED: [&str; 3] = ["ssh.service", "systemd-networkd.service", "systemd-journald.service"];

/// A node that boots while its network is down is not broken: this one only says so. Neither is one whose kernel keeps
/// work on isolated CPUs: falling back to another slot would not change that, and the status names it.
const TOLERATED: [&str; 3] =
    ["systemd-networkd-wait-online.service", "tatara-pin.service", "tatara-pin-again.service"];

/// Findings, one sentence each; empty when the slot may be blessed.
///
/// `units` are all loaded units with `Id` and `ActiveState`. Failed units of systemd and of tatara count, since they come
/// with the release; what the config or a person added may fail without the release being bad.
pub(super) fn findings(units: &[Properties]) -> Vec<String> {
    let state = |name: &str| {
        let is = |unit: &&Properties| unit.get("Id").is_some_and(|id| id == name);
        units.iter().find(is).and_then(|unit| unit.get("ActiveState")).map_or("missing", String::as_str)
    };
    let mut findings = Vec::new();
    for name in REQUIRED {
        let state = state(name);
        if state != "active" {
            findings.push(format!("{name} is {state}, not active"));
        }
    }
    for unit in units {
        let Some(name) = unit.get("Id").map(String::as_str) else { continue };
        let failed = unit.get("ActiveState").is_some_and(|state| state == "failed");
        let ours = name.starts_with("systemd-") || name.starts_with("tatara-") || name.ends_with(".mount");
        // Bless itself is `failed` for a moment when it is started again.
        let known = REQUIRED.contains(&name) || TOLERATED.contains(&name) || name == "tatara-bless.service";
        if failed && ours && !known {
            findings.push(format!("{name} failed"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::findings;
    use crate::node::systemd::parse;

    fn node(more: &str) -> Vec<String> {
        let good = "Id=ssh.service\nActiveState=active\n\nId=systemd-networkd.service\nActiveState=active\n\n\
                    Id=systemd-journald.service\nActiveState=active\n\n";
        findings(&parse(&format!("{good}{more}")))
    }

    #[test]
    fn a_healthy_node_has_no_findings() {
        assert_eq!(node(""), [""; 0]);
    }

    #[test]
    fn failures_of_the_release_count_and_others_do_not() {
        assert_eq!(
            node("Id=systemd-resolved.service\nActiveState=failed"),
            ["systemd-resolved.service failed"]
        );
        assert_eq!(node("Id=var-lib-etcd.mount\nActiveState=failed"), ["var-lib-etcd.mount failed"]);
        assert_eq!(node("Id=my-own.service\nActiveState=failed"), [""; 0]);
        assert_eq!(node("Id=systemd-networkd-wait-online.service\nActiveState=failed"), [""; 0]);
        assert_eq!(node("Id=tatara-pin.service\nActiveState=failed"), [""; 0]);
    }

    #[test]
    fn what_must_run_and_does_not_is_named() {
        let found = findings(&parse("Id=ssh.service\nActiveState=activating"));
        assert_eq!(found[0], "ssh.service is activating, not active");
        assert_eq!(found[1], "systemd-networkd.service is missing, not active");
    }
}

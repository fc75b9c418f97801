//! This node's part of the KubeletConfiguration.
//!
//! kubeadm takes the cluster's KubeletConfiguration once, when a node joins. What is this node's own must follow its config at every
//! boot, with every version: `tatara-node kubelet` merges it into the cluster's before each start of the kubelet.

use crate::render::{Rendered, fault};
use serde_json::{Map, Value, json};
use tatara_spec::config::Kubernetes;
use tatara_spec::cpu::CpuPlan;
use tatara_spec::cpu::kubelet::{Version, settings};
use tatara_spec::{Code, Fault, layout};

/// What the kubelet and the system keep for themselves where the memory manager must know it, in MiB: about what kubelet, container runtime
/// and systemd use on a node of a hundred pods, and the kubelet's own threshold of eviction.
const KUBE_RESERVED_MIB: u64 = 500;
const SYSTEM_RESERVED_MIB: u64 = 500;
const EVICTION_MIB: u64 = 100;

pub(super) fn render(kubernetes: &Kubernetes, cpu: &CpuPlan, version: Version) -> Result<Rendered, Fault> {
    let part = Value::Object(part(kubernetes, cpu, version)?);
    let text = serde_json::to_string_pretty(&part)
        .map_err(|error| Fault::caused(Code::Internal, "write the kubelet's settings as JSON", error))?;
    Ok(Rendered::public(layout::KUBELET, text + "\n"))
}

fn part(kubernetes: &Kubernetes, cpu: &CpuPlan, version: Version) -> Result<Map<String, Value>, Fault> {
    let mut part = object(json!({
        // As the container runtime's: two managers of one tree would not see each other.
        "cgroupDriver": "systemd",
        // The stub of systemd-resolved listens on the node's loopback, where no pod reaches it.
        "resolvConf": "/run/systemd/resolve/resolv.conf",
        // Where the join asks whether the kubelet is healthy.
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "containerLogMaxSize": "10Mi",
        "containerLogMaxFiles": 5,
    }));
    let user: Map<String, Value> = kubernetes.kubelet.clone().into_iter().collect();
    let aligned = settings(version, cpu, 0).memory_manager_policy == "Static";
    if aligned {
        merge(&mut part, &reservations());
    }
    merge(&mut part, &user);
    if cpu.isolated.is_empty() {
        // The cluster's own policies stay.
        return Ok(part);
    }
    let reserved = if aligned { reserved_mib(&part)? } else { 0 };
    let cpu = serde_json::to_value(settings(version, cpu, reserved))
        .map_err(|error| Fault::caused(Code::Internal, "write the kubelet's CPU settings", error))?;
    let mut cpu = object(cpu);
    // Version 1.20 does not know the field (KEP-1769: alpha in 1.21).
    if version < (Version { major: 1, minor: 21 }) {
        cpu.remove("memoryManagerPolicy");
    }
    merge(&mut cpu, &part);
    Ok(cpu)
}

fn reservations() -> Map<String, Value> {
    object(json!({
        "kubeReserved": {"memory": format!("{KUBE_RESERVED_MIB}Mi")},
        "systemReserved": {"memory": format!("{SYSTEM_RESERVED_MIB}Mi")},
        "evictionHard": {"memory.available": format!("{EVICTION_MIB}Mi")},
    }))
}

/// The memory manager starts only if its reservation is the sum of these (Kubernetes, pkg/kubelet/cm/memorymanager:
/// validateReservedMemory).
fn reserved_mib(part: &Map<String, Value>) -> Result<u64, Fault> {
    let parts =
        [("kubeReserved", "memory"), ("systemReserved", "memory"), ("evictionHard", "memory.available")];
    let mut sum = 0;
    for (key, name) in parts {
        let value = part.get(key).and_then(|map| map.get(name)).and_then(Value::as_str).unwrap_or("0");
        sum += quantity_mib(value).ok_or_else(|| {
            fault(format!("kubernetes.kubelet.{key}.{name}: `{value}` is not a whole number of Mi or Gi, which the memory manager needs"))
        })?;
    }
    Ok(sum)
}

/// A quantity of Kubernetes' in MiB, if it is a whole number of them.
fn quantity_mib(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "Mi" => Some(number),
        "Gi" => number.checked_mul(1024),
        "Ki" if number.is_multiple_of(1024) => Some(number / 1024),
        "" if number.is_multiple_of(1024 * 1024) => Some(number / (1024 * 1024)),
        _ => None,
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Takes over what `more` says: maps are merged, anything else replaces what was there.
pub fn merge(into: &mut Map<String, Value>, more: &Map<String, Value>) {
    for (key, value) in more {
        match (into.get_mut(key), value) {
            (Some(Value::Object(below)), Value::Object(more)) => merge(below, more),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{merge, object, quantity_mib};
    use serde_json::json;

    #[test]
    fn maps_are_merged_and_lists_replaced() {
        let mut base = object(json!({"a": {"b": 1, "c": 2}, "list": [1, 2], "x": "y"}));
        merge(&mut base, &object(json!({"a": {"c": 3, "d": {}}, "list": [], "x": {"z": null}})));
        let wanted = json!({"a": {"b": 1, "c": 3, "d": {}}, "list": [], "x": {"z": null}});
        assert_eq!(json!(base), wanted);
    }

    #[test]
    fn quantities() {
        for (text, mib) in [("500Mi", Some(500)), ("2Gi", Some(2048)), ("1024Ki", Some(1)), ("0", Some(0))] {
            assert_eq!(quantity_mib(text), mib, "{text}");
        }
        for text in ["10%", "1G", "1.5Gi", "", "Mi", "1000", "99999999999999999999Gi"] {
            assert_eq!(quantity_mib(text), None, "{text}");
        }
    }
}

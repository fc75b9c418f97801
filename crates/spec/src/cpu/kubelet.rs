//! What the kubelet must know about the split, by its version.
//!
//! Sources: Kubernetes documentation "Node Resource Managers" and "Control CPU Management Policies on the Node"; KEP-2625
//! (`full-pcpus-only`: alpha 1.22, beta 1.23, stable 1.33), KEP-4540 (`strict-cpu-reservation`: alpha 1.32, beta 1.33, stable 1.35).

use super::CpuPlan;
use serde::Serialize;
use std::collections::BTreeMap;

/// `major.minor` of a kubelet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1.
    pub major: u32,
    /// The release, as 33 of `v1.33.4`.
    pub minor: u32,
}

impl Version {
    /// Reads `v1.33.4`, `1.33` and `1.33.0-rc.1`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().trim_start_matches('v').split('.');
        Some(Self { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
    }
}

/// The part of a KubeletConfiguration (`kubelet.config.k8s.io/v1beta1`) that follows from the split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KubeletCpu {
    /// The housekeeping CPUs, as a packed list: Go's cpuset knows no other form.
    #[serde(rename = "reservedSystemCPUs", skip_serializing_if = "String::is_empty")]
    pub reserved_system_cpus: String,
    /// `static` where CPUs are isolated: containers of whole CPUs get them alone.
    pub cpu_manager_policy: &'static str,
    /// Options that the version takes without a feature gate for alpha options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cpu_manager_policy_options: BTreeMap<&'static str, &'static str>,
    /// `single-numa-node` on machines of several nodes.
    pub topology_manager_policy: &'static str,
    /// `Static`, or `None` where there is nothing to align.
    pub memory_manager_policy: &'static str,
    /// Memory that the memory manager leaves out: it must add up to what the kubelet reserves otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reserved_memory: Vec<ReservedMemory>,
}

/// An entry of `reservedMemory`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReservedMemory {
    /// Number of the NUMA node.
    pub numa_node: u32,
    /// Always `memory`, in MiB with the suffix `Mi`.
    pub limits: BTreeMap<&'static str, String>,
}

/// The kubelet's settings for a plan. `reserved_mib` is kubeReserved + systemReserved + evictionHard in MiB.
#[must_use]
pub fn settings(version: Version, plan: &CpuPlan, reserved_mib: u64) -> KubeletCpu {
    if plan.isolated.is_empty() {
        return KubeletCpu {
            reserved_system_cpus: String::new(),
            cpu_manager_policy: "none",
            cpu_manager_policy_options: BTreeMap::new(),
            topology_manager_policy: "none",
            memory_manager_policy: "None",
            reserved_memory: Vec::new(),
        };
    }
    let several = plan.nodes.len() > 1;
    // The memory manager is beta, and on without a gate, from 1.22 (KEP-1769).
    let aligned = several && version >= Version { major: 1, minor: 22 };
    KubeletCpu {
        reserved_system_cpus: plan.housekeeping.to_string(),
        cpu_manager_policy: "static",
        cpu_manager_policy_options: options(version),
        topology_manager_policy: if several { "single-numa-node" } else { "best-effort" },
        memory_manager_policy: if aligned { "Static" } else { "None" },
        reserved_memory: if aligned { reserved(plan, reserved_mib) } else { Vec::new() },
    }
}

/// An option that the version does not know, or only behind a gate, makes the kubelet end at its start.
fn options(version: Version) -> BTreeMap<&'static str, &'static str> {
    let since = [("full-pcpus-only", 23), ("strict-cpu-reservation", 33)];
    let known = since.into_iter().filter(|(_, minor)| version >= Version { major: 1, minor: *minor });
    known.map(|(name, _)| (name, "true")).collect()
}

/// Everything on the first node, where the boot CPU is: the sum is what counts, to the byte.
fn reserved(plan: &CpuPlan, mib: u64) -> Vec<ReservedMemory> {
    let limits = BTreeMap::from([("memory", format!("{mib}Mi"))]);
    plan.nodes
        .keys()
        .take(1)
        .map(|node| ReservedMemory { numa_node: *node, limits: limits.clone() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Version, settings};
    use crate::cpu::machines::{machine, plan};
    use crate::cpu::{CpuPlan, CpuSet};

    fn of(version: &str, machine_name: &str) -> super::KubeletCpu {
        settings(Version::parse(version).unwrap(), &plan(&machine(machine_name), 1), 1100)
    }

    #[test]
    fn options_by_version() {
        for (version, options) in [
            ("v1.20.2", vec![]),
            ("1.22", vec![]),
            ("v1.23.0", vec!["full-pcpus-only"]),
            ("v1.32.9", vec!["full-pcpus-only"]),
            ("v1.33.0-rc.1", vec!["full-pcpus-only", "strict-cpu-reservation"]),
            ("v1.35.0", vec!["full-pcpus-only", "strict-cpu-reservation"]),
        ] {
            let known = of(version, "xeon-6338-2s").cpu_manager_policy_options;
            assert_eq!(known.into_keys().collect::<Vec<_>>(), options, "{version}");
        }
        assert_eq!(Version::parse("latest"), None);
    }

    #[test]
    fn what_is_reserved_is_housekeeping() {
        let kubelet = of("v1.33.1", "xeon-6338-2s");
        assert_eq!(kubelet.reserved_system_cpus, "0,32,64,96");
        assert_eq!((kubelet.cpu_manager_policy, kubelet.memory_manager_policy), ("static", "Static"));
        let json = serde_json::to_string(&kubelet).unwrap();
        assert!(json.contains("\"reservedSystemCPUs\":\"0,32,64,96\""), "{json}");
        assert!(json.contains("[{\"numaNode\":0,\"limits\":{\"memory\":\"1100Mi\"}}]"), "{json}");
    }

    #[test]
    fn one_node_needs_no_alignment_and_no_isolation_no_policy() {
        let kubelet = of("v1.33.1", "xeon-e2288g-1s");
        assert_eq!((kubelet.topology_manager_policy, kubelet.memory_manager_policy), ("best-effort", "None"));
        let all = CpuPlan { housekeeping: [0, 1].into_iter().collect::<CpuSet>(), ..CpuPlan::default() };
        let kubelet = settings(Version { major: 1, minor: 33 }, &all, 1100);
        assert_eq!((kubelet.cpu_manager_policy, kubelet.reserved_system_cpus.as_str()), ("none", ""));
    }
}

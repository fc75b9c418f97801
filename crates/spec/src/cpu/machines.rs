//! The recorded machines, `tests/machines`, and what must hold on every one of them.

use super::{CpuPlan, CpuSet, Topology, TopologyTexts, WarningCode, split};
use crate::config::{Housekeeping, Isolation, Tuning};
use crate::error::Code;
use proptest::prelude::{prop, proptest};
use std::collections::BTreeMap;

pub(super) fn machines() -> BTreeMap<String, Topology> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machines");
    let mut machines = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let texts = TopologyTexts::from_recording(&text).unwrap_or_else(|fault| panic!("{path:?}: {fault}"));
        let topology = Topology::from_texts(&texts).unwrap_or_else(|fault| panic!("{path:?}: {fault}"));
        machines.insert(path.file_stem().unwrap().to_string_lossy().into_owned(), topology);
    }
    assert!(machines.len() >= 13, "only {} machines are recorded", machines.len());
    machines
}

pub(super) fn machine(name: &str) -> Topology {
    machines().remove(name).unwrap_or_else(|| panic!("no machine `{name}` is recorded"))
}

fn tuning(housekeeping: Option<Housekeeping>, isolated: Option<&str>) -> Tuning {
    let isolated_cpus = isolated.map(str::to_owned);
    Tuning { isolation: Isolation::Balanced, housekeeping, isolated_cpus, ..Tuning::default() }
}

fn cores(count: u32) -> Tuning {
    tuning(Some(Housekeeping { cores_per_numa_node: Some(count), cpus: None }), None)
}

fn lists(housekeeping: Option<&str>, isolated: Option<&str>) -> Tuning {
    let housekeeping =
        housekeeping.map(|list| Housekeeping { cores_per_numa_node: None, cpus: Some(list.to_owned()) });
    tuning(housekeeping, isolated)
}

pub(super) fn plan(topology: &Topology, count: u32) -> CpuPlan {
    split(&cores(count), topology).unwrap_or_else(|fault| panic!("{fault}"))
}

fn promises(plan: &CpuPlan, topology: &Topology) {
    assert!(plan.housekeeping.intersection(&plan.isolated).is_empty());
    assert_eq!(plan.housekeeping.union(&plan.isolated), topology.online);
    assert!(plan.housekeeping.contains(topology.boot_cpu().unwrap()));
    assert!(!plan.isolated.is_empty());
    for &cpu in &plan.isolated.0 {
        assert!(topology.core(cpu).is_subset(&plan.isolated), "CPU {cpu}");
    }
    let width = plan.housekeeping.hex_mask(plan.last);
    assert_eq!(CpuSet::parse_mask(&width).unwrap(), plan.housekeeping);
    assert_eq!(width.split(',').count(), plan.last as usize / 32 + 1);
    let list = plan.isolated.to_string();
    assert_eq!(CpuSet::parse(&list, plan.last).unwrap(), plan.isolated);
}

#[test]
fn one_core_a_node() {
    for (name, housekeeping) in [
        ("xeon-e2288g-1s", "0,8"),
        ("xeon-e2288g-nosmt", "0"),
        ("xeon-6338-2s", "0,32,64,96"),
        ("xeon-6248-2s-interleaved", "0-1,40-41"),
        ("epyc-7763-2s-nps4", "0,16,32,48,64,80,96,112,128,144,160,176,192,208,224,240"),
        ("epyc-7601-1s-4nodes", "0,8,16,24,32,40,48,56"),
        ("xeon-8480-1s-snc4", "0,14,28,42"),
        ("core-i9-13900k-hybrid", "0-1"),
        ("ampere-altra-1s", "0"),
        ("epyc-9754-2s", "0,128,256,384"),
        ("xeon-6140-2s-offline", "0,18,36,54"),
        ("power9-smt4", "0-3,32-35"),
        ("qemu-4cpu", "0-1"),
    ] {
        let topology = machine(name);
        let plan = plan(&topology, 1);
        assert_eq!(plan.housekeeping.to_string(), housekeeping, "{name}");
        promises(&plan, &topology);
    }
}

/// Every rejection, on the machine where somebody would meet it.
#[test]
fn rejections() {
    for (name, tuning, code, says) in [
        ("xeon-e2288g-1s", lists(Some("0-"), None), Code::CpuList, "not a CPU number"),
        ("xeon-e2288g-1s", lists(Some("0,16"), None), Code::CpuAbsent, "CPUs 16 are not there"),
        // Possible, since the firmware has room for them, and yet not there.
        ("xeon-6140-2s-offline", lists(Some("0,36,72"), None), Code::CpuAbsent, "CPUs 72 are not there"),
        ("xeon-e2288g-nosmt", lists(Some("0,8"), None), Code::CpuOffline, "CPUs 8 are offline"),
        ("xeon-6140-2s-offline", lists(None, Some("5,41")), Code::CpuOffline, "CPUs 5,41 are offline"),
        ("ampere-altra-1s", lists(Some("all"), None), Code::CpuEmpty, "nothing is left to isolate"),
        ("ampere-altra-1s", lists(None, Some("0-N")), Code::CpuEmpty, "nothing is left for housekeeping"),
        ("ampere-altra-1s", lists(Some(","), None), Code::CpuEmpty, "names no CPU"),
        ("qemu-4cpu", cores(2), Code::CpuEmpty, "nothing is left to isolate"),
        ("qemu-4cpu", cores(0), Code::CpuEmpty, "at least one core"),
        ("xeon-6338-2s", lists(Some("32,96"), None), Code::CpuBoot, "the boot CPU 0"),
        ("xeon-6338-2s", lists(Some("0-1"), None), Code::CpuSiblings, "CPUs 0,64 are threads of one core"),
        ("core-i9-13900k-hybrid", lists(Some("0,16"), None), Code::CpuSiblings, "CPUs 0-1 are threads"),
        ("power9-smt4", lists(Some("0-5"), None), Code::CpuSiblings, "CPUs 4-7 are threads"),
        ("xeon-8480-1s-snc4", lists(Some("0-1"), Some("1-55")), Code::CpuOverlap, "CPUs 1 are in"),
        ("xeon-8480-1s-snc4", lists(Some("0-1"), Some("4-55")), Code::CpuCover, "CPUs 2-3 are neither"),
        ("epyc-9754-2s", lists(None, None), Code::CpuIsolation, "needs `tuning.housekeeping`"),
    ] {
        let fault = split(&tuning, &machine(name)).expect_err(says);
        assert_eq!(fault.code, code, "{name}: {fault}");
        assert!(fault.message.contains(says), "{name}: {}", fault.message);
    }
}

#[test]
fn warnings() {
    for (name, tuning, code, says) in [
        ("xeon-6338-2s", lists(Some("0,64"), None), WarningCode::Node, "NUMA node 1 (CPUs 32-63,96-127)"),
        ("xeon-6140-2s-offline", cores(1), WarningCode::Offline, "CPUs 5,41 are offline"),
        ("core-i9-13900k-hybrid", cores(1), WarningCode::Hybrid, "atom 16-31, core 2-15"),
        (
            "xeon-e2288g-1s",
            Tuning { isolation: Isolation::None, ..lists(None, Some("1-7")) },
            WarningCode::NoEffect,
            "`tuning.isolatedCpus` has no effect",
        ),
    ] {
        let plan = split(&tuning, &machine(name)).unwrap();
        assert_eq!(plan.warnings.len(), 1, "{name}: {:?}", plan.warnings);
        assert_eq!(plan.warnings[0].code, code, "{name}");
        assert!(plan.warnings[0].to_string().contains(says), "{name}: {}", plan.warnings[0]);
    }
    // All E-cores in housekeeping: what is isolated is of one kind.
    let hybrid = split(&lists(Some("0-1,16-31"), None), &machine("core-i9-13900k-hybrid")).unwrap();
    assert_eq!(hybrid.warnings, []);
}

#[test]
fn isolated_alone_leaves_the_rest() {
    let plan = split(&lists(None, Some("2-7,10-15")), &machine("xeon-e2288g-1s")).unwrap();
    assert_eq!(plan.housekeeping.to_string(), "0-1,8-9");
    let both = split(&lists(Some("0-1,8-9"), Some("2-7,10-15")), &machine("xeon-e2288g-1s")).unwrap();
    assert_eq!(plan, both);
}

#[test]
fn packages_and_memory_alone() {
    let topology = machine("xeon-6140-2s-offline");
    assert_eq!(topology.packages[&1].to_string(), "18-35,54-71");
    assert_eq!(topology.groups().len(), 2, "a node without CPUs gets no housekeeping");
    assert_eq!(machine("power9-smt4").packages.keys().copied().collect::<Vec<_>>(), [0, 8]);
}

#[test]
fn a_recording_that_is_not_understood_is_refused() {
    for line in ["possible", "node 0-3", "cores 0-3 4", "cores x", "kind atom", "nodes0 1", "package0 x"] {
        let fault = TopologyTexts::from_recording(line).expect_err(line);
        assert_eq!(fault.code, Code::CpuList, "{line}");
    }
}

proptest! {
    #[test]
    fn every_plan_of_every_machine(count in 0u32..20, list in prop::collection::btree_set(0u32..96, 0..24), threads: bool) {
        for topology in machines().values() {
            let mut list = CpuSet(list.clone());
            if threads {
                // Whole cores that are online, so that most lists are good.
                list = list.intersection(&topology.online).0.iter().map(|cpu| topology.core(*cpu)).fold(
                    topology.core(0), |all, core| all.union(&core));
            }
            let text = list.to_string();
            let rest = topology.online.difference(&list).to_string();
            for tuning in [cores(count), lists(Some(&text), None), lists(None, Some(&rest)), lists(Some(&text), Some(&rest))] {
                if let Ok(plan) = split(&tuning, topology) {
                    promises(&plan, topology);
                } else {
                    let all_good = threads && !rest.is_empty() && tuning.housekeeping.as_ref().is_none_or(|h| h.cpus.is_some());
                    assert!(!all_good, "refused: {tuning:?}");
                }
            }
        }
    }
}

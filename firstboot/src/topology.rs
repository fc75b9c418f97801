//! The machine's CPUs, from sysfs.

use std::path::Path;
use tatara_spec::cpu::{Topology, TopologyTexts};
use tatara_spec::{Code, Fault};

/// Reads the CPUs and NUMA nodes below `sys_root` (`/sys` on a machine).
///
/// # Errors
/// [`Code::Sys`] when sysfs cannot be read, [`Code::CpuList`] when it holds something else than CPU lists.
pub fn topology(sys_root: &Path) -> Result<Topology, Fault> {
    let lists = tatara_sys::cpu::read(sys_root)
        .map_err(|error| Fault::caused(Code::Sys, "read the machine's CPUs", error))?;
    Topology::from_texts(&TopologyTexts {
        possible: lists.possible,
        present: lists.present,
        online: lists.online,
        siblings: lists.siblings,
        nodes: lists.nodes,
    })
}

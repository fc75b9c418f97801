//! A machine's CPUs, from the texts of sysfs.

use super::CpuSet;
use crate::error::{Code, Fault};
use std::collections::BTreeMap;

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
    /// Socket to its online CPUs.
    pub packages: BTreeMap<u32, CpuSet>,
    /// Kind of core to its CPUs, on machines that have several: `core` and `atom` of Intel's hybrids.
    pub kinds: BTreeMap<String, CpuSet>,
}

/// The files that a [`Topology`] is made of, as read (Documentation/ABI/stable/sysfs-devices-system-cpu and -node).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopologyTexts {
    /// `cpu/possible`.
    pub possible: String,
    /// `cpu/present`.
    pub present: String,
    /// `cpu/online`.
    pub online: String,
    /// `cpu/cpuN/topology/thread_siblings_list` by N; offline CPUs have none.
    pub siblings: BTreeMap<u32, String>,
    /// `node/nodeN/cpulist` by N; kernels without NUMA have none.
    pub nodes: BTreeMap<u32, String>,
    /// `cpu/cpuN/topology/physical_package_id` by N.
    pub packages: BTreeMap<u32, String>,
    /// `/sys/devices/cpu_KIND/cpus` by KIND; only hybrid machines have them (kernel, arch/x86/events/intel/core.c).
    pub kinds: BTreeMap<String, String>,
}

impl Topology {
    /// Parses the texts. A CPU without siblings file is a core of its own.
    ///
    /// # Errors
    /// [`crate::Code::CpuList`] when a text is not a CPU list.
    pub fn from_texts(texts: &TopologyTexts) -> Result<Self, Fault> {
        let possible = CpuSet::parse(&texts.possible, u32::MAX)?;
        let last = possible.last().unwrap_or(0);
        let list = |text: &String| CpuSet::parse(text, last);
        let online = list(&texts.online)?;
        let mut siblings = BTreeMap::new();
        for &cpu in &online.0 {
            let own = CpuSet::from_iter([cpu]);
            let threads = texts.siblings.get(&cpu).map(list).transpose()?.unwrap_or_default();
            siblings.insert(cpu, threads.union(&own).intersection(&online));
        }
        let nodes =
            texts.nodes.iter().map(|(node, text)| Ok((*node, list(text)?))).collect::<Result<_, Fault>>()?;
        let kinds = texts.kinds.iter().map(|(kind, text)| Ok((kind.clone(), list(text)?)));
        let kinds = kinds.collect::<Result<_, Fault>>()?;
        let packages = packages(&texts.packages, &online)?;
        Ok(Self { present: list(&texts.present)?, possible, online, siblings, nodes, packages, kinds })
    }

    /// The largest possible CPU number: what `N` means, and how wide masks are.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.possible.last().or(self.online.last()).unwrap_or(0)
    }

    /// The CPU that booted. On x86 it is CPU 0, which cannot be taken offline; elsewhere the first one online.
    #[must_use]
    pub fn boot_cpu(&self) -> Option<u32> {
        self.online.first()
    }

    /// The threads of a CPU's core, itself included.
    #[must_use]
    pub fn core(&self, cpu: u32) -> CpuSet {
        self.siblings.get(&cpu).cloned().unwrap_or_else(|| CpuSet::from_iter([cpu]))
    }

    /// The online CPUs of each NUMA node that has any; CPUs that no node claims are a last group without number.
    #[must_use]
    pub fn groups(&self) -> Vec<(Option<u32>, CpuSet)> {
        let mut left = self.online.clone();
        let mut groups = Vec::new();
        for (node, cpus) in &self.nodes {
            let cpus = cpus.intersection(&left);
            left = left.difference(&cpus);
            groups.push((Some(*node), cpus));
        }
        groups.push((None, left));
        groups.retain(|(_, cpus)| !cpus.is_empty());
        groups
    }
}

/// -1 is how the kernel says that it does not know.
fn packages(texts: &BTreeMap<u32, String>, online: &CpuSet) -> Result<BTreeMap<u32, CpuSet>, Fault> {
    let mut packages: BTreeMap<u32, CpuSet> = BTreeMap::new();
    for (cpu, text) in texts.iter().filter(|(cpu, text)| online.contains(**cpu) && text.trim() != "-1") {
        let package = text.trim().parse().map_err(|error: std::num::ParseIntError| {
            Fault::caused(
                Code::CpuList,
                format!("physical_package_id of CPU {cpu}: `{}`", text.trim()),
                error,
            )
        })?;
        packages.entry(package).or_default().0.insert(*cpu);
    }
    Ok(packages)
}

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
        packages: lists.packages,
        kinds: lists.kinds,
    })
}

#[cfg(test)]
mod tests {
    use super::topology;
    use std::fs;
    use std::path::Path;
    use tatara_spec::cpu::{CpuSet, Topology, TopologyTexts};

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
    }

    /// The tree that the kernel shows on a recorded machine.
    fn sysfs(texts: &TopologyTexts, root: &Path) {
        let cpu = root.join("devices/system/cpu");
        for (name, text) in
            [("possible", &texts.possible), ("present", &texts.present), ("online", &texts.online)]
        {
            write(&cpu.join(name), text);
        }
        let online = CpuSet::parse(&texts.online, 8191).unwrap();
        for number in CpuSet::parse(&texts.present, 8191).unwrap().0 {
            fs::create_dir_all(cpu.join(format!("cpu{number}"))).unwrap();
            if online.contains(number) {
                let topology = cpu.join(format!("cpu{number}/topology"));
                write(&topology.join("thread_siblings_list"), &texts.siblings[&number]);
                write(&topology.join("physical_package_id"), &texts.packages[&number]);
            }
        }
        for (node, text) in &texts.nodes {
            write(&root.join(format!("devices/system/node/node{node}/cpulist")), text);
        }
        for (kind, text) in &texts.kinds {
            write(&root.join(format!("devices/cpu_{kind}/cpus")), text);
        }
    }

    #[test]
    fn every_recorded_machine_is_read_as_it_was_recorded() {
        let machines = concat!(env!("CARGO_MANIFEST_DIR"), "/../crates/spec/tests/machines");
        for entry in fs::read_dir(machines).unwrap() {
            let path = entry.unwrap().path();
            let texts = TopologyTexts::from_recording(&fs::read_to_string(&path).unwrap()).unwrap();
            let root = tempfile::tempdir().unwrap();
            sysfs(&texts, root.path());
            let read = topology(root.path()).unwrap();
            assert_eq!(read, Topology::from_texts(&texts).unwrap(), "{}", path.display());
        }
    }
}

//! The machine's CPUs as sysfs lists them (Documentation/ABI/stable/sysfs-devices-system-cpu, …-node). The lists stay text here.

use crate::error::{Context, Error, Result};
use crate::sysfs;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// CPU lists in the kernel's own form, e.g. `0-3,8`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CpuLists {
    /// CPUs that can ever exist.
    pub possible: String,
    /// CPUs that are there.
    pub present: String,
    /// CPUs that run.
    pub online: String,
    /// For every online CPU the threads of its core.
    pub siblings: BTreeMap<u32, String>,
    /// NUMA node to its CPUs; a node of memory alone has an empty list.
    pub nodes: BTreeMap<u32, String>,
    /// For every online CPU the number of its socket.
    pub packages: BTreeMap<u32, String>,
    /// Kind of core to its CPUs, on hybrid machines.
    pub kinds: BTreeMap<String, String>,
}

/// Reads `devices/system/cpu` and `devices/system/node` below `sys`.
///
/// # Errors
/// When one of the three lists of CPUs cannot be read.
pub fn read(sys: &Path) -> Result<CpuLists> {
    let cpu = sys.join("devices/system/cpu");
    let list = |name: &str| {
        sysfs::text(&cpu, name).ok_or_else(|| {
            let path = cpu.join(name).display().to_string();
            Error::new("read", path, io::Error::from(io::ErrorKind::NotFound))
        })
    };
    let mut lists = CpuLists {
        possible: list("possible")?,
        present: list("present")?,
        online: list("online")?,
        ..CpuLists::default()
    };
    for name in sysfs::names(&cpu)? {
        let Some(number) = numbered(&name, "cpu") else { continue };
        // Only a CPU that runs has a topology directory.
        if let Some(text) = sysfs::text(&cpu.join(&name), "topology/thread_siblings_list") {
            lists.siblings.insert(number, text);
        }
        if let Some(text) = sysfs::text(&cpu.join(&name), "topology/physical_package_id") {
            lists.packages.insert(number, text);
        }
    }
    let node = sys.join("devices/system/node");
    for name in sysfs::names(&node)? {
        let Some(number) = numbered(&name, "node") else { continue };
        let path = node.join(&name).join("cpulist");
        let text = std::fs::read_to_string(&path).on("read", &path)?;
        lists.nodes.insert(number, text.trim().to_owned());
    }
    // Perf's devices, one a kind: `cpu_core`, `cpu_atom`.
    let devices = sys.join("devices");
    for name in sysfs::names(&devices)? {
        let Some(kind) = name.strip_prefix("cpu_") else { continue };
        if let Some(text) = sysfs::text(&devices.join(&name), "cpus") {
            lists.kinds.insert(kind.to_owned(), text);
        }
    }
    Ok(lists)
}

/// `12` for `cpu12`; `None` for `cpuidle`.
fn numbered(name: &str, prefix: &str) -> Option<u32> {
    name.strip_prefix(prefix)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::read;
    use std::fs;

    #[test]
    fn lists_are_read_and_other_directories_ignored() {
        let sys = tempfile::tempdir().unwrap();
        let cpu = sys.path().join("devices/system/cpu");
        for (name, text) in [("possible", "0-3\n"), ("present", "0-1\n"), ("online", "0-1\n")] {
            fs::create_dir_all(&cpu).unwrap();
            fs::write(cpu.join(name), text).unwrap();
        }
        for name in ["cpu0", "cpu1"] {
            fs::create_dir_all(cpu.join(name).join("topology")).unwrap();
            fs::write(cpu.join(name).join("topology/thread_siblings_list"), "0-1\n").unwrap();
        }
        for name in ["cpu2", "cpuidle", "cpufreq"] {
            fs::create_dir_all(cpu.join(name)).unwrap();
        }
        let node = sys.path().join("devices/system/node");
        for (name, text) in [("node0", "0-1\n"), ("node1", "\n")] {
            fs::create_dir_all(node.join(name)).unwrap();
            fs::write(node.join(name).join("cpulist"), text).unwrap();
        }
        let lists = read(sys.path()).unwrap();
        assert_eq!((lists.possible.as_str(), lists.online.as_str()), ("0-3", "0-1"));
        assert_eq!(lists.siblings.keys().copied().collect::<Vec<_>>(), [0, 1]);
        assert_eq!(lists.nodes[&1], "");
    }

    #[test]
    fn a_missing_list_is_named() {
        let sys = tempfile::tempdir().unwrap();
        let error = read(sys.path()).unwrap_err();
        assert!(error.object.ends_with("cpu/possible"), "{}", error.object);
    }
}

//! `tatara-node kubelet`: what must be so before the kubelet starts — its configuration is the cluster's with this node's part, and no
//! state is left from other policies.

use super::tuning::accept;
use super::{Node, read_json, write_atomically, write_whole};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use tatara_firstboot::cluster;
use tatara_firstboot::render::kubernetes::merge;
use tatara_spec::layout::{self, run, state};
use tatara_spec::{Code, Fault};

/// The cluster's configuration, as kubeadm wrote it.
pub(super) const CLUSTER: &str = "/var/lib/kubelet/config.yaml";
/// What the managers remember of the containers that run (Kubernetes, pkg/kubelet/cm). One that was written under another policy, or for
/// other CPUs, makes the kubelet end at its start.
const CPU_STATE: &str = "/var/lib/kubelet/cpu_manager_state";
const MEMORY_STATE: &str = "/var/lib/kubelet/memory_manager_state";

/// What the managers' state depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policies {
    cpu: Vec<Value>,
    memory: Vec<Value>,
    /// Of which boot (kernel, Documentation/admin-guide/sysctl/kernel.rst, random). No container survives a boot, but CPUs, memory and huge
    /// pages may be others then, and the kubelet ends at its start when they are (kubernetes/kubernetes#109996).
    #[serde(default)]
    boot: String,
}

impl Policies {
    fn of(config: &Map<String, Value>, boot: String) -> Self {
        let values =
            |keys: &[&str]| keys.iter().map(|key| config.get(*key).cloned().unwrap_or_default()).collect();
        Self {
            cpu: values(&[
                "cpuManagerPolicy",
                "cpuManagerPolicyOptions",
                "reservedSystemCPUs",
                "topologyManagerPolicy",
            ]),
            memory: values(&["memoryManagerPolicy", "reservedMemory", "topologyManagerPolicy"]),
            boot,
        }
    }
}

pub(crate) fn run(node: &Node) -> Result<ExitCode, Fault> {
    // Of a join that was cut off before its stamp; a member keeps its pods.
    if !node.state(state::JOINED).exists() {
        accept::gate(node)?;
    }
    let config = merged(node)?;
    forget_other_policies(node, &Policies::of(&config, boot_id(node)))?;
    let text = serde_json::to_vec_pretty(&Value::Object(config))
        .map_err(|error| Fault::caused(Code::Internal, "write the kubelet's configuration", error))?;
    write_whole(&node.run(run::KUBELET), &text, 0o600)?;
    Ok(ExitCode::SUCCESS)
}

fn boot_id(node: &Node) -> String {
    fs::read_to_string(node.run("/proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

fn merged(node: &Node) -> Result<Map<String, Value>, Fault> {
    let path = node.run(CLUSTER);
    let bad = |error: Box<dyn std::error::Error + Send + Sync>| {
        Fault::caused(Code::KubeletConfig, format!("read {}", path.display()), error)
    };
    let text = fs::read_to_string(&path).map_err(|error| bad(error.into()))?;
    let mut config = cluster::kubelet_config(&text).map_err(|error| bad(error.to_string().into()))?;
    let part = node.run(layout::KUBELET);
    let own: Map<String, Value> = read_json(&part)?.ok_or_else(|| {
        Fault::new(
            Code::KubeletConfig,
            format!("{} is missing: this boot's config has no `kubernetes`", part.display()),
        )
    })?;
    merge(&mut config, &own);
    Ok(config)
}

/// Written before the state is removed, and the removal is repeated when it was cut off: the record is the last step.
fn forget_other_policies(node: &Node, now: &Policies) -> Result<(), Fault> {
    let path = node.state(state::KUBELET_POLICIES);
    // A damaged record is no record: state of unknown policies is forgotten.
    let before = read_json::<Policies>(&path).ok().flatten();
    if before.as_ref() == Some(now) {
        return Ok(());
    }
    let before = before.unwrap_or_default();
    if before.cpu != now.cpu || before.boot != now.boot {
        forget(&node.run(CPU_STATE))?;
    }
    if before.memory != now.memory || before.boot != now.boot {
        forget(&node.run(MEMORY_STATE))?;
    }
    let text = serde_json::to_vec(now)
        .map_err(|error| Fault::caused(Code::Internal, "write the kubelet's policies", error))?;
    write_atomically(&path, &text)
}

fn forget(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Fault::caused(Code::KubeletConfig, format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{CLUSTER, CPU_STATE, MEMORY_STATE, run};
    use crate::node::Node;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use tatara_spec::Code;

    fn put(root: &Path, path: &str, text: &str) {
        let path = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn there(root: &Path, path: &str) -> bool {
        root.join(path.trim_start_matches('/')).exists()
    }

    #[test]
    fn the_nodes_part_is_merged_and_state_of_other_policies_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let node = Node::new(root.path().to_owned());
        assert_eq!(run(&node).unwrap_err().code, Code::KubeletConfig, "not joined");
        put(
            root.path(),
            CLUSTER,
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nclusterDNS:\n- 10.96.0.10\nevictionHard: {nodefs.available: 10%}\n",
        );
        let part = |policy: &str| {
            format!(
                "{{\"cpuManagerPolicy\": \"{policy}\", \"evictionHard\": {{\"memory.available\": \"1Gi\"}}}}"
            )
        };
        put(root.path(), "/etc/tatara/kubelet.json", &part("none"));
        run(&node).unwrap();
        let path = root.path().join("run/tatara/kubelet.json");
        let text = fs::read_to_string(&path).unwrap();
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(config["clusterDNS"][0], "10.96.0.10");
        assert_eq!(
            config["evictionHard"],
            serde_json::json!({"nodefs.available": "10%", "memory.available": "1Gi"})
        );
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let states = || [CPU_STATE, MEMORY_STATE].map(|path| there(root.path(), path));
        for path in [CPU_STATE, MEMORY_STATE] {
            put(root.path(), path, "{}");
        }
        run(&node).unwrap();
        assert_eq!(states(), [true, true], "the same policies");
        put(root.path(), "/etc/tatara/kubelet.json", &part("static"));
        run(&node).unwrap();
        assert_eq!(states(), [false, true], "the memory manager's policy is the same");
        put(root.path(), "/var/lib/tatara/kubernetes/kubelet-policies.json", "{damaged");
        run(&node).unwrap();
        assert_eq!(states(), [false, false], "nobody knows what the state is of");
        for path in [CPU_STATE, MEMORY_STATE] {
            put(root.path(), path, "{}");
        }
        put(root.path(), "/proc/sys/kernel/random/boot_id", "b8a1a0b6-2c06-4b5e-9d5c-1f6c2f6a7c11\n");
        run(&node).unwrap();
        assert_eq!(states(), [false, false], "another boot has other memory");
    }
}

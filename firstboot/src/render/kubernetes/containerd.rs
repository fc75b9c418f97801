//! containerd's configuration, in the version of its file format that it knows, and `certs.d`.
//!
//! Sources: containerd, docs/cri/config.md, docs/hosts.md, docs/containerd-2.0.md.

use super::Target;
use crate::render::{Rendered, header, one_line, word};
use tatara_spec::Fault;
use tatara_spec::config::{Kubernetes, RegistryMirror};
use tatara_spec::cpu::kubelet::Version;

/// Where CNI plugins are: the release's and those that a network plugin installs.
const CNI_BIN: &str = "/opt/cni/bin";
const CNI_CONF: &str = "/etc/cni/net.d";
/// Its own place, `/opt/containerd`, cannot be written to on a node.
const OPT: &str = "/var/lib/containerd/opt";
const CERTS: &str = "/etc/containerd/certs.d";
/// containerd's socket.
pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

pub(super) fn render(kubernetes: &Kubernetes, target: Target) -> Result<Vec<Rendered>, Fault> {
    let pause = match &kubernetes.pause_image {
        Some(image) => word("kubernetes.pauseImage", image)?.to_owned(),
        None => format!("registry.k8s.io/pause:{}", pause_version(target.kubernetes)),
    };
    let config = if target.containerd.major >= 2 { version_3(&pause) } else { version_2(&pause) };
    let mut rendered = vec![
        Rendered::public("/etc/containerd/config.toml", header("kubernetes") + &config),
        Rendered::public("/etc/crictl.yaml", crictl()),
    ];
    for mirror in &kubernetes.registry_mirrors {
        rendered.push(hosts(mirror)?);
    }
    Ok(rendered)
}

/// kubeadm's own (Kubernetes, cmd/kubeadm/app/constants: PauseVersion): with another one the image would be there twice.
fn pause_version(kubernetes: Version) -> &'static str {
    match kubernetes.minor {
        ..=20 => "3.2",
        21 => "3.4.1",
        22 => "3.5",
        23 => "3.6",
        24 => "3.7",
        25 => "3.8",
        26..=30 => "3.9",
        31..=33 => "3.10",
        _ => "3.10.1",
    }
}

/// containerd 1.x.
fn version_2(pause: &str) -> String {
    format!(
        r#"version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_BIN}"
    conf_dir = "{CNI_CONF}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{CERTS}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{OPT}"
"#
    )
}

/// containerd 2.x, whose defaults are the same directories of CNI.
fn version_3(pause: &str) -> String {
    format!(
        r#"version = 3

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '{CERTS}'

[plugins.'io.containerd.cri.v1.runtime'.containerd]
  default_runtime_name = 'runc'

  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'

    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      SystemdCgroup = true

[plugins.'io.containerd.internal.v1.opt']
  path = '{OPT}'
"#
    )
}

/// crictl would try the sockets of all runtimes.
fn crictl() -> String {
    format!("{}runtime-endpoint: unix://{SOCKET}\nimage-endpoint: unix://{SOCKET}\n", header("kubernetes"))
}

/// Without `server` the registry itself is asked last, at the address that containerd knows.
fn hosts(mirror: &RegistryMirror) -> Result<Rendered, Fault> {
    let mut text = header("kubernetes.registryMirrors");
    for endpoint in &mirror.endpoints {
        let endpoint = one_line("kubernetes.registryMirrors", endpoint)?;
        text.push_str(&format!("\n[host.\"{endpoint}\"]\n  capabilities = [\"pull\", \"resolve\"]\n"));
    }
    let registry = word("kubernetes.registryMirrors", &mirror.registry)?;
    Ok(Rendered::public(format!("{CERTS}/{registry}/hosts.toml"), text))
}

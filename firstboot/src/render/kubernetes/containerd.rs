//! containerd's configuration, in the version of its file format that it knows, and `certs.d`.
//!
//! Sources: containerd, docs/cri/config.md, docs/hosts.md, docs/containerd-2.0.md.

use super::{CNI_BIN, CNI_CONF};
use crate::render::{Rendered, header, one_line, word};
use tatara_spec::Fault;
use tatara_spec::config::{Kubernetes, RegistryMirror};
use tatara_spec::cpu::kubelet::Version;

/// Its own place, `/opt/containerd`, cannot be written to on a node.
const OPT: &str = "/var/lib/containerd/opt";
const CERTS: &str = "/etc/containerd/certs.d";

pub(super) fn render(kubernetes: &Kubernetes, pause: &str, version: Version) -> Result<Vec<Rendered>, Fault> {
    let config = if version.major >= 2 { version_3(pause) } else { version_2(pause) };
    let mut rendered = vec![Rendered::public("/etc/containerd/config.toml", header("kubernetes") + &config)];
    for mirror in &kubernetes.registry_mirrors {
        rendered.push(hosts(mirror)?);
    }
    Ok(rendered)
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

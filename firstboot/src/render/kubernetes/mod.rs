//! `kubernetes`: container runtime, kubelet, kernel settings, units. What holds the join's credential is not here: `tatara-node join`
//! makes it when it needs it, see [`join_configuration`].

mod containerd;
mod crio;
mod join;
mod kubelet;
mod mounts;
mod runtime;
mod units;

pub use join::{Discovery, join_configuration};
pub use kubelet::merge;

use super::{Rendered, header};
use tatara_spec::config::{Kubernetes, NodeConfig};
use tatara_spec::cpu::CpuPlan;
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::release::{Runtime, Versions};
use tatara_spec::{Code, Fault};

/// What is assumed where files are only rendered to see whether they can be.
const ANY_KUBERNETES: &str = "1.34.0";
const ANY_RUNTIME: (Runtime, &str) = (Runtime::Containerd, "2.1.0");

/// Where CNI plugins are: the release's and those that a network plugin installs.
const CNI_BIN: &str = "/opt/cni/bin";
const CNI_CONF: &str = "/etc/cni/net.d";

/// The versions that decide about formats.
#[derive(Debug, Clone, Copy)]
struct Target {
    kubernetes: Version,
    runtime: Runtime,
    runtime_version: Version,
}

/// `versions` are those of the root; `None` where there is no root yet.
pub(super) fn render(
    config: &NodeConfig,
    cpu: &CpuPlan,
    versions: Option<&Versions>,
) -> Result<Vec<Rendered>, Fault> {
    let Some(kubernetes) = &config.kubernetes else { return Ok(Vec::new()) };
    let target = target(versions)?;
    let mut rendered = runtime::render(kubernetes, cpu, target)?;
    rendered.push(kubelet::render(kubernetes, cpu, target.kubernetes)?);
    rendered.extend(units::render(target));
    rendered.extend(mounts::render(target.runtime));
    rendered.push(modules());
    rendered.push(sysctls());
    rendered.push(networkd());
    Ok(rendered)
}

/// The name of the Node.
#[must_use]
pub fn node_name<'a>(config: &'a NodeConfig, kubernetes: &'a Kubernetes) -> &'a str {
    kubernetes.node_name.as_deref().unwrap_or(&config.metadata.name)
}

fn target(versions: Option<&Versions>) -> Result<Target, Fault> {
    let payload = |message: &str| Fault::new(Code::KubernetesPayload, message);
    let (kubernetes, (runtime, runtime_version)) = match versions {
        None => (ANY_KUBERNETES, ANY_RUNTIME),
        Some(versions) => (
            versions
                .kubernetes
                .as_deref()
                .ok_or_else(|| payload("the release has no kubeadm and kubelet"))?,
            versions.runtime()?.ok_or_else(|| {
                payload("the release has no container runtime: neither containerd nor CRI-O")
            })?,
        ),
    };
    let parse = |name: &str, text: &str| {
        Version::parse(text).ok_or_else(|| payload(&format!("the release's version of {name} is `{text}`")))
    };
    Ok(Target {
        kubernetes: parse("Kubernetes", kubernetes)?,
        runtime,
        runtime_version: parse(&runtime.to_string(), runtime_version)?,
    })
}

/// Kubernetes documentation, "Container Runtimes": layers of images, and bridged packets through iptables.
fn modules() -> Rendered {
    let text = header("kubernetes") + "overlay\nbr_netfilter\n";
    Rendered::public("/etc/modules-load.d/tatara-kubernetes.conf", text)
}

/// The same page; before `99-tatara.conf`, so that `tuning.sysctls` wins.
fn sysctls() -> Rendered {
    let text = header("kubernetes")
        + "\
# Packets are passed on between pods and the network.
net.ipv4.ip_forward = 1
net.ipv6.conf.all.forwarding = 1
# Packets between pods of one bridge pass the rules of services, too.
net.bridge.bridge-nf-call-iptables = 1
net.bridge.bridge-nf-call-ip6tables = 1
";
    Rendered::public("/etc/sysctl.d/90-tatara-kubernetes.conf", text)
}

/// networkd.conf(5): it takes away what it did not make whenever it configures a link anew, and with it the network of the pods.
fn networkd() -> Rendered {
    let text = header("kubernetes")
        + "[Network]\nManageForeignRoutes=no\nManageForeignRoutingPolicyRules=no\nManageForeignNextHops=no\n";
    Rendered::public("/etc/systemd/networkd.conf.d/20-tatara-kubernetes.conf", text)
}

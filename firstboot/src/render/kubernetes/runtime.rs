//! The container runtime that the release has: its configuration, and crictl's.

use super::{Target, containerd, crio};
use crate::render::{Rendered, header, word};
use tatara_spec::Fault;
use tatara_spec::config::Kubernetes;
use tatara_spec::cpu::CpuPlan;
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::release::Runtime;

pub(super) fn render(kubernetes: &Kubernetes, cpu: &CpuPlan, target: Target) -> Result<Vec<Rendered>, Fault> {
    let pause = match &kubernetes.pause_image {
        Some(image) => word("kubernetes.pauseImage", image)?.to_owned(),
        None => format!("registry.k8s.io/pause:{}", pause_version(target.kubernetes)),
    };
    let mut rendered = match target.runtime {
        Runtime::Containerd => containerd::render(kubernetes, &pause, target.runtime_version)?,
        Runtime::CriO => crio::render(kubernetes, &pause, cpu, target.runtime_version)?,
    };
    rendered.push(crictl(target.runtime));
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

/// crictl would try the sockets of all runtimes.
fn crictl(runtime: Runtime) -> Rendered {
    let socket = runtime.socket();
    let text = format!(
        "{}runtime-endpoint: unix://{socket}\nimage-endpoint: unix://{socket}\n",
        header("kubernetes")
    );
    Rendered::public("/etc/crictl.yaml", text)
}

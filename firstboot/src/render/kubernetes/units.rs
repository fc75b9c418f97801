//! The order of units: container runtime, images, pin → kubelet → join. Drop-ins of the units that packages bring; those of ours are in the
//! root.

use super::Target;
use crate::render::{Rendered, header};
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::layout::run;
use tatara_spec::release::Runtime;

pub(super) fn render(target: Target) -> Vec<Rendered> {
    [
        ("multi-user.target", multi_user(target.runtime)),
        (target.runtime.unit(), runtime()),
        ("kubelet.service", kubelet(target)),
    ]
    .map(|(unit, text)| {
        Rendered::public(format!("/etc/systemd/system/{unit}.d/20-tatara.conf"), header("kubernetes") + &text)
    })
    .into()
}

fn multi_user(runtime: Runtime) -> String {
    format!("[Unit]\nWants={}\n", runtime.unit())
}

/// Wanted from here and not by multi-user.target, which would wait for them: a node whose cluster cannot be reached is still a good boot
/// of its release.
fn runtime() -> String {
    "\
[Unit]
Wants=tatara-images.service kubelet.service tatara-join.service
RequiresMountsFor=/etc/cni/net.d /opt/cni/bin
"
    .to_owned()
}

/// Kubernetes documentation, "Kubelet Systemd Watchdog": on by default from 1.32. A kubelet that hangs is started again.
const WATCHDOG: Version = Version { major: 1, minor: 32 };

/// Without the cluster's configuration the kubelet would only fail; kubeadm starts it when that is there.
fn kubelet(target: Target) -> String {
    let runtime = target.runtime.unit();
    let watchdog = if target.kubernetes >= WATCHDOG { "WatchdogSec=30s\n" } else { "" };
    format!(
        "\
[Unit]
ConditionPathExists=/var/lib/kubelet/config.yaml
Wants={runtime} network-online.target
After={runtime} tatara-images.service tatara-pin.service network-online.target time-sync.target
RequiresMountsFor=/etc/kubernetes /usr/libexec/kubernetes/kubelet-plugins/volume/exec
StartLimitIntervalSec=0

[Service]
Environment=\"KUBELET_CONFIG_ARGS=--config={}\"
ExecStartPre=/usr/bin/tatara-node kubelet
Restart=always
RestartSec=10
{watchdog}",
        run::KUBELET
    )
}

//! The order of units: containerd, images, pin → kubelet → join. Drop-ins of the units that packages bring; those of ours are in the
//! root.

use crate::render::{Rendered, header};
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::layout::run;

pub(super) fn render(kubernetes: Version) -> Vec<Rendered> {
    [
        ("multi-user.target", multi_user()),
        ("containerd.service", containerd()),
        ("kubelet.service", kubelet(kubernetes)),
    ]
    .map(|(unit, text)| {
        Rendered::public(format!("/etc/systemd/system/{unit}.d/20-tatara.conf"), header("kubernetes") + &text)
    })
    .into()
}

fn multi_user() -> String {
    "[Unit]\nWants=containerd.service\n".to_owned()
}

/// Wanted from here and not by multi-user.target, which would wait for them: a node whose cluster cannot be reached is still a good boot
/// of its release.
fn containerd() -> String {
    "\
[Unit]
Wants=tatara-images.service kubelet.service tatara-join.service
RequiresMountsFor=/etc/cni/net.d /opt/cni/bin
"
    .to_owned()
}

/// Without the cluster's configuration the kubelet would only fail; kubeadm starts it when that is there.
fn kubelet(kubernetes: Version) -> String {
    // Kubernetes documentation, "Kubelet Systemd Watchdog": on by default from 1.32. A kubelet that hangs is started again.
    let watchdog = if kubernetes >= (Version { major: 1, minor: 32 }) { "WatchdogSec=30s\n" } else { "" };
    format!(
        "\
[Unit]
ConditionPathExists=/var/lib/kubelet/config.yaml
Wants=containerd.service network-online.target
After=containerd.service tatara-images.service tatara-pin.service network-online.target time-sync.target
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

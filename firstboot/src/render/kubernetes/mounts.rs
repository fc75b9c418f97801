//! What must survive a reboot, or be writable, on a root that is neither: directories of the state partition in their places.

use super::CNI_BIN;
use crate::render::{Rendered, header};
use tatara_spec::release::Runtime;

/// Below /var, the state partition.
const KEPT: &str = "/var/lib/tatara/kubernetes";

/// Unit, place, directory below [`KEPT`]. A unit's name is its place, escaped (systemd-escape(1), `--path`).
const BINDS: [(&str, &str, &str); 3] = [
    // Certificates, kubeconfigs, static pods: what kubeadm writes.
    ("etc-kubernetes.mount", "/etc/kubernetes", "etc"),
    // What the network plugin writes.
    ("etc-cni-net.d.mount", "/etc/cni/net.d", "cni-conf"),
    // Volume plugins that network plugins install, at the place that they assume.
    (
        "usr-libexec-kubernetes-kubelet\\x2dplugins-volume-exec.mount",
        "/usr/libexec/kubernetes/kubelet-plugins/volume/exec",
        "volume-plugins",
    ),
];

/// Where the release has its own network plugins.
const CNI_OF_THE_RELEASE: &str = "/usr/lib/cni";

/// Before anything of the container runtime's or the kubelet's, and after the directories below /var were made.
fn unit(runtime: Runtime) -> String {
    format!(
        "\
[Unit]
DefaultDependencies=no
RequiresMountsFor=/var
After=systemd-tmpfiles-setup.service
Conflicts=umount.target
Before=umount.target {} kubelet.service

",
        runtime.unit()
    )
}

pub(super) fn render(runtime: Runtime) -> Vec<Rendered> {
    let above = unit(runtime);
    let unit = |(unit, place, directory): &(&str, &str, &str)| {
        let text = format!(
            "{}{above}[Mount]\nWhat={KEPT}/{directory}\nWhere={place}\nType=none\nOptions=bind\n",
            header("kubernetes")
        );
        Rendered::public(format!("/etc/systemd/system/{unit}"), text)
    };
    let mut rendered: Vec<Rendered> = BINDS.iter().map(unit).collect();
    rendered.push(cni_bin(&above));
    rendered.push(directories());
    rendered
}

/// The release's own plugins below those that were installed, so that a newer release brings newer ones.
fn cni_bin(above: &str) -> Rendered {
    let layers =
        format!("lowerdir={CNI_OF_THE_RELEASE},upperdir={KEPT}/cni-bin/upper,workdir={KEPT}/cni-bin/work");
    let text = format!(
        "{}{above}[Mount]\nWhat=overlay\nWhere={CNI_BIN}\nType=overlay\nOptions={layers}\n",
        header("kubernetes")
    );
    Rendered::public("/etc/systemd/system/opt-cni-bin.mount", text)
}

/// tmpfiles.d(5).
fn directories() -> Rendered {
    let mut text = header("kubernetes");
    let mut line = |path: &str, mode: &str| text.push_str(&format!("d {path} {mode} root root -\n"));
    line(KEPT, "0755");
    for (_, _, directory) in BINDS {
        line(&format!("{KEPT}/{directory}"), "0755");
    }
    // The kubelet complains every second of a directory that is not there.
    line(&format!("{KEPT}/etc/manifests"), "0755");
    line(&format!("{KEPT}/cni-bin"), "0700");
    line(&format!("{KEPT}/cni-bin/upper"), "0755");
    line(&format!("{KEPT}/cni-bin/work"), "0700");
    Rendered::public("/etc/tmpfiles.d/tatara-kubernetes.conf", text)
}

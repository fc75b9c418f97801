//! CRI-O's configuration, and the servers that it asks for images.
//!
//! Sources: CRI-O, docs/crio.conf.5.md, docs/crio.conf.d.5.md; containers-registries.conf(5), containers-registries.conf.d(5).

use super::{CNI_BIN, CNI_CONF};
use crate::render::{Rendered, fault, header, one_line, word};
use tatara_spec::config::{Kubernetes, RegistryMirror};
use tatara_spec::cpu::CpuPlan;
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::{Code, Fault, layout};

/// After `10-crio.conf` of upstream's package, which says where its own programs are.
const CONFIG: &str = "/etc/crio/crio.conf.d/20-tatara.conf";

/// Debian's list of other registries for images that are named without one: `hello-world` would not be the one of an archive or of Docker
/// Hub, as it is with containerd.
const ALIASES: &str = "/etc/containers/registries.conf.d/shortnames.conf";

/// The last one by name: its fields count.
const REGISTRIES: &str = "/etc/containers/registries.conf.d/tatara.conf";

/// The first one that takes `pinned_images` while it runs (cri-o/cri-o#7976); without, images of the config would not be safe from the kubelet.
const OLDEST: Version = Version { major: 1, minor: 30 };

pub(super) fn render(
    kubernetes: &Kubernetes,
    pause: &str,
    cpu: &CpuPlan,
    version: Version,
) -> Result<Vec<Rendered>, Fault> {
    if version < OLDEST {
        let Version { major, minor } = version;
        let why =
            format!("the release has CRI-O {major}.{minor}; 1.30 or newer is needed, of the kubelet's minor");
        return Err(Fault::new(Code::KubernetesPayload, why));
    }
    Ok(vec![
        Rendered::public(CONFIG, header("kubernetes") + &config(pause, cpu)),
        registries(&kubernetes.registry_mirrors)?,
        Rendered::public(ALIASES, header("kubernetes") + "# Images without a registry are Docker Hub's.\n"),
    ])
}

fn config(pause: &str, cpu: &CpuPlan) -> String {
    let (root, run) = (layout::containers::ROOT, layout::containers::RUN);
    let driver = layout::containers::DRIVER;
    // As the kubelet's reserved CPUs, so that what holds a pod together runs on none that a container may own.
    let infra = match cpu.isolated.is_empty() {
        true => String::new(),
        false => format!("infra_ctr_cpuset = \"{}\"\n", cpu.housekeeping),
    };
    format!(
        r#"[crio]
root = "{root}"
runroot = "{run}"
storage_driver = "{driver}"

[crio.runtime]
cgroup_manager = "systemd"
# Not the pods' cgroups: system.slice has the housekeeping CPUs alone.
conmon_cgroup = "system.slice"
{infra}
[crio.image]
# Never collected by the kubelet, as what `30-tatara-images.conf` names.
pause_image = "{pause}"

[crio.network]
network_dir = "{CNI_CONF}"
plugin_dirs = ["{CNI_BIN}"]
"#
    )
}

/// A name without a registry is Docker Hub's, as it is for containerd.
fn registries(mirrors: &[RegistryMirror]) -> Result<Rendered, Fault> {
    let mut text = header("kubernetes.registryMirrors") + "unqualified-search-registries = [\"docker.io\"]\n";
    for mirror in mirrors {
        let registry = word(KEY, &mirror.registry)?;
        if registry == "_default" {
            return Err(fault(format!(
                "{KEY}: CRI-O has no entry for all registries; name each instead of `_default`"
            )));
        }
        if registry.matches(':').count() > 1 {
            return Err(fault(format!("{KEY}: `{registry}`: names of images have no IPv6 address")));
        }
        text.push_str(&format!("\n[[registry]]\nprefix = \"{registry}\"\nlocation = \"{registry}\"\n"));
        for endpoint in &mirror.endpoints {
            text.push_str(&server(one_line(KEY, endpoint)?)?);
        }
    }
    Ok(Rendered::public(REGISTRIES, text))
}

const KEY: &str = "kubernetes.registryMirrors";

/// One mirror. Without TLS it is `insecure`, for which there is no finer word.
fn server(endpoint: &str) -> Result<String, Fault> {
    let refused = |why: &str| fault(format!("{KEY}: CRI-O cannot ask `{endpoint}`: {why}"));
    let (location, insecure) = match (endpoint.strip_prefix("https://"), endpoint.strip_prefix("http://")) {
        (Some(rest), _) => (rest, ""),
        (_, Some(rest)) => (rest, "insecure = true\n"),
        _ => return Err(refused("it is no https:// or http:// URL")),
    };
    let location = location.strip_suffix('/').unwrap_or(location);
    // containerd asks for /PATH/v2/NAME, CRI-O would ask for /v2/PATH/NAME: another place.
    if location.contains(['/', '#']) {
        return Err(refused("its registries have no path before `/v2/`; give a server without one"));
    }
    // containers/image, docker/reference: a host of a name is letters, digits, dots and dashes.
    if location.starts_with('[') {
        return Err(refused("it takes no IPv6 address there; give the server a name"));
    }
    Ok(format!("\n[[registry.mirror]]\nlocation = \"{location}\"\n{insecure}"))
}

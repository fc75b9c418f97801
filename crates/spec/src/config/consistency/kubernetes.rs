//! Contradictions in `kubernetes` and `firewall`.

use super::Checker;
use crate::config::diagnostic::quote;
use crate::config::{Firewall, ImageArchive, Kubernetes, NodeConfig};

/// Directories that are kept on the state partition where there is Kubernetes: a file rendered there would be hidden.
const KEPT: [&str; 2] = ["/etc/kubernetes/", "/etc/cni/net.d/"];

impl Checker<'_, '_> {
    pub(super) fn kubernetes(&mut self, config: &NodeConfig) {
        let Some(kubernetes) = &config.kubernetes else { return };
        self.join(kubernetes);
        let taints = kubernetes.taints.iter().map(|taint| format!("{}:{:?}", taint.key, taint.effect));
        let taints: Vec<String> = taints.collect();
        self.unique("taint", taints.iter().map(String::as_str), |index| {
            format!("kubernetes.taints.{index}.key")
        });
        let registries = kubernetes.registry_mirrors.iter().map(|mirror| mirror.registry.as_str());
        self.unique("registry", registries, |index| format!("kubernetes.registryMirrors.{index}.registry"));
        self.images(kubernetes);
        for (index, file) in config.files.iter().enumerate() {
            if let Some(directory) = KEPT.iter().find(|directory| file.path.starts_with(**directory)) {
                let message = format!(
                    "{} is below {directory}, which kubeadm and the network plugin write and which is kept across boots; expected another place",
                    quote(&file.path)
                );
                self.problem(&format!("files.{index}.path"), message);
            }
        }
    }

    fn images(&mut self, kubernetes: &Kubernetes) {
        for (index, image) in kubernetes.images.iter().enumerate() {
            let (entry, shown) =
                (format!("kubernetes.images.{index}"), format!("`kubernetes.images[{index}]`"));
            match (&image.release, &image.url, &image.sha256) {
                (Some(_), None, None) | (None, Some(_), Some(_)) => {}
                (None, None, None) => self.problem(
                    &entry,
                    format!("{shown} names no archive; expected `release`, or `url` and `sha256`"),
                ),
                (None, Some(_), None) => self.problem(&entry, format!("missing key `sha256` in {shown}")),
                (None, None, Some(_)) => self.problem(&entry, format!("missing key `url` in {shown}")),
                (Some(_), Some(_), _) => self.problem(
                    &format!("{entry}.url"),
                    format!("{shown} has both `release` and `url`; expected one of them"),
                ),
                (Some(_), None, Some(_)) => self.problem(
                    &format!("{entry}.sha256"),
                    format!("{shown} has both `release` and `sha256`; expected `release` alone: the release's manifest has the digest"),
                ),
            }
        }
        let given = |key: &'static str, value: fn(&ImageArchive) -> Option<&str>| {
            let images = kubernetes.images.iter().enumerate();
            let (places, values): (Vec<String>, Vec<&str>) = images
                .filter_map(|(index, image)| {
                    Some((format!("kubernetes.images.{index}.{key}"), value(image)?))
                })
                .unzip();
            (places, values)
        };
        let (places, digests) = given("sha256", |image| image.sha256.as_deref());
        self.unique("digest", digests.into_iter(), |index| places[index].clone());
        let (places, names) = given("release", |image| image.release.as_deref());
        self.unique("archive", names.into_iter(), |index| places[index].clone());
    }

    fn join(&mut self, kubernetes: &Kubernetes) {
        let join = &kubernetes.join;
        let ways = [
            ("token", join.token.is_some()),
            ("tokenFrom", join.token_from.is_some()),
            ("discoveryFile", join.discovery_file.is_some()),
        ];
        let given: Vec<&str> = ways.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        match given.as_slice() {
            [] => self.problem(
                "kubernetes.join",
                "`kubernetes.join` has no credential; expected `token`, `tokenFrom` or `discoveryFile`",
            ),
            [_] => {}
            [first, second, ..] => self.problem(
                &format!("kubernetes.join.{second}"),
                format!("`kubernetes.join` has both `{first}` and `{second}`; expected one of them"),
            ),
        }
        let by_token = join.token.is_some() || join.token_from.is_some();
        if by_token && join.ca_cert_hashes.is_empty() {
            self.problem(
                "kubernetes.join",
                "`kubernetes.join` has a token and no `caCertHashes`: anybody who answers at the endpoint would be taken for the cluster; expected the hash of its CA",
            );
        }
        if join.identity.is_some() && join.token_from.is_none() {
            self.problem(
                "kubernetes.join.identity",
                "`kubernetes.join.identity` is shown to nobody without `tokenFrom`; expected both",
            );
        }
        if join.discovery_file.is_some() && !join.ca_cert_hashes.is_empty() {
            self.problem(
                "kubernetes.join.caCertHashes",
                "`kubernetes.join.caCertHashes` has no meaning with `discoveryFile`, which holds the CA itself; expected one of them",
            );
        }
    }

    pub(super) fn firewall(&mut self, config: &NodeConfig) {
        let Some(firewall) = &config.firewall else { return };
        if config.kubernetes.is_none() {
            self.only_for_kubernetes(firewall);
        } else if firewall.kubelet.is_empty() {
            self.problem(
                "firewall",
                "`firewall` lets nobody reach the kubelet, so logs, exec and webhooks would fail; expected the control plane's addresses in `firewall.kubelet`",
            );
        }
        if !firewall.node_ports.enabled && !firewall.node_ports.sources.is_empty() {
            self.problem(
                "firewall.nodePorts.sources",
                "`firewall.nodePorts.sources` without `enabled: true`; expected both or neither",
            );
        }
    }

    fn only_for_kubernetes(&mut self, firewall: &Firewall) {
        let given = [
            ("kubelet", !firewall.kubelet.is_empty()),
            ("nodePorts", firewall.node_ports.enabled),
            ("cni", firewall.cni != crate::config::Cni::None),
        ];
        if let Some((key, _)) = given.iter().find(|(_, given)| *given) {
            self.problem(
                &format!("firewall.{key}"),
                format!("`firewall.{key}` without `kubernetes`; expected both or neither"),
            );
        }
    }
}

//! Which PersistentVolumes exist on one node alone.

use k8s_openapi::api::core::v1::{Node, NodeSelectorTerm, PersistentVolume, Pod};
use std::collections::BTreeMap;

/// The label that volumes of static provisioners name their node by.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// What is known of where a volume's data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whereabouts {
    /// On this node and nowhere else.
    Here,
    /// On the node whose pod used it last, which nothing says.
    Perhaps,
}

/// A volume whose data is on this node, or may be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LocalVolume {
    pub(super) name: String,
    pub(super) whereabouts: Whereabouts,
    /// What it is: a path, or who provides it.
    place: String,
    /// `NAMESPACE/NAME` of the claim that it is bound to, or was.
    pub(super) claim: Option<String>,
    /// The pod on this node that uses it.
    used_by: Option<String>,
}

impl LocalVolume {
    /// The volume, if it is one of this node's: pinned to it, or a path that a pod here uses, whatever other nodes its affinity
    /// names. A path without an affinity that nobody here uses may be. `users` are the pods on the node, by namespace and name of
    /// their claims.
    pub(super) fn on(
        node: &Node,
        volume: &PersistentVolume,
        users: &BTreeMap<(String, String), String>,
    ) -> Option<Self> {
        let spec = volume.spec.as_ref()?;
        let claim =
            spec.claim_ref.as_ref().and_then(|claim| Some((claim.namespace.clone()?, claim.name.clone()?)));
        let used_by = claim.as_ref().and_then(|claim| users.get(claim)).cloned();
        let path = spec.local.as_ref().map(|local| &local.path);
        let path = path.or_else(|| spec.host_path.as_ref().map(|host| &host.path));
        let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
        let pinned = required.is_some_and(|selector| {
            !selector.node_selector_terms.is_empty()
                && selector.node_selector_terms.iter().all(|term| pins(term, node))
        });
        let whereabouts = if pinned || (path.is_some() && used_by.is_some()) {
            Whereabouts::Here
        } else if path.is_some() && required.is_none() && claim.is_some() {
            Whereabouts::Perhaps
        } else {
            return None;
        };
        let driver = || spec.csi.as_ref().map_or("its provider", |csi| csi.driver.as_str());
        Some(Self {
            name: volume.metadata.name.clone().unwrap_or_default(),
            whereabouts,
            place: path.cloned().unwrap_or_else(|| format!("by {}", driver())),
            claim: claim.map(|(namespace, name)| format!("{namespace}/{name}")),
            used_by,
        })
    }
}

impl std::fmt::Display for LocalVolume {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.name, self.place)?;
        if let Some(claim) = &self.claim {
            write!(f, ", claim {claim}")?;
        }
        if let Some(pod) = &self.used_by {
            write!(f, ", used by {pod}")?;
        }
        f.write_str(")")
    }
}

/// Whether a term can hold on this node only: by its host name, its own name, or a label whose value is its own name, which is how
/// drivers of local disks mark their nodes. A Node that was made anew has no such label until its driver runs again.
fn pins(term: &NodeSelectorTerm, node: &Node) -> bool {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let label = |key: &str| node.metadata.labels.as_ref().and_then(|labels| labels.get(key));
    let only = |values: &Option<Vec<String>>| match values.as_deref() {
        Some([value]) => Some(value.clone()),
        _ => None,
    };
    let by_label = term.match_expressions.iter().flatten().any(|wanted| {
        let Some(value) = only(&wanted.values).filter(|_| wanted.operator == "In") else { return false };
        match label(&wanted.key) {
            Some(label) => *label == value && (wanted.key == HOSTNAME || value == name),
            None => value == name,
        }
    });
    let by_field = term.match_fields.iter().flatten().any(|wanted| {
        wanted.key == "metadata.name"
            && wanted.operator == "In"
            && only(&wanted.values).as_deref() == Some(name)
    });
    by_label || by_field
}

/// The claims of a pod, by name; a claim of an ephemeral volume is named after both.
pub(super) fn claims_of(pod: &Pod) -> impl Iterator<Item = String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(move |volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
        (Some(claim), _) => Some(claim.claim_name.clone()),
        (None, Some(_)) => Some(format!("{name}-{}", volume.name)),
        (None, None) => None,
    })
}

#[cfg(test)]
mod tests;

//! What a drain would do to each pod of a node, and what would be lost: decided from what the cluster lists, nothing is asked here.
//!
//! Which pods are evicted follows kubectl (staging/src/k8s.io/kubectl/pkg/drain/filters.go). Beyond it: pods that are ending already
//! need no consent, and volumes that exist on this node alone need one.

use super::volumes::{LocalVolume, Whereabouts, claims_of};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, BTreeSet};

/// The kubelet sets it on the API's copy of a static pod (pkg/apis/core/annotation_key_constants.go).
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Set by kubeadm; the second until 1.24.
const CONTROL_PLANE: [&str; 2] = ["node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master"];

/// Of a local volume.
const WOULD_BE_LOST: &str = "would be lost when the machine is installed anew";

/// Something that is only lost when the operator has agreed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Consent {
    EmptyDir,
    LocalVolumes,
    Force,
}

impl Consent {
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::EmptyDir => "--delete-emptydir-data",
            Self::LocalVolumes => "--lose-local-volumes",
            Self::Force => "--force",
        }
    }
}

/// What becomes of the Node when its pods are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Afterwards {
    Delete,
    Keep,
}

/// One thing that would be lost, not another one of its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Loss {
    /// A pod or a volume.
    thing: String,
    /// The pod's uid, the volume's claim.
    which: String,
    consent: Consent,
    what: String,
}

impl std::fmt::Display for Loss {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.thing, self.what, self.consent.option())
    }
}

/// One pod, not another one of its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodId {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
}

impl PodId {
    pub(super) fn of(pod: &Pod) -> Self {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let about = &pod.metadata;
        Self { namespace: text(&about.namespace), name: text(&about.name), uid: text(&about.uid) }
    }
}

impl std::fmt::Display for PodId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is done with a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Evicted, and waited for.
    Evict,
    /// It is ending already: waited for.
    Wait,
    /// Left alone, for this reason.
    Skip(String),
}

/// A pod of the node.
#[derive(Debug)]
pub(super) struct PodPlan {
    pub(super) pod: PodId,
    pub(super) fate: Fate,
    /// What is lost with it, each with the consent that it needs.
    pub(super) losses: Vec<(Consent, String)>,
    /// What else there is to know.
    pub(super) notes: Vec<String>,
    /// What keeps it after its end.
    finalizers: Vec<String>,
}

/// What the cluster lists.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) node: Node,
    /// Those on the node.
    pub(super) pods: Vec<Pod>,
    /// Those of the whole cluster, as the volumes.
    pub(super) daemon_sets: Vec<DaemonSet>,
    pub(super) volumes: Vec<PersistentVolume>,
}

/// What a drain would do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) pods: Vec<PodPlan>,
    pub(super) volumes: Vec<LocalVolume>,
    afterwards: Afterwards,
    /// What else there is to know of the node.
    notes: Vec<&'static str>,
}

impl Plan {
    pub(super) fn of(listing: &Listing, afterwards: Afterwards) -> Self {
        let daemon_sets = listing
            .daemon_sets
            .iter()
            .filter_map(|set| Some((set.metadata.namespace.as_deref()?, set.metadata.name.as_deref()?)));
        let daemon_sets: BTreeSet<(&str, &str)> = daemon_sets.collect();
        let mut pods: Vec<PodPlan> =
            listing.pods.iter().map(|pod| plan_of(pod, &daemon_sets, afterwards)).collect();
        pods.sort_by(|a, b| a.pod.cmp(&b.pod));
        let users = users(&listing.pods);
        let on_node = |volume| LocalVolume::on(&listing.node, volume, &users);
        let mut volumes: Vec<LocalVolume> = listing.volumes.iter().filter_map(on_node).collect();
        volumes.sort_by(|a, b| a.name.cmp(&b.name));
        Self { pods, volumes, afterwards, notes: notes(&listing.node, afterwards) }
    }

    /// Those that must be gone before the node is drained.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &PodPlan> {
        self.pods.iter().filter(|pod| !matches!(pod.fate, Fate::Skip(_)))
    }

    /// What would be lost.
    pub(super) fn losses(&self) -> BTreeSet<Loss> {
        let of_pod = |pod: &PodPlan| {
            let (thing, which) = (pod.pod.to_string(), pod.pod.uid.clone());
            let loss = move |(consent, what): &(Consent, String)| Loss {
                thing: thing.clone(),
                which: which.clone(),
                consent: *consent,
                what: what.clone(),
            };
            pod.losses.iter().map(loss).collect::<Vec<_>>()
        };
        let of_volume = |volume: &LocalVolume| Loss {
            thing: format!("PersistentVolume {}", volume.name),
            which: volume.claim.clone().unwrap_or_default(),
            consent: Consent::LocalVolumes,
            what: WOULD_BE_LOST.to_owned(),
        };
        let volumes = self.volumes.iter().filter(|volume| self.loses(volume)).map(of_volume);
        self.pods.iter().flat_map(of_pod).chain(volumes).collect()
    }

    /// What would be lost without a consent: how many things for each option.
    pub(super) fn missing(&self, given: &BTreeSet<Consent>) -> BTreeMap<Consent, usize> {
        let mut missing = BTreeMap::new();
        for loss in self.losses().iter().filter(|loss| !given.contains(&loss.consent)) {
            *missing.entry(loss.consent).or_default() += 1;
        }
        missing
    }

    /// A volume outlives a drain after which the node stays as it is, and one that nobody has claimed holds nothing.
    fn loses(&self, volume: &LocalVolume) -> bool {
        self.afterwards == Afterwards::Delete
            && volume.claim.is_some()
            && volume.whereabouts == Whereabouts::Here
    }

    /// The plan as an operator reads it, a line for each pod and volume.
    pub(super) fn lines(&self, given: &BTreeSet<Consent>) -> Vec<String> {
        let mut lines: Vec<String> = self.pods.iter().map(|pod| pod.line(given)).collect();
        lines.extend(self.volumes.iter().map(|volume| self.volume_line(volume, given)));
        lines.extend(self.notes.iter().map(|note| format!("note    {note}")));
        lines
    }

    fn volume_line(&self, volume: &LocalVolume, given: &BTreeSet<Consent>) -> String {
        let allowed = given.contains(&Consent::LocalVolumes);
        let (verb, fate) = match (self.loses(volume), self.afterwards) {
            (true, _) if allowed => ("lose", "lost when the machine is installed anew".to_owned()),
            (true, _) => {
                let option = Consent::LocalVolumes.option();
                ("BLOCKED", format!("{WOULD_BE_LOST} ({option})"))
            }
            (false, _) if volume.whereabouts == Whereabouts::Perhaps => {
                ("volume", "may be on this node: it names none, and no pod here uses it".to_owned())
            }
            (false, Afterwards::Keep) => ("volume", "stays on the node".to_owned()),
            (false, Afterwards::Delete) => ("volume", "is claimed by nobody".to_owned()),
        };
        format!("{verb:<7} PersistentVolume {volume}: {fate}")
    }
}

impl PodPlan {
    /// What it waits for, once it ends: nobody but their owners takes finalizers away.
    pub(super) fn ending(&self) -> String {
        match self.finalizers.as_slice() {
            [] => "is ending".to_owned(),
            held => format!("is ending, when its finalizers ({}) are gone", held.join(", ")),
        }
    }

    fn line(&self, given: &BTreeSet<Consent>) -> String {
        let mut why: Vec<String> = Vec::new();
        let mut verb = match &self.fate {
            Fate::Evict => "evict",
            Fate::Wait => {
                why.push("is ending already".to_owned());
                if !self.finalizers.is_empty() {
                    why.push(format!("its finalizers hold it: {}", self.finalizers.join(", ")));
                }
                "wait"
            }
            Fate::Skip(reason) => {
                why.push(reason.clone());
                "skip"
            }
        };
        for (consent, loss) in &self.losses {
            if given.contains(consent) {
                why.push(loss.clone());
            } else {
                verb = "BLOCKED";
                why.push(format!("{loss} ({})", consent.option()));
            }
        }
        why.extend(self.notes.iter().cloned());
        let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
        format!("{verb:<7} {}{why}", self.pod)
    }
}

/// The pods of the node by namespace and name of each of their claims.
fn users(pods: &[Pod]) -> BTreeMap<(String, String), String> {
    let of_pod = |pod| {
        let id = PodId::of(pod);
        claims_of(pod).map(move |claim| ((id.namespace.clone(), claim), id.to_string()))
    };
    pods.iter().flat_map(of_pod).collect()
}

fn notes(node: &Node, afterwards: Afterwards) -> Vec<&'static str> {
    let mut notes = Vec::new();
    let labels = node.metadata.labels.as_ref();
    let control_plane = CONTROL_PLANE.iter().any(|it| labels.is_some_and(|labels| labels.contains_key(*it)));
    if control_plane && afterwards == Afterwards::Delete {
        notes.push("it is of the control plane: a member of etcd on it is not removed with the Node; remove it first");
    }
    let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let mut ready = conditions.filter(|condition| condition.type_ == "Ready");
    if !ready.any(|condition| condition.status == "True") {
        notes.push("it is not Ready: its pods end only when its kubelet answers, or `kubectl delete pod --force` ends them");
    }
    notes
}

fn plan_of(pod: &Pod, daemon_sets: &BTreeSet<(&str, &str)>, afterwards: Afterwards) -> PodPlan {
    let id = PodId::of(pod);
    let finished = finished(pod);
    let controller = controller(pod);
    let of_set = controller.filter(|owner| owner.kind == "DaemonSet");
    let orphan = of_set.is_some_and(|set| !daemon_sets.contains(&(id.namespace.as_str(), set.name.as_str())));
    let annotations = pod.metadata.annotations.as_ref();
    let skip = match of_set {
        _ if annotations.is_some_and(|all| all.contains_key(MIRROR)) => {
            Some("a static pod of the node's own, which the API cannot end".to_owned())
        }
        Some(set) if !finished && !orphan => {
            Some(format!("of DaemonSet {}, which would put it back", set.name))
        }
        _ => None,
    };
    let host_paths = host_paths(pod).filter(|_| afterwards == Afterwards::Delete);
    let finalizers = pod.metadata.finalizers.clone().unwrap_or_default();
    if let Some(reason) = skip {
        let (losses, mut notes) = match afterwards {
            Afterwards::Delete => lost_with_node(pod),
            Afterwards::Keep => (Vec::new(), Vec::new()),
        };
        notes.extend(host_paths);
        return PodPlan { pod: id, fate: Fate::Skip(reason), losses, notes, finalizers };
    }
    if pod.metadata.deletion_timestamp.is_some() {
        let notes = host_paths.into_iter().collect();
        return PodPlan { pod: id, fate: Fate::Wait, losses: Vec::new(), notes, finalizers };
    }
    let (mut losses, mut notes) = (Vec::new(), Vec::new());
    if finished {
        notes.push("has finished".to_owned());
    } else {
        losses.extend(lost_with(pod).map(|(_, what)| (Consent::EmptyDir, what)));
        match of_set {
            Some(set) if orphan => {
                losses.push((
                    Consent::Force,
                    format!("its DaemonSet {} is gone: nothing starts it again", set.name),
                ));
            }
            _ if controller.is_none() => {
                losses.push((Consent::Force, "has no controller: nothing starts it again".to_owned()));
            }
            _ => {}
        }
    }
    notes.extend(host_paths);
    PodPlan { pod: id, fate: Fate::Evict, losses, notes, finalizers }
}

fn finished(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn controller(pod: &Pod) -> Option<&OwnerReference> {
    let owners = pod.metadata.owner_references.iter().flatten();
    owners.into_iter().find(|owner| owner.controller == Some(true))
}

/// A volume whose data ends with its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bound {
    EmptyDir,
    /// Of a claim of the pod's own, wherever its storage is.
    Ephemeral,
}

fn lost_with(pod: &Pod) -> impl Iterator<Item = (Bound, String)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.filter_map(|volume| {
        let (bound, kind) = match (&volume.empty_dir, &volume.ephemeral) {
            (Some(_), _) => (Bound::EmptyDir, "emptyDir"),
            (None, Some(_)) => (Bound::Ephemeral, "ephemeral volume"),
            (None, None) => return None,
        };
        Some((bound, format!("{kind} `{}` ends with it", volume.name)))
    })
}

/// Of a pod that is left alone, and ends when its Node is gone: the cluster deletes its own claims with it, which may be storage that
/// is not on the machine. What is in its emptyDirs it lost at every reinstall.
fn lost_with_node(pod: &Pod) -> (Vec<(Consent, String)>, Vec<String>) {
    let (claims, rest): (Vec<_>, Vec<_>) = lost_with(pod).partition(|(bound, _)| *bound == Bound::Ephemeral);
    let losses = claims.into_iter().map(|(_, what)| (Consent::EmptyDir, what));
    (losses.collect(), rest.into_iter().map(|(_, what)| what).collect())
}

/// What is said of the machine's own paths, if a pod has any.
fn host_paths(pod: &Pod) -> Option<String> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let paths: Vec<&str> =
        volumes.filter_map(|volume| volume.host_path.as_ref().map(|host| host.path.as_str())).collect();
    match paths.as_slice() {
        [] => None,
        [path] => Some(format!("its hostPath {path} stays behind on the machine")),
        paths => Some(format!("its hostPaths {} stay behind on the machine", paths.join(", "))),
    }
}

#[cfg(test)]
mod tests;

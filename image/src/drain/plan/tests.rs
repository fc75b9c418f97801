//! On what `kubectl get -o json` gives of a node that runs one pod of each kind (tests/fixtures/drain, Kubernetes 1.20.2).

use super::{Afterwards, Consent, Fate, Listing, Plan, PodPlan};
use k8s_openapi::api::core::v1::Pod;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;

const NONE: BTreeSet<Consent> = BTreeSet::new();

fn all() -> BTreeSet<Consent> {
    BTreeSet::from([Consent::EmptyDir, Consent::LocalVolumes, Consent::Force])
}

fn listed<T: DeserializeOwned>(text: &str) -> T {
    let mut list: Value = serde_json::from_str(text).unwrap();
    serde_json::from_value(list["items"].take()).unwrap()
}

fn listing() -> Listing {
    Listing {
        node: serde_json::from_str(include_str!("../../../../tests/fixtures/drain/node.json")).unwrap(),
        pods: listed(include_str!("../../../../tests/fixtures/drain/pods.json")),
        daemon_sets: listed(include_str!("../../../../tests/fixtures/drain/daemonsets.json")),
        volumes: listed(include_str!("../../../../tests/fixtures/drain/volumes.json")),
    }
}

fn plan() -> Plan {
    Plan::of(&listing(), Afterwards::Delete)
}

/// The plan of the pod of this name, changed.
fn changed(name: &str, change: impl FnOnce(&mut Value)) -> PodPlan {
    let mut listing = listing();
    let named = |pod: &&Pod| pod.metadata.name.as_deref() == Some(name);
    let mut pod = serde_json::to_value(listing.pods.iter().find(named).unwrap()).unwrap();
    change(&mut pod);
    listing.pods = vec![serde_json::from_value(pod).unwrap()];
    Plan::of(&listing, Afterwards::Delete).pods.remove(0)
}

#[test]
fn a_line_for_each_pod_and_volume() {
    let lines = plan().lines(&NONE);
    let expected: Vec<&str> = include_str!("../../../../tests/fixtures/drain/plan.txt").lines().collect();
    assert_eq!(lines, expected, "the plan is now:\n{}", lines.join("\n"));
}

#[test]
fn all_that_is_missing_is_counted_at_once() {
    let missing: Vec<_> = plan().missing(&NONE).into_iter().collect();
    assert_eq!(missing, [(Consent::EmptyDir, 1), (Consent::LocalVolumes, 1), (Consent::Force, 4)]);
    let given = BTreeSet::from([Consent::Force, Consent::EmptyDir]);
    assert_eq!(plan().missing(&given).into_keys().collect::<Vec<_>>(), [Consent::LocalVolumes]);
    assert!(plan().missing(&all()).is_empty());
    assert!(!plan().lines(&all()).iter().any(|line| line.starts_with("BLOCKED")));
}

#[test]
fn volumes_outlive_a_drain_that_keeps_the_node() {
    let plan = Plan::of(&listing(), Afterwards::Keep);
    assert!(!plan.missing(&NONE).contains_key(&Consent::LocalVolumes));
    assert!(plan.lines(&NONE).iter().any(|line| line.starts_with("volume  PersistentVolume disk-1 (")));
}

#[test]
fn a_volume_that_nobody_claimed_holds_nothing() {
    let mut listing = listing();
    listing.volumes[0].spec.as_mut().unwrap().claim_ref = None;
    let plan = Plan::of(&listing, Afterwards::Delete);
    assert!(!plan.missing(&NONE).contains_key(&Consent::LocalVolumes));
}

#[test]
fn a_pod_that_has_finished_needs_no_consent() {
    for phase in ["Succeeded", "Failed"] {
        let plan = changed("scratch", |pod| pod["status"]["phase"] = phase.into());
        assert_eq!((plan.fate, plan.losses), (Fate::Evict, vec![]));
    }
}

#[test]
fn a_pod_that_is_ending_is_only_waited_for() {
    let plan = changed("scratch", |pod| pod["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z".into());
    assert_eq!((plan.fate, plan.losses), (Fate::Wait, vec![]));
}

#[test]
fn an_ephemeral_volume_ends_with_its_pod() {
    let plan = changed("scratch", |pod| {
        pod["spec"]["volumes"] =
            json!([{"name": "cache", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]);
    });
    assert_eq!(plan.losses[0], (Consent::EmptyDir, "ephemeral volume `cache` ends with it".to_owned()));
}

#[test]
fn a_pod_whose_daemon_set_is_gone_needs_force() {
    let mut listing = listing();
    listing.daemon_sets.clear();
    let plan = Plan::of(&listing, Afterwards::Delete);
    let of_set = plan.pods.iter().find(|pod| pod.pod.name.starts_with("network-")).unwrap();
    assert_eq!(of_set.fate, Fate::Evict);
    assert_eq!(of_set.losses[0].0, Consent::Force);
}

#[test]
fn a_host_path_is_named_where_the_machine_is_installed_anew() {
    let host = |pod: &mut Value| {
        pod["spec"]["volumes"] = json!([{"name": "srv", "hostPath": {"path": "/srv"}}]);
    };
    let plan = changed("shared", host);
    assert_eq!(plan.notes, ["its hostPath /srv stays behind on the machine"]);
    assert!(plan.losses.iter().all(|(consent, _)| *consent == Consent::Force));
}

#[test]
fn only_a_controller_starts_a_pod_again() {
    let owner = json!([{"apiVersion": "v1", "kind": "Thing", "name": "t", "uid": "u"}]);
    let plan = changed("shared", |pod| pod["metadata"]["ownerReferences"] = owner);
    assert_eq!(plan.losses[0].0, Consent::Force);
}

#[test]
fn a_control_plane_node_is_told_of_its_etcd() {
    let mut listing = listing();
    let labels = listing.node.metadata.labels.get_or_insert_default();
    labels.insert("node-role.kubernetes.io/master".to_owned(), String::new());
    let lines = Plan::of(&listing, Afterwards::Delete).lines(&all());
    assert!(lines.last().unwrap().contains("a member of etcd"), "{lines:?}");
}

fn with_volumes(name: &str, volumes: &Value) -> PodPlan {
    changed(name, |pod| pod["spec"]["volumes"] = volumes.clone())
}

#[test]
fn what_ends_with_the_node_is_said_of_pods_that_are_left_alone() {
    let volumes = json!([
        {"name": "etcd", "hostPath": {"path": "/var/lib/etcd"}}, {"name": "pki", "hostPath": {"path": "/etc/pki"}},
        {"name": "cache", "emptyDir": {}}, {"name": "disk", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
    ]);
    let paths = "its hostPaths /var/lib/etcd, /etc/pki stay behind on the machine";
    for name in ["own-node-1", "network-669hx"] {
        let plan = with_volumes(name, &volumes);
        assert!(matches!(plan.fate, Fate::Skip(_)));
        assert_eq!(plan.losses, [(Consent::EmptyDir, "ephemeral volume `disk` ends with it".to_owned())]);
        assert_eq!(plan.notes, ["emptyDir `cache` ends with it", paths]);
    }
    let ending = changed("shared", |pod| {
        pod["spec"]["volumes"] = volumes.clone();
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z".into();
    });
    assert_eq!((ending.fate, ending.notes), (Fate::Wait, vec![paths.to_owned()]));
}

#[test]
fn what_is_left_alone_loses_nothing_while_its_node_stays() {
    let mut listing = listing();
    let set =
        listing.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some("network-669hx")).unwrap();
    let volume = json!({"name": "disk", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}});
    set.spec.as_mut().unwrap().volumes.get_or_insert_default().push(serde_json::from_value(volume).unwrap());
    let plan = Plan::of(&listing, Afterwards::Keep);
    let set = plan.pods.iter().find(|pod| pod.pod.name == "network-669hx").unwrap();
    assert!(set.losses.is_empty() && set.notes.is_empty(), "{set:?}");
}

#[test]
fn finalizers_are_named() {
    let plan = changed("shared", |pod| {
        pod["metadata"]["deletionTimestamp"] = "2026-11-21T12:00:00Z".into();
        pod["metadata"]["finalizers"] = json!(["example.com/a", "example.com/b"]);
    });
    let line = plan.line(&NONE);
    assert_eq!(
        line,
        "wait    default/shared: is ending already; its finalizers hold it: example.com/a, example.com/b"
    );
    assert_eq!(plan.ending(), "is ending, when its finalizers (example.com/a, example.com/b) are gone");
}

#[test]
fn a_loss_is_of_one_pod_and_of_one_claim() {
    let losses = plan().losses();
    let changed = |change: &dyn Fn(&mut Listing)| {
        let mut listing = listing();
        change(&mut listing);
        let new = Plan::of(&listing, Afterwards::Delete).losses();
        new.difference(&losses).map(ToString::to_string).collect::<Vec<_>>()
    };
    assert!(changed(&|_| {}).is_empty());
    let again = changed(&|listing| listing.pods[0].metadata.uid = Some("again".to_owned()));
    assert_eq!(again, ["default/alone: has no controller: nothing starts it again (--force)"]);
    let claimed = changed(&|listing| {
        listing.volumes[0].spec.as_mut().unwrap().claim_ref.as_mut().unwrap().name = Some("new".to_owned());
    });
    assert_eq!(
        claimed,
        ["PersistentVolume disk-1: would be lost when the machine is installed anew (--lose-local-volumes)"]
    );
}

#[test]
fn a_path_that_may_be_here_is_named_and_not_counted() {
    let mut listing = listing();
    let spec = listing.volumes[0].spec.as_mut().unwrap();
    spec.node_affinity = None;
    spec.claim_ref.as_mut().unwrap().name = Some("elsewhere".to_owned());
    let plan = Plan::of(&listing, Afterwards::Delete);
    assert!(!plan.missing(&NONE).contains_key(&Consent::LocalVolumes));
    let wanted = "volume  PersistentVolume disk-1 (/var/lib/example-data, claim default/elsewhere): may be on this node";
    assert!(plan.lines(&NONE).iter().any(|line| line.starts_with(wanted)), "{:?}", plan.lines(&NONE));
}

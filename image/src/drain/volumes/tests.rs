use super::{LocalVolume, Whereabouts, claims_of};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use serde_json::{Value, json};
use std::collections::BTreeMap;

fn node() -> Node {
    let labels = json!({
        "kubernetes.io/hostname": "host-1", "topology.kubernetes.io/zone": "a", "topology.example.com/node": "node-1",
    });
    serde_json::from_value(json!({"metadata": {"name": "node-1", "labels": labels}})).unwrap()
}

/// A volume of this source and affinity as it is told that it is local to the node, while a pod uses the claim `default/used`.
fn local(claim: &str, source: &Value, terms: &Value) -> Option<String> {
    let volume = looked_at(claim, source, terms);
    volume.filter(|volume| volume.whereabouts == Whereabouts::Here).map(|volume| volume.to_string())
}

fn looked_at(claim: &str, source: &Value, terms: &Value) -> Option<LocalVolume> {
    let mut spec = source.clone();
    spec["claimRef"] = json!({"namespace": "default", "name": claim});
    if !terms.is_null() {
        spec["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": terms}});
    }
    let volume: PersistentVolume =
        serde_json::from_value(json!({"metadata": {"name": "pv"}, "spec": spec})).unwrap();
    let users = BTreeMap::from([(("default".to_owned(), "used".to_owned()), "default/db".to_owned())]);
    LocalVolume::on(&node(), &volume, &users)
}

fn by(key: &str, values: &[&str]) -> Value {
    json!([{"matchExpressions": [{"key": key, "operator": "In", "values": values}]}])
}

#[test]
fn a_volume_is_local_where_only_this_node_has_it() {
    let (disk, csi) =
        (json!({"local": {"path": "/srv"}}), json!({"csi": {"driver": "d", "volumeHandle": "h"}}));
    let host = "kubernetes.io/hostname";
    let here = local("other", &disk, &by(host, &["host-1"]));
    assert_eq!(here.as_deref(), Some("pv (/srv, claim default/other)"));
    let used = local("used", &csi, &by("topology.example.com/node", &["node-1"]));
    assert_eq!(used.as_deref(), Some("pv (by d, claim default/used, used by default/db)"));
    let by_name =
        json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]);
    assert!(local("other", &csi, &by_name).is_some());

    for elsewhere in [
        by(host, &["host-2"]),
        by(host, &["host-1", "host-2"]),
        by("topology.kubernetes.io/zone", &["a"]),
        json!([by(host, &["host-1"])[0], by(host, &["host-2"])[0]]),
        json!([{"matchExpressions": [{"key": host, "operator": "NotIn", "values": ["host-1"]}]}]),
        json!([]),
    ] {
        assert_eq!(local("used", &csi, &elsewhere), None, "{elsewhere}");
        assert!(looked_at("other", &disk, &elsewhere).is_none(), "{elsewhere}");
        // Whatever the affinity allows, a path has its data where its pod is.
        assert!(local("used", &disk, &elsewhere).is_some(), "{elsewhere}");
    }
}

#[test]
fn a_driver_that_has_not_marked_its_node_yet_is_known_by_the_nodes_name() {
    let csi = json!({"csi": {"driver": "d", "volumeHandle": "h"}});
    assert!(local("other", &csi, &by("topology.unmarked/node", &["node-1"])).is_some());
    assert_eq!(local("other", &csi, &by("topology.unmarked/node", &["node-2"])), None);
    // The host name is known, and another one.
    assert_eq!(local("other", &csi, &by("kubernetes.io/hostname", &["node-1"])), None);
}

#[test]
fn a_path_without_an_affinity_is_where_it_is_used() {
    let path = json!({"hostPath": {"path": "/srv"}});
    assert!(local("used", &path, &Value::Null).is_some());
    assert_eq!(local("other", &path, &Value::Null), None);
    let perhaps = looked_at("other", &path, &Value::Null).unwrap();
    assert_eq!(perhaps.whereabouts, Whereabouts::Perhaps);
    assert_eq!(local("used", &json!({"nfs": {"server": "s", "path": "/srv"}}), &Value::Null), None);
}

#[test]
fn claims_are_of_both_kinds() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p"},
        "spec": {"containers": [], "volumes": [
            {"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
            {"name": "c", "emptyDir": {}},
        ]},
    }))
    .unwrap();
    assert_eq!(claims_of(&pod).collect::<Vec<_>>(), ["data", "p-b"]);
}

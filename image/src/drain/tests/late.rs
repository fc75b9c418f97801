//! What comes while the drain runs: pods, losses, another Node of the name.

use super::play::{Play, drain, node, play, pod, status};
use axum::response::IntoResponse as _;
use serde_json::{Value, json};
use tatara_spec::error::Code;

fn alone(name: &str) -> Value {
    let mut pod = pod(name);
    pod["metadata"]["ownerReferences"] = json!([]);
    pod
}

/// A server whose Node has another answer when it is looked at for the second time.
fn changed(second: impl Fn() -> Value + Send + Sync + 'static, play: Play) -> Play {
    let instead = move |asked: &str, before: usize| {
        (asked == "GET /api/v1/nodes/node-1" && before == 1).then(|| second().to_string().into_response())
    };
    Play { instead: Box::new(instead), ..play }
}

#[test]
fn pods_that_come_after_the_cordon_are_evicted_too() {
    let lists = vec![vec![pod("a")], vec![pod("a")], vec![pod("b")], vec![pod("c")], vec![]];
    let (result, server) = drain(Play { pods: lists, ..play(&[], &[]) }, &["node-1", "--timeout", "60s"]);
    result.unwrap();
    assert_eq!(server.asked("/eviction").len(), 3);
    assert_eq!(server.asked("DELETE").len(), 1);
}

#[test]
fn pods_that_keep_coming_are_named() {
    let lists = ["a", "a", "b", "c", "d", "e", "f", "g"].map(|name| vec![pod(name)]);
    let play = Play { pods: lists.to_vec(), ..play(&[], &[]) };
    let (result, server) = drain(play, &["node-1", "--timeout", "60s"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainLeft, "{}", fault.message);
    for part in ["pods keep coming", "stays cordoned", "default/f (has come although the node is cordoned)"] {
        assert!(fault.message.contains(part), "{}", fault.message);
    }
    assert_eq!(server.asked("/eviction").len(), 5);
    assert!(server.asked("DELETE").is_empty());
}

#[test]
fn a_loss_that_comes_after_evictions_is_refused() {
    let lists = vec![vec![pod("a")], vec![pod("a")], vec![alone("b")]];
    let play = Play { pods: lists, ..play(&[], &[]) };
    let (result, server) = drain(play, &["node-1", "--force", "--timeout", "60s"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainConsent, "{}", fault.message);
    assert!(
        fault.message.contains("default/b: has no controller") && fault.message.contains("stays cordoned")
    );
    assert_eq!((server.asked("/eviction").len(), server.asked("PATCH").len()), (1, 1));
    assert!(server.asked("DELETE").is_empty());
}

#[test]
fn consent_is_to_what_was_shown() {
    // Another pod of the same kind; and the same name with another uid.
    let mut again = alone("a");
    again["metadata"]["uid"] = "uid-again".into();
    for late in [alone("b"), again] {
        let (result, server) = drain(play(&[alone("a")], &[late]), &["node-1", "--force"]);
        let fault = result.unwrap_err();
        assert_eq!(fault.code, Code::DrainConsent);
        for part in ["not in the plan that was shown", "has no controller: nothing starts it again (--force)"]
        {
            assert!(fault.message.contains(part), "{}", fault.message);
        }
        assert!(!fault.message.contains("cordoned"), "{}", fault.message);
        assert_eq!(server.asked("PATCH").len(), 2, "the cordon is taken back");
        assert!(server.asked("/eviction").is_empty());
    }
}

#[test]
fn a_volume_that_is_bound_meanwhile_is_refused() {
    let volumes = |claim: Option<&str>| {
        let mut spec = json!({
            "local": {"path": "/srv"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]},
            ]}},
        });
        if let Some(claim) = claim {
            spec["claimRef"] = json!({"namespace": "default", "name": claim});
        }
        let volume = json!({"metadata": {"name": "disk"}, "spec": spec});
        super::play::list("PersistentVolumeList", &[volume]).to_string().into_response()
    };
    let instead = move |asked: &str, before: usize| {
        let listed = asked.ends_with("/persistentvolumes");
        listed.then(|| volumes((before > 0).then_some("db")))
    };
    let play = Play { instead: Box::new(instead), ..play(&[], &[]) };
    let (result, server) = drain(play, &["node-1", "--lose-local-volumes"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainConsent);
    assert!(fault.message.contains("PersistentVolume disk"), "{}", fault.message);
    assert!(server.asked("DELETE").is_empty());
}

#[test]
fn another_node_of_the_name_is_not_cordoned() {
    let (result, server) = drain(changed(|| node("uid-new"), play(&[], &[])), &["node-1"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainNode);
    assert_eq!(fault.message, "the Node `node-1` was made anew since it was looked at");
    assert!(server.requests.lock().unwrap().iter().all(|(asked, _)| asked.starts_with("GET ")));
}

#[test]
fn a_cordon_names_the_uid() {
    let (result, server) = drain(play(&[], &[]), &["node-1"]);
    result.unwrap();
    let wanted = json!({"metadata": {"uid": "uid-node"}, "spec": {"unschedulable": true}});
    assert_eq!(server.asked("PATCH"), [wanted]);
}

#[test]
fn the_node_is_looked_at_as_its_cordon_answers_it() {
    // The label by which a volume is local has come since the question.
    let labelled = |asked: &str, _| {
        let mut node = node("uid-node");
        node["metadata"]["labels"] = json!({"kubernetes.io/hostname": "host-1"});
        asked.starts_with("PATCH").then(|| node.to_string().into_response())
    };
    let volume = json!({"metadata": {"name": "disk"}, "spec": {
        "local": {"path": "/srv"}, "claimRef": {"namespace": "default", "name": "db"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["host-1"]}]},
        ]}},
    }});
    let instead = move |asked: &str, before: usize| {
        let volumes = || super::play::list("PersistentVolumeList", std::slice::from_ref(&volume));
        let listed = asked.ends_with("/persistentvolumes").then(|| volumes().to_string().into_response());
        listed.or_else(|| labelled(asked, before))
    };
    let play = Play { instead: Box::new(instead), ..play(&[], &[]) };
    let (result, server) = drain(play, &["node-1"]);
    assert_eq!(result.unwrap_err().code, Code::DrainConsent);
    assert!(server.asked("DELETE").is_empty());
}

#[test]
fn a_cordon_of_somebody_else_is_not_taken_back() {
    let cordoned = || {
        let mut node = node("uid-node");
        node["spec"] = json!({"unschedulable": true});
        node
    };
    let (result, server) = drain(changed(cordoned, play(&[], &[alone("b")])), &["node-1"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainConsent);
    assert!(fault.message.contains("stays cordoned, as it was"), "{}", fault.message);
    assert_eq!(server.asked("PATCH").len(), 1);
}

#[test]
fn another_node_of_the_name_is_not_deleted() {
    let conflict = |asked: &str, _| {
        asked
            .starts_with("DELETE")
            .then(|| status(409, "Precondition failed: UID in precondition", &json!([])))
    };
    let (result, _) = drain(Play { instead: Box::new(conflict), ..play(&[], &[]) }, &["node-1"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainNode);
    assert!(fault.message.contains("made anew") && !fault.message.contains("cordoned"), "{}", fault.message);
}

//! A cluster that fails in the middle.

use super::play::{Play, drain, node, play, pod, status};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tatara_spec::error::Code;

/// A server that answers such a question with an error, the first of these so many times.
fn failing(what: &'static str, from: usize, to: usize, code: u16, play: Play) -> Play {
    let instead = move |asked: &str, before: usize| -> Option<Response> {
        (asked.contains(what) && (from..to).contains(&before)).then(|| status(code, "not now", &json!([])))
    };
    Play { instead: Box::new(instead), ..play }
}

#[test]
fn an_eviction_is_asked_for_until_the_pod_is_gone() {
    for code in [404, 409, 500] {
        let pods = [pod("a")];
        let play = failing("/eviction", 0, 1, code, play(&pods, &pods));
        let (result, server) = drain(play, &["node-1", "--timeout", "30s"]);
        result.unwrap();
        assert_eq!(server.asked("/eviction").len(), 2, "{code}");
    }
}

#[test]
fn what_passes_is_asked_again_after_the_cordon() {
    for (what, from) in [("PATCH", 0), ("/persistentvolumes", 1), ("DELETE", 0)] {
        for code in [429, 503] {
            let play = failing(what, from, from + 1, code, play(&[], &[]));
            drain(play, &["node-1"]).0.unwrap_or_else(|fault| panic!("{what}: {}", fault.message));
        }
    }
}

#[test]
fn before_the_cordon_nothing_is_asked_again() {
    let (result, server) = drain(failing("/persistentvolumes", 0, 1, 503, play(&[], &[])), &["node-1"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainApi);
    assert!(!fault.message.contains("cordoned"), "{}", fault.message);
    assert!(server.asked("PATCH").is_empty());
}

#[test]
fn a_failure_after_the_cordon_says_that_it_stays() {
    for (what, from) in [("/persistentvolumes", 1), ("DELETE", 0)] {
        let play = failing(what, from, usize::MAX, 403, play(&[], &[]));
        let fault = drain(play, &["node-1"]).0.unwrap_err();
        assert_eq!(fault.code, Code::DrainApi);
        assert!(fault.message.ends_with("not now; it stays cordoned"), "{}", fault.message);
    }
}

#[test]
fn an_uncordon_that_fails_hides_nothing() {
    let mut late = pod("b");
    late["metadata"]["ownerReferences"] = json!([]);
    let play = failing("PATCH", 1, usize::MAX, 403, play(&[], &[late]));
    let fault = drain(play, &["node-1"]).0.unwrap_err();
    assert_eq!(fault.code, Code::DrainConsent);
    for part in ["default/b", "it stays cordoned: asking the cluster to uncordon the Node: not now"] {
        assert!(fault.message.contains(part), "{}", fault.message);
    }
}

#[test]
fn a_node_that_is_gone_already_is_deleted() {
    drain(failing("DELETE", 0, 1, 404, play(&[], &[])), &["node-1"]).0.unwrap();
}

#[test]
fn a_node_with_finalizers_is_not_called_deleted() {
    let instead = |asked: &str, _| {
        let mut node = node("uid-node");
        node["metadata"]["finalizers"] = json!(["example.com/disk"]);
        asked.starts_with("DELETE").then(|| node.to_string().into_response())
    };
    let fault = drain(Play { instead: Box::new(instead), ..play(&[], &[]) }, &["node-1"]).0.unwrap_err();
    assert_eq!(fault.code, Code::DrainLeft);
    assert!(fault.message.contains("finalizers are gone: example.com/disk"), "{}", fault.message);
}

#[test]
fn a_watch_that_is_forbidden_ends_it() {
    let pods = [pod("a")];
    for code in [401, 403] {
        // No eviction is taken, or the list before the watch might show already that the pod is gone.
        let play = Play { refusals: usize::MAX, ..failing("WATCH", 0, usize::MAX, code, play(&pods, &pods)) };
        let fault = drain(play, &["node-1", "--timeout", "30s"]).0.unwrap_err();
        assert_eq!(fault.code, Code::DrainApi, "{}", fault.message);
        for part in ["cannot be watched: not now", "stays cordoned"] {
            assert!(fault.message.contains(part), "{}", fault.message);
        }
    }
}

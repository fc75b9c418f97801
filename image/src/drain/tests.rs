//! Whole drains, of an API server that is played.

mod faults;
mod late;
mod play;
mod stops;

use clap::Parser as _;
use play::{Cli, Play, drain, play, pod};
use serde_json::json;
use tatara_spec::error::Code;

#[test]
fn a_budget_is_waited_for_and_the_node_deleted_last() {
    for eviction in ["v1", "v1beta1"] {
        let pods = [pod("a"), pod("b")];
        let play = Play { eviction, refusals: 1, ..play(&pods, &pods) };
        let (result, server) = drain(play, &["node-1", "--grace-period", "7"]);
        result.unwrap();
        let evictions = server.asked("/eviction");
        assert_eq!(evictions.len(), 3, "{evictions:?}");
        assert!(evictions.iter().all(|it| it["apiVersion"] == format!("policy/{eviction}")), "{evictions:?}");
        assert!(evictions.iter().all(|it| it["deleteOptions"]["gracePeriodSeconds"] == 7), "{evictions:?}");
        assert_eq!(server.asked("PATCH")[0]["spec"]["unschedulable"], true);
        assert_eq!(server.asked("DELETE")[0]["preconditions"]["uid"], "uid-node");
        let last = server.requests.lock().unwrap().last().unwrap().0.clone();
        assert_eq!(last, "DELETE /api/v1/nodes/node-1");
    }
}

#[test]
fn a_budget_that_never_gives_way_ends_with_the_time() {
    let pods = [pod("a")];
    let play = Play { refusals: usize::MAX, ..play(&pods, &pods) };
    let (result, server) = drain(play, &["node-1", "--timeout", "1500ms"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainLeft);
    for part in ["not within 1s 500ms", "stays cordoned", "default/a (The disruption budget web needs 1)"] {
        assert!(fault.message.contains(part), "{}", fault.message);
    }
    assert!(server.asked("DELETE").is_empty());
}

#[test]
fn what_needs_consent_is_refused_before_anything_is_changed() {
    let mut scratch = pod("a");
    scratch["spec"]["volumes"] = json!([{"name": "data", "emptyDir": {}}]);
    let (result, server) = drain(play(&[scratch], &[]), &["node-1"]);
    let fault = result.unwrap_err();
    assert_eq!(fault.code, Code::DrainConsent);
    assert!(fault.message.contains("--delete-emptydir-data (1)"), "{}", fault.message);
    assert!(server.requests.lock().unwrap().iter().all(|(asked, _)| asked.starts_with("GET ")));
}

#[test]
fn what_needs_consent_and_comes_before_the_cordon_is_refused_too() {
    let mut late = pod("b");
    late["metadata"]["ownerReferences"] = json!([]);
    let (result, server) = drain(play(&[pod("a")], &[pod("a"), late]), &["node-1"]);
    assert_eq!(result.unwrap_err().code, Code::DrainConsent);
    let patches = server.asked("PATCH");
    assert_eq!(patches.len(), 2, "{patches:?}");
    assert_eq!(patches[1]["spec"]["unschedulable"], false, "{patches:?}");
    assert!(server.asked("/eviction").is_empty());
}

#[test]
fn an_unknown_node_has_a_nearest_one() {
    let (result, _) = drain(play(&[], &[]), &["nod-1"]);
    let fault = result.unwrap_err();
    assert_eq!(
        (fault.code, fault.message.as_str()),
        (Code::DrainNode, "the cluster has no Node `nod-1`; did you mean `node-1`?")
    );
}

#[test]
fn a_rehearsal_changes_nothing() {
    let (result, server) = drain(play(&[pod("a")], &[]), &["node-1", "--dry-run"]);
    result.unwrap();
    assert!(server.requests.lock().unwrap().iter().all(|(asked, _)| asked.starts_with("GET ")));
}

#[test]
fn a_pod_has_time_to_end() {
    let parsed = Cli::try_parse_from(["drain", "node-1", "--grace-period", "0"]);
    assert!(parsed.unwrap_err().to_string().contains("0 is not in 1.."));
}

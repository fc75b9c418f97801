//! The join as a whole, against a fake cluster.

use super::fake::{Fake, MACHINE_ID, TOKEN};
use super::run_with;
use crate::node::read_json;
use std::cell::Cell;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tatara_spec::record::{JoinRecord, JoinStamp, JoinState, Timeline};

/// Joins; between attempts `change` may mend something, and is told how many attempts there were.
fn join(fake: &Fake, change: impl Fn(u32)) {
    let attempts = Cell::new(0);
    let rest = |_| {
        attempts.set(attempts.get() + 1);
        assert!(attempts.get() < 10, "it goes on for ever: {:?}", record(fake));
        change(attempts.get());
    };
    run_with(&fake.node(), &fake.system, &rest).unwrap();
}

fn record(fake: &Fake) -> JoinRecord {
    read_json(&fake.path("run/tatara/join.json")).unwrap().unwrap()
}

fn code(fake: &Fake) -> String {
    record(fake).code.unwrap_or_default()
}

fn assert_joined(fake: &Fake) {
    assert_eq!(record(fake).state, JoinState::Joined);
    let stamp: JoinStamp = read_json(&fake.path("var/lib/tatara/kubernetes/joined.json")).unwrap().unwrap();
    assert_eq!((stamp.node_name.as_str(), stamp.kubernetes.as_str()), ("node-1", "1.31.4"));
    assert!(!fake.path("var/lib/tatara/kubernetes/joining").exists());
    assert_eq!(fake.holding(TOKEN), [""; 0].map(std::path::PathBuf::from), "the token is nowhere");
}

/// The names of the steps on this boot's timeline.
fn steps(fake: &Fake) -> Vec<String> {
    let timeline: Timeline = read_json(&fake.path("run/tatara/timeline.json")).unwrap().unwrap();
    let steps = timeline.kernels.into_iter().flatten();
    steps
        .inspect(|step| assert!(step.end_s.unwrap() >= step.begin_s, "{step:?}"))
        .map(|step| step.name)
        .collect()
}

/// Of a node that joins at its first attempt, and of one that is held up on the way.
const STEPS: [&str; 8] =
    ["join-accept", "join-api", "join-token", "join-reset", "join-name", "join", "kubelet", "joined"];

#[test]
fn a_blank_node_joins_and_forgets_the_token() {
    let fake = Fake::new();
    join(&fake, |_| panic!("nothing fails: {:?}", record(&fake)));
    assert_joined(&fake);
    assert_eq!(steps(&fake), STEPS);
    assert_eq!(fake.calls(), "join");
    assert_eq!(fs::read_to_string(fake.path("config.mode")).unwrap().trim(), "600");
    let memory = fake.path("run/tatara/bootstrap-kubelet.conf");
    assert_eq!(fs::read_to_string(fake.path("bootstrap.link")).unwrap().trim(), memory.to_str().unwrap());
    let asked = fake.asked.lock().unwrap().clone();
    let with_token: Vec<&String> = asked.iter().filter(|line| line.contains(TOKEN)).collect();
    assert_eq!(with_token, [&format!("/api/v1/nodes/node-1 {TOKEN}")], "{asked:?}");
}

#[test]
fn later_boots_ask_nobody_and_erase_what_came_again() {
    let fake = Fake::new();
    join(&fake, |_| {});
    fake.asked.lock().unwrap().clear();
    // A boot from the network brings the config with its token again.
    fake.config(&format!("token: {TOKEN}"));
    fake.answer(|answers| answers.status = 500);
    join(&fake, |_| panic!("nothing fails"));
    assert_joined(&fake);
    assert_eq!(fake.calls(), "join");
    assert!(fake.asked.lock().unwrap().is_empty());
}

#[test]
fn an_api_server_that_is_away_is_waited_for() {
    let fake = Fake::new();
    fake.answer(|answers| answers.status = 503);
    join(&fake, |attempt| {
        let record = record(&fake);
        assert_eq!(
            (record.state, record.attempts, code(&fake).as_str()),
            (JoinState::Waiting, attempt, "E-JOIN-API")
        );
        assert!(record.reason.unwrap().contains("answered 503"));
        assert!(record.hint.unwrap().contains("DNS"));
        assert_eq!(fake.calls(), "");
        if attempt == 3 {
            fake.answer(|answers| answers.status = 200);
        }
    });
    assert_joined(&fake);
    assert_eq!((record(&fake).reason, record(&fake).hint), (None, None));
    assert_eq!(steps(&fake), STEPS, "however often a step is tried, it is one line");
}

#[test]
fn another_clusters_ca_is_refused_and_gets_no_credential() {
    let fake = Fake::new();
    let wrong = format!("sha256:{}", "0".repeat(64));
    fake.config_with(&format!("{{token: {TOKEN}, caCertHashes: ['{wrong}']}}"));
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        join(&fake, |attempt| {
            assert_eq!((record(&fake).state, code(&fake).as_str()), (JoinState::Refused, "E-JOIN-CA"));
            let reason = record(&fake).reason.unwrap();
            assert!(reason.contains(&fake.ca_hash) && reason.contains(&wrong), "{reason}");
            assert!(attempt < 3, "enough");
        });
    }));
    assert!(stopped.is_err());
    assert_eq!(fake.calls(), "", "kubeadm was not run");
    assert!(fake.asked.lock().unwrap().iter().all(|line| line.ends_with("cluster-info -")));
}

#[test]
fn an_expired_token_is_said_and_a_fresh_one_is_fetched() {
    let fake = Fake::new();
    fake.config(&format!("tokenFrom: 'https://127.0.0.1:{}/token'", fake.port));
    fake.answer(|answers| answers.token_from = "expire.0123456789abcdef\n".to_owned());
    join(&fake, |attempt| match attempt {
        1 => {
            assert_eq!(code(&fake), "E-JOIN-TOKEN");
            fake.answer(|answers| answers.token_from = "<html>".to_owned());
        }
        _ => {
            assert_eq!(code(&fake), "E-JOIN-TOKEN-SOURCE");
            fake.answer(|answers| answers.token_from = format!("{{\"token\": \"{TOKEN}\"}}"));
        }
    });
    assert_joined(&fake);
    assert!(fake.holding("expire.").is_empty());
}

#[test]
fn who_gives_tokens_to_nodes_that_it_knows_sees_the_nodes_certificate() {
    let fake = Fake::new();
    let url = format!("tokenFrom: 'https://127.0.0.1:{}/private/token'", fake.port);
    let indented = fake.identity.replace("\r\n", "\n").trim().replace('\n', "\n      ");
    let known =
        format!("\n    {url}\n    caCertHashes: ['{}']\n    identity: |\n      {indented}", fake.ca_hash);
    fake.answer(|answers| answers.token_from = TOKEN.to_owned());
    fake.config(&url);
    // A config counts when it is read anew, at the next boot.
    let stranger = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        join(&fake, |_| {
            assert_eq!(code(&fake), "E-HTTP-STATUS");
            fake.put("stranger", "");
            panic!("enough");
        });
    }));
    assert!(stranger.is_err() && fake.path("stranger").exists());
    fake.config_with(&known);
    join(&fake, |_| panic!("nothing fails: {:?}", record(&fake)));
    assert_joined(&fake);
    let key = fake.identity.lines().rev().nth(1).unwrap().trim();
    assert!(key.len() < 16 || fake.holding(key).is_empty(), "the key is still there");
    let key = fake.identity.lines().rev().nth(2).unwrap().trim();
    assert!(fake.holding(key).is_empty(), "the key is still there");
}

#[test]
fn a_name_that_another_machine_uses_is_taken_only_when_its_node_is_deleted() {
    let fake = Fake::new();
    fake.answer(|answers| answers.node = Some((true, "feedfeedfeedfeedfeedfeedfeedfeed")));
    join(&fake, |attempt| {
        assert_eq!((record(&fake).state, code(&fake).as_str()), (JoinState::Refused, "E-JOIN-NAME"));
        match attempt {
            1 => fake.answer(|answers| answers.node = Some((false, "feedfeedfeedfeedfeedfeedfeedfeed"))),
            2 => fake.answer(|answers| answers.node = None),
            _ => panic!("the name is free"),
        }
    });
    assert_joined(&fake);
    assert_eq!(fake.calls(), "join");
}

#[test]
fn a_node_that_is_not_ready_is_taken_over() {
    let fake = Fake::new();
    fake.answer(|answers| answers.node = Some((false, "feedfeedfeedfeedfeedfeedfeedfeed")));
    join(&fake, |_| panic!("nothing fails: {:?}", record(&fake)));
    assert_joined(&fake);
}

#[test]
fn what_this_machine_left_there_itself_is_waited_for() {
    let fake = Fake::new();
    fake.put("etc/kubernetes/kubelet.conf", "left by a join that was cut off");
    fake.answer(|answers| answers.node = Some((true, MACHINE_ID)));
    join(&fake, |_| {
        assert_eq!((record(&fake).state, code(&fake).as_str()), (JoinState::Waiting, "E-JOIN-STALE"));
        assert_eq!(fake.calls(), "reset", "its kubelet is stopped first");
        fake.answer(|answers| answers.node = Some((false, MACHINE_ID)));
    });
    assert_joined(&fake);
    assert_eq!(fake.calls(), "reset join");
}

#[test]
fn kubeadm_that_fails_is_told_and_begun_anew() {
    let fake = Fake::new();
    fake.put(
        "fail",
        &format!("[preflight] Some fatal errors occurred:\n\t[ERROR CRI]: no runtime, {TOKEN}\n"),
    );
    join(&fake, |attempt| {
        assert_eq!((attempt, code(&fake).as_str()), (1, "E-JOIN-PREFLIGHT"));
        let reason = record(&fake).reason.unwrap();
        assert!(reason.contains("[ERROR CRI]: no runtime, (secret)"), "{reason}");
    });
    assert_joined(&fake);
    assert_eq!(fake.calls(), "join reset join");
}

/// kubeadm only has advice; the kubelet says what it is, and a setting that is mended in the cluster is all that was missing.
#[test]
fn a_kubelet_that_ends_at_its_start_is_heard() {
    let fake = Fake::new();
    fake.put("fail", "[kubelet-check] It seems like the kubelet isn't running or healthy.\nThis error is likely caused by:\n");
    fake.put(
        "journalctl",
        "#!/bin/sh\necho 'F1121 18:40:59.123456      77 server.go:257] invalid configuration: maxPods'\n",
    );
    fs::set_permissions(fake.path("journalctl"), fs::Permissions::from_mode(0o755)).unwrap();
    join(&fake, |attempt| {
        assert_eq!((attempt, code(&fake).as_str()), (1, "E-KUBELET"));
        let reason = record(&fake).reason.unwrap();
        assert!(reason.ends_with("the kubelet says: invalid configuration: maxPods"), "{reason}");
    });
    assert_joined(&fake);
    assert_eq!(fake.calls(), "join reset join");
}

#[test]
fn a_power_cut_after_kubeadm_needs_no_token_any_more() {
    let fake = Fake::new();
    fake.put("var/lib/tatara/kubernetes/joining", "done\n");
    fake.put("etc/kubernetes/kubelet.conf", "good");
    fake.answer(|answers| (answers.status, answers.tokens) = (200, vec![]));
    join(&fake, |_| panic!("nothing fails: {:?}", record(&fake)));
    assert_joined(&fake);
    assert_eq!(fake.calls(), "");
    assert!(fake.path("etc/kubernetes/kubelet.conf").exists());
}

#[test]
fn a_discovery_file_is_enough_and_its_credential_is_forgotten() {
    let fake = Fake::new();
    let kubeconfig = format!(
        "kind: Config\nclusters:\n- cluster:\n    server: https://127.0.0.1:{}\n    certificate-authority-data: {}\n\
         users:\n- user:\n    token: {TOKEN}\n",
        fake.port, fake.ca
    );
    fake.config_with(&format!("\n    discoveryFile: |\n      {}", kubeconfig.replace('\n', "\n      ")));
    join(&fake, |_| panic!("nothing fails: {:?}", record(&fake)));
    assert_joined(&fake);
    let asked = fake.asked.lock().unwrap().clone();
    assert_eq!(asked, ["/readyz -".to_owned(), format!("/api/v1/nodes/node-1 {TOKEN}")]);
}

#[test]
fn an_erased_token_is_named_as_such() {
    let fake = Fake::new();
    fake.config("token: '000000.0000000000000000'");
    let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        join(&fake, |_| {
            assert_eq!(code(&fake), "E-JOIN-TOKEN");
            assert!(record(&fake).reason.unwrap().contains("erased"));
            panic!("only another config helps");
        });
    }));
    assert!(stopped.is_err());
    assert!(fake.asked.lock().unwrap().iter().all(|line| line.ends_with(" -")));
    assert_eq!((fake.calls().as_str(), code(&fake).as_str()), ("", "E-JOIN-TOKEN"));
}

#[test]
fn a_node_that_should_be_another_one_says_so() {
    let fake = Fake::new();
    join(&fake, |_| {});
    let path = "var/lib/tatara/config.yaml";
    let text = fs::read_to_string(fake.path(path)).unwrap().replace("node-1", "node-2");
    fake.put(path, &text);
    join(&fake, |_| panic!("nothing fails"));
    assert_eq!((record(&fake).state, code(&fake).as_str()), (JoinState::Joined, "E-JOIN-OTHER"));
}

#[test]
fn a_token_that_cannot_be_found_to_be_erased_is_said_and_holds_nothing_up() {
    let fake = Fake::new();
    // As a YAML escape: read as the token, and not written as it.
    fake.config(&format!("token: \"\\x61{}\"", &TOKEN[1..]));
    join(&fake, |_| panic!("nothing fails"));
    assert_eq!((record(&fake).state, code(&fake).as_str()), (JoinState::Joined, "E-JOIN-ERASE"));
}

/// The gate is closed also where nothing was measured; it opens without a restart of the join.
#[test]
fn isolated_cpus_that_are_not_quiet_hold_the_join_up() {
    let fake = Fake::new();
    fake.put("etc/tatara/accept.json", r#"{"seconds": 10, "maxDeviceInterrupts": 0}"#);
    let report = |accepted: bool| {
        let noise = r#"{"seconds": 10.0, "cpus": []}"#;
        let excess = r#"{"cpu": 3, "limit": "maxDeviceInterrupts", "atMost": 0, "actual": 7.0, "sources": ["irq 26"]}"#;
        let excesses = if accepted { "" } else { excess };
        format!(r#"{{"accepted": {accepted}, "excesses": [{excesses}], "noise": {noise}}}"#)
    };
    join(&fake, |attempt| {
        assert_eq!(code(&fake), "E-CPU-NOISE");
        assert!(fake.asked.lock().unwrap().is_empty(), "nobody is asked before");
        fake.put("run/tatara/accept.json", &report(attempt > 1));
    });
    assert_joined(&fake);
    assert_eq!(fake.calls(), "join");
}

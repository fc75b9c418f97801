//! Whole drains, of an API server that is played.

use super::{Args, run};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use clap::Parser;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tatara_spec::error::{Code, Fault};
use tempfile::TempDir;
use tokio::sync::watch;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

/// What the server plays.
struct Play {
    /// `v1` or `v1beta1`.
    eviction: &'static str,
    /// The node's pods; the second list is given once the node is cordoned.
    pods: [Vec<Value>; 2],
    /// How often a pod's budget refuses.
    refusals: usize,
}

struct Server {
    play: Play,
    requests: Mutex<Vec<(String, Value)>>,
    /// The names of pods that are gone.
    gone: watch::Sender<Vec<String>>,
    /// How many of them the last list or watch has told.
    told: Mutex<usize>,
}

fn pod(name: &str) -> Value {
    let owner =
        json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "r", "controller": true});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name, "namespace": "default", "uid": format!("uid-{name}"), "resourceVersion": "5",
            "ownerReferences": [owner],
        },
        "spec": {"containers": [], "nodeName": "node-1"}, "status": {"phase": "Running"},
    })
}

fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "7"}, "items": items})
}

fn status(code: u16, message: &str, causes: &Value) -> Response {
    let reason = if code == 404 { "NotFound" } else { "TooManyRequests" };
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "code": code, "reason": reason,
        "details": {"causes": causes},
    });
    (StatusCode::from_u16(code).unwrap(), status.to_string()).into_response()
}

impl Server {
    fn answer(&self, method: &Method, uri: &Uri, body: &Bytes) -> Response {
        let asked = format!("{method} {}", uri.path());
        let watched = uri.query().is_some_and(|query| query.contains("watch=true"));
        let body = serde_json::from_slice(body).unwrap_or_default();
        self.requests.lock().unwrap().push((asked.clone(), body));
        let node =
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "uid": "uid-node"}});
        let answer = match asked.as_str() {
            "GET /api/v1" => json!({
                "kind": "APIResourceList", "groupVersion": "v1",
                "resources": [{
                    "name": "pods/eviction", "singularName": "", "namespaced": true, "group": "policy",
                    "version": self.play.eviction, "kind": "Eviction", "verbs": ["create"],
                }],
            }),
            "GET /api/v1/nodes" => list("NodeList", &[node]),
            "GET /api/v1/nodes/node-1" | "PATCH /api/v1/nodes/node-1" => node,
            "DELETE /api/v1/nodes/node-1" => {
                json!({"kind": "Status", "apiVersion": "v1", "status": "Success"})
            }
            "GET /api/v1/pods" if watched => return self.watch(),
            "GET /api/v1/pods" => list("PodList", &self.pods()),
            "GET /apis/apps/v1/daemonsets" => list("DaemonSetList", &[]),
            "GET /api/v1/persistentvolumes" => list("PersistentVolumeList", &[]),
            evict if evict.ends_with("/eviction") => return self.evict(evict),
            other => return status(404, &format!("no {other}"), &json!([])),
        };
        answer.to_string().into_response()
    }

    fn asked(&self, what: &str) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(asked, _)| asked.contains(what)).map(|(_, body)| body.clone()).collect()
    }

    fn pods(&self) -> Vec<Value> {
        let cordoned = usize::from(!self.asked("PATCH").is_empty());
        let gone = self.gone.borrow();
        *self.told.lock().unwrap() = gone.len();
        let here = self.play.pods[cordoned].iter();
        here.filter(|pod| !gone.iter().any(|name| pod["metadata"]["name"] == **name)).cloned().collect()
    }

    fn evict(&self, asked: &str) -> Response {
        if self.asked("/eviction").len() <= self.play.refusals {
            let cause =
                json!([{"reason": "DisruptionBudget", "message": "The disruption budget web needs 1"}]);
            return status(429, "Cannot evict pod", &cause);
        }
        let name = asked.split('/').nth_back(1).unwrap().to_owned();
        self.gone.send_modify(|gone| gone.push(name));
        (StatusCode::CREATED, json!({"kind": "Status", "status": "Success"}).to_string()).into_response()
    }

    /// The next pod that goes; then the watch ends, as watches do.
    fn watch(&self) -> Response {
        let mut gone = self.gone.subscribe();
        let mut next = self.told.lock().unwrap();
        let told = *next;
        *next += 1;
        let line = async move {
            let gone = gone.wait_for(|gone| gone.len() > told).await.unwrap();
            Ok::<_, std::io::Error>(format!("{}\n", json!({"type": "DELETED", "object": pod(&gone[told])})))
        };
        Body::from_stream(futures_util::stream::once(line)).into_response()
    }
}

/// Plays a server and runs a drain of it; what it answers, and what was asked.
fn drain(play: Play, arguments: &[&str]) -> (Result<(), Fault>, Arc<Server>) {
    let server = Arc::new(Server {
        play,
        requests: Mutex::default(),
        gone: watch::channel(Vec::new()).0,
        told: Mutex::default(),
    });
    let answer = async |State(server): State<Arc<Server>>, method: Method, uri: Uri, body: Bytes| {
        server.answer(&method, &uri, &body)
    };
    let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async { axum::serve(listener, router).await });

    let dir = TempDir::new().unwrap();
    let kubeconfig = dir.path().join("config");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": format!("http://{address}")}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "users": [{"name": "it", "user": {"token": "swordfish"}}],
    });
    std::fs::write(&kubeconfig, text.to_string()).unwrap();
    let given = ["drain", "--yes", "--kubeconfig", kubeconfig.to_str().unwrap()];
    let cli = Cli::try_parse_from(given.iter().chain(arguments)).unwrap();
    let result = run(&cli.args).map(drop).map_err(|error| error.downcast::<Fault>().unwrap());
    (result, server)
}

fn play(pods: &[Value], then: &[Value]) -> Play {
    Play { eviction: "v1", pods: [pods.to_vec(), then.to_vec()], refusals: 0 }
}

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
    assert_ne!(patches[1]["spec"]["unschedulable"], true, "{patches:?}");
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

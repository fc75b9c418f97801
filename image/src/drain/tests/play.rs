//! An API server that is played.

use crate::drain::{Args, run};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use clap::Parser;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tatara_spec::error::Fault;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

#[derive(Debug, Parser)]
pub(super) struct Cli {
    #[command(flatten)]
    pub(super) args: Args,
}

/// What the server answers instead, given what is asked and how often it was before; `None` where it answers as a cluster does.
pub(super) type Instead = Box<dyn Fn(&str, usize) -> Option<Response> + Send + Sync>;

/// What the server plays.
pub(super) struct Play {
    /// `v1` or `v1beta1`.
    pub(super) eviction: &'static str,
    /// The node's pods, for each time that a plan is made; the last ones stay.
    pub(super) pods: Vec<Vec<Value>>,
    /// How often a pod's budget refuses.
    pub(super) refusals: usize,
    pub(super) instead: Instead,
}

pub(super) struct Server {
    play: Play,
    pub(super) requests: Mutex<Vec<(String, Value)>>,
    /// How many plans have been made.
    plans: Mutex<usize>,
    /// The names of pods that are gone.
    pub(super) gone: watch::Sender<Vec<String>>,
    /// How many of them the last list or watch has told.
    told: Mutex<usize>,
}

pub(super) fn pod(name: &str) -> Value {
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

pub(super) fn node(uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1", "uid": uid}})
}

pub(super) fn list(kind: &str, items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": kind, "metadata": {"resourceVersion": "7"}, "items": items})
}

pub(super) fn status(code: u16, message: &str, causes: &Value) -> Response {
    let reason = match code {
        404 => "NotFound",
        429 => "TooManyRequests",
        _ => "",
    };
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
        // The watcher lists a page at a time, a plan everything.
        let planned = asked == "GET /api/v1/pods" && !uri.query().is_some_and(|it| it.contains("limit="));
        let what = if watched { format!("WATCH {}", uri.path()) } else { asked.clone() };
        let before = self.requests.lock().unwrap().iter().filter(|(earlier, _)| *earlier == what).count();
        self.requests.lock().unwrap().push((what.clone(), body));
        if let Some(answer) = (self.play.instead)(&what, before) {
            return answer;
        }
        let node = node("uid-node");
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
            "GET /api/v1/pods" => {
                *self.plans.lock().unwrap() += usize::from(planned);
                list("PodList", &self.pods())
            }
            "GET /apis/apps/v1/daemonsets" => list("DaemonSetList", &[]),
            "GET /api/v1/persistentvolumes" => list("PersistentVolumeList", &[]),
            evict if evict.ends_with("/eviction") => return self.evict(evict),
            other => return status(404, &format!("no {other}"), &json!([])),
        };
        answer.to_string().into_response()
    }

    pub(super) fn asked(&self, what: &str) -> Vec<Value> {
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|(asked, _)| asked.contains(what)).map(|(_, body)| body.clone()).collect()
    }

    fn pods(&self) -> Vec<Value> {
        let gone = self.gone.borrow();
        *self.told.lock().unwrap() = gone.len();
        let plans = self.plans.lock().unwrap().saturating_sub(1);
        let here = self.play.pods[plans.min(self.play.pods.len() - 1)].iter();
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

/// A server that runs, and a kubeconfig for it.
pub(super) struct Stage {
    pub(super) dir: TempDir,
    _runtime: Runtime,
}

impl Stage {
    pub(super) fn set(play: Play, user: &Value) -> (Self, Arc<Server>) {
        let server = Arc::new(Server {
            play,
            requests: Mutex::default(),
            plans: Mutex::default(),
            gone: watch::channel(Vec::new()).0,
            told: Mutex::default(),
        });
        let answer = async |State(server): State<Arc<Server>>, method: Method, uri: Uri, body: Bytes| {
            server.answer(&method, &uri, &body)
        };
        let router = Router::new().fallback(answer).with_state(Arc::clone(&server));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async { axum::serve(listener, router).await });
        let dir = TempDir::new().unwrap();
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": format!("http://{address}")}}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "users": [{"name": "it", "user": user}],
        });
        std::fs::write(dir.path().join("config"), text.to_string()).unwrap();
        (Self { dir, _runtime: runtime }, server)
    }

    pub(super) fn drain(&self, arguments: &[&str]) -> Result<(), Fault> {
        let kubeconfig = self.dir.path().join("config");
        let given = ["drain", "--yes", "--kubeconfig", kubeconfig.to_str().unwrap()];
        let cli = Cli::try_parse_from(given.iter().chain(arguments)).unwrap();
        run(&cli.args).map(drop).map_err(|error| error.downcast::<Fault>().unwrap())
    }
}

/// Plays a server and runs a drain of it; what it answers, and what was asked.
pub(super) fn drain(play: Play, arguments: &[&str]) -> (Result<(), Fault>, Arc<Server>) {
    let (stage, server) = Stage::set(play, &json!({"token": "swordfish"}));
    (stage.drain(arguments), server)
}

pub(super) fn play(pods: &[Value], then: &[Value]) -> Play {
    let instead: Instead = Box::new(|_, _| None);
    Play { eviction: "v1", pods: vec![pods.to_vec(), then.to_vec()], refusals: 0, instead }
}

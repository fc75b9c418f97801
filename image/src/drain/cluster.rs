//! What a drain asks of the API server, and how its answers are read.

use super::plan::{Listing, PodId};
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::client::AuthError;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::Status;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tatara_spec::config::nearest;
use tatara_spec::error::{Code, Fault};

/// For one answer of the API server, whose own limit for a request is a minute; an eviction may take it ten seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// A cluster as its kubeconfig names it.
pub(super) struct Cluster {
    client: Client,
    /// `policy/v1`, or `policy/v1beta1` before Kubernetes 1.22.
    eviction: String,
}

/// What came of asking for a pod's eviction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The pod ends.
    Taken,
    /// There is no such pod any more, or another one of its name.
    Gone,
    /// Not now; tried again, not before so long.
    HeldUp(String, Duration),
    /// Not at all.
    Refused(String),
}

impl Cluster {
    /// # Errors
    /// A kubeconfig that is of no use, or a cluster that does not answer.
    pub(super) async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, Fault> {
        let unusable = |e| {
            let file = kubeconfig.map_or("$KUBECONFIG or ~/.kube/config".into(), Path::to_string_lossy);
            Fault::new(Code::DrainKubeconfig, format!("cannot use {file}: {}", kubeconfig_words(&e)))
        };
        let options =
            KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
        let read = match kubeconfig {
            Some(file) => Kubeconfig::read_from(file),
            None => Kubeconfig::read(),
        };
        let config = Config::from_custom_kubeconfig(read.map_err(unusable)?, &options).await;
        let mut config = config.map_err(unusable)?;
        // Else the client itself would try a refused eviction again, and never say that a budget holds it up.
        config.default_retry = false;
        // The connections' keys; the first call decides for the whole program, and a second one changes nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::try_from(config).map_err(|e| {
            Fault::new(Code::DrainKubeconfig, format!("cannot use the kubeconfig: {}", words(&e)))
        })?;
        let eviction = eviction_version(&client).await?;
        Ok(Self { client, eviction })
    }

    /// # Errors
    /// There is none of this name; the nearest one is named.
    pub(super) async fn node(&self, name: &str) -> Result<Node, Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        if let Some(node) = ask("the Node", nodes.get_opt(name)).await? {
            return Ok(node);
        }
        let all = ask("the Nodes", nodes.list(&ListParams::default())).await?;
        let known = all.iter().filter_map(|node| node.metadata.name.as_deref());
        let near = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(Fault::new(Code::DrainNode, format!("the cluster has no Node `{name}`{near}")))
    }

    /// # Errors
    /// The cluster does not answer, or does not let this user list them.
    pub(super) async fn listing(&self, node: Node) -> Result<Listing, Fault> {
        let here = format!("spec.nodeName={}", name_of(&node));
        let pods: Api<Pod> = Api::all(self.client.clone());
        let daemon_sets: Api<DaemonSet> = Api::all(self.client.clone());
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let every = ListParams::default();
        Ok(Listing {
            pods: ask("the node's pods", pods.list(&every.clone().fields(&here))).await?.items,
            daemon_sets: ask("the DaemonSets", daemon_sets.list(&every)).await?.items,
            volumes: ask("the PersistentVolumes", volumes.list(&every)).await?.items,
            node,
        })
    }

    /// # Errors
    /// The cluster does not answer, or refuses it.
    pub(super) async fn cordon(&self, node: &Node) -> Result<(), Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        ask("to cordon the Node", nodes.cordon(name_of(node))).await.map(drop)
    }

    /// # Errors
    /// The cluster does not answer, or refuses it.
    pub(super) async fn uncordon(&self, node: &Node) -> Result<(), Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        ask("to uncordon the Node", nodes.uncordon(name_of(node))).await.map(drop)
    }

    /// Deletes this Node, not another one of its name that has registered since.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses it.
    pub(super) async fn delete(&self, node: &Node) -> Result<(), Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let this = Preconditions { uid: node.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        let delete = async {
            match nodes.delete(name_of(node), &params).await {
                Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
                other => other.map(drop),
            }
        };
        ask("to delete the Node", delete).await
    }

    /// Asks for a pod's end, which its PodDisruptionBudget may refuse.
    pub(super) async fn evict(&self, pod: &PodId, grace_period: Option<u32>) -> Answer {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let eviction = eviction(&self.eviction, pod, grace_period);
        let params = PostParams::default();
        let posted = pods.create_subresource::<_, Value>("eviction", &pod.name, &params, &eviction);
        match tokio::time::timeout(ANSWER, posted).await {
            Ok(result) => answer(result.map(drop)),
            Err(_) => Answer::HeldUp("the cluster does not answer".to_owned(), Duration::ZERO),
        }
    }

    /// The pods of a node by their uids, anew at every change; or what keeps the cluster from being watched. It goes on after that.
    pub(super) fn pods_on(
        &self,
        node: &Node,
    ) -> impl Stream<Item = Result<BTreeSet<String>, String>> + use<> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let here = watcher::Config::default().fields(&format!("spec.nodeName={}", name_of(node)));
        let (mut present, mut listed) = (BTreeSet::new(), None);
        watcher(pods, here).default_backoff().boxed().filter_map(move |event| {
            let changed =
                event.map_err(|e| e.to_string()).map(|event| apply(event, &mut present, &mut listed));
            std::future::ready(changed.map(|is| is.then(|| present.clone())).transpose())
        })
    }
}

/// Takes one event in; whether `present` is a whole list again. While one is being made it is in `listed`.
fn apply(
    event: watcher::Event<Pod>,
    present: &mut BTreeSet<String>,
    listed: &mut Option<BTreeSet<String>>,
) -> bool {
    let uid = |pod: Pod| pod.metadata.uid.unwrap_or_default();
    match event {
        watcher::Event::Init => *listed = Some(BTreeSet::new()),
        watcher::Event::InitApply(pod) => {
            listed.get_or_insert_default().insert(uid(pod));
        }
        watcher::Event::InitDone => *present = listed.take().unwrap_or_default(),
        watcher::Event::Apply(pod) => {
            present.insert(uid(pod));
        }
        watcher::Event::Delete(pod) => {
            present.remove(&uid(pod));
        }
    }
    listed.is_none()
}

pub(super) fn name_of(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// The client's own Eviction names no version, and `deleteOptions` wrongly (kube-core 5.0.0, src/subresource.rs).
fn eviction(api_version: &str, pod: &PodId, grace_period: Option<u32>) -> Value {
    let mut options = json!({"preconditions": {"uid": pod.uid}});
    if let Some(seconds) = grace_period {
        options["gracePeriodSeconds"] = seconds.into();
    }
    json!({
        "apiVersion": api_version, "kind": "Eviction",
        "metadata": {"namespace": pod.namespace, "name": pod.name},
        "deleteOptions": options,
    })
}

/// Which version of Eviction the cluster takes: the core API's own list says it.
async fn eviction_version(client: &Client) -> Result<String, Fault> {
    let resources = ask("what the API has", client.list_core_api_resources("v1")).await?;
    let found = resources.resources.iter().find(|resource| resource.name == "pods/eviction");
    let version = found.and_then(|it| Some(format!("{}/{}", it.group.as_ref()?, it.version.as_ref()?)));
    version.ok_or_else(|| Fault::new(Code::DrainApi, "the cluster knows no evictions of pods"))
}

/// Reads the answer to an eviction (pkg/registry/core/pod/storage/eviction.go of Kubernetes).
pub(super) fn answer(result: kube::Result<()>) -> Answer {
    let error = match result {
        Ok(()) => return Answer::Taken,
        Err(error) => error,
    };
    let kube::Error::Api(status) = &error else {
        // Not the API server's word, so it may be another one the next time.
        return Answer::HeldUp(words(&error), Duration::ZERO);
    };
    let ending =
        status.details.iter().flat_map(|details| &details.causes).any(|c| c.reason == "NamespaceTerminating");
    match status.code {
        // A conflict is our precondition: the pod is another one.
        404 | 409 => Answer::Gone,
        429 | 500.. => Answer::HeldUp(said(status), retry_after(status)),
        403 if ending => Answer::HeldUp(said(status), retry_after(status)),
        _ => Answer::Refused(said(status)),
    }
}

fn retry_after(status: &Status) -> Duration {
    Duration::from_secs(status.details.as_ref().map_or(0, |details| details.retry_after_seconds.into()))
}

/// The cause names the PodDisruptionBudget, the message does not.
fn said(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let causes: Vec<&str> =
        causes.map(|cause| cause.message.as_str()).filter(|text| !text.is_empty()).collect();
    let budget = status.code == 429 && !causes.is_empty();
    if budget { causes.join("; ") } else { status.message.clone() }
}

/// Asks once, with a deadline.
async fn ask<T>(what: &str, question: impl Future<Output = kube::Result<T>>) -> Result<T, Fault> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            Err(Fault::new(Code::DrainApi, format!("asking the cluster {what}: {}", words(&error))))
        }
        Err(_) => {
            let seconds = ANSWER.as_secs();
            Err(Fault::new(
                Code::DrainApi,
                format!("asking the cluster {what}: no answer within {seconds} s"),
            ))
        }
    }
}

/// An error in the API server's words, or the chain of causes. What a credential plugin has printed stays out of it.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => {
            format!("the kubeconfig's credential plugin `{cmd}` failed: {}", out.status)
        }
        kube::Error::Auth(AuthError::AuthExecParse(_)) => {
            "the kubeconfig's credential plugin answers no credential".to_owned()
        }
        error => chain(error),
    }
}

/// The parser would show the lines around its error, which may be a key or a token.
fn kubeconfig_words(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::Parse(error) => {
            let place = error.location().map(|at| format!(", line {}, column {}", at.line(), at.column()));
            format!("it cannot be read as a kubeconfig{}", place.unwrap_or_default())
        }
        error => chain(error),
    }
}

/// Most of the client's errors have their cause in their own text, too.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;

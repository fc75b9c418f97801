//! What a drain asks of the API server, and how its answers are read.

use super::plan::{Listing, PodId};
use super::words::{forbids_watching, kubeconfig_words, passes, retry_after, said, watch_words, words};
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use tatara_spec::config::nearest;
use tatara_spec::error::{Code, Fault};
use tokio::time::{Instant, sleep_until, timeout_at};

/// For one answer of the API server, whose own limit for a request is a minute; an eviction may take it ten seconds.
const ANSWER: Duration = Duration::from_secs(60);

/// The first wait before something is asked again, and the longest.
pub(super) const WAITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

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
    /// Not now; tried again, not before so long.
    HeldUp(String, Duration),
    /// Not at all.
    Refused(String),
}

/// How often a question is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Once: nothing has been changed yet, and whoever waits at the terminal can ask again.
    None,
    /// Until the time for an answer is over, as long as the server is busy or not there: the node is cordoned.
    Some,
}

/// Why the cluster cannot be watched.
#[derive(Debug)]
pub(super) struct Unwatched {
    pub(super) why: String,
    /// The user may not: it is not tried again.
    pub(super) for_good: bool,
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
        if let Some(node) = ask("the Node", Patience::None, async || nodes.get_opt(name).await).await? {
            return Ok(node);
        }
        let every = ListParams::default();
        let all = ask("the Nodes", Patience::None, async || nodes.list(&every).await).await?;
        let known = all.iter().filter_map(|node| node.metadata.name.as_deref());
        let near = nearest(name, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        Err(Fault::new(Code::DrainNode, format!("the cluster has no Node `{name}`{near}")))
    }

    /// The Node as it is now.
    ///
    /// # Errors
    /// It is gone, or another one has its name.
    pub(super) async fn still(&self, node: &Node, patience: Patience) -> Result<Node, Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = name_of(node);
        let changed = |how: &str| Err(Fault::new(Code::DrainNode, format!("the Node `{name}` {how}")));
        match ask("the Node", patience, async || nodes.get_opt(name).await).await? {
            Some(now) if now.metadata.uid == node.metadata.uid => Ok(now),
            Some(_) => changed("was made anew since it was looked at"),
            None => changed("was deleted since it was looked at"),
        }
    }

    /// # Errors
    /// The cluster does not answer, or does not let this user list them.
    pub(super) async fn listing(&self, node: Node, patience: Patience) -> Result<Listing, Fault> {
        let every = ListParams::default();
        let here = every.clone().fields(&format!("spec.nodeName={}", name_of(&node)));
        let pods: Api<Pod> = Api::all(self.client.clone());
        let sets: Api<DaemonSet> = Api::all(self.client.clone());
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let pods = ask("the node's pods", patience, async || pods.list(&here).await).await?;
        let sets = ask("the DaemonSets", patience, async || sets.list(&every).await).await?;
        let volumes = ask("the PersistentVolumes", patience, async || volumes.list(&every).await).await?;
        Ok(Listing { pods: pods.items, daemon_sets: sets.items, volumes: volumes.items, node })
    }

    /// Cordons this Node; the answer is how it is then.
    ///
    /// # Errors
    /// The cluster does not answer, refuses it, or has another Node of the name.
    pub(super) async fn cordon(&self, node: &Node) -> Result<Node, Fault> {
        self.schedule(node, false, "to cordon the Node").await
    }

    /// Takes the cordon back.
    ///
    /// # Errors
    /// As for [`Self::cordon`].
    pub(super) async fn uncordon(&self, node: &Node) -> Result<Node, Fault> {
        self.schedule(node, true, "to uncordon the Node").await
    }

    /// The API server lets nobody change a uid, so another Node of the name is never hit.
    async fn schedule(&self, node: &Node, allowed: bool, what: &str) -> Result<Node, Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let change = json!({"metadata": {"uid": node.metadata.uid}, "spec": {"unschedulable": !allowed}});
        let (params, change) = (PatchParams::default(), Patch::Strategic(change));
        ask(what, Patience::Some, async || nodes.patch(name_of(node), &params, &change).await).await
    }

    /// Deletes this Node, not another one of its name that has registered since. What it answers are the finalizers that the Node
    /// still waits for: without any it is gone.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses it.
    pub(super) async fn delete(&self, node: &Node) -> Result<Vec<String>, Fault> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let this = Preconditions { uid: node.metadata.uid.clone(), resource_version: None };
        let params = DeleteParams { preconditions: Some(this), ..DeleteParams::default() };
        let delete = async || match nodes.delete(name_of(node), &params).await {
            Ok(answer) => {
                Ok(Some(answer.left().and_then(|node| node.metadata.finalizers).unwrap_or_default()))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Some(Vec::new())),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error),
        };
        let deleted = ask("to delete the Node", Patience::Some, delete).await?;
        deleted.ok_or_else(|| {
            let name = name_of(node);
            let text =
                format!("the Node `{name}` was made anew since it was looked at, and is left as it is");
            Fault::new(Code::DrainNode, text)
        })
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

    /// The pods of a node by their uids, anew at every change; or what keeps the cluster from being watched.
    pub(super) fn pods_on(
        &self,
        node: &Node,
    ) -> impl Stream<Item = Result<BTreeSet<String>, Unwatched>> + use<> {
        let pods: Api<Pod> = Api::all(self.client.clone());
        let here = watcher::Config::default().fields(&format!("spec.nodeName={}", name_of(node)));
        let (mut present, mut listed) = (BTreeSet::new(), None);
        watcher(pods, here).default_backoff().boxed().filter_map(move |event| {
            let event = event.map_err(|e| Unwatched { why: watch_words(&e), for_good: forbids_watching(&e) });
            let changed = event.map(|event| apply(event, &mut present, &mut listed));
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
    let resources =
        ask("what the API has", Patience::None, async || client.list_core_api_resources("v1").await).await?;
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
        // Neither says that the pod is gone: a budget may be, or has changed meanwhile, or a proxy knows no such page. Asking again
        // hits no other pod, and the watch ends it.
        404 | 409 | 429 | 500.. => Answer::HeldUp(said(status), retry_after(status)),
        403 if ending => Answer::HeldUp(said(status), retry_after(status)),
        _ => Answer::Refused(said(status)),
    }
}

/// Asks, with a deadline for all of it.
async fn ask<T>(
    what: &str,
    patience: Patience,
    question: impl AsyncFn() -> kube::Result<T>,
) -> Result<T, Fault> {
    let deadline = Instant::now() + ANSWER;
    let fault = |why: &str| Fault::new(Code::DrainApi, format!("asking the cluster {what}: {why}"));
    let (mut wait, longest) = WAITS;
    loop {
        let error = match timeout_at(deadline, question()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => error,
            Err(_) => return Err(fault(&format!("no answer within {} s", ANSWER.as_secs()))),
        };
        let at_least = match &error {
            kube::Error::Api(status) => retry_after(status),
            _ => Duration::ZERO,
        };
        let again = Instant::now() + wait.max(at_least);
        if patience == Patience::None || !passes(&error) || again >= deadline {
            return Err(fault(&words(&error)));
        }
        sleep_until(again).await;
        wait = (wait * 2).min(longest);
    }
}

#[cfg(test)]
mod tests;

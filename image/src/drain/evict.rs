//! Evicting pods until they are gone: all at once, each with its own waits.

use super::cluster::{Answer, Cluster, Unwatched, WAITS};
use super::plan::{Fate, PodId, PodPlan};
use super::report::Report;
use futures_util::future::join_all;
use futures_util::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Node;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;
use tatara_spec::error::{Code, Fault};
use tatara_spec::redact::printable;
use tokio::sync::watch;
use tokio::time::{Instant, interval_at};

/// How often the pods that are left are said again, where nothing else is.
const REMIND: Duration = Duration::from_secs(60);

/// Pods that are not gone yet, and what holds each up.
#[derive(Debug, Default)]
pub(super) struct Left(RefCell<BTreeMap<PodId, String>>);

impl Left {
    pub(super) fn put(&self, pod: &PodId, why: &str) {
        self.0.borrow_mut().insert(pod.clone(), why.to_owned());
    }

    fn done(&self, pod: &PodId) {
        self.0.borrow_mut().remove(pod);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = self.0.borrow();
        let each: Vec<String> = left.iter().map(|(pod, why)| format!("{pod} ({why})")).collect();
        f.write_str(&printable(&each.join(", ")))
    }
}

/// One drain's evictions.
pub(super) struct Evictions<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) node: &'a Node,
    pub(super) grace_period: Option<u32>,
    pub(super) report: &'a Report,
    pub(super) left: &'a Left,
}

impl Evictions<'_> {
    /// Returns when each pod is gone or can never be evicted; the latter are in `left`.
    ///
    /// # Errors
    /// The pods may not be watched, so nobody would know when they are gone.
    pub(super) async fn run(&self, pods: &[&PodPlan]) -> Result<(), Fault> {
        for pod in pods {
            self.left.put(&pod.pod, "not asked yet");
        }
        let (send, present) = watch::channel(None);
        let all = join_all(pods.iter().map(|pod| self.one(pod, present.clone())));
        let watching = self.keep(self.cluster.pods_on(self.node), &send);
        tokio::select! {
            _ = all => Ok(()),
            fault = watching => Err(fault),
            never = remind(self.report, self.left) => match never {},
        }
    }

    /// Keeps what the watch says, for as long as it may be asked.
    async fn keep(
        &self,
        pods: impl Stream<Item = Result<BTreeSet<String>, Unwatched>>,
        present: &watch::Sender<Option<BTreeSet<String>>>,
    ) -> Fault {
        let mut pods = std::pin::pin!(pods);
        let mut why = "the watch has ended".to_owned();
        while let Some(next) = pods.next().await {
            match next {
                Ok(uids) => {
                    present.send_replace(Some(uids));
                }
                Err(error) if error.for_good => {
                    why = error.why;
                    break;
                }
                Err(error) => {
                    let why = error.why;
                    self.report.say(&format!("the node's pods cannot be watched: {why}; tried again"));
                }
            }
        }
        Fault::new(Code::DrainApi, format!("the node's pods cannot be watched: {why}"))
    }

    async fn one(&self, plan: &PodPlan, mut present: watch::Receiver<Option<BTreeSet<String>>>) {
        let pod = &plan.pod;
        let gone = async {
            let is_gone =
                |uids: &Option<BTreeSet<String>>| uids.as_ref().is_some_and(|it| !it.contains(&pod.uid));
            if present.wait_for(is_gone).await.is_err() {
                // Without a watch nobody knows; the whole run ends with it.
                std::future::pending::<()>().await;
            }
        };
        let asked = async {
            if plan.fate == Fate::Wait || self.ask(pod).await {
                self.left.put(pod, &plan.ending());
                // Only the watch knows when it is gone.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = gone => {
                self.left.done(pod);
                self.report.say(&format!("{pod} is gone"));
            }
            () = asked => {}
        }
    }

    /// Asks until the pod's eviction is taken or refused for good; whether it was taken.
    async fn ask(&self, pod: &PodId) -> bool {
        let (mut wait, longest) = WAITS;
        let mut said = String::new();
        loop {
            match self.cluster.evict(pod, self.grace_period).await {
                Answer::Taken => {
                    self.report.say(&format!("{pod} is evicted"));
                    return true;
                }
                Answer::Refused(why) => {
                    self.report.say(&format!("{pod} cannot be evicted: {why}"));
                    self.left.put(pod, &why);
                    return false;
                }
                Answer::HeldUp(why, at_least) => {
                    let now = wait.max(at_least);
                    if why != said || wait == longest {
                        let seconds = now.as_secs();
                        self.report.say(&format!("{pod} is held up: {why}; tried again in {seconds} s"));
                    }
                    self.left.put(pod, &why);
                    said = why;
                    tokio::time::sleep(now).await;
                    wait = (wait * 2).min(longest);
                }
            }
        }
    }
}

/// Says once in a while what is still waited for.
async fn remind(report: &Report, left: &Left) -> Infallible {
    let mut ticks = interval_at(Instant::now() + REMIND, REMIND);
    loop {
        ticks.tick().await;
        report.say(&format!("still left: {left}"));
    }
}

#[cfg(test)]
mod tests;

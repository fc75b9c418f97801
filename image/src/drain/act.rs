//! Everything that changes the cluster: the cordon, the evictions, the end of the Node.

use super::cluster::{Patience, name_of};
use super::evict::{Evictions, Left};
use super::plan::{Loss, Plan, PodPlan};
use super::stop::Stop;
use super::{Drain, is_cordoned};
use futures_util::FutureExt as _;
use k8s_openapi::api::core::v1::Node;
use std::collections::BTreeSet;
use tatara_spec::error::{Code, Fault};

/// How often pods that come although the node is cordoned are evicted. Bindings on their way come once; what tolerates every taint,
/// or names the node, comes again at once, for ever.
const ROUNDS: usize = 5;

impl Drain<'_> {
    /// Until it is done, the time is over, or a signal ends it. `shown` is what the operator knows would be lost.
    pub(super) async fn act(
        &self,
        node: &Node,
        shown: &BTreeSet<Loss>,
        stop: &mut Stop,
    ) -> Result<(), Fault> {
        let name = name_of(node);
        // The question may have stood for hours.
        let before = self.cluster.still(node, Patience::None).await?;
        let node = self.cluster.cordon(&before).await.map_err(|mut fault| {
            fault.message += &format!("; `kubectl get node {name}` says whether it is cordoned");
            fault
        })?;
        self.report.say(&format!("{name} is cordoned"));
        let plan = self.plan(node.clone(), Patience::Some).await.map_err(stays_cordoned)?;
        if let Some(fault) = self.unshown(&plan, shown) {
            return Err(self.take_back(&before, &node, fault).await);
        }
        self.rounds(&node, plan, shown, stop).await
    }

    /// Evicts until a list has nothing that must go: pods may be bound to the node after its cordon, too.
    async fn rounds(
        &self,
        node: &Node,
        mut plan: Plan,
        shown: &BTreeSet<Loss>,
        stop: &mut Stop,
    ) -> Result<(), Fault> {
        let left = Left::default();
        for round in 0.. {
            if round > 0 {
                let node = self.cluster.still(node, Patience::Some).await.map_err(stays_cordoned)?;
                plan = self.plan(node, Patience::Some).await.map_err(stays_cordoned)?;
                if let Some(mut fault) = self.unshown(&plan, shown) {
                    fault.message += "; it stays cordoned";
                    return Err(fault);
                }
            }
            let leaving: Vec<&PodPlan> = plan.leaving().collect();
            if round > 0 {
                for pod in &leaving {
                    self.report.say(&format!("{} has come although the node is cordoned", pod.pod));
                    left.put(&pod.pod, "has come although the node is cordoned");
                }
            }
            if let Some(why) = stop.wanted().now_or_never() {
                return Err(self.left(&why, &left));
            }
            if leaving.is_empty() {
                break;
            }
            if round == ROUNDS {
                return Err(self.left("pods keep coming", &left));
            }
            self.evict(node, &leaving, &left, stop).await?;
        }
        self.end(node).await
    }

    async fn evict(
        &self,
        node: &Node,
        leaving: &[&PodPlan],
        left: &Left,
        stop: &mut Stop,
    ) -> Result<(), Fault> {
        let (cluster, report) = (&self.cluster, &self.report);
        let grace_period = self.args.grace_period;
        let evictions = Evictions { cluster, node, grace_period, report, left };
        tokio::select! {
            biased;
            why = stop.wanted() => return Err(self.left(&why, left)),
            done = evictions.run(leaving) => done.map_err(stays_cordoned)?,
        }
        if left.is_empty() { Ok(()) } else { Err(self.left("refused", left)) }
    }

    /// What would be lost and was never shown is refused, whatever its kind has been agreed to.
    fn unshown(&self, plan: &Plan, shown: &BTreeSet<Loss>) -> Option<Fault> {
        let losses = plan.losses();
        let new: Vec<String> = losses.difference(shown).map(Loss::to_string).collect();
        if new.is_empty() {
            return None;
        }
        plan.lines(&self.consents).iter().for_each(|line| self.report.line(line));
        let (name, new) = (&self.args.node, new.join(", "));
        let text = format!("{name} is not drained: not in the plan that was shown are {new}");
        Some(Fault::new(Code::DrainConsent, text))
    }

    /// Nothing has been evicted, so the node is given back as it was. What comes of that never hides why.
    async fn take_back(&self, before: &Node, node: &Node, mut fault: Fault) -> Fault {
        let name = name_of(node);
        if is_cordoned(before) {
            fault.message += "; it stays cordoned, as it was";
            return fault;
        }
        match self.cluster.uncordon(node).await {
            Ok(_) => self.report.say(&format!("{name} is uncordoned again")),
            Err(why) => fault.message += &format!("; it stays cordoned: {why}"),
        }
        fault
    }

    async fn end(&self, node: &Node) -> Result<(), Fault> {
        let name = name_of(node);
        if self.args.keep_node {
            self.report.say(&format!(
                "{name} is drained, and stays cordoned; `kubectl uncordon {name}` gives it back"
            ));
            return Ok(());
        }
        let finalizers = self.cluster.delete(node).await.map_err(stays_cordoned)?;
        if !finalizers.is_empty() {
            let held = finalizers.join(", ");
            let text =
                format!("{name} is empty, but its Node ends only when its finalizers are gone: {held}");
            return Err(Fault::new(Code::DrainLeft, text));
        }
        self.report.say(&format!("{name} is drained, and its Node is deleted"));
        self.report.line(
            "Next: raise `install.generation` in the config, with a join token that is still good, and reboot the machine, which \
             looks for its config on its way down; or boot it from network or USB. If it boots its disk as it is, the Node comes \
             back, empty and not cordoned.",
        );
        Ok(())
    }

    fn left(&self, why: &str, left: &Left) -> Fault {
        let name = &self.args.node;
        let what = if left.is_empty() { "no pods are left".to_owned() } else { format!("left: {left}") };
        Fault::new(Code::DrainLeft, format!("{name} is not drained ({why}); it stays cordoned; {what}"))
    }
}

/// The cluster has failed in the middle. A Node that is gone or another one is not cordoned by us.
fn stays_cordoned(mut fault: Fault) -> Fault {
    if fault.code == Code::DrainApi {
        fault.message += "; it stays cordoned";
    }
    fault
}

//! `tatara drain`: takes a node out of its cluster, before its machine is installed anew.

mod cluster;
mod evict;
mod plan;
mod report;
mod volumes;

use anyhow::{Context as _, Result};
use cluster::{Cluster, name_of};
use evict::{Evictions, Left};
use k8s_openapi::api::core::v1::Node;
use plan::{Afterwards, Consent, Plan, PodPlan};
use report::Report;
use std::collections::BTreeSet;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use tatara_spec::error::{Code, Fault};

/// Take a node out of its cluster, before its machine is installed anew.
///
/// Cordons it, evicts its pods, deletes the Node. Prints first what becomes of each pod and of each volume that exists on this node
/// alone. What would be lost needs an option that agrees to it; where one is missing nothing is changed, and the exit status is 1.
/// Pods of DaemonSets and static pods are left alone. PodDisruptionBudgets are honoured: what they refuse is tried again, and said.
/// It can be run again at any time, and goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the Node.
    node: String,
    /// The cluster and a credential that may do this; otherwise $KUBECONFIG or ~/.kube/config.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; otherwise its current one.
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// Agree to the loss of emptyDir and ephemeral volumes, which end with their pods.
    #[arg(long)]
    delete_emptydir_data: bool,
    /// Agree to the loss of PersistentVolumes that exist on this node alone.
    #[arg(long)]
    lose_local_volumes: bool,
    /// Agree to the loss of pods that no controller starts again.
    #[arg(long)]
    force: bool,
    /// How long pods may take to end, instead of what each says itself.
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// When to give up, for instance 10m; 0s is never.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Leave the Node in the cluster, cordoned: for work on a machine that keeps its disk.
    #[arg(long)]
    keep_node: bool,
    /// Print what would be done, and end; the exit status is 1 where a consent is missing.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
}

impl Args {
    fn consents(&self) -> BTreeSet<Consent> {
        let given = [
            (self.delete_emptydir_data, Consent::EmptyDir),
            (self.lose_local_volumes, Consent::LocalVolumes),
            (self.force, Consent::Force),
        ];
        given.into_iter().filter(|(is_given, _)| *is_given).map(|(_, consent)| consent).collect()
    }

    fn afterwards(&self) -> Afterwards {
        if self.keep_node { Afterwards::Keep } else { Afterwards::Delete }
    }
}

/// Runs `tatara drain`.
///
/// # Errors
/// A [`Fault`] of one of the codes `E-DRAIN-…`.
pub fn run(args: &Args) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("starting the runtime")?;
    runtime.block_on(Drain::begin(args)).map(|()| ExitCode::SUCCESS)
}

struct Drain<'a> {
    args: &'a Args,
    consents: BTreeSet<Consent>,
    cluster: Cluster,
    report: Report,
}

impl<'a> Drain<'a> {
    /// Looks, refuses, asks; then acts.
    async fn begin(args: &'a Args) -> Result<()> {
        let cluster = Cluster::connect(args.kubeconfig.as_deref(), args.context.as_deref()).await?;
        let drain = Self { args, consents: args.consents(), cluster, report: Report::begin() };
        let node = drain.cluster.node(&args.node).await?;
        let plan = drain.plan(node.clone()).await?;
        for line in plan.lines(&drain.consents) {
            drain.report.line(&line);
        }
        drain.refuse(&plan)?;
        if args.dry_run {
            return Ok(());
        }
        if !args.yes {
            confirm(&args.node)?;
        }
        drain.act(&node).await
    }

    async fn plan(&self, node: Node) -> Result<Plan, Fault> {
        Ok(Plan::of(&self.cluster.listing(node).await?, self.args.afterwards()))
    }

    fn refuse(&self, plan: &Plan) -> Result<(), Fault> {
        let missing = plan.missing(&self.consents);
        if missing.is_empty() {
            return Ok(());
        }
        let each: Vec<String> =
            missing.iter().map(|(consent, count)| format!("{} ({count})", consent.option())).collect();
        let needs = each.join(", ");
        Err(Fault::new(Code::DrainConsent, format!("{} is not drained: it needs {needs}", self.args.node)))
    }

    /// Everything that changes the cluster, until it is done, the time is over, or somebody interrupts it.
    async fn act(&self, node: &Node) -> Result<()> {
        let left = Left::default();
        let limit = self.args.timeout;
        let over = async {
            match limit {
                Duration::ZERO => std::future::pending().await,
                limit => tokio::time::sleep(limit).await,
            }
        };
        let why = tokio::select! {
            biased;
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.context("listening for an interrupt")?;
                "interrupted".to_owned()
            }
            () = over => format!("not within {}", humantime::format_duration(limit)),
            done = self.drain(node, &left) => return Ok(done?),
        };
        Err(self.left(&why, &left).into())
    }

    async fn drain(&self, node: &Node, left: &Left) -> Result<(), Fault> {
        let name = name_of(node);
        self.cluster.cordon(node).await?;
        self.report.say(&format!("{name} is cordoned"));
        // Pods may have come since the plan was made; from now on none do.
        let plan = self.plan(node.clone()).await?;
        if let Err(fault) = self.refuse(&plan) {
            plan.lines(&self.consents).iter().for_each(|line| self.report.line(line));
            if !is_cordoned(node) {
                self.cluster.uncordon(node).await?;
                self.report
                    .say(&format!("{name} is uncordoned again: pods have come since it was looked at"));
            }
            return Err(fault);
        }
        let leaving: Vec<&PodPlan> = plan.leaving().collect();
        let (cluster, report) = (&self.cluster, &self.report);
        let grace_period = self.args.grace_period;
        Evictions { cluster, node, grace_period, report, left }.run(&leaving).await;
        if !left.is_empty() {
            return Err(self.left("refused", left));
        }
        self.end(node).await
    }

    async fn end(&self, node: &Node) -> Result<(), Fault> {
        let name = name_of(node);
        if self.args.keep_node {
            self.report.say(&format!(
                "{name} is drained, and stays cordoned; `kubectl uncordon {name}` gives it back"
            ));
            return Ok(());
        }
        self.cluster.delete(node).await?;
        self.report.say(&format!("{name} is drained, and its Node is deleted"));
        self.report.line(
            "Next: raise `install.generation` in the config, with a join token that is still good, and boot the machine from \
             network or USB. If it boots its disk as it is, the Node comes back, empty and not cordoned.",
        );
        Ok(())
    }

    fn left(&self, why: &str, left: &Left) -> Fault {
        let name = &self.args.node;
        let what = if left.is_empty() { "no pods are left".to_owned() } else { format!("left: {left}") };
        Fault::new(Code::DrainLeft, format!("{name} is not drained ({why}); it stays cordoned; {what}"))
    }
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

/// Asks at the terminal whether to go on.
fn confirm(node: &str) -> Result<(), Fault> {
    let no = |why: &str| Err(Fault::new(Code::DrainConsent, format!("{node} is not drained: {why}")));
    if !std::io::stdin().is_terminal() {
        return no("there is no terminal to ask at; `--yes` agrees to the plan");
    }
    let mut out = std::io::stdout();
    let asked = write!(out, "Drain {node}? [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    match asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer)) {
        Ok(_) if matches!(answer.trim(), "y" | "Y" | "yes") => Ok(()),
        Ok(_) => no("the answer was no"),
        Err(e) => no(&format!("the terminal cannot be read: {e}")),
    }
}

#[cfg(test)]
mod tests;

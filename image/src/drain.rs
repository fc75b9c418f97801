//! `tatara drain`: takes a node out of its cluster, before its machine is installed anew.

mod act;
mod cluster;
mod confirm;
mod evict;
mod plan;
mod report;
mod stop;
mod volumes;
mod words;

use anyhow::{Context as _, Result};
use cluster::{Cluster, Patience};
use confirm::confirm;
use k8s_openapi::api::core::v1::Node;
use plan::{Afterwards, Consent, Plan};
use report::Report;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use stop::Stop;
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
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
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
    let result = runtime.block_on(Drain::begin(args));
    // A credential plugin may still be running, and the end would wait for its.
    runtime.shutdown_background();
    result.map(|()| ExitCode::SUCCESS)
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
        let drain =
            Self { args, consents: args.consents(), cluster, report: Report::begin(std::io::stdout()) };
        let node = drain.cluster.node(&args.node).await?;
        let plan = drain.plan(node.clone(), Patience::None).await?;
        for line in plan.lines(&drain.consents) {
            drain.report.line(&line);
        }
        drain.refuse(&plan)?;
        if args.dry_run {
            return Ok(());
        }
        if !args.yes {
            confirm(&args.node, std::io::stdin().lock(), std::io::stderr())?;
        }
        let mut stop = Stop::listen(args.timeout).context("listening for signals")?;
        Ok(drain.act(&node, &plan.losses(), &mut stop).await?)
    }

    async fn plan(&self, node: Node, patience: Patience) -> Result<Plan, Fault> {
        Ok(Plan::of(&self.cluster.listing(node, patience).await?, self.args.afterwards()))
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
}

fn is_cordoned(node: &Node) -> bool {
    node.spec.as_ref().is_some_and(|spec| spec.unschedulable == Some(true))
}

#[cfg(test)]
mod tests;

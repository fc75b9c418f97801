//! `tatara-node join`: the node becomes a member of its cluster, once.
//!
//! Every step can be cut off at any instruction and is repeated until it succeeds. The stamp is written when the kubelet was healthy, and
//! the secrets are erased after that; whoever finds the stamp erases what is left of them.

mod cluster;
mod credential;
mod erase;
mod health;
mod kubeadm;
mod progress;

use super::system::System;
use super::tuning::accept;
use super::{Node, read_json, write_atomically};
use cluster::Cluster;
use credential::Credential;
pub(super) use erase::without_secrets;
pub(super) use progress::Progress;
use progress::Rest;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use tatara_firstboot::cluster::NodeObject;
use tatara_firstboot::render::kubernetes::node_name;
use tatara_spec::config::{Kubernetes, NodeConfig};
use tatara_spec::cpu::kubelet::Version;
use tatara_spec::layout::state;
use tatara_spec::record::{JoinStamp, JoinState};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

pub(crate) fn run(node: &Node) -> Result<ExitCode, Fault> {
    run_with(node, &System::default(), &std::thread::sleep)
}

fn run_with(node: &Node, system: &System, rest: Rest<'_>) -> Result<ExitCode, Fault> {
    let config = node.config()?;
    let Some(kubernetes) = &config.kubernetes else { return Ok(ExitCode::SUCCESS) };
    let join = Join { node, system, config: &config, kubernetes, name: node_name(&config, kubernetes) };
    let mut progress = Progress::new(node, join.name, &kubernetes.endpoint, rest);
    match join.stamp()? {
        Some(stamp) => join.member(&mut progress, &stamp),
        None => join.become_member(&mut progress),
    }
}

struct Join<'a> {
    node: &'a Node,
    system: &'a System,
    config: &'a NodeConfig,
    kubernetes: &'a Kubernetes,
    name: &'a str,
}

impl Join<'_> {
    fn stamp(&self) -> Result<Option<JoinStamp>, Fault> {
        read_json(&self.node.state(state::JOINED))
    }

    /// At every boot after the join.
    fn member(&self, progress: &mut Progress<'_>, stamp: &JoinStamp) -> Result<ExitCode, Fault> {
        let (name, endpoint) = (self.name, &self.kubernetes.endpoint);
        let other = stamp.node_name != name || stamp.endpoint != *endpoint;
        // A kubelet that does not start any more is nobody else's to notice: systemd starts it again for ever.
        let sick = progress.step(Step::Kubelet, || health::wait(self.system)).err();
        let other = other.then(|| {
            let JoinStamp { node_name, endpoint: of, .. } = stamp;
            Fault::new(
                Code::JoinOther,
                format!("the node is `{node_name}` of {of}, not `{name}` of {endpoint}"),
            )
        });
        self.finish(progress, other.or(sick))
    }

    /// Tries for ever: what is missing is outside of the node, or in its config, and then a reboot brings another one.
    fn become_member(&self, progress: &mut Progress<'_>) -> Result<ExitCode, Fault> {
        loop {
            match self.attempt(progress) {
                Ok(()) => return self.finish(progress, None),
                Err(fault) => progress.failed(&fault)?,
            }
        }
    }

    /// The stamp is there. What cannot be cleaned up does not make the node any less a member; it is said, and tried at the next boot.
    fn finish(&self, progress: &mut Progress<'_>, but: Option<Fault>) -> Result<ExitCode, Fault> {
        progress.begin(Step::Joined)?;
        let erased = erase::secrets(self.node, &self.kubernetes.join);
        let cleaned = erased.and_then(|()| remove(&self.node.state(state::JOINING)));
        progress.joined(cleaned.err().or(but).as_ref())?;
        Ok(ExitCode::SUCCESS)
    }

    fn attempt(&self, progress: &mut Progress<'_>) -> Result<(), Fault> {
        progress.step(Step::JoinAccept, || accept::gate(self.node))?;
        if self.kubeadm_is_done() {
            // Cut off between kubeadm's end and the stamp. The token may have expired since; it is not needed any more.
            let healthy = progress.step(Step::Kubelet, || health::wait(self.system));
            if healthy.is_err() && !self.has_credential() {
                self.mark(Joining::Begun)?;
            }
            return healthy.and_then(|()| self.leave_stamp());
        }
        let cluster = progress.step(Step::JoinApi, || {
            let cluster = Cluster::find(self.node, self.kubernetes)?;
            Ok((cluster, format!("endpoint={}", self.kubernetes.endpoint)))
        })?;
        let credential = progress.step(Step::JoinToken, || {
            let credential = Credential::take(self.node, &self.kubernetes.join)?;
            cluster.check_token(&credential)?;
            Ok((credential, format!("from={}", credential::source(&self.kubernetes.join))))
        })?;
        progress.step(Step::JoinReset, || self.reset())?;
        let blocked = progress.blocked();
        let found = progress.step(Step::JoinName, || {
            let found = cluster.node(self.node, self.name, &credential)?;
            self.check_name(found.as_ref(), blocked)?;
            let was = if found.is_some() { "not-ready" } else { "none" };
            Ok((found, format!("name={} node={was}", self.name)))
        });
        progress.block_on_ready(&found);
        found?;
        progress.step(Step::Join, || self.kubeadm(&credential))?;
        progress.step(Step::Kubelet, || health::wait(self.system))?;
        self.leave_stamp()
    }

    fn kubeadm_is_done(&self) -> bool {
        let left = fs::read(self.node.state(state::JOINING));
        left.is_ok_and(|left| left == Joining::Done.text())
    }

    /// Whether kubeadm's work is still there: the kubelet may take long to become healthy, but without its credential it never will.
    fn has_credential(&self) -> bool {
        fs::metadata(self.node.run(KUBELET_CREDENTIAL)).is_ok_and(|about| about.len() > 0)
    }

    fn mark(&self, how_far: Joining) -> Result<(), Fault> {
        write_atomically(&self.node.state(state::JOINING), how_far.text())
    }

    /// A Node that is Ready is somebody's: taking its name would take its pods and its volumes. One that this machine left there itself,
    /// by a join that was cut off, becomes NotReady by itself, now that the kubelet is stopped. After a refusal only a deletion frees the
    /// name: a machine that is only rebooting must not lose it.
    fn check_name(&self, found: Option<&NodeObject>, blocked: bool) -> Result<(), Fault> {
        let Some(found) = found else { return Ok(()) };
        let own = cluster::is_this_machine(found, self.node);
        let name = self.name;
        if found.ready && own {
            let why = format!("Node `{name}` is still Ready, and it is of this machine");
            return Err(Fault::new(Code::JoinStale, why));
        }
        if (found.ready || blocked) && !own {
            let state = if found.ready { "is Ready" } else { "was Ready a moment ago" };
            let why = format!("Node `{name}` {state} on another machine (machine id {})", found.machine_id);
            return Err(Fault::new(Code::JoinName, why));
        }
        Ok(())
    }

    /// What a join that was cut off, or failed, has left.
    fn reset(&self) -> Result<((), String), Fault> {
        let leftovers = self.leftovers();
        let Some(first) = leftovers.first() else { return Ok(((), "leftovers=none".to_owned())) };
        let first = first.display().to_string();
        kubeadm::reset(self.system, self.node.runtime()?)?;
        // kubeadm leaves what it does not know; its own checks would find these.
        for path in self.leftovers() {
            fs::remove_file(&path)
                .map_err(|error| Fault::caused(Code::Join, format!("remove {}", path.display()), error))?;
        }
        Ok(((), format!("leftovers={first}")))
    }

    fn leftovers(&self) -> Vec<PathBuf> {
        let joining = self.node.state(state::JOINING);
        let files = LEFTOVERS.iter().map(|path| self.node.run(path));
        std::iter::once(joining).chain(files).filter(|path| path.exists()).collect()
    }

    fn kubeadm(&self, credential: &Credential) -> Result<((), String), Fault> {
        let kubernetes = self.node.versions()?.kubernetes.unwrap_or_default();
        let version = Version::parse(&kubernetes).ok_or_else(|| {
            Fault::new(
                Code::KubernetesPayload,
                format!("the release's version of Kubernetes is `{kubernetes}`"),
            )
        })?;
        self.mark(Joining::Begun)?;
        let target = (version, self.node.runtime()?);
        kubeadm::join(self.node, self.system, self.config, target, credential)?;
        // Neither kubeadm nor the kubelet syncs its files: they must be on the disk before what vouches for them.
        self.node.sync_state()?;
        self.mark(Joining::Done)?;
        Ok(((), format!("kubernetes={kubernetes}")))
    }

    fn leave_stamp(&self) -> Result<(), Fault> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let stamp = JoinStamp {
            node_name: self.name.to_owned(),
            endpoint: self.kubernetes.endpoint.clone(),
            kubernetes: self.node.versions()?.kubernetes.unwrap_or_default(),
            unix_time: since.as_secs(),
        };
        let json = serde_json::to_vec_pretty(&stamp)
            .map_err(|error| Fault::caused(Code::Internal, "write the join's stamp", error))?;
        self.node.sync_state()?;
        write_atomically(&self.node.state(state::JOINED), &json)
    }
}

/// How far kubeadm has come, in the file that says that it was begun.
#[derive(Debug, Clone, Copy)]
enum Joining {
    Begun,
    Done,
}

impl Joining {
    fn text(self) -> &'static [u8] {
        match self {
            Self::Begun => b"begun\n",
            Self::Done => b"done\n",
        }
    }
}

/// With it the kubelet speaks to the API server.
const KUBELET_CREDENTIAL: &str = "/etc/kubernetes/kubelet.conf";

/// What kubeadm's checks find of an earlier join (Kubernetes, cmd/kubeadm/app/preflight, RunJoinNodeChecks).
const LEFTOVERS: [&str; 4] = [
    "/etc/kubernetes/kubelet.conf",
    "/etc/kubernetes/bootstrap-kubelet.conf",
    "/etc/kubernetes/pki/ca.crt",
    "/var/lib/kubelet/config.yaml",
];

fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Fault::caused(Code::NodeState, format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// How a fault leaves the join: those that only a person can mend are refusals.
fn outcome(code: Code) -> JoinState {
    match code {
        Code::JoinCa | Code::JoinName | Code::KubernetesPayload => JoinState::Refused,
        _ => JoinState::Waiting,
    }
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;

//! `tatara-node stage`: fetches this node's config, so that a plain reboot from the disk boots with it.
//!
//! It takes what PID 1 would take: from where the accepted config came, by the same pins and keys, and rehearsed. What is staged is one
//! file, and PID 1 looks at it anew: this here only saves the node from a boot that would not use it.
//!
//! A genuine config that cannot be used takes back what was staged before: its author has replaced that, and what he wants instead cannot
//! be told. What somebody between node and server can bring about over HTTPS takes nothing back: no answer, another file, an older one. Over
//! HTTP any file that the key has signed once will do, as docs/security.md says.

mod report;

pub(super) use report::{StageStatus, status};

use super::console::announce;
use super::{Node, join, lock, print, read_json, web};
use std::fs;
use std::process::ExitCode;
use std::time::Duration;
use tatara_firstboot::rehearsal::{self, Candidate};
use tatara_http::fetch::{Client, Timing};
use tatara_http::genuine::{self, ServedConfig};
use tatara_installer::StateFile;
use tatara_spec::config::{self, NodeConfig};
use tatara_spec::layout::{run, state};
use tatara_spec::plan;
use tatara_spec::record::{InstallRecord, STAGED_MAX_BYTES, StagedConfig};
use tatara_spec::{Code, Fault, redact};
use url::Url;

/// Held while it runs: the timer, the way down and a person may ask at once.
const LOCK: &str = "/run/tatara/stage.lock";

/// When to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// While the node runs: with PID 1's patience.
    Now,
    /// On its way down.
    Last,
}

/// A server that does not answer must not hold up a shutdown, which gives this 10 s in all (tatara-stage-last.service): most of that, as a
/// machine on its way down is busy with everything else that stops.
const ON_THE_WAY_DOWN: Timing = Timing {
    connect: Duration::from_secs(8),
    stall: Duration::from_secs(8),
    whole: Duration::from_secs(8),
    first_retry: Duration::from_secs(1),
};

/// What it came to.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The server has the accepted config.
    Accepted,
    /// This one was staged already.
    Same,
    /// This one is staged now.
    Staged,
}

/// Fetches, and says what the next boot from the disk will be.
pub(crate) fn run(node: &Node, look: Look) -> Result<ExitCode, Fault> {
    let _lock = lock::of(node, LOCK)?;
    let timing = if look == Look::Last { ON_THE_WAY_DOWN } else { Timing::default() };
    let result = stage(node, timing);
    report::keep(node, result.as_ref().err())?;
    let outcome = result?;
    let said = match report::waiting(node)? {
        Some(waiting) => waiting.to_string(),
        None => "the config is the accepted one".to_owned(),
    };
    if outcome == Outcome::Staged {
        announce(node, &format!("tatara: stage: {said}"));
    }
    print(&format!("{said}\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn stage(node: &Node, timing: Timing) -> Result<Outcome, Fault> {
    let path = node.state(state::CONFIG_URL);
    let url = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
    let url = Url::parse(url.trim())
        .map_err(|error| Fault::caused(Code::UrlBad, format!("{} is no URL", path.display()), error))?;
    let signers = signers(node)?;
    let client = web::client_within(node, timing)?;
    let served = genuine::config(&client, url.as_str(), &signers)?;
    take(node, &Servers { client: &client, url: &url, signers: &signers }, served)
}

/// The keys that PID 1 knows. It leaves a file also when there are none: one that is missing says nothing.
fn signers(node: &Node) -> Result<Vec<String>, Fault> {
    let path = node.run(run::SIGNERS);
    let text = fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn unreadable(path: &std::path::Path, error: std::io::Error) -> Fault {
    Fault::caused(Code::NodeState, format!("read {}", path.display()), error)
}

/// Where the config came from, and what else it names may come from.
struct Servers<'a> {
    client: &'a Client,
    url: &'a Url,
    signers: &'a [String],
}

/// A genuine config: the accepted one, or staged, or refused.
fn take(node: &Node, servers: &Servers<'_>, served: ServedConfig) -> Result<Outcome, Fault> {
    let shown = redact::url(servers.url.as_str());
    let name = shown.rsplit('/').next().unwrap_or("config");
    let config = config::parse(name, &served.bytes)
        .or_else(|diagnostics| instead(node, config::to_fault(&diagnostics)))?;
    let record = read_json::<InstallRecord>(&node.state(state::RECORD))?
        .ok_or_else(|| Fault::new(Code::NodeState, format!("{} is missing", state::RECORD)))?;
    plan::may_follow(&config, &record)?;
    let partition = node.state_partition();
    if is_accepted(node, &config, &served.bytes)? {
        partition.erase(state::STAGED)?;
        return Ok(Outcome::Accepted);
    }
    let staged = complete(node, servers, &config, served)?;
    let json = serde_json::to_vec(&staged)
        .map_err(|error| Fault::caused(Code::Internal, "the staged config cannot be encoded", error))?;
    if json.len() as u64 > STAGED_MAX_BYTES {
        let message = format!("config and SSH keys would take {} bytes of {STAGED_MAX_BYTES}", json.len());
        return Err(Fault::new(Code::HttpBody, message));
    }
    // One that cannot be read is replaced.
    if partition.read(state::STAGED, STAGED_MAX_BYTES).is_ok_and(|old| old.as_ref() == Some(&json)) {
        return Ok(Outcome::Same);
    }
    partition.replace(&StateFile::private(state::STAGED, json))?;
    Ok(Outcome::Staged)
}

/// A genuine config that no node could boot with, in the place of the one that was staged before.
fn instead<T>(node: &Node, fault: Fault) -> Result<T, Fault> {
    node.state_partition().erase(state::STAGED)?;
    Err(fault)
}

/// Whether only another config can help. CPUs that somebody took offline while the node runs, say, are there again at its next boot.
fn is_the_configs(code: Code) -> bool {
    matches!(
        code,
        Code::Render
            | Code::CmdlineBad
            | Code::CpuAbsent
            | Code::CpuBoot
            | Code::CpuIsolation
            | Code::CpuList
            | Code::CpuSiblings
            | Code::KubernetesPayload
            | Code::ImageRelease
    )
}

/// Whether the node has it already. In a member's copy the secrets of the join are erased; for who has not joined yet, a new token is
/// news.
fn is_accepted(node: &Node, config: &NodeConfig, bytes: &[u8]) -> Result<bool, Fault> {
    let path = node.state(state::CONFIG);
    let accepted = fs::read(&path).map_err(|error| unreadable(&path, error))?;
    if accepted == bytes {
        return Ok(true);
    }
    let joined = node.state(state::JOINED).exists();
    let join = config.kubernetes.as_ref().filter(|_| joined).map(|kubernetes| &kubernetes.join);
    Ok(join.and_then(|join| join::without_secrets(bytes, join)).is_some_and(|erased| erased == accepted))
}

/// With what else PID 1 would fetch, and rehearsed.
fn complete(
    node: &Node,
    servers: &Servers<'_>,
    config: &NodeConfig,
    served: ServedConfig,
) -> Result<StagedConfig, Fault> {
    let Servers { client, url, signers } = *servers;
    let (release, _) = genuine::release(client, url, config, signers)?;
    let keys = genuine::ssh_keys(client, config)?;
    let candidate = Candidate { config, keys: &keys, release: Some(&release) };
    rehearsal::rehearse(&candidate, &node.command_line()?, &node.run("/sys"))
        .or_else(|fault| if is_the_configs(fault.code) { instead(node, fault) } else { Err(fault) })?;
    let ServedConfig { bytes, signature } = served;
    // What was parsed is UTF-8.
    let config = String::from_utf8(bytes)
        .map_err(|error| Fault::caused(Code::Internal, "a config that was parsed is no text", error))?;
    Ok(StagedConfig { config, signature, url: url.as_str().to_owned(), keys, release: release.id })
}

#[cfg(test)]
mod tests;

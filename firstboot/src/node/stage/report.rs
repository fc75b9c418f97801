//! What `tatara-node status` says of it.

use crate::node::{Node, read_json, write_whole};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};
use tatara_spec::config;
use tatara_spec::layout::{run, state};
use tatara_spec::plan;
use tatara_spec::record::{InstallRecord, STAGED_MAX_BYTES, StagedConfig};
use tatara_spec::{Code, Fault, redact};

/// How the last look at the server ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::node) struct LastLook {
    /// Wall clock, seconds since 1970.
    unix_time: u64,
    /// Why nothing was staged; absent when it is known what the server has.
    failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    code: String,
    message: String,
    hint: String,
    /// Nobody gave a config: it may be right.
    unreachable: bool,
}

/// What waits for the next boot from the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::node) struct Waiting {
    /// Its `metadata.serial`.
    serial: u64,
    /// What it asks for.
    next_boot: NextBoot,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum NextBoot {
    /// It boots with the staged config.
    Boot,
    /// It fetches config and release, and reinstalls.
    Reinstall,
    /// It fetches config and release, and upgrades.
    Upgrade,
}

impl std::fmt::Display for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let does = match self.next_boot {
            NextBoot::Boot => "boots with it",
            NextBoot::Reinstall => "fetches the release and reinstalls the node",
            NextBoot::Upgrade => "fetches the release and upgrades the node",
        };
        write!(f, "the config with serial {} is staged: the next boot from the disk {does}", self.serial)
    }
}

/// As `status` shows it; field names are the JSON's.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::node) struct StageStatus {
    /// Absent where nothing is staged.
    waiting: Option<Waiting>,
    /// Absent before the first look.
    last_look: Option<LastLook>,
}

impl StageStatus {
    /// A config on the server that would not be used: somebody must know.
    pub(in crate::node) fn refused(&self) -> Option<String> {
        self.failure(false).map(|text| format!("the config on the server is not staged: {text}"))
    }

    /// For people: what waits, and why that is not known.
    pub(in crate::node) fn lines(&self) -> Vec<String> {
        let unreachable = self.failure(true).map(|text| format!("the server was asked in vain: {text}"));
        self.waiting.iter().map(Waiting::to_string).chain(unreachable).collect()
    }

    fn failure(&self, unreachable: bool) -> Option<String> {
        let failure = self.last_look.as_ref()?.failure.as_ref()?;
        let Failure { code, message, hint, .. } = failure;
        (failure.unreachable == unreachable).then(|| format!("{code}: {message} (hint: {hint})"))
    }
}

/// What is known; only root may read it.
pub(in crate::node) fn status(node: &Node) -> Result<StageStatus, Fault> {
    Ok(StageStatus { waiting: waiting(node)?, last_look: read_json(&node.run(run::STAGE))? })
}

/// Keeps how a look ended, for as long as the node runs. A refusal may repeat what is in the config: it is for root.
pub(super) fn keep(node: &Node, fault: Option<&Fault>) -> Result<(), Fault> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let failure = fault.map(|fault| Failure {
        code: fault.code.name().to_owned(),
        message: redact::urls(&fault.chain()),
        hint: fault.code.hint().to_owned(),
        unreachable: plan::is_unreachable(fault.code),
    });
    let json = serde_json::to_vec(&LastLook { unix_time: now, failure })
        .map_err(|error| Fault::caused(Code::Internal, "how staging ended cannot be encoded", error))?;
    write_whole(&node.run(run::STAGE), &json, 0o600)
}

/// What is staged, by what the disk holds.
pub(super) fn waiting(node: &Node) -> Result<Option<Waiting>, Fault> {
    let json = node.state_partition().read(state::STAGED, STAGED_MAX_BYTES)?;
    let Some(staged) = json.map_or(Ok(None), |json| StagedConfig::parse(&json))? else { return Ok(None) };
    let config = config::parse("staged config", staged.config.as_bytes())
        .map_err(|diagnostics| config::to_fault(&diagnostics))?;
    let record: Option<InstallRecord> = read_json(&node.state(state::RECORD))?;
    let boot = node.boot()?;
    let raised = record.is_some_and(|record| config.install.generation > record.generation);
    let next_boot = match (raised, staged.release == boot.release) {
        (true, _) => NextBoot::Reinstall,
        (false, false) => NextBoot::Upgrade,
        (false, true) => NextBoot::Boot,
    };
    Ok(Some(Waiting { serial: config.metadata.serial, next_boot }))
}

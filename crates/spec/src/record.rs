//! What is kept about a node: the install record, the boot record, timelines, the last failure.

use crate::config::{Governor, Hugepages, Isolation};
use crate::cpu::{CpuPlan, CpuSet, Warning};
use crate::error::{Code, Fault};
use crate::layout::state;
use crate::slot::{Slot, Trial};
use crate::step::Step;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is installed on a disk; the last thing an install writes, so its presence means "complete".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InstallRecord {
    /// `metadata.name` of the accepted config.
    pub node: String,
    /// `install.generation` of the accepted config.
    pub generation: u64,
    /// `metadata.serial` of the accepted config; a lower one is refused.
    pub serial: u64,
    /// The release in each slot that holds one.
    pub slots: BTreeMap<Slot, SlotRecord>,
}

/// What one slot holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlotRecord {
    /// [`crate::release::Release::id`] of the release.
    pub release: String,
    /// Bytes of the root image, from the start of the partition.
    pub root_bytes: u64,
}

/// A config that the node fetched while it ran, and what was fetched with it: one file, so that a power cut leaves all of it or nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StagedConfig {
    /// The file as served.
    pub config: String,
    /// Its signature file, where one is wanted: PID 1 checks it again.
    pub signature: Option<String>,
    /// Where it was fetched from.
    pub url: String,
    /// SSH keys that it points at: URL to keys.
    pub keys: BTreeMap<String, Vec<String>>,
    /// [`crate::release::Release::id`] of the release that it named then.
    pub release: String,
}

/// The largest [`StagedConfig`] as JSON, in bytes: a config and a hundred long lists of keys.
pub const STAGED_MAX_BYTES: u64 = 16 << 20;

impl StagedConfig {
    /// Reads the file; `None` when it has zeros in it: they are what a power cut leaves of one that was being erased, and JSON has none.
    ///
    /// # Errors
    /// [`Code::Staged`] with where it is damaged, and not what is there: it may be part of a secret.
    pub fn parse(json: &[u8]) -> Result<Option<Self>, Fault> {
        if json.contains(&0) {
            return Ok(None);
        }
        serde_json::from_slice(json).map(Some).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            Fault::new(Code::Staged, format!("{} is damaged at line {line}, column {column}", state::STAGED))
        })
    }
}

impl std::fmt::Debug for StagedConfig {
    /// Without what may be secret in it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StagedConfig").field("release", &self.release).finish_non_exhaustive()
    }
}

/// How this boot came about; for `tatara-node status`. Every user of the node may read it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BootRecord {
    /// The plan as printed on the console.
    pub plan: String,
    /// The slot whose root is mounted.
    pub slot: Slot,
    /// The disk, as `/dev/NAME`.
    pub disk: String,
    /// The release in that slot.
    pub release: String,
    /// `metadata.name` of the accepted config.
    #[serde(default)]
    pub node: Option<String>,
    /// `install.generation` of the accepted config.
    #[serde(default)]
    pub generation: Option<u64>,
    /// `metadata.serial` of the accepted config.
    #[serde(default)]
    pub serial: Option<u64>,
    /// The slot on trial when this boot began, if any.
    #[serde(default)]
    pub trial: Option<Trial>,
    /// The slot whose trial had ended without a blessing.
    #[serde(default)]
    pub fallen_back_from: Option<Slot>,
    /// What is not as configured, one sentence each; empty on a good boot.
    pub degraded: Vec<String>,
    /// What is as configured, and questionable, e.g. an isolation that splits a core.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Begin and end of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepTime {
    /// The step's name: a [`Step`], or a systemd unit or phase on a node.
    pub name: String,
    /// Seconds since the kernel started (CLOCK_BOOTTIME) at its begin.
    pub begin_s: f64,
    /// The same at its end; absent while it runs, or when it failed.
    pub end_s: Option<f64>,
}

impl StepTime {
    /// A step that has just begun.
    #[must_use]
    pub fn begin(step: Step, begin_s: f64) -> Self {
        Self { name: step.name().to_owned(), begin_s, end_s: None }
    }
}

/// The steps of one kernel's life, and of the kernels before it since power-on (kexec).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// One entry a kernel, oldest first. Times restart with each kernel.
    pub kernels: Vec<Vec<StepTime>>,
}

/// A failure that outlives the boot it happened in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRecord {
    /// The error code, e.g. `E-NET-DHCP`.
    pub code: String,
    /// The step that failed.
    pub step: Step,
    /// The chain of causes, outermost first.
    pub message: String,
    /// What to do.
    pub hint: String,
    /// Wall clock at the failure, seconds since 1970; wrong when the clock was.
    pub unix_time: u64,
    /// How many times in a row.
    pub attempt: u32,
    /// A later boot has shown it on its consoles: it is kept for `tatara-node status`, and not shown again.
    #[serde(default)]
    pub shown: bool,
}

/// What this boot's CPUs are meant to be, for those who set and verify it while the node runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TuningRecord {
    /// `tuning.isolation`.
    pub isolation: Isolation,
    /// CPUs for the kernel's and systemd's own work.
    pub housekeeping: CpuSet,
    /// CPUs kept free; empty when nothing is isolated.
    pub isolated: CpuSet,
    /// The online CPUs of each NUMA node that has any.
    pub nodes: BTreeMap<u32, CpuSet>,
    /// The largest possible CPU number: masks are as wide.
    pub last_cpu: u32,
    /// The kernel arguments that the config asks for, each as written.
    pub kernel_arguments: Vec<String>,
    /// Sysctls by name with dots.
    pub sysctls: BTreeMap<String, String>,
    /// `tuning.hugepages`.
    pub hugepages: Vec<Hugepages>,
    /// The governor of every CPU that has it.
    pub governor: Option<Governor>,
    /// `tuning.wakeupLatencyUs`.
    pub wakeup_latency_us: Option<u32>,
    /// What is allowed but unwise.
    pub warnings: Vec<Warning>,
}

impl TuningRecord {
    /// The split alone.
    #[must_use]
    pub fn plan(&self) -> CpuPlan {
        CpuPlan {
            housekeeping: self.housekeeping.clone(),
            isolated: self.isolated.clone(),
            nodes: self.nodes.clone(),
            last: self.last_cpu,
            warnings: self.warnings.clone(),
        }
    }
}

/// The node is a member of a cluster; written once its kubelet was healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinStamp {
    /// Name of its Node.
    pub node_name: String,
    /// `kubernetes.endpoint` when it joined.
    pub endpoint: String,
    /// Version of the kubeadm that did it.
    pub kubernetes: String,
    /// When, seconds since 1970.
    pub unix_time: u64,
}

/// How far the join has come, for `tatara-node status`. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRecord {
    /// Name of the Node.
    pub node_name: String,
    /// `kubernetes.endpoint`.
    pub endpoint: String,
    /// How it stands.
    pub state: JoinState,
    /// The step that runs or ran last.
    pub step: Step,
    /// Why that step has not succeeded yet: the chain of causes.
    #[serde(default)]
    pub reason: Option<String>,
    /// Its code.
    #[serde(default)]
    pub code: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub hint: Option<String>,
    /// How often that step was tried in vain.
    #[serde(default)]
    pub attempts: u32,
}

/// How a join stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JoinState {
    /// It goes on.
    Running,
    /// Something outside of the node is waited for.
    Waiting,
    /// It would be wrong to go on: a person has to change something.
    Refused,
    /// The node is a member.
    Joined,
}

impl std::fmt::Display for JoinState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Refused => "refused",
            Self::Joined => "joined",
        })
    }
}

//! What is allowed but unwise, each with a code that docs/tuning.md explains.

use super::{CpuPlan, CpuSet, Topology};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A stable code of a warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum WarningCode {
    /// `tuning.housekeeping` while nothing is isolated.
    #[serde(rename = "W-CPU-NO-EFFECT")]
    NoEffect,
    /// A NUMA node without housekeeping CPU.
    #[serde(rename = "W-CPU-NODE")]
    Node,
    /// Offline CPUs, which are on neither side.
    #[serde(rename = "W-CPU-OFFLINE")]
    Offline,
    /// Isolated CPUs of different kinds.
    #[serde(rename = "W-CPU-HYBRID")]
    Hybrid,
    /// More NIC queues than housekeeping CPUs.
    #[serde(rename = "W-CPU-NIC-QUEUES")]
    NicQueues,
    /// The clock is not read from the TSC.
    #[serde(rename = "W-CPU-CLOCK")]
    Clock,
    /// The kubelet reserves other CPUs than housekeeping.
    #[serde(rename = "W-CPU-RESERVED")]
    Reserved,
}

impl WarningCode {
    /// Every code.
    pub const ALL: [Self; 7] = [
        Self::NoEffect,
        Self::Node,
        Self::Offline,
        Self::Hybrid,
        Self::NicQueues,
        Self::Clock,
        Self::Reserved,
    ];

    /// The code as printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NoEffect => "W-CPU-NO-EFFECT",
            Self::Node => "W-CPU-NODE",
            Self::Offline => "W-CPU-OFFLINE",
            Self::Hybrid => "W-CPU-HYBRID",
            Self::NicQueues => "W-CPU-NIC-QUEUES",
            Self::Clock => "W-CPU-CLOCK",
            Self::Reserved => "W-CPU-RESERVED",
        }
    }
}

/// A warning: the code and one sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// The stable code.
    pub code: WarningCode,
    /// What was found.
    pub message: String,
}

impl Warning {
    pub(super) fn new(code: WarningCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

/// What else of a running machine can make a plan unwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// `/sys/devices/system/clocksource/clocksource0/current_clocksource`.
    pub clocksource: Option<String>,
    /// Receive queues of each network card.
    pub nic_queues: BTreeMap<String, usize>,
    /// The kubelet's `reservedSystemCPUs`, where there is a kubelet.
    pub reserved: Option<CpuSet>,
}

/// What the split itself makes unwise.
pub(super) fn of_split(housekeeping: &CpuSet, isolated: &CpuSet, topology: &Topology) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (node, cpus) in topology.groups() {
        if let (Some(node), true) = (node, cpus.intersection(housekeeping).is_empty()) {
            let why = format!(
                "NUMA node {node} (CPUs {cpus}) has no housekeeping CPU: its interrupts and memory work cross nodes"
            );
            warnings.push(Warning::new(WarningCode::Node, why));
        }
    }
    let offline = topology.present.difference(&topology.online);
    if !offline.is_empty() {
        let why = format!(
            "CPUs {offline} are offline and on neither side; they need a new boot after they come online"
        );
        warnings.push(Warning::new(WarningCode::Offline, why));
    }
    let kinds = topology.kinds.iter().map(|(kind, cpus)| (kind, cpus.intersection(isolated)));
    let kinds: Vec<_> = kinds.filter(|(_, cpus)| !cpus.is_empty()).collect();
    if kinds.len() > 1 {
        let each: Vec<String> = kinds.iter().map(|(kind, cpus)| format!("{kind} {cpus}")).collect();
        let why =
            format!("the isolated CPUs are of different kinds ({}): a pod may get either", each.join(", "));
        warnings.push(Warning::new(WarningCode::Hybrid, why));
    }
    warnings
}

/// What a running machine makes unwise about a plan; nothing when it isolates nothing.
#[must_use]
pub fn advise(plan: &CpuPlan, around: &Surroundings) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if plan.isolated.is_empty() {
        return warnings;
    }
    let housekeeping = plan.housekeeping.0.len();
    for (nic, queues) in around.nic_queues.iter().filter(|(_, queues)| **queues > housekeeping) {
        let why = format!(
            "{nic} has {queues} receive queues for {housekeeping} housekeeping CPUs ({}): several share one CPU",
            plan.housekeeping
        );
        warnings.push(Warning::new(WarningCode::NicQueues, why));
    }
    if let Some(clock) =
        around.clocksource.as_deref().filter(|clock| *clock != "tsc" && *clock != "kvm-clock")
    {
        let why = format!(
            "the clock source is `{clock}`, not `tsc`: reading the time is slow, and isolated CPUs may keep their tick"
        );
        warnings.push(Warning::new(WarningCode::Clock, why));
    }
    if let Some(reserved) = around.reserved.as_ref().filter(|reserved| **reserved != plan.housekeeping) {
        let why = format!("the kubelet reserves CPUs {reserved}, housekeeping is {}", plan.housekeeping);
        warnings.push(Warning::new(WarningCode::Reserved, why));
    }
    warnings
}

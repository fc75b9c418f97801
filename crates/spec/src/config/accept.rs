//! `tuning.accept`: how quiet isolated CPUs must be for the node to join.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How quiet every isolated CPU must be, under a busy loop at each boot, for the node to join its cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Accept {
    /// How long is measured, in seconds; the kubelet waits as long.
    #[schemars(range(min = 1, max = 600))]
    pub seconds: u32,
    /// Timer interrupts a second, at most; an isolated CPU has about one.
    pub max_ticks_per_second: Option<u32>,
    /// Interrupts from other CPUs a second, at most: reschedule, function call, TLB shoot-down.
    pub max_ipis_per_second: Option<u32>,
    /// Device interrupts in all, at most; those of queues that the kernel keeps count, too.
    pub max_device_interrupts: Option<u32>,
    /// The longest time that the loop may be away at once, in microseconds; in a virtual machine the host's doing, too.
    pub max_gap_us: Option<u32>,
}

/// What `tuning verify --noise` is usually run with.
const SECONDS: u32 = 10;

impl Default for Accept {
    fn default() -> Self {
        Self {
            seconds: SECONDS,
            max_ticks_per_second: None,
            max_ipis_per_second: None,
            max_device_interrupts: None,
            max_gap_us: None,
        }
    }
}

impl Accept {
    /// Whether anything is limited.
    #[must_use]
    pub fn limits_something(&self) -> bool {
        let limits = [
            self.max_ticks_per_second,
            self.max_ipis_per_second,
            self.max_device_interrupts,
            self.max_gap_us,
        ];
        limits.iter().any(Option::is_some)
    }
}

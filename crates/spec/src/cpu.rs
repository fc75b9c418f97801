//! CPU lists, the machine's topology, and the split into housekeeping and isolated CPUs.
//!
//! Lists are parsed once and written as plain packed ranges everywhere, because kernel, systemd and Go
//! disagree on the richer forms (`N`, `all`, strides).

pub mod kubelet;
mod recorded;
mod set;
mod split;
mod topology;
mod warning;

pub use set::{CpuSet, check_syntax};
pub use split::{CpuPlan, split};
pub use topology::{Topology, TopologyTexts};
pub use warning::{Surroundings, Warning, WarningCode, advise};

#[cfg(test)]
mod machines;
#[cfg(test)]
mod tests;

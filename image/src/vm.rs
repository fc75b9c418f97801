//! `tatara vm`: machines in QEMU, with the flags that real ones correspond to.

pub mod accel;
pub mod firmware;
mod machine;
mod qmp;
mod run;

pub use accel::Accel;
pub use machine::{Boot, Bus, CpuShape, Disk, Firmware, Forward, Machine, Nic, NicModel, TCG};
pub use qmp::Qmp;
pub use run::{Args, Command, RunArgs, run};

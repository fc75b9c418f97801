//! The parts of PID 1; the story is told by `boot.rs` of the binary.

pub mod clock;
pub mod console;
pub mod drivers;
pub mod handover;
pub mod kmsg;
pub mod modprobe;
pub mod net;
pub mod supervisor;

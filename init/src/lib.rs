//! The parts of PID 1; the story is told by `boot.rs` of the binary.

pub mod backoff;
pub mod clock;
pub mod console;
pub mod dns;
pub mod drivers;
pub mod fetch;
pub mod handover;
pub mod kmsg;
pub mod modprobe;
pub mod net;
pub mod signature;
pub mod supervisor;
pub mod tls;

#[cfg(test)]
mod testing;

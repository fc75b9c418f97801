//! The parts of PID 1; the story is told by `boot.rs` of the binary.

pub mod backoff;
pub mod clock;
pub mod dns;
pub mod fetch;
pub mod net;
pub mod signature;
pub mod tls;

#[cfg(test)]
mod testing;

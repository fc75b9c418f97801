//! Fetching over HTTPS: whom to trust, which DNS servers to ask, how often to try again. PID 1 and the node use the same.

pub mod backoff;
pub mod dns;
pub mod fetch;
pub mod genuine;
pub mod signature;
mod time;
pub mod tls;

#[cfg(test)]
mod testing;

pub use time::rfc3339;

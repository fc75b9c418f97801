//! The harness of the boots in QEMU: releases to boot, a server, machines, and what they print.

pub mod cluster;
pub mod config;
pub mod console;
pub mod dhcp;
pub mod guest;
mod hands;
pub mod lan;
mod machine;
pub mod medium;
pub mod minisign;
pub mod ntp;
pub mod openssl;
pub mod pki;
pub mod port;
pub mod release;
pub mod screen;
pub mod seed;
pub mod server;
pub mod session;
pub mod ssh;
pub mod state;
pub mod steps;
pub mod trial;
pub mod tuned;
pub mod web;

use std::path::PathBuf;

/// A path that the Makefile hands over in the environment.
///
/// # Panics
/// When the variable is not set: the tests run through `make test`.
#[must_use]
pub fn path_from_environment(name: &str) -> PathBuf {
    std::env::var_os(name).map_or_else(|| panic!("{name} is not set; run `make test`"), PathBuf::from)
}

/// The `tatara` command.
#[must_use]
pub fn tool() -> PathBuf {
    path_from_environment("TATARA_TOOL")
}

/// Where downloads and builds are kept between runs.
#[must_use]
pub fn cache() -> PathBuf {
    path_from_environment("TATARA_CACHE")
}

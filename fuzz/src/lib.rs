//! The fuzz targets: every text and packet that somebody else decides about, and what must hold whatever it is.
//!
//! A target is a plain function that panics when something does not hold, so that the fuzzer (`make fuzz`) and the replay of its
//! corpus in the tests (`tests/replay.rs`) run the same code. docs/adr/0006-fuzzing.md says how and why.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a panic is how a target says that something does not hold"
)]

mod cluster;
mod config;
mod dhcp;
mod disk;
mod machine;
mod net;
mod sectors;
mod text;

use std::path::{Path, PathBuf};
use tatara_spec::Fault;

/// One thing that hostile bytes are thrown at.
#[derive(Debug)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Checks one input.
    pub run: fn(&[u8]),
    /// The longest input that the fuzzer makes, in bytes.
    pub input_bytes: usize,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "config", run: config::check, input_bytes: 4096 },
    Target { name: "cmdline", run: text::command_line, input_bytes: 2048 },
    Target { name: "cpu-list", run: text::cpu_list, input_bytes: 512 },
    Target { name: "release", run: text::release, input_bytes: 4096 },
    Target { name: "signature", run: text::signature, input_bytes: 1024 },
    Target { name: "certificate", run: text::certificate, input_bytes: 4096 },
    Target { name: "grubenv", run: machine::grubenv, input_bytes: 1024 },
    Target { name: "uevent", run: machine::uevent, input_bytes: 2048 },
    Target { name: "gpt", run: disk::gpt, input_bytes: 1024 },
    Target { name: "fat", run: disk::fat, input_bytes: 1024 },
    Target { name: "probe", run: disk::probe, input_bytes: 1024 },
    Target { name: "http", run: net::http, input_bytes: 4096 },
    Target { name: "http-stream", run: net::http_stream, input_bytes: 4096 },
    Target { name: "dhcp4", run: dhcp::v4, input_bytes: 1024 },
    Target { name: "dhcp6", run: dhcp::v6, input_bytes: 1024 },
    Target { name: "dns", run: net::dns, input_bytes: 1024 },
    Target { name: "sntp", run: net::sntp, input_bytes: 128 },
    Target { name: "cluster-info", run: cluster::cluster_info, input_bytes: 4096 },
    Target { name: "kubeconfig", run: cluster::kubeconfig, input_bytes: 4096 },
    Target { name: "node-object", run: cluster::node_object, input_bytes: 2048 },
    Target { name: "join-token", run: cluster::join_token, input_bytes: 256 },
    Target { name: "image-index", run: text::image_index, input_bytes: 4096 },
    Target { name: "kubelet-config", run: cluster::kubelet, input_bytes: 4096 },
];

/// The inputs of a target's corpus below the working directory, by name.
///
/// # Errors
/// When it cannot be read.
pub fn inputs(target: &str) -> std::io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(Path::new("corpus").join(target))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The target of this name.
#[must_use]
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A refusal is short and cannot play with a console: it may quote what it refuses, but is no copy of it.
fn check_refusal(fault: &Fault) {
    let text = fault.chain();
    assert!(text.len() <= 4096, "{} bytes of refusal", text.len());
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "a control character in a refusal: {text:?}");
}

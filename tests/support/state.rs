//! The state partition of a disk that no machine uses: read and written as the node would, by e2fsprogs.

use crate::guest::Setup;
use crate::server::Server;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tatara_spec::layout::{STATE, state};

const FILLER: &str = "filler";

/// A partition's first byte, by its label.
///
/// # Panics
/// When the disk has no such partition.
#[must_use]
pub fn partition_start(disk: &Path, label: &str) -> u64 {
    let output = run(Command::new("sfdisk").arg("--json").arg(disk));
    let table: serde_json::Value = serde_json::from_slice(&output.stdout).expect("the partition table");
    let partitions = table["partitiontable"]["partitions"].as_array().into_iter().flatten();
    let start = partitions.filter(|p| p["name"] == label).find_map(|p| p["start"].as_u64());
    start.unwrap_or_else(|| panic!("{} has no partition {label}", disk.display())) * 512
}

/// Leaves what the server has for this machine now as the node does that fetched it: for the next boot from its disk.
///
/// # Panics
/// When it cannot be written.
pub fn stage(setup: &Setup, server: &Server) {
    put(setup, serde_json::to_vec(&server.to_be_staged(&setup.mac())).expect("a staged config"));
}

/// Leaves a staged config whose erasure a power cut ended: zeros, and a rest.
///
/// # Panics
/// When it cannot be written.
pub fn half_erase(setup: &Setup) {
    put(setup, [&[0; 512], b"secret" as &[u8]].concat());
}

fn put(setup: &Setup, staged: Vec<u8>) {
    let partition = State::of(&setup.disk_paths()[0]);
    partition.write(state::STAGED, &staged);
    assert_eq!(partition.read(state::STAGED), Some(staged), "it was not written");
}

/// Takes away what [`fill`] has left.
pub fn make_room(setup: &Setup) {
    let partition = State::of(&setup.disk_paths()[0]);
    let _ = partition.debugfs(&["-w", "-R", &format!("rm /{FILLER}")]);
}

/// Leaves room for this many blocks of 4096 bytes on this machine's state partition.
///
/// # Panics
/// When it cannot be filled.
pub fn fill(setup: &Setup, blocks: u64) {
    let partition = State::of(&setup.disk_paths()[0]);
    partition.write(FILLER, b"x");
    let free = partition.free_blocks();
    let _ = partition.debugfs(&["-w", "-R", &format!("fallocate /{FILLER} 0 {}", free - blocks)]);
    assert!(partition.free_blocks() <= blocks, "it is not full");
}

/// Whether a file with a config for the next boot, or with what is left of one, is on this machine's disk.
#[must_use]
pub fn is_staged(setup: &Setup) -> bool {
    State::of(&setup.disk_paths()[0]).read(state::STAGED).is_some()
}

/// The file system, in the form that e2fsprogs takes: `FILE?offset=BYTES`.
struct State(String);

impl State {
    /// As a machine has left it that was shut down: e2fsprogs 1.47 cannot replay a journal at an offset.
    fn of(disk: &Path) -> Self {
        let image = format!("{}?offset={}", disk.display(), partition_start(disk, STATE.label));
        let _ = run(Command::new("e2fsck").args(["-p", &image]));
        Self(image)
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        let copy = scratch();
        let output = self.debugfs(&["-R", &format!("dump /{path} {}", copy.1.display())]);
        // It ends with success whatever the command came to.
        let missing = String::from_utf8_lossy(&output.stderr).contains("File not found");
        (!missing).then(|| std::fs::read(&copy.1).expect("the file of the state partition"))
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let copy = scratch();
        std::fs::write(&copy.1, bytes).expect("a file");
        let _ = self.debugfs(&["-w", "-R", &format!("rm /{path}")]);
        let _ = self.debugfs(&["-w", "-R", &format!("write {} /{path}", copy.1.display())]);
    }

    fn free_blocks(&self) -> u64 {
        let stats = self.debugfs(&["-R", "show_super_stats -h"]);
        let stats = String::from_utf8_lossy(&stats.stdout).into_owned();
        let line = stats.lines().find_map(|line| line.strip_prefix("Free blocks:"));
        line.and_then(|number| number.trim().parse().ok()).expect("its free blocks")
    }

    fn debugfs(&self, arguments: &[&str]) -> Output {
        run(Command::new("debugfs").args(arguments).arg(&self.0))
    }
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("file");
    (dir, path)
}

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    output
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

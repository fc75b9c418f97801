//! What `tatara-node` knows about the node it runs on.

pub(crate) mod bless;
mod console;
mod grubenv;
mod health;
mod history;
pub(crate) mod images;
pub(crate) mod join;
pub(crate) mod kubelet;
mod lock;
pub(crate) mod reinstall;
pub(crate) mod stage;
pub(crate) mod status;
mod svg;
mod system;
mod systemd;
mod table;
pub(crate) mod timeline;
pub(crate) mod tuning;
mod web;

use serde::de::DeserializeOwned;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tatara_installer::StateMount;
use tatara_spec::cmdline::{self, CommandLine};
use tatara_spec::config::{self, NodeConfig};
use tatara_spec::layout::{run, state};
use tatara_spec::record::BootRecord;
use tatara_spec::release::{Runtime, Versions};
use tatara_spec::{Code, Fault, layout};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Format {
    pub(crate) fn new(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }
}

/// Where the node's files are; the root is another one in tests.
#[derive(Debug)]
pub(crate) struct Node {
    root: PathBuf,
}

impl Node {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// A path of [`run`].
    fn run(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// A path of [`state`], which are relative to /var.
    fn state(&self, path: &str) -> PathBuf {
        self.root.join("var").join(path)
    }

    /// The state partition, which is /var.
    fn state_partition(&self) -> StateMount {
        StateMount::at(self.root.join("var"))
    }

    /// The command line of the kernel that runs.
    fn command_line(&self) -> Result<CommandLine, Fault> {
        let path = self.run("/proc/cmdline");
        let line = fs::read_to_string(&path)
            .map_err(|error| Fault::caused(Code::Sys, format!("read {}", path.display()), error))?;
        cmdline::parse(&line)
    }

    /// Everything that anybody has written to the state partition is on its disk after this (syncfs(2)).
    fn sync_state(&self) -> Result<(), Fault> {
        let path = self.root.join("var");
        let synced = fs::File::open(&path).and_then(|directory| Ok(rustix::fs::syncfs(directory)?));
        synced.map_err(|error| Fault::caused(Code::NodeState, format!("sync {}", path.display()), error))
    }

    /// The record of this boot, which every tatara boot has.
    fn boot(&self) -> Result<BootRecord, Fault> {
        let path = self.run(run::BOOT);
        read_json(&path)?.ok_or_else(|| {
            Fault::new(
                Code::NodeState,
                format!("{} is missing: this system was not booted by tatara", path.display()),
            )
        })
    }

    /// The config that this boot was rendered from. Only root may read it.
    fn config(&self) -> Result<NodeConfig, Fault> {
        let path = self.state(state::CONFIG);
        let bytes = fs::read(&path)
            .map_err(|error| Fault::caused(Code::NodeState, format!("read {}", path.display()), error))?;
        config::parse("accepted config", &bytes).map_err(|diagnostics| config::to_fault(&diagnostics))
    }

    /// What the root has for Kubernetes.
    fn versions(&self) -> Result<Versions, Fault> {
        Ok(read_json(&self.run(layout::VERSIONS))?.unwrap_or_default())
    }

    /// The container runtime of the root.
    fn runtime(&self) -> Result<Runtime, Fault> {
        let none = || Fault::new(Code::KubernetesPayload, "the release has no container runtime");
        self.versions()?.runtime()?.map(|(runtime, _)| runtime).ok_or_else(none)
    }

    /// The kernel that runs it.
    pub(crate) fn kernel(&self) -> tuning::Live {
        tuning::Live::new(self.root.clone())
    }

    /// Where the timelines of earlier boots are kept.
    fn history(&self) -> PathBuf {
        self.state(state::TIMELINE_DIR)
    }
}

/// A JSON file, `None` when there is no such file.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Fault> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::caused(Code::NodeState, format!("read {}", path.display()), error)),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| Fault::caused(Code::NodeState, format!("parse {}", path.display()), error))
}

/// Writes a file that everybody may read so that it is there whole or not at all, also after a power cut.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    write_whole(path, bytes, 0o644)
}

/// The same for a file with this mode.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Fault> {
    let write = || -> std::io::Result<()> {
        let directory = path.parent().ok_or(ErrorKind::InvalidInput)?;
        fs::create_dir_all(directory)?;
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(".new");
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        fs::File::open(directory)?.sync_all()
    };
    write().map_err(|error| Fault::caused(Code::NodeState, format!("write {}", path.display()), error))
}

/// Pretty JSON on standard output.
fn print_json(value: &impl serde::Serialize) -> Result<(), Fault> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| Fault::caused(Code::Internal, "write JSON", error))?;
    print(&format!("{text}\n"))
}

/// Text on standard output. A reader that went away (`| head`) is no failure.
fn print(text: &str) -> Result<(), Fault> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Fault::caused(Code::Sys, "write standard output", error))
        }
        _ => Ok(()),
    }
}

//! Whether a config can be what a node boots with, as far as that can be known without its root: for PID 1 before it accepts one, and for
//! the node before it stages one.

use crate::render::{self, BaseFiles, Input};
use crate::{kernel, topology};
use std::collections::BTreeMap;
use std::path::Path;
use tatara_installer::install;
use tatara_spec::cmdline::{self, CommandLine};
use tatara_spec::config::NodeConfig;
use tatara_spec::cpu;
use tatara_spec::release::{Archives, Release};
use tatara_spec::slot::{self, Slot};
use tatara_spec::{Code, Fault};

/// What else a slot's command line can get, in bytes: `BOOT_IMAGE=/slot-a/vmlinuz`, a one-shot `tatara.refresh`, `tatara.esp=GUID`.
const GRUB_ADDS_BYTES: usize = 96;
/// In place of the machine id when files are only rendered to see whether they can be.
const ANY_MACHINE_ID: &str = "00000000000000000000000000000000";

/// A config that may become a node's.
#[derive(Clone, Copy)]
pub struct Candidate<'a> {
    /// The config.
    pub config: &'a NodeConfig,
    /// SSH keys that were fetched for it: URL to keys.
    pub keys: &'a BTreeMap<String, Vec<String>>,
    /// The release that it names, where it was fetched.
    pub release: Option<&'a Release>,
}

/// The node's kernel arguments: those of its config, and those that it keeps from the command line it runs with.
///
/// # Errors
/// `E-CPU-*` of its isolation; [`Code::Render`] of an argument that is none; [`Code::Sys`].
pub fn node_args(config: &NodeConfig, line: &CommandLine, sys: &Path) -> Result<Vec<String>, Fault> {
    let mut args = cmdline::carried(line);
    args.extend(kernel::arguments(config, &cpu::split(&config.tuning, &topology(sys)?)?)?);
    Ok(args)
}

/// Refuses what would be refused when the node is entered: a config that cannot be rendered must neither replace a system that works nor
/// become the accepted one. `line` is the running command line, `sys` is `/sys`.
///
/// # Errors
/// As [`node_args`]; [`Code::CmdlineBad`], [`Code::Render`], [`Code::KubernetesPayload`], [`Code::ImageRelease`].
pub fn rehearse(candidate: &Candidate<'_>, line: &CommandLine, sys: &Path) -> Result<(), Fault> {
    let Candidate { config, keys, release } = *candidate;
    let args = node_args(config, line, sys)?;
    slot::node_cfg(&args)?;
    let bytes = install::kexec_line(Slot::A, &args).len() + GRUB_ADDS_BYTES;
    if bytes >= kernel::COMMAND_LINE_SIZE {
        let most = kernel::COMMAND_LINE_SIZE - 1;
        let why = format!("the node's kernel command line would have {bytes} bytes; the kernel takes {most}");
        return Err(Fault::new(Code::CmdlineBad, why));
    }
    let input = Input {
        config,
        cpu: &cpu::split(&config.tuning, &topology(sys)?)?,
        fetched_keys: keys,
        machine_id: ANY_MACHINE_ID,
        base: &BaseFiles::default(),
        // A release that was fetched says what its root has, so that one without Kubernetes is refused before it is installed.
        versions: release.map(|release| &release.versions),
    };
    render::render(&input)?;
    // What a slot has whose release was not fetched, `tatara-node images` sees: a node must be able to fall back to it.
    let Some(release) = release else { return Ok(()) };
    Archives::of(release).check(config)
}

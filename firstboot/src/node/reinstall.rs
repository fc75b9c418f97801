//! `tatara-node reinstall`: asks the next boot to fetch config and release.

use super::{Node, grubenv, print};
use std::process::ExitCode;
use tatara_spec::Fault;
use tatara_spec::slot::BootEnv;

/// The kernel argument that makes a disk boot fetch the config (`tatara_spec::cmdline`); GRUB passes it on once.
const REFRESH: &str = "tatara.refresh";

/// Whether somebody said yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Consent {
    /// Do it.
    Given,
    /// Only say what would happen.
    Missing,
}

impl Consent {
    pub(crate) fn new(yes: bool) -> Self {
        if yes { Self::Given } else { Self::Missing }
    }
}

pub(crate) fn run(node: &Node, consent: Consent) -> Result<ExitCode, Fault> {
    let boot = node.boot()?;
    if consent == Consent::Given {
        grubenv::update(node, &boot.disk, |env| BootEnv {
            request: Some(REFRESH.to_owned()),
            ..env.clone()
        })?;
    }
    let done = match consent {
        Consent::Given => "The next boot fetches",
        Consent::Missing => "With --yes, the next boot would fetch",
    };
    print(&format!(
        "{done} this node's config and its release before it decides:\n  \
         install.generation raised       everything on {disk} is written anew, the state partition too\n  \
         install.release changed         the release goes to slot {other}, state is kept\n  \
         neither                         it boots as now, with the new config\n\
         Until then nothing changes. Reboot the node when it may go.\n",
        disk = boot.disk,
        other = boot.slot.other(),
    ))?;
    Ok(ExitCode::SUCCESS)
}

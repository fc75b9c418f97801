//! What becomes of a config that the node fetched while it ran, at the next boot from its disk.

use super::{Content, Desired, Disk, Installed, Plan, Request, plan};
use crate::config::NodeConfig;
use crate::error::{Code, Fault};
use crate::record::InstallRecord;
use crate::slot::Slot;

/// The answer.
#[derive(Debug)]
pub enum Staged {
    /// The node boots with it and accepts it, without any network.
    Use,
    /// It asks for more than a boot, in words: config and release are fetched.
    Fetch(String),
    /// It stays where it is, in words why; this boot is the accepted config's.
    Wait(String),
    /// It must not be used; this boot is the accepted config's.
    Refuse(Fault),
}

/// Decides. `desired` has the staged config and the release that it named when it was staged.
///
/// Never a refusal of the boot: the node has a config that it booted with before.
#[must_use]
pub fn staged(desired: Desired<'_>, disks: &[Disk], request: &Request) -> Staged {
    let verdicts: Vec<_> =
        installed(disks).map(|(_, installed)| may_follow(desired.config, &installed.record)).collect();
    if verdicts.iter().all(Result::is_err) {
        let none = || Fault::new(Code::DiskNone, "no disk holds an installed node");
        return Staged::Refuse(verdicts.into_iter().find_map(Result::err).unwrap_or_else(none));
    }
    match plan(Some(desired), disks, request) {
        Plan::Install(target) | Plan::Reinstall(target) | Plan::Upgrade(target) => {
            Staged::Fetch(target.reason)
        }
        Plan::Refuse(fault) => Staged::Refuse(fault),
        Plan::Boot(target) => {
            let there = installed(disks).find(|(disk, _)| disk.path == target.disk);
            match there.filter(|(_, installed)| is_on_trial(installed, target.slot)) {
                Some(_) => Staged::Wait(format!(
                    "slot {} is on trial, which shall judge the release and not another config",
                    target.slot
                )),
                None => Staged::Use,
            }
        }
    }
}

/// Refuses a config that must not follow the accepted one: another node's, or an older one.
///
/// # Errors
/// [`Code::DiskOtherNode`], [`Code::ConfigSerial`].
pub fn may_follow(config: &NodeConfig, record: &InstallRecord) -> Result<(), Fault> {
    let (name, found) = (&config.metadata.name, config.metadata.serial);
    if *name != record.node {
        let message = format!("the config is `{name}`'s, and this node is `{}`", record.node);
        return Err(Fault::new(Code::DiskOtherNode, message));
    }
    if found < record.serial {
        let message =
            format!("the config's `metadata.serial` is {found}; `{name}` accepted {} before", record.serial);
        return Err(Fault::new(Code::ConfigSerial, message));
    }
    let generation = config.install.generation;
    if generation < record.generation {
        let message = format!(
            "the config's `install.generation` is {generation}, lower than the installed {}: it would change nothing",
            record.generation
        );
        return Err(Fault::new(Code::ConfigSerial, message));
    }
    Ok(())
}

fn installed(disks: &[Disk]) -> impl Iterator<Item = (&Disk, &Installed)> {
    disks.iter().filter(|disk| !disk.boot_medium).filter_map(|disk| match &disk.content {
        Content::Installed(installed) => Some((disk, installed.as_ref())),
        _ => None,
    })
}

/// Whether the slot is on trial with another one to go back to. The first slot of an install has none: there is no verdict to keep
/// clean, and its config may be just what it needs.
fn is_on_trial(installed: &Installed, slot: Slot) -> bool {
    installed.env.slot != slot && installed.env.trial.is_some_and(|trial| trial.slot == slot)
}

//! The decision itself.
//!
//! Two rules carry it. *Nothing is laid out anew unless exactly one disk matches `install.disk`*, and that disk is empty, cut
//! off, ours with a lower generation, or foreign with `install.wipe: foreign`. *A node that is installed boots* unless its
//! config is refused: booting destroys nothing, so it needs no selector, and a disk added later or a selector that no longer
//! fits must not keep a healthy node down. A disk that holds a node of another name is not this node's: it is neither booted nor
//! reinstalled, and only `install.wipe: foreign` lets it be overwritten.

use super::describe::{content, survey};
use super::{Content, Desired, Disk, Installed, Origin, Plan, Request, Target, describe, matching};
use crate::config::{DiskSelector, NodeConfig, Wipe};
use crate::error::{Code, Fault};
use crate::layout;
use crate::size;
use crate::slot::Slot;

/// An installed disk of ours.
#[derive(Clone, Copy)]
struct Ours<'a> {
    disk: &'a Disk,
    installed: &'a Installed,
}

/// Decides. `disks` are all disks of the machine, in any order.
///
/// `desired` is `None` on a disk boot whose accepted config cannot be read; then only [`Plan::Boot`] is possible.
#[must_use]
pub fn plan(desired: Option<Desired<'_>>, disks: &[Disk], request: &Request) -> Plan {
    let decided = match (ours(desired, disks), desired) {
        (Err(fault), _) => Err(fault),
        (Ok(None), Some(desired)) => install(desired, disks),
        (Ok(None), None) => Err(Fault::new(
            Code::DiskNone,
            format!(
                "no disk holds an installed node, and there is no config to install one from\n{}",
                all(disks)
            ),
        )),
        (Ok(Some(ours)), None) => {
            boot(ours, request, "its accepted config could not be read, so it boots as it was installed")
        }
        (Ok(Some(ours)), Some(desired)) => installed(ours, desired, disks, request),
    };
    decided.unwrap_or_else(Plan::Refuse)
}

/// Why config and release must be fetched before [`plan`] can say the last word; `None` when a disk boot can go on without
/// the network. `config` is the accepted one; what a staged one asks for, [`super::staged`] says.
#[must_use]
pub fn needs_network(config: Option<&NodeConfig>, disks: &[Disk], request: &Request) -> Option<String> {
    if request.origin != Origin::Disk {
        return Some("the machine was booted from network or USB".to_owned());
    }
    if request.refresh {
        return Some("tatara.refresh asks for it".to_owned());
    }
    let desired = config.map(|config| Desired { config, release: None });
    match (ours(desired, disks), config) {
        (Ok(Some(ours)), Some(config)) if config.install.generation > ours.installed.record.generation => {
            Some(format!("install.generation was raised to {}", config.install.generation))
        }
        (Ok(None), _) => Some("no disk holds an installed node".to_owned()),
        (Ok(Some(_)) | Err(_), _) => None,
    }
}

/// Whether a disk holds another node.
fn holds_other_node(config: &NodeConfig, disk: &Disk) -> bool {
    matches!(&disk.content, Content::Installed(installed) if installed.record.node != config.metadata.name)
}

/// The one disk that holds this node. Of several the one that the selector matches; if that is not one, it is anybody's guess.
fn ours<'a>(desired: Option<Desired<'_>>, disks: &'a [Disk]) -> Result<Option<Ours<'a>>, Fault> {
    let candidates: Vec<Ours<'a>> = disks
        .iter()
        .filter(|disk| !disk.boot_medium)
        .filter(|disk| desired.is_none_or(|desired| !holds_other_node(desired.config, disk)))
        .filter_map(|disk| match &disk.content {
            Content::Installed(installed) => Some(Ours { disk, installed: installed.as_ref() }),
            _ => None,
        })
        .collect();
    if candidates.len() < 2 {
        return Ok(candidates.first().copied());
    }
    let matched: Vec<Ours<'a>> = match desired {
        Some(desired) => {
            let matched = matching(&desired.config.install.disk, disks);
            candidates
                .iter()
                .filter(|ours| matched.iter().any(|disk| disk.path == ours.disk.path))
                .copied()
                .collect()
        }
        None => Vec::new(),
    };
    match matched.as_slice() {
        [one] => Ok(Some(*one)),
        _ => Err(Fault::new(
            Code::DiskAmbiguous,
            format!(
                "{} disks hold an installed node, and `install.disk` does not single one out\n{}",
                candidates.len(),
                all(disks)
            ),
        )),
    }
}

fn all(disks: &[Disk]) -> String {
    survey(&DiskSelector::default(), disks)
}

/// No disk holds a node: install, if there is exactly one place for it and a release to install.
fn install(desired: Desired<'_>, disks: &[Disk]) -> Result<Plan, Fault> {
    if desired.release.is_none() {
        let moved = disks.iter().find(|disk| !disk.boot_medium && holds_other_node(desired.config, disk));
        if let Some(disk) = moved {
            return Err(not_this_node(desired.config, disk));
        }
        let message = format!(
            "no disk holds an installed node, and no release is known to install one\n{}",
            all(disks)
        );
        return Err(Fault::new(Code::DiskNone, message));
    }
    let disk = only_match(desired.config, disks)?;
    usable(desired.config, disk)?;
    Ok(Plan::Install(Target {
        disk: disk.path.clone(),
        slot: Slot::A,
        reason: format!("{}, and it is the only disk that `install.disk` matches", content(disk)),
    }))
}

fn only_match<'a>(config: &NodeConfig, disks: &'a [Disk]) -> Result<&'a Disk, Fault> {
    let selector = &config.install.disk;
    match matching(selector, disks).as_slice() {
        [one] => Ok(one),
        [] => {
            let message = format!("no disk matches `install.disk`\n{}", survey(selector, disks));
            Err(Fault::new(Code::DiskNone, message))
        }
        several => {
            let message =
                format!("{} disks match `install.disk`\n{}", several.len(), survey(selector, disks));
            Err(Fault::new(Code::DiskAmbiguous, message))
        }
    }
}

fn not_this_node(config: &NodeConfig, disk: &Disk) -> Fault {
    let name = &config.metadata.name;
    let message = format!("{}: {}, but the config is `{name}`'s", describe(disk), content(disk));
    Fault::new(Code::DiskOtherNode, message)
}

/// Whether a disk may and can be laid out anew.
fn usable(config: &NodeConfig, disk: &Disk) -> Result<(), Fault> {
    let refuse = |code, why: String| Err(Fault::new(code, format!("{}: {why}", describe(disk))));
    match &disk.content {
        Content::Unreadable(cause) => refuse(Code::DiskRead, format!("it cannot be read: {cause}")),
        _ if disk.read_only => refuse(Code::DiskReadOnly, "it is write-protected".to_owned()),
        _ if disk.bytes < layout::DISK_MIN_BYTES => {
            let (min, text) = (layout::DISK_MIN_BYTES, size::display(layout::DISK_MIN_BYTES));
            refuse(Code::DiskSmall, format!("it has {} bytes; {min} ({text}) are needed", disk.bytes))
        }
        _ if config.install.wipe != Wipe::Foreign && holds_other_node(config, disk) => {
            Err(not_this_node(config, disk))
        }
        Content::Foreign(_) if config.install.wipe != Wipe::Foreign => {
            refuse(Code::DiskForeign, format!("{}, and `install.wipe` is `never`", content(disk)))
        }
        Content::Foreign(_) | Content::Empty | Content::Interrupted | Content::Installed(_) => Ok(()),
    }
}

/// A disk holds this node: what does the config ask for?
fn installed(ours: Ours<'_>, desired: Desired<'_>, disks: &[Disk], request: &Request) -> Result<Plan, Fault> {
    let (record, config) = (&ours.installed.record, desired.config);
    if config.metadata.serial < record.serial {
        let (found, last) = (config.metadata.serial, record.serial);
        let message = format!(
            "the config's `metadata.serial` is {found}; {} accepted {last} before",
            describe(ours.disk)
        );
        return Err(Fault::new(Code::ConfigSerial, message));
    }
    let (wanted, have) = (config.install.generation, record.generation);
    match (wanted.cmp(&have), desired.release) {
        (std::cmp::Ordering::Greater, Some(_)) => reinstall(ours, config, disks),
        (std::cmp::Ordering::Greater, None) => boot(
            ours,
            request,
            &format!(
                "`install.generation` {wanted} asks for a reinstall over {have}, which needs a boot from network or USB, or `tatara.refresh`"
            ),
        ),
        // An older file whose serial nobody maintained: it asks for nothing that could be done, and a release that it names is
        // probably older too. Boot, write nothing, and say so.
        (std::cmp::Ordering::Less, _) => boot(
            ours,
            request,
            &format!(
                "the config's `install.generation` {wanted} is lower than the installed {have}; nothing is changed"
            ),
        ),
        (std::cmp::Ordering::Equal, None) => boot(ours, request, &format!("generation {have} is installed")),
        (std::cmp::Ordering::Equal, Some(release)) => upgrade(ours, release, request),
    }
}

/// The generation was raised: onto the disk that matches, which may be a new one; an old install elsewhere is left alone.
fn reinstall(ours: Ours<'_>, config: &NodeConfig, disks: &[Disk]) -> Result<Plan, Fault> {
    let disk = only_match(config, disks)?;
    usable(config, disk)?;
    let (wanted, have) = (config.install.generation, ours.installed.record.generation);
    let reason = format!("`install.generation` was raised from {have} to {wanted}");
    if disk.path == ours.disk.path {
        return Ok(Plan::Reinstall(Target { disk: disk.path.clone(), slot: Slot::A, reason }));
    }
    let reason = format!("{reason}, and `install.disk` now matches this disk, not {}", ours.disk.path);
    Ok(Plan::Install(Target { disk: disk.path.clone(), slot: Slot::A, reason }))
}

/// The generation is the installed one: is the release, too?
fn upgrade(ours: Ours<'_>, release: &str, request: &Request) -> Result<Plan, Fault> {
    let Installed { record, env } = ours.installed;
    let holds = |slot: Slot| record.slots.get(&slot).is_some_and(|slot| slot.release == release);
    let active = active(ours, request)?;
    if holds(active) {
        return boot(
            ours,
            request,
            &format!("generation {} and release {release} are installed", record.generation),
        );
    }
    if let Some(failed) = env.fallen_back().filter(|slot| holds(*slot)) {
        let why = format!(
            "release {release} was not blessed in slot {failed} and is not tried again; name another release or raise `install.generation`"
        );
        return boot(ours, request, &why);
    }
    if ours.disk.read_only {
        let message =
            format!("{}: it is write-protected, so release {release} cannot be written", describe(ours.disk));
        return Err(Fault::new(Code::DiskReadOnly, message));
    }
    let Some(kept) = way_back(ours.installed, active, request) else {
        let why = format!(
            "release {release} is not written now: slot {active} runs, and whether slot {} still works is not known until this boot is blessed or given up",
            active.other()
        );
        return boot(ours, request, &why);
    };
    let found = record.slots.get(&active).map_or("none", |slot| slot.release.as_str());
    Ok(Plan::Upgrade(Target {
        disk: ours.disk.path.clone(),
        slot: kept.other(),
        reason: format!("release {found} is installed, the config names {release}"),
    }))
}

/// The slot that an upgrade must leave as it is, because it is known to work; `None` when that cannot be told.
///
/// GRUB boots the blessed slot when the one on trial cannot be loaded, and the other way round. So a running slot that is neither
/// blessed nor on trial runs because the blessed one cannot be loaded.
fn way_back(installed: &Installed, active: Slot, request: &Request) -> Option<Slot> {
    let Installed { record, env } = installed;
    if active == env.slot || !record.slots.contains_key(&env.slot) {
        return Some(active);
    }
    match env.trial.filter(|trial| trial.slot == active) {
        // The blessed slot was passed over for the trial: nothing is wrong with it.
        Some(trial) if trial.boots_left > 0 => Some(env.slot),
        // The trial's last boot, or GRUB's way out of a blessed slot that cannot be loaded: these look the same.
        Some(_) if request.origin == Origin::Disk => None,
        _ => Some(active),
    }
}

fn boot(ours: Ours<'_>, request: &Request, why: &str) -> Result<Plan, Fault> {
    let slot = active(ours, request)?;
    let mut reason = why.to_owned();
    if let Some(failed) = ours.installed.env.fallen_back() {
        reason.push_str(&format!("; slot {failed} was not blessed in time ({})", Code::SlotFallback));
    }
    Ok(Plan::Boot(Target { disk: ours.disk.path.clone(), slot, reason }))
}

/// The slot that boots: GRUB's choice on a disk boot, the one that GRUB would choose otherwise; the other one when that is
/// empty.
fn active(ours: Ours<'_>, request: &Request) -> Result<Slot, Fault> {
    let Installed { record, env } = ours.installed;
    let grubs = request.slot.filter(|_| request.origin == Origin::Disk);
    let chosen = grubs.unwrap_or_else(|| env.chosen());
    [chosen, env.slot, env.slot.other()].into_iter().find(|slot| record.slots.contains_key(slot)).ok_or_else(
        || {
            let message = format!("{}: its record names no slot with a release", describe(ours.disk));
            Fault::new(Code::RootMount, message)
        },
    )
}

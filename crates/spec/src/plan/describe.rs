//! Disks and plans in words, for consoles.

use super::{Content, Disk, Plan, mismatch};
use crate::config::DiskSelector;
use crate::size;

/// A disk on one line: path, size, model, serial, transport.
#[must_use]
pub fn describe(disk: &Disk) -> String {
    let mut text = format!("{} {}", disk.path, size::display(disk.bytes));
    if let Some(model) = &disk.model {
        text.push_str(&format!(" `{model}`"));
    }
    if let Some(serial) = &disk.serial {
        text.push_str(&format!(" serial {serial}"));
    }
    if let Some(transport) = &disk.transport {
        text.push_str(&format!(" ({transport})"));
    }
    text
}

/// What a disk holds, in words.
pub(super) fn content(disk: &Disk) -> String {
    match &disk.content {
        Content::Empty => "it is empty".to_owned(),
        Content::Installed(installed) => {
            let record = &installed.record;
            format!("it holds node `{}`, generation {}", record.node, record.generation)
        }
        Content::Interrupted => "it holds an install that was cut off".to_owned(),
        Content::Foreign(found) if found.is_empty() => "it holds something that is not ours".to_owned(),
        Content::Foreign(found) => format!("it holds {}", found.join(", ")),
        Content::Unreadable(cause) => format!("it cannot be read ({cause})"),
    }
}

/// Every disk with why it is no candidate, or what it holds; one line each, or a sentence when there is none.
pub(super) fn survey(selector: &DiskSelector, disks: &[Disk]) -> String {
    if disks.is_empty() {
        return "no disk was found at all".to_owned();
    }
    let line = |disk: &Disk| {
        format!("{}: {}", describe(disk), mismatch(selector, disk).unwrap_or_else(|| content(disk)))
    };
    disks.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// What will happen to each disk and why: one line a disk, the plan's own first. Printed before anything is written.
#[must_use]
pub fn wipe_plan(plan: &Plan, disks: &[Disk], selector: &DiskSelector) -> Vec<String> {
    let (target, action) = match plan {
        Plan::Install(target) => (Some(target), "EVERYTHING ON IT IS OVERWRITTEN".to_owned()),
        Plan::Reinstall(target) => {
            (Some(target), "EVERYTHING ON IT IS OVERWRITTEN, its state too".to_owned())
        }
        Plan::Upgrade(target) => {
            (Some(target), format!("slot {} is overwritten, state is kept", target.slot))
        }
        Plan::Boot(target) => {
            (Some(target), format!("slot {} is booted, nothing is overwritten", target.slot))
        }
        Plan::Refuse(_) => (None, String::new()),
    };
    let is_target = |disk: &&Disk| target.is_some_and(|target| target.disk == disk.path);
    let mut lines = Vec::new();
    for disk in disks.iter().filter(is_target) {
        let reason = target.map(|target| target.reason.as_str()).unwrap_or_default();
        // An empty disk is the reason itself.
        let lost = if disk.content == Content::Empty { String::new() } else { content(disk) + "; " };
        lines.push(format!("{}: {action}: {lost}{reason}", describe(disk)));
    }
    for disk in disks.iter().filter(|disk| !is_target(disk)) {
        let why = mismatch(selector, disk).unwrap_or_else(|| content(disk));
        let mut line = format!("{}: not touched: {why}", describe(disk));
        if matches!((&disk.content, plan), (Content::Installed(_), Plan::Install(_))) {
            line.push_str("; it holds an install too, which the firmware may prefer: wipe or remove it");
        }
        lines.push(line);
    }
    lines
}

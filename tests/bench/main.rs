//! `make bench`: beside what one would use instead, in one run on one machine; a table, and `result.json`.

mod boot;
mod by_hand;
mod figures;
mod install;
mod memory;
mod ready;
mod size;
mod tools;
mod tuning;
mod udev;

use anyhow::{Context as _, Result, bail};
use figures::Figures;
use std::path::PathBuf;

/// The parts, in their order; all of them without further arguments.
const PARTS: [&str; 6] = ["size", "install", "boot", "memory", "tuning", "ready"];

fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let output =
        PathBuf::from(args.next().context("usage: bench OUTPUT [size|install|boot|memory|tuning|ready]...")?);
    let parts: Vec<String> = args.collect();
    if let Some(unknown) = parts.iter().find(|part| !PARTS.contains(&part.as_str())) {
        bail!("no part `{unknown}`; there are {PARTS:?}");
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let release = support::release::debian();
    let mut figures = Figures::default();

    tools::say(
        "rivals: initramfs-tools and dracut with the release's kernel, coreos-installer from crates.io",
    );
    let rivals = tools::Rivals::prepare(&release)?;
    if wanted("size") {
        tools::say("sizes");
        size::measure(&mut figures, &release, &rivals)?;
    }
    if wanted("install") {
        tools::say("installs of the same image onto the same device");
        install::measure(&mut figures, &release, &rivals, scratch.path())?;
    }
    if wanted("boot") {
        tools::say("boots of the same root, kernel and machine");
        boot::measure(&mut figures, &release, &rivals)?;
    }
    if wanted("memory") {
        tools::say("the lowest memory that installs");
        memory::measure(&mut figures)?;
    }
    if wanted("tuning") {
        tools::say("isolated CPUs: untouched, ours, tuned");
        tuning::measure(&mut figures)?;
    }
    if wanted("ready") {
        tools::say("power-on to Ready: a machine that installs itself, and one that is made a node by hand");
        ready::measure(&mut figures, &rivals)?;
    }
    figures.write(&output)?;
    print!("{}", figures.table());
    Ok(())
}

//! `make bench`: beside what one would use instead, in one run on one machine; a table, and `result.json`.

mod boot;
mod figures;
mod install;
mod memory;
mod size;
mod tools;

use anyhow::{Context as _, Result};
use figures::Figures;
use std::path::PathBuf;

fn main() -> Result<()> {
    let output = PathBuf::from(std::env::args().nth(1).context("usage: bench OUTPUT")?);
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
    let release = support::release::debian();
    let mut figures = Figures::default();

    tools::say(
        "rivals: initramfs-tools and dracut in a Debian root of their own, coreos-installer from crates.io",
    );
    let rivals = tools::Rivals::prepare()?;
    tools::say("sizes");
    size::measure(&mut figures, &release, &rivals)?;
    tools::say("installs of the same image onto the same device");
    install::measure(&mut figures, &release, &rivals, scratch.path())?;
    tools::say("boots of the same root, kernel and machine");
    boot::measure(&mut figures, &release, &rivals)?;
    tools::say("the lowest memory that installs");
    memory::measure(&mut figures)?;

    figures.write(&output)?;
    print!("{}", figures.table());
    Ok(())
}

//! Sizes: initramfs and PID 1.

use crate::figures::Figures;
use crate::tools::{Rivals, bytes};
use anyhow::Result;
use std::path::Path;

/// The budget of PID 1 (design.md); no rival has one program that does all of it.
const INIT_BUDGET: f64 = 5.0 * 1024.0 * 1024.0;

pub(crate) fn measure(figures: &mut Figures, release: &Path, rivals: &Rivals) -> Result<()> {
    let ours = bytes(&release.join("initramfs.zst"))?;
    figures.add("initramfs.bytes.initramfs_tools", ours, bytes(&rivals.initramfs_tools)?, "bytes", 1);
    figures.add("initramfs.bytes.dracut", ours, bytes(&rivals.dracut)?, "bytes", 1);
    figures.add("init.bytes", bytes(&support::release::appliance("tatara-init"))?, INIT_BUDGET, "bytes", 1);
    Ok(())
}

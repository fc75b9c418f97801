//! `tatara image usb`: a stick that boots a machine into the installer, on BIOS and UEFI.

use anyhow::{Context as _, Result};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// The USB image's name in a release.
pub const FILE: &str = "usb.img";

/// Options of `tatara image usb`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Release to put on it
    #[arg(long, value_name = "DIR")]
    pub release: PathBuf,
    /// Image file to write
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Kernel arguments to fill in, such as `tatara.config=URL tatara.ca=PIN`
    #[arg(long, value_name = "ARGUMENTS", default_value = "")]
    pub args: String,
}

/// Writes a stick's image.
///
/// # Errors
/// The release lacks a file, or the output cannot be written.
pub fn run(options: &Options) -> Result<()> {
    write(&options.release, &options.output, &options.args)
}

/// Writes the image beside its place and renames it, so that there is never half an image.
pub(crate) fn write(release: &Path, output: &Path, args: &str) -> Result<()> {
    let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let partial = output.with_file_name(format!(".{name}.partial"));
    let failed = || format!("cannot write {}", partial.display());
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&partial)
        .with_context(failed)?;
    let built = tatara_installer::usb::build(&mut file, release, args)
        .context("cannot build the USB image")
        .and_then(|_| file.sync_all().with_context(failed))
        .and_then(|()| {
            std::fs::rename(&partial, output)
                .with_context(|| format!("cannot rename {} to {}", partial.display(), output.display()))
        });
    if built.is_err() {
        std::fs::remove_file(&partial).ok();
    }
    built
}

//! `tatara image write`: a release's disk image onto a device or file, by the code that installs nodes.

use anyhow::{Context as _, Result};
use std::fs::File;
use std::path::PathBuf;
use tatara_disk::stream::{self, Options as Writing};
use tatara_installer::{Access, Disk};
use tatara_spec::release::{Release, artifact};

/// What to write where.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// Directory of the release
    #[arg(long, value_name = "DIR")]
    pub release: PathBuf,
    /// The image, by its name in the release
    #[arg(long, value_name = "NAME", default_value = artifact::ROOT)]
    pub artifact: String,
    /// Block device or file to write to; everything on it is lost
    #[arg(long, value_name = "PATH")]
    pub to: PathBuf,
}

/// Writes the image, reads it back, and says how many bytes that were.
///
/// # Errors
/// The release or the device is not usable, or what was read back is not what was written.
pub fn run(options: &Options) -> Result<()> {
    let manifest = options.release.join("release.json");
    let text = std::fs::read(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
    let release = Release::parse(&text)?;
    let found = release.artifacts.get(&options.artifact).and_then(|artifact| artifact.image.as_ref());
    let image = found.with_context(|| format!("the release has no disk image `{}`", options.artifact))?;
    let packed = options.release.join(&options.artifact);
    let mut source = File::open(&packed).with_context(|| format!("cannot read {}", packed.display()))?;
    let disk = Disk::open(&options.to, Access::Write)?;
    let stats = stream::write_image(image, &mut source, &disk, Writing::default(), &|_| {})
        .with_context(|| format!("cannot write {} to {}", options.artifact, options.to.display()))?;
    println!("{} bytes written and read back, {} of them zeros", stats.verified_bytes, stats.zeroed_bytes);
    Ok(())
}

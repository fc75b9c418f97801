//! `tatara image verify`: is a release directory what its signed manifest says?

use super::release::{MANIFEST, SIGNATURE, SUMS, artifact};
use super::sign;
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use tatara_spec::release::Release;

/// Options of `tatara image verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    /// The release's directory
    pub directory: PathBuf,
    /// minisign public key file that must have signed it [default: the key that this machine signs with]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Checks signature, manifest and every file; gives the release.
///
/// # Errors
/// The signature is not the key's, or files are missing or differ: all of them are listed.
pub fn run(options: &Options) -> Result<Release> {
    let key = match &options.key {
        Some(path) => sign::read_public(path)?,
        None => sign::read_public(&sign::state_directory()?.join("release.pub"))
            .context("no key to check with; give one with --key FILE")?,
    };
    check(&options.directory, &key)
}

/// As [`run`], with the public key in base64.
///
/// # Errors
/// As [`run`].
pub fn check(directory: &Path, key: &str) -> Result<Release> {
    let read = |name: &str| {
        let path = directory.join(name);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let manifest = read(MANIFEST)?;
    let signature = String::from_utf8(read(SIGNATURE)?).context("the signature is not text")?;
    sign::verify(&manifest, &signature, key)
        .with_context(|| format!("{} is not signed by the key", directory.join(MANIFEST).display()))?;
    let release = Release::parse(&manifest)?;
    let mut faults = Vec::new();
    for (name, expected) in &release.artifacts {
        match artifact(&directory.join(name)) {
            Ok(found) if (found.bytes, found.sha256) == (expected.bytes, expected.sha256) => {}
            Ok(found) => faults.push(format!(
                "  {name}: {} bytes, SHA-256 {}, expected {} bytes, {}",
                found.bytes, found.sha256, expected.bytes, expected.sha256
            )),
            Err(error) => faults.push(format!("  {name}: {error:#}")),
        }
    }
    faults.extend(wrong_sums(directory, &String::from_utf8_lossy(&read(SUMS)?)));
    if !faults.is_empty() {
        bail!("{} is not the release of its manifest:\n{}", directory.display(), faults.join("\n"));
    }
    Ok(release)
}

/// Lines of SHA256SUMS whose file differs: it also covers what is no artifact of a node (USB image, iPXE script).
fn wrong_sums(directory: &Path, sums: &str) -> Vec<String> {
    let wrong = |line: &str| {
        let Some((digest, name)) = line.split_once("  ") else {
            return Some(format!("  {SUMS}: line `{line}` is not DIGEST  NAME"));
        };
        match artifact(&directory.join(name)) {
            Ok(found) if found.sha256.to_string() == digest => None,
            Ok(found) => Some(format!("  {name}: SHA-256 {}, {SUMS} has {digest}", found.sha256)),
            Err(error) => Some(format!("  {name}: {error:#}")),
        }
    };
    sums.lines().filter_map(wrong).collect()
}

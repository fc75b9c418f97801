//! Puts a release together: digests, manifest, signature, sums, and the rename that makes it appear as a whole.

use super::sign::Signer;
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use tatara_spec::release::{Artifact, Digest, Release};

/// The manifest's file name.
pub(crate) const MANIFEST: &str = "release.json";
/// The manifest's signature.
pub(crate) const SIGNATURE: &str = "release.json.sig";
/// Digests of every file, in sha256sum(1)'s form.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Bytes read at a time.
const BUFFER_BYTES: usize = 1 << 20;

/// Size and SHA-256 of a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn artifact(path: &Path) -> Result<Artifact> {
    let failed = || format!("cannot read {}", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut bytes = 0;
    loop {
        let count = file.read(&mut buffer).with_context(failed)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
    Ok(Artifact { bytes, sha256: Digest(hash.finalize().into()), image: None })
}

/// Writes manifest, signature and sums into a directory that has everything else.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn finish(directory: &Path, release: &Release, signer: &Signer) -> Result<()> {
    let json = release.to_json().context("the build made a manifest that no node would take")?.into_bytes();
    write(&directory.join(MANIFEST), &json)?;
    let comment = format!("tatara release {} epoch {}", release.id, release.build_epoch);
    write(&directory.join(SIGNATURE), signer.sign(&json, &comment)?.as_bytes())?;
    let mut sums = String::new();
    for path in files(directory)? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sums.push_str(&format!("{}  {name}\n", artifact(&path)?.sha256));
    }
    write(&directory.join(SUMS), sums.as_bytes())
}

/// The files of a directory, in order of name.
pub(crate) fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect::<std::io::Result<Vec<_>>>())
        .with_context(|| format!("cannot list {}", directory.display()))?;
    paths.sort();
    Ok(paths)
}

/// Writes a file of a release.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// A release directory in the making: a sibling of the output, so that a rename makes the release appear at once.
#[derive(Debug)]
pub(crate) struct Staging {
    directory: tempfile::TempDir,
    output: PathBuf,
}

impl Staging {
    /// Begins. An output that exists must be empty or a release, which is replaced at the end.
    ///
    /// # Errors
    /// The output is something else, or its parent cannot be written.
    pub(crate) fn new(output: &Path) -> Result<Self> {
        if output.exists() {
            let files = files(output)?;
            if !files.is_empty() && !output.join(MANIFEST).is_file() {
                bail!("{} exists and is no release: choose another directory or remove it", output.display());
            }
        }
        let parent = match output.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        let directory = tempfile::Builder::new()
            .prefix(".tatara-build-")
            .tempdir_in(parent)
            .with_context(|| format!("cannot make a directory in {}", parent.display()))?;
        Ok(Self { directory, output: output.to_owned() })
    }

    /// Where the release is written.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("release")
    }

    /// Where anything else may be written; it is removed at the end.
    pub(crate) fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Renames the release to its place.
    ///
    /// # Errors
    /// A rename failed; an earlier release is then back in its place.
    pub(crate) fn publish(self) -> Result<()> {
        let old = self.scratch().join("old");
        let failed = || format!("cannot put the release to {}", self.output.display());
        let replaced = self.output.exists();
        if replaced {
            fs::rename(&self.output, &old).with_context(failed)?;
        }
        if let Err(error) = fs::rename(self.path(), &self.output) {
            if replaced {
                fs::rename(&old, &self.output).with_context(failed)?;
            }
            return Err(error).with_context(failed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_appears_as_a_whole_and_replaces_only_a_release() {
        let work = tempfile::tempdir().unwrap();
        let output = work.path().join("deep/release");
        for round in ["one", "two"] {
            let staging = Staging::new(&output).unwrap();
            fs::create_dir(staging.path()).unwrap();
            write(&staging.path().join(MANIFEST), round.as_bytes()).unwrap();
            if round == "one" {
                assert!(!output.exists());
            }
            staging.publish().unwrap();
            assert_eq!(fs::read_to_string(output.join(MANIFEST)).unwrap(), round);
        }
        assert_eq!(
            files(output.parent().unwrap()).unwrap(),
            std::slice::from_ref(&output),
            "nothing is left over"
        );
        let other = work.path().join("documents");
        fs::create_dir(&other).unwrap();
        write(&other.join("letter"), b"dear").unwrap();
        assert!(Staging::new(&other).unwrap_err().to_string().contains("is no release"));
        assert!(other.join("letter").exists());
    }

    #[test]
    fn an_abandoned_build_leaves_nothing() {
        let work = tempfile::tempdir().unwrap();
        drop(Staging::new(&work.path().join("release")).unwrap());
        assert!(files(work.path()).unwrap().is_empty());
    }

    #[test]
    fn digest_is_sha256sums() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), b"abc").unwrap();
        let found = artifact(file.path()).unwrap();
        assert_eq!(found.bytes, 3);
        assert_eq!(
            found.sha256.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}

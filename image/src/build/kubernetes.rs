//! Kubernetes' programs in the payload: upstream's release, a directory's, or Debian's source package.

mod debian;
mod upstream;

use super::apt::Mirrors;
use super::bootstrap::Cache;
use super::command::Tool;
use super::rootfs;
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a node runs, and what a person on it uses.
const PROGRAMS: [&str; 3] = ["kubeadm", "kubectl", "kubelet"];

/// The container runtimes of a root; kubelet is of no use without one.
const RUNTIMES: [&str; 2] = ["usr/bin/containerd", "usr/bin/crio"];

/// The units that Kubernetes' own packages ship beside the programs.
const UNITS: [(&str, &str); 2] = [
    ("usr/lib/systemd/system/kubelet.service", include_str!("../../kubernetes/kubelet.service")),
    (
        "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf",
        include_str!("../../kubernetes/10-kubeadm.conf"),
    ),
];

/// What a node mounts writable places over: the root itself cannot be written to.
const MOUNT_POINTS: [&str; 2] = ["opt/cni/bin", "usr/libexec/kubernetes/kubelet-plugins/volume/exec"];

/// Where Kubernetes' programs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Upstream's release of this version, `1.34.2`.
    Release(String),
    /// Upstream's, and what was said of its version is no whole one: nothing, or a minor, `1.34`. It is answered with the versions there are.
    Incomplete(String),
    /// A directory that has the programs.
    Directory(PathBuf),
    /// Debian 12's source package, built with Debian 12's Go.
    DebianSource,
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("release", version)) => {
                let version = version.strip_prefix('v').unwrap_or(version);
                if is_version(version) {
                    Ok(Self::Release(version.to_owned()))
                } else if is_incomplete(version) {
                    Ok(Self::Incomplete(version.to_owned()))
                } else {
                    Err(format!(
                        "`{version}` is not a version of Kubernetes, such as 1.34.2; `release:` alone lists the newest"
                    ))
                }
            }
            Some(("dir", path)) if !path.is_empty() => Ok(Self::Directory(PathBuf::from(path))),
            None if text == "debian-source" => Ok(Self::DebianSource),
            _ => Err("it must be release:VERSION, dir:PATH or debian-source".to_owned()),
        }
    }
}

/// Three numbers and perhaps a pre-release: it becomes part of a URL.
fn is_version(text: &str) -> bool {
    let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
    let word = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
    numbers.split('.').count() == 3
        && numbers.split('.').all(is_number)
        && pre.is_none_or(|pre| pre.split('.').all(word))
}

/// Nothing, or a minor.
fn is_incomplete(text: &str) -> bool {
    text.is_empty() || text.split('.').count() == 2 && text.split('.').all(is_number)
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The programs, and the version that they say they have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Programs {
    directory: PathBuf,
    /// `1.34.2`.
    pub version: String,
}

/// Refuses a release that upstream does not have, before anything is made for it.
///
/// # Errors
/// Upstream has no such version, or only a part of one was given: the error lists the newest; or upstream cannot be asked.
pub(crate) fn check(source: &Source) -> Result<()> {
    match source {
        Source::Release(version) => upstream::check(upstream::SITE, version),
        Source::Incomplete(given) => Err(upstream::incomplete(upstream::SITE, given)),
        Source::Directory(_) | Source::DebianSource => Ok(()),
    }
}

/// Gets the programs. `scratch` is for files that need not be kept, `cache` for those that should.
///
/// # Errors
/// A program is missing, cannot be fetched or built, has another digest than upstream says, or another version than the others.
pub(crate) fn get(
    source: &Source,
    mirrors: impl FnOnce() -> Result<Mirrors>,
    scratch: &Path,
    cache: Cache,
) -> Result<Programs> {
    let (directory, wanted) = match source {
        Source::Directory(path) => (path.clone(), None),
        Source::Release(version) => {
            let directory = scratch.join("kubernetes");
            upstream::fetch(upstream::SITE, version, &PROGRAMS, &directory)?;
            (directory, Some(version.as_str()))
        }
        Source::Incomplete(given) => return Err(upstream::incomplete(upstream::SITE, given)),
        Source::DebianSource => (
            debian::built(&mirrors()?, &crate::build::bootstrap::cache_directory()?, cache)?,
            Some(debian::VERSION),
        ),
    };
    let version = version(&directory)?;
    if wanted.is_some_and(|wanted| wanted != version) {
        bail!(
            "the programs in {} are of Kubernetes {version}, not {}",
            directory.display(),
            wanted.unwrap_or_default()
        );
    }
    Ok(Programs { directory, version })
}

/// The version that all of the programs say.
fn version(directory: &Path) -> Result<String> {
    let mut found: Option<String> = None;
    for (name, arguments) in [
        ("kubeadm", &["version", "--output=short"][..]),
        ("kubelet", &["--version"]),
        ("kubectl", &["version", "--client", "--output=yaml"]),
    ] {
        let path = directory.join(name);
        if !path.is_file() {
            bail!("{} has no {name}", directory.display());
        }
        let output = Tool { program: name, package: "kubernetes" }
            .output(std::process::Command::new(&path).args(arguments).env("HOME", directory))
            .with_context(|| format!("cannot ask {} for its version", path.display()))?;
        let text = String::from_utf8_lossy(&output);
        // `v1.20.2`, `Kubernetes v1.20.2`, `gitVersion: v1.20.2`.
        let version = text
            .split_whitespace()
            .find_map(|word| word.strip_prefix('v').filter(|version| is_version(version)))
            .with_context(|| format!("{} says no version: `{}`", path.display(), text.trim()))?;
        match &found {
            Some(first) if first != version => {
                bail!("{} is of Kubernetes {version}, the other programs are of {first}", path.display())
            }
            _ => found = Some(version.to_owned()),
        }
    }
    found.context("no program was asked")
}

/// Puts the programs and their units into a shaped root. Nothing enables kubelet.
///
/// # Errors
/// The root has no container runtime, or a file cannot be written.
pub(crate) fn install(programs: &Programs, root: &Path) -> Result<()> {
    if !RUNTIMES.iter().any(|program| root.join(program).is_file()) {
        bail!(
            "the root has no container runtime for kubelet: neither containerd nor CRI-O is in it (--profile node has one)"
        );
    }
    for name in PROGRAMS {
        rootfs::copy_executable(&programs.directory.join(name), &root.join("usr/bin").join(name))?;
    }
    for (path, text) in UNITS {
        rootfs::write(&root.join(path), text.as_bytes(), 0o644)?;
    }
    for path in MOUNT_POINTS {
        rootfs::make_directory(&root.join(path))?;
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;

//! Kubernetes from Debian 12's source package, whose vendor tree is inside, by Debian 12's Go: in a root of its own, so that
//! nothing of it depends on the machine that builds, and kept in the cache.

use crate::build::apt::Mirrors;
use crate::build::bootstrap::{Cache, KEYRING, require_root};
use crate::build::command::Tool;
use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The Debian release, and its package's version: a stable release has one. Named here, because it is the cache's key.
const SUITE: &str = "bookworm";
const SOURCE: &str = "1.20.5+really1.20.2-1.1+deb12u1";

/// What upstream calls that.
pub(super) const VERSION: &str = "1.20.2";

/// A node's programs, and a control plane for it to join.
const PROGRAMS: [&str; 6] =
    ["kubeadm", "kubelet", "kubectl", "kube-apiserver", "kube-controller-manager", "kube-scheduler"];

/// What the build calls; Debian's own build dependencies without those for documentation.
const PACKAGES: &str =
    "ca-certificates,dpkg-dev,golang-1.19-go,golang-github-modern-go-reflect2-dev,make,rsync";

/// Runs in the build's root.
const SCRIPT: &str = include_str!("../../../kubernetes/debian-source.sh");

const MMDEBSTRAP: Tool = Tool { program: "mmdebstrap", package: "mmdebstrap" };

/// The directory with the programs, built if the cache has none. Two builds at once wait for each other.
///
/// # Errors
/// Not root, keyring or tool missing, the archive has another version, or the build failed.
pub(super) fn built(mirrors: &Mirrors, cache_directory: &Path, cache: Cache) -> Result<PathBuf> {
    let script = script();
    let digest = Sha256::digest(format!("{PACKAGES}\n{script}"));
    let recipe: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let name = format!("kubernetes-{SOURCE}-{recipe}");
    let directory = cache_directory.join(&name);
    let lock_path = cache_directory.join(format!("{name}.lock"));
    let lock =
        File::create(&lock_path).with_context(|| format!("cannot make the lock {}", lock_path.display()))?;
    lock.lock().with_context(|| format!("cannot lock {}", lock_path.display()))?;
    if cache == Cache::Refresh || !directory.is_dir() {
        let scratch = tempfile::Builder::new()
            .prefix(".kubernetes-")
            .tempdir_in(cache_directory)
            .with_context(|| format!("cannot make a directory in {}", cache_directory.display()))?;
        let made = scratch.path().join("made");
        fs::create_dir(&made).with_context(|| format!("cannot make {}", made.display()))?;
        build(mirrors, &script, &made)?;
        if directory.is_dir() {
            fs::remove_dir_all(&directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::rename(&made, &directory)
            .with_context(|| format!("cannot rename {} to {}", made.display(), directory.display()))?;
    }
    Ok(directory)
}

fn script() -> String {
    let programs = PROGRAMS.join(" ");
    format!("#!/bin/sh\nSOURCE='{SOURCE}' VERSION='{VERSION}' PROGRAMS='{programs}'\n{SCRIPT}")
}

fn build(mirrors: &Mirrors, script: &str, made: &Path) -> Result<()> {
    require_root("building Kubernetes in a Debian root")?;
    if !Path::new(KEYRING).is_file() {
        bail!("Debian's keys are not installed; run `apt-get install debian-archive-keyring` as root");
    }
    let hook = made.join("build.sh");
    fs::write(&hook, script)
        .and_then(|()| fs::set_permissions(&hook, Permissions::from_mode(0o755)))
        .with_context(|| format!("cannot write {}", hook.display()))?;
    let mut command = MMDEBSTRAP.command();
    command
        .args(["--mode=root", "--variant=minbase", "--architectures=amd64", "--format=null"])
        .arg(format!("--include={PACKAGES}"))
        .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        // An executable file is run as it is, with the root as its argument.
        .arg(format!("--customize-hook={}", hook.display()))
        .args([SUITE, "/dev/null"]);
    for kind in ["deb", "deb-src"] {
        command.arg(format!("{kind} [signed-by={KEYRING}] {} {SUITE} main", mirrors.archive));
    }
    MMDEBSTRAP.output(&mut command).context("cannot build Kubernetes from Debian's source package")?;
    for program in PROGRAMS {
        if !made.join(program).is_file() {
            bail!("the build of Kubernetes made no {program}");
        }
    }
    fs::remove_file(&hook).with_context(|| format!("cannot remove {}", hook.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_cache_has_is_taken_without_a_build() {
        let cache = tempfile::tempdir().unwrap();
        let digest = Sha256::digest(format!("{PACKAGES}\n{}", script()));
        let recipe: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        let expected = cache.path().join(format!("kubernetes-{SOURCE}-{recipe}"));
        fs::create_dir(&expected).unwrap();
        // A mirror that is nowhere: a build would fail.
        let mirrors = Mirrors { archive: "http://mirror.test/debian".into(), security: None };
        assert_eq!(built(&mirrors, cache.path(), Cache::Use).unwrap(), expected);
    }

    #[test]
    fn the_script_is_one_that_sh_can_read() {
        let mut command = Tool { program: "sh", package: "dash" }.command();
        Tool { program: "sh", package: "dash" }.output(command.args(["-n", "-c", &script()])).unwrap();
    }
}

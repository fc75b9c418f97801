//! The rivals, installed where the project keeps its tools, and running commands.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// Says what is being done.
pub(crate) fn say(text: &str) {
    println!("bench: {text}");
}

/// Runs a command to its end; returns the wall seconds.
pub(crate) fn timed(command: &mut Command) -> Result<f64> {
    let begin = Instant::now();
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(seconds)
}

/// A shell's pipeline, as people type it.
pub(crate) fn shell(script: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", script]);
    command
}

/// What is compared with.
#[derive(Clone)]
pub(crate) struct Rivals {
    /// coreos-installer's binary.
    pub(crate) coreos_installer: PathBuf,
    /// initramfs-tools' initramfs, MODULES=most, for the release's kernel.
    pub(crate) initramfs_tools: PathBuf,
    /// dracut's generic initramfs for the same kernel.
    pub(crate) dracut: PathBuf,
}

impl Rivals {
    /// Builds them once for the release's kernel; they are kept in the cache.
    pub(crate) fn prepare(release: &Path) -> Result<Self> {
        let dir = support::cache().join("rivals");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        apt_install(&["bmap-tools"])?;
        let version = support::release::kernel_version(release);
        let this = Self {
            coreos_installer: dir.join("bin/coreos-installer"),
            initramfs_tools: dir.join(format!("initramfs-tools-node-{version}.img")),
            dracut: dir.join(format!("dracut-node-{version}.img")),
        };
        if !this.coreos_installer.exists() {
            apt_install(&["libssl-dev", "libzstd-dev", "pkg-config"])?;
            let mut install = Command::new("cargo");
            install.args(["install", "--locked", "--quiet", "coreos-installer", "--root"]).arg(&dir);
            // Not among the builds of this workspace.
            timed(install.env_remove("CARGO_TARGET_DIR"))?;
        }
        if !(this.initramfs_tools.exists() && this.dracut.exists()) {
            this.build_initramfs(release, &version)?;
        }
        Ok(this)
    }

    /// Both tools in the chroot of a Debian 13 that has the release's own kernel modules. The node's root is erofs with the state
    /// partition at /var and an overlay at /etc, so both are told to mount these, by their own hooks.
    fn build_initramfs(&self, release: &Path, version: &str) -> Result<()> {
        let scratch = tempfile::tempdir().context("cannot make a temporary directory")?;
        let root = scratch.path().join("root");
        let mirror = timed_output(&mut shell(
            "apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | awk '$2 == \"bookworm\" {print $1; exit}'",
        ))?;
        let packages =
            "initramfs-tools,dracut-core,systemd,systemd-sysv,udev,kmod,zstd,erofs-utils,e2fsprogs";
        let mut bootstrap = Command::new("mmdebstrap");
        bootstrap.args(["--quiet", "--mode=root", "--variant=minbase"]).arg(format!("--include={packages}"));
        timed(bootstrap.arg("trixie").arg(&root).arg(mirror.trim()))?;
        support::release::unpack_kernel(release, &root);
        let root = root.display();
        timed(&mut shell(&format!(
            "printf '%s\\n' erofs ext4 overlay >> {root}/etc/initramfs-tools/modules
             sed -i 's/^MODULES=.*/MODULES=most/' {root}/etc/initramfs-tools/initramfs.conf
             install {hooks}/initramfs-tools {root}/etc/initramfs-tools/scripts/init-bottom/mounts
             install -D {hooks}/module-setup.sh {root}/usr/lib/dracut/modules.d/99mounts/module-setup.sh
             install {hooks}/dracut {root}/usr/lib/dracut/modules.d/99mounts/mounts.sh
             chroot {root} depmod {version}
             chroot {root} mkinitramfs -o /initramfs-tools.img {version}
             chroot {root} dracut --no-hostonly --add mounts /dracut.img {version}
             cp {root}/initramfs-tools.img {}; cp {root}/dracut.img {}",
            self.initramfs_tools.display(),
            self.dracut.display(),
            hooks = concat!(env!("CARGO_MANIFEST_DIR"), "/bench/rivals"),
        )))?;
        Ok(())
    }
}

fn apt_install(packages: &[&str]) -> Result<()> {
    let mut install = Command::new("apt-get");
    install
        .args(["install", "-qq", "-y", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=120"])
        .args(packages);
    timed(&mut install).map(|_| ())
}

fn timed_output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    ensure!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Size of a file in bytes.
pub(crate) fn bytes(path: &Path) -> Result<f64> {
    #[expect(clippy::cast_precision_loss, reason = "files here are far below 2^52 bytes")]
    let bytes =
        fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?.len() as f64;
    Ok(bytes)
}

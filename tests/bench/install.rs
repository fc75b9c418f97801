//! Installs of the same image onto the same loop device, each from its own usual form of the image; zstd at the level of the
//! test release (support/release.rs) for all: how fast it decodes hardly depends on the level.

use crate::figures::{Figures, median};
use crate::tools::{Rivals, shell, timed};
use crate::udev::Udev;
use anyhow::{Context as _, Result};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Odd, for the median.
const RUNS: usize = 5;

/// A loop device whose blocks are in memory, so that the tools are compared and not the machine's disk; it goes with the value.
struct Loop(String);

impl Loop {
    fn attach(bytes: u64) -> Result<Self> {
        let memory =
            rustix::fs::memfd_create("device", rustix::fs::MemfdFlags::CLOEXEC).context("memfd_create")?;
        rustix::fs::ftruncate(&memory, bytes).context("cannot make the device's memory")?;
        let output = Command::new("losetup")
            .args(["--find", "--show", "--partscan"])
            .arg(format!("/proc/{}/fd/{}", std::process::id(), memory.as_raw_fd()))
            .output()
            .context("losetup")?;
        anyhow::ensure!(output.status.success(), "losetup: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(String::from_utf8_lossy(&output.stdout).trim().to_owned()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // What stays attached is seen by `losetup -a`; nothing can be done about it here.
        let _ = Command::new("losetup").args(["--detach", &self.0]).status();
    }
}

/// The image in the forms that the rivals take.
struct Forms {
    release: PathBuf,
    zst: PathBuf,
    bmap: PathBuf,
    qcow2: PathBuf,
}

impl Forms {
    fn make(release: &Path, scratch: &Path) -> Result<Self> {
        let raw = scratch.join("image.raw");
        let forms = Self {
            release: release.to_owned(),
            zst: scratch.join("image.raw.zst"),
            bmap: scratch.join("image.bmap"),
            qcow2: scratch.join("image.qcow2"),
        };
        timed(&mut shell(&format!(
            "zstd -q -d {0}/root.erofs.zst -o {1} && fallocate --dig-holes {1}
             zstd -q -T0 -3 {1} -o {2}
             bmaptool -q create {1} -o {3}
             qemu-img convert -q -O qcow2 -c -o compression_type=zstd {1} {4}",
            release.display(),
            raw.display(),
            forms.zst.display(),
            forms.bmap.display(),
            forms.qcow2.display()
        )))?;
        Ok(forms)
    }
}

pub(crate) fn measure(figures: &mut Figures, release: &Path, rivals: &Rivals, scratch: &Path) -> Result<()> {
    let forms = Forms::make(release, scratch)?;
    let device = Loop::attach(4 << 30)?;
    let udev = Udev::start(&support::cache().join("rivals"))?;
    let tool = support::tool();
    let ours = || {
        let mut command = Command::new(&tool);
        command.args(["image", "write", "--release"]).arg(&forms.release).args(["--to", &device.0]);
        command
    };
    let (zst, dev) = (forms.zst.display().to_string(), device.0.as_str());
    let coreos = rivals.coreos_installer.display();
    let candidates = [
        (
            "install.coreos_installer",
            format!("{coreos} install --offline --insecure --image-file {zst} {dev}"),
        ),
        ("install.bmaptool", format!("bmaptool -q copy --bmap {} {zst} {dev}", forms.bmap.display())),
        (
            "install.zstdcat_dd_direct",
            format!("zstdcat {zst} | dd of={dev} bs=4M iflag=fullblock oflag=direct status=none"),
        ),
        (
            "install.zstdcat_dd_fsync",
            format!("zstdcat {zst} | dd of={dev} bs=4M iflag=fullblock conv=fsync status=none"),
        ),
        ("install.qemu_img", format!("qemu-img convert -n -O raw {} {dev}", forms.qcow2.display())),
        ("install.zstd_decompress", format!("zstd -q -d -c {zst} > /dev/null")),
    ];
    // Interleaved, so that a busy minute falls on everybody.
    let mut seconds = vec![Vec::new(); candidates.len() + 1];
    for _ in 0..RUNS {
        seconds[0].push(timed(&mut ours())?);
        for (i, (_, script)) in candidates.iter().enumerate() {
            seconds[i + 1].push(timed(shell(script).env("PATH", udev.path()))?);
        }
    }
    let own = median(seconds.swap_remove(0));
    // `swap_remove` put the last one first.
    seconds.rotate_left(1);
    for ((name, _), theirs) in candidates.iter().zip(seconds) {
        figures.add(name, own, median(theirs), "s", RUNS);
    }
    Ok(())
}

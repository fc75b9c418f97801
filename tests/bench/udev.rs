//! A udevd for the time of a measurement, on a machine without one (a container, say): coreos-installer asks for it after it has
//! written the partition table. It has the rules of block devices alone, and a network of its own, so that it renames no interface.

use crate::tools::{shell, timed};
use anyhow::{Context as _, Result};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

/// Where programs meet udevd (systemd, `src/udev/udev-ctrl.c`).
const RUN: &str = "/run/udev";
/// What it starts within, generously.
const STARTS: Duration = Duration::from_secs(20);

/// A running udevd; it ends with the value. Nothing where the machine has one.
pub(crate) struct Udev {
    own: Option<Child>,
    /// Where its commands are.
    bin: PathBuf,
}

impl Udev {
    /// Starts one if none runs; Debian's package is unpacked into `dir`, and not installed.
    pub(crate) fn start(dir: &Path) -> Result<Self> {
        let bin = dir.join("udev/bin");
        let control = Path::new(RUN).join("control");
        if control.exists() {
            return Ok(Self { own: None, bin });
        }
        if !bin.join("udevadm").exists() {
            timed(&mut shell(&format!(
                "mkdir -p {0} && cd {0} && apt-get download -qq udev && dpkg -x udev_*.deb udev && rm udev_*.deb
                 ln -sf udevadm udev/bin/systemd-udevd",
                dir.display()
            )))?;
        }
        let rules = dir.join("udev/lib/udev/rules.d");
        timed(&mut shell(&format!(
            "mkdir -p {RUN}/rules.d && cp {0}/60-block.rules {0}/60-persistent-storage.rules {RUN}/rules.d",
            rules.display()
        )))?;
        let socket = dir.join("udev/notify");
        // Of an earlier run; a path is bound once.
        let _ = std::fs::remove_file(&socket);
        let ready = UnixDatagram::bind(&socket).context("cannot make udevd's notification socket")?;
        let mut udevd = Command::new("unshare");
        udevd.arg("--net").arg(bin.join("systemd-udevd")).env("NOTIFY_SOCKET", &socket);
        let udev = Self { own: Some(udevd.spawn().context("udevd")?), bin };
        wait_until_ready(&ready).context("udevd does not start")?;
        Ok(udev)
    }

    /// The search path with its commands in it.
    pub(crate) fn path(&self) -> String {
        let path = std::env::var("PATH").unwrap_or_default();
        format!("{path}:{}", self.bin.display())
    }
}

/// It says `READY=1` when it can be asked (sd_notify(3)).
fn wait_until_ready(socket: &UnixDatagram) -> Result<()> {
    socket.set_read_timeout(Some(STARTS))?;
    let mut message = [0; 4096];
    loop {
        let n = socket.recv(&mut message)?;
        if message[..n].split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
            return Ok(());
        }
    }
}

impl Drop for Udev {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            // Its workers end with it. What stays behind is in /run, and gone with the next boot.
            let _ = own.kill();
            let _ = own.wait();
            let _ = std::fs::remove_dir_all(RUN);
        }
    }
}

//! Boots of one installed disk with three initramfs: from the kernel's start to systemd's first line, in the guest's own seconds.

use crate::figures::{Figures, median};
use crate::tools::Rivals;
use anyhow::{Context as _, Result, ensure};
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::server::Server;
use support::session::{self, Session};
use support::ssh::Key;

/// Odd, for the median.
const RUNS: usize = 5;
const DEADLINE: Duration = Duration::from_secs(600);
/// The kernel's line before it starts the initramfs' init.
const INIT: &str = "Run /init as init process";
const BLESSED: &str = "step=bless state=ok";
/// What the rivals' hooks say (`rivals/`).
const MOUNTED: &str = "bench: /var and /etc are mounted";
/// systemd's first line.
const SYSTEMD: &str = "systemd[1]: systemd ";

/// An initramfs to boot with.
struct Kind {
    initrd: PathBuf,
    args: String,
    /// The line that says that the node's root is whole. systemd's first line after it is the node's: dracut's initramfs runs a
    /// systemd of its own before.
    whole: &'static str,
}

/// Two spans of a boot, in seconds.
struct Times {
    kernel_to_systemd: f64,
    initrd: f64,
}

pub(crate) fn measure(figures: &mut Figures, release: &Path, rivals: &Rivals) -> Result<()> {
    let server = Server::start(release, &["console=ttyS0"]);
    let key = Key::generate();
    let setup = Setup::new(Firmware::Bios, Start::Direct).ssh();
    server.publish(&setup.mac(), &NodeYaml::new("bench").with(&session::user(&key)).text());
    let installed = Guest::start(&setup, Some(&server));
    installed.expect(BLESSED, DEADLINE);
    let session = Session::new(&key, installed.ssh_port());
    session.power_off();
    installed.ended(DEADLINE);
    // As GRUB boots it: from its disk, without the network.
    let booted = Guest::start(&setup.again(Start::Disk), None);
    booted.expect(BLESSED, DEADLINE);
    let own_args = session.say("cat /proc/cmdline");
    ensure!(own_args.contains("tatara.boot=disk"), "the node was not booted from its disk: {own_args}");
    let own_args = own_args.trim().to_owned();
    session.power_off();
    booted.ended(DEADLINE);
    // Its state partition is clean, and stays so: what a boot writes is thrown away when the machine is ended in its middle.
    let setup = setup.qemu_args(&["-snapshot"]);

    let theirs = "root=PARTLABEL=tatara-root-a rootfstype=erofs ro console=ttyS0 panic=10".to_owned();
    let kinds = [
        Kind { initrd: release.join("initramfs.zst"), args: own_args, whole: "step=switch-root state=ok" },
        Kind { initrd: rivals.initramfs_tools.clone(), args: theirs.clone(), whole: MOUNTED },
        Kind { initrd: rivals.dracut.clone(), args: theirs, whole: MOUNTED },
    ];
    // Interleaved, so that a busy minute falls on everybody.
    let mut times: [Vec<Times>; 3] = Default::default();
    for _ in 0..RUNS {
        for (kind, list) in kinds.iter().zip(&mut times) {
            list.push(boot(&setup, &release.join("vmlinuz"), kind)?);
        }
    }
    let whole = times.each_ref().map(|list| median(list.iter().map(|t| t.kernel_to_systemd).collect()));
    let initrd = times.each_ref().map(|list| median(list.iter().map(|t| t.initrd).collect()));
    figures.add("boot.kernel_to_systemd.initramfs_tools", whole[0], whole[1], "s", RUNS);
    figures.add("boot.kernel_to_systemd.dracut", whole[0], whole[2], "s", RUNS);
    figures.add("boot.initrd.initramfs_tools", initrd[0], initrd[1], "s", RUNS);
    figures.add("boot.initrd.dracut", initrd[0], initrd[2], "s", RUNS);
    Ok(())
}

fn boot(setup: &Setup, kernel: &Path, kind: &Kind) -> Result<Times> {
    let given = setup.again(Start::Given).given(kernel, &kind.initrd, &kind.args);
    let guest = Guest::start(&given, None);
    let init = stamp(&guest.expect(INIT, DEADLINE))?;
    guest.expect(kind.whole, DEADLINE);
    let systemd = stamp(&guest.expect(SYSTEMD, DEADLINE))?;
    Ok(Times { kernel_to_systemd: systemd, initrd: systemd - init })
}

/// The kernel's time stamp of a line, `[    3.123456] …`.
fn stamp(line: &str) -> Result<f64> {
    let text = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(stamp, _)| stamp.trim());
    let seconds = text.and_then(|text| text.parse().ok());
    seconds.with_context(|| format!("no time stamp in `{line}`"))
}

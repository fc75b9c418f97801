//! Boots of one installed disk with three initramfs: from the kernel's start to systemd's first line, in the guest's own seconds.

use crate::figures::{Figures, median};
use crate::tools::Rivals;
use anyhow::{Context as _, Result};
use std::path::Path;
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::server::Server;

/// Odd, for the median.
const RUNS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(600);
/// The kernel's line before it starts the initramfs' init.
const INIT: &str = "Run /init as init process";
/// systemd's first line.
const SYSTEMD: &str = "systemd[1]: systemd ";

/// Two spans of a boot, in seconds.
struct Times {
    kernel_to_systemd: f64,
    initrd: f64,
}

pub(crate) fn measure(figures: &mut Figures, release: &Path, rivals: &Rivals) -> Result<()> {
    let server = Server::start(release, &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Bios, Start::Direct);
    server.publish(&setup.mac(), &NodeYaml::new("bench").text());
    let installed = Guest::start(&setup, Some(&server));
    installed.expect("step=bless state=ok", DEADLINE);
    let cmdline = installed.console().all("Kernel command line: ");
    let own_args = cmdline.last().and_then(|(_, line)| line.split_once("Kernel command line: "));
    let own_args =
        own_args.map(|(_, args)| args.to_owned()).context("the node's kernel did not print its arguments")?;
    drop(installed);

    let theirs = "root=PARTLABEL=tatara-root-a rootfstype=erofs ro console=ttyS0 panic=10";
    let kinds = [
        (release.join("initramfs.zst"), own_args.as_str()),
        (rivals.initramfs_tools.clone(), theirs),
        (rivals.dracut.clone(), theirs),
    ];
    // Interleaved, so that a busy minute falls on everybody.
    let mut times: [Vec<Times>; 3] = Default::default();
    for _ in 0..RUNS {
        for ((initrd, args), list) in kinds.iter().zip(&mut times) {
            list.push(boot(&setup, &release.join("vmlinuz"), initrd, args)?);
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

fn boot(setup: &Setup, kernel: &Path, initrd: &Path, args: &str) -> Result<Times> {
    let guest = Guest::start(&setup.again(Start::Given).given(kernel, initrd, args), None);
    let init = stamp(&guest.expect(INIT, DEADLINE))?;
    let systemd = stamp(&guest.expect(SYSTEMD, DEADLINE))?;
    Ok(Times { kernel_to_systemd: systemd, initrd: systemd - init })
}

/// The kernel's time stamp of a line, `[    3.123456] …`.
fn stamp(line: &str) -> Result<f64> {
    let text = line.split_once('[').and_then(|(_, rest)| rest.split_once(']')).map(|(stamp, _)| stamp.trim());
    let seconds = text.and_then(|text| text.parse().ok());
    seconds.with_context(|| format!("no time stamp in `{line}`"))
}

//! The lowest memory of a machine that installs, beside the least that a peer asks for.

use crate::figures::Figures;
use anyhow::{Result, ensure};
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;

/// Talos asks for 1 GiB for a worker (its documentation, "System Requirements"), the least of the peers.
const PEER_MIB: f64 = 1024.0;
/// From what is tested at every change downwards.
const SIZES_MIB: [u32; 7] = [512, 384, 320, 256, 224, 192, 160];
const DEADLINE: Duration = Duration::from_secs(300);

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let lowest = SIZES_MIB.into_iter().take_while(|mib| installs(*mib)).last();
    ensure!(lowest.is_some(), "no install with {} MiB", SIZES_MIB[0]);
    figures.add("memory.lowest_mib", lowest.map_or(f64::NAN, f64::from), PEER_MIB, "MiB", 1);
    Ok(())
}

fn installs(mib: u32) -> bool {
    let server = Server::start(&release::small(), &["console=ttyS0"]);
    let setup = Setup::new(Firmware::Bios, Start::Direct).memory_mib(mib);
    server.publish(&setup.mac(), &NodeYaml::new("bench").text());
    let guest = Guest::start(&setup, Some(&server));
    guest.reaches("step=record state=ok", &["state=fail", "Kernel panic"], DEADLINE)
}

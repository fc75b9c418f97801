//! The fault matrix: each test is a row. `make faults` makes a table of them.

mod clock;
mod config;
mod console;
mod cut;
mod disk;
mod ending;
mod foreign;
mod http;
mod medium;
mod memory;
mod network;
mod offline;
mod payload;
mod record;
mod site;
mod staged;
mod tls;
mod worker;

use support::config::NodeYaml;
use support::guest::{Firmware, Guest, Setup, Start};
use support::release;
use support::server::Server;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;
use tatara_spec::release::Release;

/// A blank machine that gets its kernel from the host, with a VGA and a serial console.
///
/// It has one CPU: two emulated ones now and then lose a timer's interrupt between them (the kernel says "Possible timer handling
/// issue" then), and hundreds of boots meet what is rare. Machines with two are in `tests/boot.rs`.
fn direct() -> Setup {
    Setup::new(Firmware::Bios, Start::Direct).vga_console().shape(1, 1, 1)
}

fn good() -> NodeYaml {
    NodeYaml::new("node-1")
}

/// The server of the small payload.
fn served(setup: &Setup, config: &str) -> Server {
    let server = Server::start(&release::small(), &["console=ttyS0", "panic=10"]);
    server.publish(&setup.mac(), config);
    server
}

/// The simplest row: with this config the machine is refused with this code, says this beside, and its disks are untouched.
fn refused(mut trial: Trial, config: &str, code: Code, says: &str) {
    let server = served(&trial.setup, config);
    let guest = trial.start(&server);
    trial.refused(&guest, code, says);
    trial.ends(guest, Disks::Untouched);
}

/// Changes the manifest that is served; it stays one that is consistent in itself.
fn remake(server: &Server, change: impl FnOnce(&mut Release)) {
    server.replace("release.json", |bytes| {
        let mut release: Release = serde_json::from_slice(&bytes).expect("the manifest");
        change(&mut release);
        release.id = release.compute_id();
        serde_json::to_vec(&release).expect("the manifest")
    });
}

/// The machine installs, boots its node, and ends.
fn installs(guest: &Guest) {
    guest.expect("step=record state=ok", SOON);
    boots(guest);
}

/// The machine boots its node, and ends.
fn boots(guest: &Guest) {
    assert_eq!(guest.findings(SOON)["texts"]["/etc/hostname"], "node-1");
    guest.ended(SOON);
}

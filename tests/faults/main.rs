//! The fault matrix: each test is a row. `make faults` makes a table of them.

mod clock;
mod config;
mod disk;
mod http;
mod network;
mod payload;
mod site;
mod tls;

use support::config::NodeYaml;
use support::guest::{Firmware, Setup, Start};
use support::release;
use support::server::Server;
use support::trial::{Disks, Trial};
use tatara_spec::Code;

/// A blank machine that gets its kernel from the host, with a VGA and a serial console.
fn direct() -> Setup {
    Setup::new(Firmware::Bios, Start::Direct).vga_console()
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

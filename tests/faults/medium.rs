//! Disks that break: sectors that cannot be read or written.

use crate::{direct, good, installs, served};
use support::guest::Setup;
use support::medium::{Refuses, bad_sector};
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;
use tatara_spec::layout::MIB;

/// A sector in the first slot, behind its first MiB: table, BIOS partition and ESP come before.
const IN_ROOT: u64 = (1 + 1 + 512 + 1) * MIB / 512;

fn bad(sector: u64, what: Refuses) -> Setup {
    let setup = direct();
    let node = bad_sector(&setup.disk_paths()[0], sector, what);
    setup.between(node)
}

/// Refused, over and over; and once the disk is sound the machine installs.
fn breaks(done: &'static str, sector: u64, what: Refuses, code: Code, disks: Disks) {
    let mut trial = Trial::new("disk", done, bad(sector, what));
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    trial.refused(&guest, code, "/dev/vda");
    guest.expect(&format!("code={}", code.name()), SOON);
    drop(guest);
    if disks == Disks::Untouched {
        trial.untouched();
    }
    trial.setup = trial.setup.clone().nothing_between();
    let guest = trial.start(&server);
    installs(&guest);
    trial.ends(guest, Disks::RefusedThenInstalled);
}

#[test]
fn first_sector_unreadable() {
    breaks("the first sector cannot be read", 0, Refuses::Reads, Code::DiskRead, Disks::Untouched);
}

#[test]
fn first_sector_unwritable() {
    breaks("the first sector cannot be written", 0, Refuses::Writes, Code::DiskWrite, Disks::Untouched);
}

#[test]
fn write_error_in_the_root() {
    let done = "a sector of the slot cannot be written";
    breaks(done, IN_ROOT, Refuses::Writes, Code::DiskWrite, Disks::Irrelevant);
}

#[test]
fn read_error_in_the_root() {
    let done = "a sector of the slot cannot be read back";
    breaks(done, IN_ROOT, Refuses::Reads, Code::DiskRead, Disks::Irrelevant);
}

//! Too little memory: refused with what is there and what is needed, never a half-unpacked initramfs.

use crate::{direct, good, installs, served};
use support::guest::{Firmware, Setup, Start};
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;
use tatara_spec::layout::MEMORY_MIN_MIB;

/// What the kernel says when it ran out of memory while it unpacked the initramfs (init/initramfs.c).
const HALF_UNPACKED: &str = "Initramfs unpacking failed";

fn mib(mib: u64) -> u32 {
    u32::try_from(mib).expect("a machine's memory")
}

fn installs_with(done: &'static str, setup: Setup) {
    let trial = Trial::new("memory", done, setup);
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    installs(&guest);
    assert!(guest.never(HALF_UNPACKED), "{}", guest.transcript());
    trial.ends(guest, Disks::Installed);
}

#[test]
fn the_least_that_installs() {
    installs_with("the least memory: installs", direct().memory_mib(mib(MEMORY_MIN_MIB)));
}

#[test]
fn the_least_that_installs_on_uefi() {
    let setup = Setup::new(Firmware::Uefi, Start::Direct).memory_mib(mib(MEMORY_MIN_MIB + 64));
    installs_with("the least memory with UEFI, 64 MiB more: installs", setup);
}

/// Enough to run, too little to install: the message has both numbers, and comes before the first write.
#[test]
fn too_little_to_install() {
    let setup = direct().memory_mib(mib(MEMORY_MIN_MIB - 32));
    let mut trial = Trial::new("memory", "32 MiB less: runs, but refuses to install", setup);
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    trial.refused(&guest, Code::MemoryLow, "an install needs");
    assert!(guest.never(HALF_UNPACKED), "{}", guest.transcript());
    trial.ends(guest, Disks::Untouched);
}

/// With so little the kernel itself gives up: between it and what PID 1 can refuse (`Code::MemoryLow`) lie a few MiB at most.
#[test]
fn too_little_to_unpack() {
    let done = "the initramfs does not fit memory: the kernel says so and stops";
    let trial = Trial::new("memory", done, direct().memory_mib(80));
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    guest.expect(HALF_UNPACKED, SOON);
    guest.ended(SOON);
    trial.ends(guest, Disks::Untouched);
}

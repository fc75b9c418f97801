//! Failures are shown on every console that there is, whatever the command line says of others.

use crate::site::{Site, start};
use crate::{direct, good, refused, served};
use support::guest::{Firmware, Setup, Start};
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

/// Consoles in this order: serial and VGA both show the failure ([`Trial::refused`] looks at both).
fn both(done: &'static str, consoles: &[&'static str]) {
    let setup = Setup::new(Firmware::Bios, Start::Direct).disk_gib(2).consoles(consoles);
    assert!(setup.has_vga_console());
    refused(Trial::new("console", done, setup), &good().text(), Code::DiskSmall, "/dev/vda");
}

#[test]
fn vga_then_serial() {
    both("console=tty0 console=ttyS0", &["tty0", "ttyS0"]);
}

#[test]
fn serial_then_vga() {
    both("console=ttyS0 console=tty0", &["ttyS0", "tty0"]);
}

#[test]
fn one_that_does_not_exist() {
    both("console=ttyS0 console=tty0 console=ttyS3", &["ttyS0", "tty0", "ttyS3"]);
}

#[test]
fn one_that_no_driver_knows() {
    both("console=nosuch0 console=tty0 console=ttyS0", &["nosuch0", "tty0", "ttyS0"]);
}

/// Without a word of it the kernel takes VGA; then nothing is on the serial port, and the screen has it all.
#[test]
fn none_named() {
    let site = Site::new();
    let report = format!("panic=10 tatara.report={}", site.url("/report"));
    let setup = site.machine_on(&direct().disk_gib(2), &[], &report);
    let mut trial = Trial::new("console", "no console= at all: the screen", setup);
    let guest = start(&trial);
    // With the second failure the first has been said to its end.
    site.web.asked("/report", 2, SOON);
    let screen = guest.vga_text();
    let failure = ["step=find-disk state=ok", Code::DiskSmall.name(), Code::DiskSmall.hint(), "try again in"];
    for text in failure {
        assert!(screen.contains(text), "`{text}` is not on the VGA console:\n{screen}");
    }
    trial.saw(Code::DiskSmall);
    trial.ends(guest, Disks::Untouched);
}

/// UEFI has no text screen: the kernel draws letters.
#[test]
fn frame_buffer() {
    let setup = Setup::new(Firmware::Uefi, Start::Direct).disk_gib(2).vga_console();
    let mut trial = Trial::new("console", "UEFI: the frame buffer", setup);
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    trial.refused(&guest, Code::DiskSmall, "/dev/vda");
    assert!(guest.screen().shows(Code::DiskSmall.hint()), "the hint is not on the screen");
    trial.ends(guest, Disks::Untouched);
}

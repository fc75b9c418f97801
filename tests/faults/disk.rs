//! Disks that must not be written to.

use crate::{direct, good, refused};
use std::path::Path;
use support::guest::Bus;
use support::trial::Trial;
use tatara_spec::Code;

#[test]
fn too_small() {
    let trial = Trial::new("disk", "a disk that is too small", direct().disk_gib(2));
    refused(trial, &good().text(), Code::DiskSmall, "/dev/vda");
}

#[test]
fn two_match() {
    let setup = direct().disks(&[(Bus::VirtioBlk, 512), (Bus::VirtioBlk, 512)]);
    let trial = Trial::new("disk", "two disks that match", setup);
    refused(trial, &good().text(), Code::DiskAmbiguous, "/dev/vdb");
}

#[test]
fn none_matches() {
    let mut config = good();
    config.disk = "{transport: nvme}".to_owned();
    let trial = Trial::new("disk", "no disk that matches", direct());
    refused(trial, &config.text(), Code::DiskNone, "/dev/vda");
}

#[test]
fn foreign_ext4() {
    let setup = direct();
    make_foreign(&setup.disk_paths()[0]);
    let trial = Trial::new("disk", "a disk with an ext4 file system", setup);
    refused(trial, &good().text(), Code::DiskForeign, "ext4");
}

/// An ext4 file system on the whole disk, as `mkfs.ext4` makes it.
fn make_foreign(disk: &Path) {
    let output = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk).arg("64M").output();
    let output = output.expect("mkfs.ext4");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

//! Disks that must not be written to, and the right one among others.

use crate::{boots, direct, good, installs, refused, served};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use support::guest::{Bus, Guest, Start, disk_digest};
use support::server::word;
use support::state::partition_start;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;
use tatara_spec::layout::{ESP, MIB};

#[test]
fn none_at_all() {
    refused(
        Trial::new("disk", "no disk at all", direct().disks(&[])),
        &good().text(),
        Code::DiskNone,
        "no disk was found at all",
    );
}

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

/// Somebody writes to the disk between the question and its answer. What was asked about is gone, so the answer is for nothing.
#[test]
fn changed_while_it_is_asked_about() {
    let setup = direct();
    let disk = setup.disk_paths()[0].clone();
    let mut trial = Trial::new("disk", "a disk that changes while the console asks about it", setup);
    let mut config = good();
    config.install = "  confirm: console\n";
    let server = served(&trial.setup, &config.text());
    let guest = trial.start(&server);
    guest.expect("type `vda` and Enter, twice", SOON);
    trial.untouched();
    assert!(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk).status().expect("mkfs.ext4").success());
    let written = disk_digest(&disk);
    guest.types("vda");
    guest.expect("type `vda` once more", SOON);
    guest.types("vda");
    trial.refused(&guest, Code::DiskChanged, "has changed since it was asked");
    trial.refused(&guest, Code::DiskForeign, "ext4");
    assert_eq!(written, disk_digest(&disk), "the disk was written to");
    trial.ends(guest, Disks::Irrelevant);
}

/// The stick is told by what is on it, whether the machine was booted from it or not.
#[test]
fn only_the_stick() {
    let setup = direct().disks(&[]).again(Start::Usb);
    let trial = Trial::new("disk", "the USB stick booted from is the only disk", setup);
    refused(trial, &good().text(), Code::DiskNone, "it is a USB stick of ours");
}

/// Its driver is there, its controller too; it comes 40 s after power-on, as behind a slow RAID controller.
#[test]
fn forty_seconds_late() {
    const LATE: f64 = 40.0;
    let setup = direct().disks(&[]);
    let image = setup.scratch().join("late.raw");
    std::fs::File::create(&image).and_then(|file| file.set_len(12 << 30)).expect("a disk");
    let drive = format!("if=none,id=late,format=raw,file={}", image.display());
    let setup = setup.qemu_args(&["-device", "virtio-scsi-pci,id=hba", "-drive", &drive]);
    let mut trial = Trial::new("disk", "the only disk comes 40 s late", setup);
    let server = served(&trial.setup, &good().text());
    let guest = trial.start(&server);
    trial.refused(&guest, Code::DiskNone, "no disk was found at all");
    while seconds(&guest.expect("code=E-DISK-NONE", SOON)) < LATE {}
    let disk = json!({"driver": "scsi-hd", "bus": "hba.0", "drive": "late", "id": "late-disk"});
    guest.monitor("device_add", &disk).expect("the disk");
    installs(&guest);
    trial.ends(guest, Disks::Installed);
}

/// Seconds since the kernel started, in a step's line.
fn seconds(line: &str) -> f64 {
    word(line, "t").and_then(|t| t.parse().ok()).unwrap_or_else(|| panic!("no t= in `{line}`"))
}

/// Names of NVMe disks follow the order in which controllers answer; a serial number does not.
#[test]
fn nvme_names_swapped() {
    let setup = direct().disks(&[(Bus::Nvme, 512), (Bus::Nvme, 512)]);
    let other = setup.disk_paths()[0].clone();
    let trial = Trial::new("disk", "NVMe names swapped between boots, the disk named by serial", setup);
    let mut config = good();
    config.disk = "{serial: TATARA1}".to_owned();
    let server = served(&trial.setup, &config.text());
    let before = disk_digest(&other);
    let first = trial.start(&server);
    first.expect("action=install disk=/dev/nvme1n1", SOON);
    installs(&first);

    config.generation = 2;
    server.publish(&trial.setup.mac(), &config.text());
    let swapped = Guest::start(&trial.setup.swapped(), Some(&server));
    swapped.expect("action=reinstall disk=/dev/nvme0n1", SOON);
    installs(&swapped);
    let alone = Guest::start(&trial.setup.again(Start::Disk).swapped(), None);
    boots(&alone);
    assert_eq!(before, disk_digest(&other), "the other disk was written to");
    trial.ends(alone, Disks::Installed);
}

/// Refused before anything is fetched, let alone written.
#[test]
fn esp_too_small_for_the_release() {
    let mut trial = Trial::new("disk", "kernel and initramfs too large for the ESP", direct());
    let server = served(&trial.setup, &good().text());
    crate::remake(&server, |release| {
        release.artifacts.get_mut("initramfs.zst").expect("an initramfs").bytes = 300 * MIB;
    });
    let guest = trial.start(&server);
    trial.refused(&guest, Code::ReleaseBad, "a slot has room for");
    trial.ends(guest, Disks::Untouched);
}

/// Somebody filled the ESP of a node; an upgrade to it is refused and the node boots as it was.
#[test]
fn esp_full_at_an_upgrade() {
    let mut trial = Trial::new("disk", "an upgrade to a disk whose ESP is full", direct());
    let disk = trial.setup.disk_paths()[0].clone();
    let server = served(&trial.setup, &good().text());
    let first = trial.start(&server);
    installs(&first);
    fill_esp(&disk);
    server.other_release();
    let guest = trial.start(&server);
    trial.refused(&guest, Code::EspFull, "bytes, ");
    assert!(guest.never("step=payload"), "the slot was written:\n{}", guest.tail());
    drop(guest);
    let alone = Guest::start(&trial.setup.again(Start::Disk), None);
    assert_eq!(alone.findings(SOON)["boots"], 2, "the node as it was");
    trial.ends(alone, Disks::Irrelevant);
}

/// Leaves less than a kernel and an initramfs need.
fn fill_esp(disk: &Path) {
    let start = partition_start(disk, ESP.label);
    let junk = tempfile::NamedTempFile::new().expect("a file");
    junk.as_file().set_len(470 * MIB).expect("its size");
    let image = format!("{}@@{start}", disk.display());
    let copied = Command::new("mcopy").args(["-i", &image]).arg(junk.path()).arg("::junk").output();
    let copied = copied.expect("mcopy");
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

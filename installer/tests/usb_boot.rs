//! The stick's image with real GRUB under SeaBIOS: boot sector, block list and core image are patched as GRUB wants them.
//!
//! Needs qemu-system-x86 and grub-pc-bin, grub-efi-amd64-bin, grub-common; gdisk for the table.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy exempts test functions, not their helpers"
)]

use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use tatara_disk::stream::pack;
use tatara_installer::usb;
use tatara_spec::release::{Artifact, Digest, Release, artifact as name};

/// SeaBIOS and GRUB take seconds under emulation; a busy machine takes ten times as long.
const DEADLINE: Duration = Duration::from_secs(180);
/// What the stick's grub.cfg says when the kernel is none, as here.
const EXPECTED: &str = "tatara: the USB stick could not be booted";

fn mkimage(directory: &Path, format: &str, prefix: &str, disk_module: &[&str], output: &str) {
    let status = Command::new("grub-mkimage")
        .args(["--format", format, "--prefix", prefix, "--output"])
        .arg(directory.join(output))
        .args(tatara_spec::slot::GRUB_MODULES)
        .args(["serial", "terminal"])
        .args(disk_module)
        .status()
        .expect("grub-mkimage (grub-common)");
    assert!(status.success());
}

/// A release with real GRUB images and a kernel that is none.
fn release(directory: &Path) {
    mkimage(directory, "i386-pc", "(,gpt2)/grub", &["biosdisk"], name::GRUB_BIOS_CORE);
    mkimage(directory, "x86_64-efi", "/grub", &[], name::GRUB_EFI);
    std::fs::copy("/usr/lib/grub/i386-pc/boot.img", directory.join(name::GRUB_BIOS_BOOT)).unwrap();
    std::fs::write(directory.join(name::KERNEL), vec![1; 100_000]).unwrap();
    std::fs::write(directory.join(name::INITRAMFS), vec![2; 300_000]).unwrap();
    std::fs::write(directory.join(name::GRUB_CFG), tatara_spec::slot::GRUB_CFG).unwrap();
    let mut artifacts = BTreeMap::new();
    for file in [name::ROOT, name::STATE] {
        let mut packed = File::create(directory.join(file)).unwrap();
        let image = pack(&mut [3; 8192].as_slice(), &mut packed, 4096, 1, 1, &|_| ()).unwrap();
        artifacts.insert(file.to_owned(), artifact(directory, file, Some(image)));
    }
    for file in [
        name::KERNEL,
        name::INITRAMFS,
        name::GRUB_BIOS_BOOT,
        name::GRUB_BIOS_CORE,
        name::GRUB_EFI,
        name::GRUB_CFG,
    ] {
        artifacts.insert(file.to_owned(), artifact(directory, file, None));
    }
    let mut release = Release {
        api_version: "tatara.dev/v1alpha1".into(),
        kind: "Release".into(),
        id: String::new(),
        tatara_version: "0".into(),
        build_epoch: 0,
        kernel_version: "6.12.0".into(),
        packages: BTreeMap::new(),
        versions: Default::default(),
        kernel_config: BTreeMap::new(),
        artifacts,
    };
    release.id = release.compute_id();
    std::fs::write(directory.join("release.json"), release.to_json().unwrap()).unwrap();
}

fn artifact(directory: &Path, file: &str, image: Option<tatara_spec::release::Image>) -> Artifact {
    let bytes = std::fs::read(directory.join(file)).unwrap();
    Artifact { bytes: bytes.len() as u64, sha256: Digest(Sha256::digest(&bytes).into()), image }
}

fn build(directory: &Path, image: &Path) {
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).open(image).unwrap();
    usb::build(&mut file, directory, "tatara.config=https://config.example/${mac}.yaml").unwrap();
}

/// Runs QEMU until a line of the serial port holds `wanted`.
fn boots_until(image: &Path, wanted: &str) -> Result<(), String> {
    let mut qemu = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg", "-cpu", "max,-cx16", "-m", "128", "-nographic", "-no-reboot", "-snapshot"])
        .args(["-serial", "stdio", "-monitor", "none", "-nic", "none"])
        .arg("-drive")
        .arg(format!("file={},format=raw,if=ide", image.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("qemu-system-x86_64 (qemu-system-x86)");
    let output = qemu.stdout.take().unwrap();
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    let end = Instant::now() + DEADLINE;
    let mut seen = String::new();
    let result = loop {
        match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(wanted) => break Ok(()),
            Ok(line) => seen.push_str(&format!("{line}\n")),
            Err(RecvTimeoutError::Timeout) => break Err(format!("no such line in time; seen:\n{seen}")),
            Err(RecvTimeoutError::Disconnected) => break Err(format!("QEMU ended; seen:\n{seen}")),
        }
    };
    qemu.kill().unwrap();
    qemu.wait().unwrap();
    result
}

#[test]
fn a_stick_boots_under_seabios_to_its_grub_cfg() {
    let directory = tempfile::tempdir().unwrap();
    release(directory.path());
    let image = directory.path().join("usb.img");
    build(directory.path(), &image);
    boots_until(&image, EXPECTED).unwrap();
}

#[test]
fn a_stick_is_the_same_twice_and_its_table_is_sound() {
    let directory = tempfile::tempdir().unwrap();
    release(directory.path());
    let (one, two) = (directory.path().join("one.img"), directory.path().join("two.img"));
    build(directory.path(), &one);
    build(directory.path(), &two);
    assert!(std::fs::read(&one).unwrap() == std::fs::read(&two).unwrap(), "two builds differ");
    let verify = Command::new("sgdisk").arg("--verify").arg(&one).output().expect("sgdisk (gdisk)");
    let text = String::from_utf8_lossy(&verify.stdout).into_owned();
    assert!(text.contains("No problems found"), "{text}");
}

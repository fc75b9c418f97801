//! Refusals: each prints its code on the console, and the disk is, block for block, as it was.

use std::path::Path;
use std::time::Duration;
use support::config::NodeYaml;
use support::guest::{Bus, Firmware, Guest, Setup, Start, disk_digest};
use support::release;
use support::server::Server;

const REFUSED: Duration = Duration::from_secs(300);

/// A refused boot: what the config is, what the machine has, and the code it must print.
struct Case<'a> {
    setup: Setup,
    config: String,
    code: &'a str,
    /// Further text that a line of the console must hold.
    says: &'a str,
}

fn refused(case: &Case<'_>, change: impl FnOnce(&Server)) {
    let server = Server::start(&release::small(), &["console=ttyS0", "panic=10"]);
    server.publish(&case.setup.mac(), &case.config);
    change(&server);
    let before = digests(&case.setup);
    let guest = Guest::start(&case.setup, Some(&server));
    guest.expect(&format!("code={}", case.code), REFUSED);
    guest.printed(case.says, REFUSED);
    // It must go on by itself: a second try, not a halt.
    guest.expect("try again", REFUSED);
    drop(guest);
    assert_eq!(before, digests(&case.setup), "the disk was written to");
}

fn digests(setup: &Setup) -> Vec<u64> {
    setup.disk_paths().iter().map(|path| disk_digest(path)).collect()
}

fn direct() -> Setup {
    Setup::new(Firmware::Bios, Start::Direct)
}

fn good() -> NodeYaml {
    NodeYaml::new("node-1")
}

/// What `tatara config check` says about the text, without the file's name.
fn checked(config: &str) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("node.yaml");
    std::fs::write(&path, config).expect("the config");
    let output = std::process::Command::new(support::tool()).args(["config", "check"]).arg(&path).output();
    let output = output.expect("tatara config check");
    assert_eq!(output.status.code(), Some(1), "config check took it");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let prefix = format!("{}:", path.display());
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned));
    line.unwrap_or_else(|| panic!("no line of the file in `{text}`"))
}

/// A bad config: the booting machine says, with line and column, what `config check` says.
fn config_refused(config: String, code: &str, position: &str) {
    let says = checked(&config);
    assert!(says.starts_with(position), "`{says}` is not at {position}");
    refused(&Case { setup: direct(), config, code, says: &says }, |_| {});
}

#[test]
fn unknown_key() {
    config_refused(good().with("nework: {}\n").text(), "E-CONFIG-INVALID", "10:1:");
}

#[test]
fn wrong_type() {
    config_refused(good().with("users: [{name: alice, sudo: maybe}]\n").text(), "E-CONFIG-INVALID", "10:29:");
}

#[test]
fn newer_api_version() {
    let newer = good().text().replace("v1alpha1", "v2");
    config_refused(newer, "E-CONFIG-VERSION", "1:13:");
}

#[test]
fn wrong_ca() {
    let mut setup = direct();
    setup.pin = Some(format!("sha256:{}", "0".repeat(64)));
    refused(&Case { setup, config: good().text(), code: "E-TLS-UNTRUSTED", says: "sha256:" }, |_| {});
}

#[test]
fn disk_too_small() {
    let setup = direct().disk_gib(2);
    refused(&Case { setup, config: good().text(), code: "E-DISK-SMALL", says: "/dev/vda" }, |_| {});
}

#[test]
fn two_disks_match() {
    let setup = direct().disks(&[(Bus::VirtioBlk, 512), (Bus::VirtioBlk, 512)]);
    refused(&Case { setup, config: good().text(), code: "E-DISK-AMBIGUOUS", says: "/dev/vdb" }, |_| {});
}

#[test]
fn no_disk_matches() {
    let mut config = good();
    config.disk = "{transport: nvme}".to_owned();
    refused(&Case { setup: direct(), config: config.text(), code: "E-DISK-NONE", says: "/dev/vda" }, |_| {});
}

#[test]
fn foreign_disk() {
    let setup = direct();
    make_foreign(&setup.disk_paths()[0]);
    refused(&Case { setup, config: good().text(), code: "E-DISK-FOREIGN", says: "ext4" }, |_| {});
}

/// An ext4 file system on the whole disk, as `mkfs.ext4` makes it.
fn make_foreign(disk: &Path) {
    let output = std::process::Command::new("mkfs.ext4").args(["-q", "-F"]).arg(disk).arg("64M").output();
    let output = output.expect("mkfs.ext4");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn manifest_without_the_signature_asked_for() {
    let key = "key: RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let config = good().text().replace("release.json}", &format!("release.json, {key}}}"));
    refused(&Case { setup: direct(), config, code: "E-RELEASE-SIGNATURE", says: "release.json" }, |_| {});
}

/// One bit of the payload: found before it is decoded. The disk is being written then, but never becomes bootable.
#[test]
fn payload_with_one_bit_flipped() {
    let setup = direct();
    let server = Server::start(&release::small(), &["console=ttyS0", "panic=10"]);
    server.publish(&setup.mac(), &good().text());
    server.replace("root.erofs.zst", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("code=E-PAYLOAD-DIGEST", REFUSED);
    guest.expect("try again", REFUSED);
    // The operator uploads the release again; the machine goes on by itself.
    server.restore("root.erofs.zst");
    guest.expect("step=record state=ok", REFUSED);
    let found = guest.findings(REFUSED);
    assert_eq!(found["texts"]["/etc/hostname"], "node-1");
}

//! Releases that are not what their manifest says.

use crate::{direct, good, installs, remake, served};
use support::guest::{Firmware, Guest, Setup, Start};
use support::minisign::Signer;
use support::server::Server;
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

const ROOT: &str = "root.erofs.zst";

fn cut_off(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - bytes.len() / 8);
    bytes
}

/// One bit, in the last frame of an image: the others are on the disk when it is found.
pub(crate) fn flipped(mut bytes: Vec<u8>) -> Vec<u8> {
    let place = bytes.len() - bytes.len() / 8;
    bytes[place] ^= 1;
    bytes
}

/// The release is wrong until the operator uploads it again; then the machine goes on by itself.
fn mended(mut trial: Trial, spoil: impl FnOnce(&Server), file: &str, code: Code, says: &str) {
    let server = served(&trial.setup, &good().text());
    spoil(&server);
    let guest = trial.start(&server);
    trial.refused(&guest, code, says);
    server.restore(file);
    installs(&guest);
    trial.ends(guest, Disks::Installed);
}

/// Found before it is decoded. The disk is being written then, but never becomes bootable.
#[test]
fn one_bit_flipped() {
    let trial = Trial::new("payload", "one bit of the root flipped, then mended", direct());
    mended(trial, |server| server.replace(ROOT, flipped), ROOT, Code::PayloadDigest, ROOT);
}

#[test]
fn truncated() {
    let trial = Trial::new("payload", "the root cut off, then mended", direct());
    mended(trial, |server| server.replace(ROOT, cut_off), ROOT, Code::PayloadShort, ROOT);
}

/// The last frame is not the one that the manifest names; the first is on the disk by then.
#[test]
fn wrong_digest_in_the_manifest() {
    let trial = Trial::new("payload", "a digest in the manifest is wrong, then mended", direct());
    let spoil = |server: &Server| {
        remake(server, |release| {
            let image = release.artifacts.get_mut(ROOT).and_then(|root| root.image.as_mut());
            image.and_then(|image| image.frames.last_mut()).expect("a frame").packed_blake3.0[0] ^= 1;
        });
    };
    mended(trial, spoil, "release.json", Code::PayloadDigest, ROOT);
}

#[test]
fn kernel_of_another_release() {
    let trial = Trial::new("payload", "the kernel is that of another release, then mended", direct());
    mended(trial, |server| server.replace("vmlinuz", flipped), "vmlinuz", Code::PayloadDigest, "vmlinuz");
}

/// What stands half on a disk is not started by firmware of either kind; then the machine installs after all.
fn half_an_install(done: &'static str, firmware: Firmware) {
    let mut trial = Trial::new("payload", done, Setup::new(firmware, Start::Direct));
    let server = served(&trial.setup, &good().text());
    server.replace(ROOT, flipped);
    let guest = trial.start(&server);
    trial.refused(&guest, Code::PayloadDigest, ROOT);
    assert!(!guest.never("step=partition state=ok"), "nothing was written:\n{}", guest.tail());
    drop(guest);
    // Without graphics SeaBIOS speaks on the serial port.
    let setup = trial.setup.again(Start::Disk).qemu_args(&["-machine", "graphics=off"]);
    let alone = Guest::start(&setup, None);
    let nothing_to_boot = match firmware {
        Firmware::Bios => "No bootable device",
        Firmware::Uefi => "loading Boot0002 \"EFI Internal Shell\"",
    };
    alone.expect(nothing_to_boot, SOON);
    assert_eq!(alone.kernels(), 0, "a half-written disk was booted:\n{}", alone.tail());
    drop(alone);
    server.restore(ROOT);
    let guest = trial.start(&server);
    installs(&guest);
    trial.ends(guest, Disks::Unbootable);
}

#[test]
fn half_an_install_does_not_boot_on_bios() {
    half_an_install("half an install, then a start from the disk, BIOS", Firmware::Bios);
}

#[test]
fn half_an_install_does_not_boot_on_uefi() {
    half_an_install("half an install, then a start from the disk, UEFI", Firmware::Uefi);
}

/// A config that asks for a signature by a key; refused, and nothing is written.
fn unsigned(done: &'static str, key: &Signer, prepare: impl FnOnce(&Server), says: &str) {
    let mut trial = Trial::new("payload", done, direct());
    let config = good().text().replace("release.json}", &format!("release.json, key: {}}}", key.public));
    let server = served(&trial.setup, &config);
    prepare(&server);
    let guest = trial.start(&server);
    trial.refused(&guest, Code::ReleaseSignature, says);
    trial.ends(guest, Disks::Untouched);
}

/// Signs the manifest that is served, in the place of the release's own signature, which is by its builder's key.
fn sign(server: &Server, key: &Signer) {
    publish(server, &signature(server, key));
}

fn signature(server: &Server, key: &Signer) -> Vec<u8> {
    key.sign(&std::fs::read(server.www().join("release/release.json")).expect("the manifest"))
}

fn publish(server: &Server, signature: &[u8]) {
    server.replace("release.json.sig", |_| signature.to_vec());
}

#[test]
fn no_signature_where_one_is_asked_for() {
    let remove = |server: &Server| {
        std::fs::remove_file(server.www().join("release/release.json.sig")).expect("the release's signature");
    };
    unsigned("no signature where a key is given", &Signer::generate(), remove, "must be signed");
}

#[test]
fn signed_by_another_key() {
    unsigned("a signature by another key", &Signer::generate(), |_| (), "release.json");
}

#[test]
fn signature_of_another_release() {
    let key = Signer::generate();
    let other = |server: &Server| {
        let signature = signature(server, &key);
        server.other_release();
        publish(server, &signature);
    };
    unsigned("the signature of another release by the right key", &key, other, "release.json");
}

/// Signed rightly once upon a time; then its successor is published.
#[test]
fn older_than_allowed() {
    let key = Signer::generate();
    let mut trial = Trial::new("payload", "a signed release that is older than allowed", direct());
    let release = format!("release.json, key: {}, notBefore: \"2025-01-01T00:00:00Z\"}}", key.public);
    let server = served(&trial.setup, &good().text().replace("release.json}", &release));
    remake(&server, |release| release.build_epoch = 1_700_000_000);
    sign(&server, &key);
    let guest = trial.start(&server);
    trial.refused(&guest, Code::ReleaseOld, "is dated 2023-11-14T22:13:20Z");
    trial.untouched();
    server.restore("release.json");
    sign(&server, &key);
    installs(&guest);
    trial.ends(guest, Disks::RefusedThenInstalled);
}

/// The other way round, so that the rows above cannot be right for a wrong reason.
#[test]
fn signed_as_asked() {
    let key = Signer::generate();
    let trial = Trial::new("payload", "a signature by the right key: installed", direct());
    let config = good().text().replace("release.json}", &format!("release.json, key: {}}}", key.public));
    let server = served(&trial.setup, &config);
    sign(&server, &key);
    let guest = trial.start(&server);
    installs(&guest);
    trial.ends(guest, Disks::Installed);
}

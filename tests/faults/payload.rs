//! Releases that are not what their manifest says.

use crate::{direct, good, refused, served};
use support::trial::{Disks, SOON, Trial};
use tatara_spec::Code;

#[test]
fn no_signature_where_one_is_asked_for() {
    let key = "key: RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let config = good().text().replace("release.json}", &format!("release.json, {key}}}"));
    let trial = Trial::new("payload", "no signature where a key is given", direct());
    refused(trial, &config, Code::ReleaseSignature, "release.json");
}

/// Found before it is decoded. The disk is being written then, but never becomes bootable.
#[test]
fn one_bit_flipped() {
    let mut trial = Trial::new("payload", "one bit of the root flipped, then mended", direct());
    let server = served(&trial.setup, &good().text());
    server.replace("root.erofs.zst", |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        bytes
    });
    let guest = trial.start(&server);
    trial.refused(&guest, Code::PayloadDigest, "root.erofs.zst");
    // The operator uploads the release again; the machine goes on by itself.
    server.restore("root.erofs.zst");
    guest.expect("step=record state=ok", SOON);
    let found = guest.findings(SOON);
    assert_eq!(found["texts"]["/etc/hostname"], "node-1");
    trial.ends(guest, Disks::Installed);
}

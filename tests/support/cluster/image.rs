//! Container images of one static program, as the archive that `docker save` makes and `ctr images import` takes.
//!
//! Source: Docker Image Specification v1.2, "Combined Image JSON + Filesystem Changeset Format".

use crate::release::appliance;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tatara_spec::release::Digest;

/// The image of the container that keeps a pod's namespaces.
pub const PAUSE: &str = "registry.test/pause:1";
/// Its archive's name in a release.
pub const PAUSE_FILE: &str = "pause.tar";
/// The image that pods of tests run, with `tatara-pod` as their command.
pub const POD: &str = "registry.test/pod:1";

/// Writes the archive of an image whose only file is `/tatara-pod`, which is run with these arguments; gives its SHA-256, in hex.
///
/// # Panics
/// When a file cannot be written, or tar fails.
#[must_use]
pub fn archive(target: &Path, name: &str, arguments: &[&str]) -> String {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("a directory");
    fs::copy(appliance("tatara-pod"), root.join("tatara-pod")).expect("the program");
    fs::set_permissions(root.join("tatara-pod"), fs::Permissions::from_mode(0o755)).expect("its mode");
    tar(&dir.path().join("layer.tar"), &root, &["tatara-pod"]);
    let layer = sha256(&dir.path().join("layer.tar"));
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/tatara-pod"], "Cmd": arguments},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
    for (file, text) in [("config.json", config), ("manifest.json", manifest)] {
        fs::write(dir.path().join(file), text.to_string()).expect("a file of the image");
    }
    tar(target, dir.path(), &["manifest.json", "config.json", "layer.tar"]);
    sha256(target)
}

fn tar(archive: &Path, dir: &Path, names: &[&str]) {
    let mut command = Command::new("tar");
    command.args(["--owner=0", "--group=0", "--numeric-owner", "--mtime=@0", "--create", "--file"]);
    let status = command.arg(archive).arg("--directory").arg(dir).args(names).status();
    assert!(status.expect("tar").success(), "tar failed for {}", archive.display());
}

fn sha256(path: &Path) -> String {
    Digest(Sha256::digest(fs::read(path).expect("an archive")).into()).to_string()
}

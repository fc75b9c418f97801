//! Real archives into a real storage by Debian's skopeo and containers-storage. CRI-O itself, which Debian does not have, is a `systemctl`
//! that notes what it is told.

use super::super::Importer;
use super::super::archive::Shelf;
use super::super::store::Store;
use super::super::tests::server;
use crate::node::Node;
use crate::node::system::System;
use sha2::{Digest as _, Sha256};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tatara_spec::config::ImageArchive;
use tatara_spec::{Code, Fault};

const PINS: &str = "etc/crio/crio.conf.d/30-tatara-images.conf";

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn succeed(command: &mut Command) -> Vec<u8> {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn tar(directory: &Path, members: &[&str]) -> Vec<u8> {
    succeed(
        Command::new("tar")
            .args(["--create", "--owner=0", "--group=0", "--directory"])
            .arg(directory)
            .args(members),
    )
}

/// An archive as `docker save` writes it, of one image with two layers, and with these tags.
fn docker_archive(tags: &[&str]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    let mut layers = Vec::new();
    for name in ["one", "two"] {
        // Another image has other layers.
        file(name, tags.concat().as_bytes());
        let layer = tar(directory.path(), &[name]);
        file(&format!("{name}.tar"), &layer);
        layers.push(format!("sha256:{}", hex(&layer)));
    }
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": layers},
        "history": [{"created_by": "one"}, {"created_by": "two"}],
    });
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": tags, "Layers": ["one.tar", "two.tar"]}]);
    file("config.json", config.to_string().as_bytes());
    file("manifest.json", manifest.to_string().as_bytes());
    tar(directory.path(), &["./manifest.json", "config.json", "one.tar", "two.tar"])
}

/// The same as an OCI archive with one name.
fn oci_archive(name: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    fs::write(path("docker"), docker_archive(&[name])).unwrap();
    let mut skopeo = Command::new("skopeo");
    skopeo.args(["--insecure-policy", "copy", "--quiet"]);
    succeed(
        skopeo
            .arg(format!("docker-archive:{}", path("docker")))
            .arg(format!("oci-archive:{}:{name}", path("oci"))),
    );
    fs::read(path("oci")).unwrap()
}

struct Fake {
    root: tempfile::TempDir,
    node: Node,
    system: System,
    fetched: Arc<AtomicUsize>,
    images: Vec<ImageArchive>,
}

fn fake(archives: Vec<(&'static str, Vec<u8>)>) -> Fake {
    let root = tempfile::tempdir().unwrap();
    let images = archives.iter().map(|(path, bytes)| ImageArchive {
        release: None,
        url: Some(path.to_string()),
        sha256: Some(hex(bytes)),
    });
    let images = images.collect();
    let (base, fetched) = server(archives.into_iter().collect());
    let systemctl = root.path().join("systemctl");
    for (name, text) in [
        ("proc/cmdline", "quiet".to_owned()),
        ("var/lib/tatara/config.url", base),
        ("usr/lib/tatara/versions.json", r#"{"kubernetes": "1.34.1", "crio": "1.34.1"}"#.to_owned()),
        ("systemctl", format!("#!/bin/sh\necho \"$@\" >> {}\n", root.path().join("heard").display())),
    ] {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
    // Every directory can hold it, also one on an overlay.
    let system = System { systemctl, storage_driver: "vfs", ..System::default() };
    Fake { node: Node::new(root.path().to_owned()), root, system, fetched, images }
}

impl Fake {
    fn pass(&self) -> Result<usize, Fault> {
        let shelf = Shelf { node: &self.node, release_url: "../r/2/release.json" };
        let importer = Importer { node: &self.node, store: self.store(), alone: true, shelf };
        importer.all(&self.images)
    }

    fn store(&self) -> Store<'_> {
        Store::of(&self.node, &self.system).unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.store().names().unwrap().into_iter().collect()
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap_or_default()
    }
}

#[test]
fn archives_of_both_kinds_come_into_the_storage_and_are_pinned() {
    let fake = fake(vec![
        ("/a.tar", docker_archive(&["busybox:1", "reg.example/a:2"])),
        ("/b.tar", oci_archive("reg.example/b:3")),
    ]);
    let all = ["docker.io/library/busybox:1", "reg.example/a:2", "reg.example/b:3"];
    assert_eq!(fake.pass().unwrap(), 2);
    assert_eq!(fake.names(), all);
    assert_eq!(fake.store().kept().unwrap().layers.len(), 4);
    for name in all {
        assert!(fake.text(PINS).contains(&format!("\n  \"{name}\",\n")), "{}", fake.text(PINS));
    }
    assert_eq!(fake.text("heard"), "reload crio.service\n");
    assert!(!fake.root.path().join("var/lib/tatara/kubernetes/images/unpacked").exists());
    assert_eq!(fake.pass().unwrap(), 0);
    assert_eq!(fake.fetched.load(Ordering::SeqCst), 2);
    assert_eq!(fake.text("heard"), "reload crio.service\n", "it has heard that");
    // As at the next boot, whose /etc is made anew.
    fs::remove_file(fake.root.path().join(PINS)).unwrap();
    assert_eq!(fake.pass().unwrap(), 0);
    assert_eq!(fake.text("heard"), "reload crio.service\nreload crio.service\n");
}

#[test]
fn a_cri_o_that_does_not_hear_of_pins_is_told_again() {
    let fake = fake(vec![("/a.tar", docker_archive(&["reg.example/a:2"]))]);
    let told = fs::read(&fake.system.systemctl).unwrap();
    fs::write(&fake.system.systemctl, "#!/bin/sh\necho 'crio.service is not active' >&2; exit 1\n").unwrap();
    let fault = fake.pass().unwrap_err();
    assert!(fault.code == Code::ImageImport && fault.message.contains("is not active"), "{fault:?}");
    fs::write(&fake.system.systemctl, told).unwrap();
    assert_eq!(fake.pass().unwrap(), 0);
    assert_eq!(fake.text("heard"), "reload crio.service\n");
}

/// The database was on the disk and a layer's files were not: the next import would take the layer as it is.
#[test]
fn images_and_layers_of_an_import_that_was_cut_off_are_removed_first() {
    let mut fake = fake(vec![
        ("/old.tar", docker_archive(&["reg.example/old:1"])),
        ("/new.tar", docker_archive(&["reg.example/new:1"])),
    ]);
    let new = fake.images.remove(1);
    assert_eq!(fake.pass().unwrap(), 1);
    let before = fake.store().kept().unwrap();
    // All layers of the new image, and then not even the image.
    fake.images.push(new);
    assert_eq!(fake.pass().unwrap(), 1);
    let after = fake.store().kept().unwrap();
    let importing = fake.root.path().join("var/lib/tatara/kubernetes/importing");
    fs::write(&importing, serde_json::to_vec(&before).unwrap()).unwrap();
    for digest in fake.images.iter().skip(1).filter_map(|image| image.sha256.as_ref()) {
        fs::remove_file(fake.root.path().join(format!("var/lib/tatara/kubernetes/images/{digest}"))).unwrap();
    }
    let metadata = fake.root.path().join("var/lib/containers/storage/vfs-images/images.json");
    let listed: Vec<serde_json::Value> = serde_json::from_slice(&fs::read(&metadata).unwrap()).unwrap();
    let old: Vec<_> = listed
        .into_iter()
        .filter(|image| {
            image["names"]
                .as_array()
                .is_some_and(|names| names.iter().any(|name| name == "reg.example/old:1"))
        })
        .collect();
    fs::write(&metadata, serde_json::to_vec(&old).unwrap()).unwrap();
    assert_eq!(fake.names(), ["reg.example/old:1"]);
    assert_eq!(fake.store().kept().unwrap().layers, after.layers, "layers without an image");

    let fetched = fake.fetched.load(Ordering::SeqCst);
    fake.store().back_to(&before).unwrap();
    assert_eq!(fake.store().kept().unwrap(), before);
    assert_eq!(fake.pass().unwrap(), 1);
    assert!(!importing.exists());
    assert_eq!(fake.store().kept().unwrap(), after);
    assert_eq!(fake.fetched.load(Ordering::SeqCst), fetched + 1, "the old one is not fetched again");
}

#[test]
fn an_image_of_a_cut_is_removed_with_its_layers() {
    let fake = fake(vec![("/a.tar", docker_archive(&["reg.example/a:1", "reg.example/a:2"]))]);
    assert_eq!(fake.pass().unwrap(), 1);
    fake.store().back_to(&Default::default()).unwrap();
    assert_eq!(fake.store().kept().unwrap(), Default::default());
}

#[test]
fn an_archive_without_names_or_with_half_a_layer_leaves_nothing() {
    let mut half = docker_archive(&["reg.example/a:1"]);
    let at = half.windows(7).position(|bytes| bytes == b"two.tar").unwrap();
    half.truncate(half.len().min(at + 700));
    for (archive, why) in [
        (docker_archive(&[]), "no image in it has a name"),
        (tar(Path::new("/etc"), &["hostname"]), "neither manifest.json nor index.json"),
        (b"no tar at all".to_vec(), "read it"),
        (half, ""),
    ] {
        let fake = fake(vec![("/a.tar", archive)]);
        let fault = fake.pass().unwrap_err();
        assert!(fault.code == Code::ImageImport && fault.chain().contains(why), "{why}: {}", fault.chain());
        assert_eq!(fake.store().kept().unwrap(), Default::default(), "{why}");
        let left = fs::read_dir(fake.root.path().join("var/lib/tatara/kubernetes/images")).unwrap().count();
        assert_eq!(left, 0, "{why}");
    }
}

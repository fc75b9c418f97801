//! Images from a small web server into a containerd that is a script.

use super::Importer;
use super::archive::Shelf;
use super::store::Store;
use crate::node::Node;
use crate::node::system::System;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tatara_spec::Code;
use tatara_spec::config::ImageArchive;

const TAR: &[u8] = b"not really a tar, but ctr is not really ctr";

struct Fake {
    root: tempfile::TempDir,
    system: System,
    node: Node,
    fetched: Arc<AtomicUsize>,
    archive: ImageArchive,
}

/// The URL of a config beside which a server has these archives, and how many it has given.
pub(super) fn server(archives: BTreeMap<&'static str, Vec<u8>>) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/nodes/n.yaml", listener.local_addr().unwrap());
    let fetched = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&fetched);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 1024];
            let length = stream.read(&mut request).unwrap();
            let asked = request[..length].split(|byte| *byte == b' ').nth(1).unwrap();
            let body = &archives[std::str::from_utf8(asked).unwrap()];
            count.fetch_add(1, Ordering::SeqCst);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())
                .unwrap();
            stream.write_all(body).unwrap();
        }
    });
    (base, fetched)
}

fn fake() -> Fake {
    let root = tempfile::tempdir().unwrap();
    let (base, fetched) =
        server(["/nodes/images/a.tar", "/r/2/image-a.tar"].map(|path| (path, TAR.to_vec())).into());
    let path = root.path();
    for (name, text) in [
        ("proc/cmdline", "quiet"),
        ("var/lib/tatara/config.url", base.as_str()),
        ("leases", "2024\n"),
        ("usr/lib/tatara/versions.json", r#"{"kubernetes": "1.31.4", "containerd": "2.0.1", "runc": null}"#),
        ("names", "REF TYPE DIGEST SIZE\nold/x:1 t sha256:1 9\nreg/a:10 t sha256:2 9\n"),
    ] {
        fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
        fs::write(path.join(name), text).unwrap();
    }
    let script = format!(
        "#!/bin/sh\ncd {}\nshift 2\necho \"$@\" >> calls\ntest $1 = images || names=leases; names=${{names-names}}\nshift\ncase $1 in\nlist) cat $names;;\n\
         remove) grep -v \"^$3\\( \\|$\\)\" $names > left; mv left $names;;\n\
         import) echo reg/a:100 t sha256:3 9 >> names; echo sha256:4 t sha256:3 9 >> names\n\
         if test -e full; then echo 'ctr: no space left on device' >&2; exit 1; fi\n\
         echo 'unpacking reg/a:100 (sha256:1)...done';;\nesac\n",
        path.display()
    );
    let ctr = path.join("ctr");
    fs::write(&ctr, script).unwrap();
    fs::set_permissions(&ctr, fs::Permissions::from_mode(0o755)).unwrap();
    let sha256 = digest();
    let archive = ImageArchive { release: None, url: Some("images/a.tar".into()), sha256: Some(sha256) };
    let system = System { ctr, ..System::default() };
    Fake { node: Node::new(path.to_owned()), root, system, fetched, archive }
}

/// Of [`TAR`].
fn digest() -> String {
    Sha256::digest(TAR).iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Fake {
    /// The config names the archive `a.tar` of the release, which is `r2` in slot b; slot b's list is of the release `list`.
    fn of_the_release(&mut self, list: &str, sha256: &str, bytes: usize) {
        self.archive = ImageArchive { release: Some("a.tar".into()), url: None, sha256: None };
        let boot = r#"{"plan": "", "slot": "b", "disk": "/dev/vda", "release": "r2", "degraded": []}"#;
        let other = format!(
            r#"{{"release": "r1", "archives": {{"a.tar": {{"bytes": 1, "sha256": "{}"}}}}}}"#,
            "1".repeat(64)
        );
        let own = format!(
            r#"{{"release": "{list}", "archives": {{"a.tar": {{"bytes": {bytes}, "sha256": "{sha256}"}}}}}}"#
        );
        for (path, text) in [
            ("run/tatara/boot.json", boot),
            ("var/lib/tatara/images-a.json", &other),
            ("var/lib/tatara/images-b.json", &own),
        ] {
            let path = self.root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn import(&self) -> Result<usize, tatara_spec::Fault> {
        self.pass(true)
    }

    fn pass(&self, alone: bool) -> Result<usize, tatara_spec::Fault> {
        let shelf = Shelf { node: &self.node, release_url: "../r/2/release.json" };
        let store = Store::of(&self.node, &self.system)?;
        let importer = Importer { node: &self.node, store, alone, shelf };
        importer.all(std::slice::from_ref(&self.archive))
    }

    fn calls(&self) -> String {
        fs::read_to_string(self.root.path().join("calls")).unwrap_or_default()
    }

    fn names(&self) -> Vec<String> {
        let text = fs::read_to_string(self.root.path().join("names")).unwrap();
        let words = text.lines().filter_map(|line| line.split(' ').next()).filter(|name| *name != "REF");
        words.map(str::to_owned).collect()
    }

    fn kept(&self) -> Vec<String> {
        let directory = self.root.path().join("var/lib/tatara/kubernetes/images");
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

#[test]
fn an_archive_is_imported_pinned_and_not_fetched_again() {
    let fake = fake();
    assert_eq!(fake.import().unwrap(), 1);
    assert!(
        fake.calls().contains("images label reg/a:100 io.cri-containerd.pinned=pinned"),
        "{}",
        fake.calls()
    );
    assert!(!fake.calls().contains("label reg/a:10 "), "{}", fake.calls());
    assert_eq!(fake.kept(), [digest()], "nothing but the marker is left");
    assert_eq!(fake.import().unwrap(), 0);
    assert_eq!(fake.fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn an_image_that_is_gone_comes_again() {
    let fake = fake();
    fake.import().unwrap();
    fs::write(fake.root.path().join("names"), "old/x:1 t sha256:1 9\n").unwrap();
    assert_eq!(fake.import().unwrap(), 1);
}

#[test]
fn another_file_than_the_configs_is_not_imported() {
    let mut fake = fake();
    fake.archive.sha256 = Some("0".repeat(64));
    let fault = fake.import().unwrap_err();
    assert_eq!(fault.code, Code::ImageDigest);
    assert!(!fake.calls().contains("import"), "{}", fake.calls());
    assert_eq!(fake.kept(), [""; 0]);
}

#[test]
fn an_archive_of_the_release_is_what_the_slots_list_says() {
    let mut fake = fake();
    fake.of_the_release("r2", &digest(), TAR.len());
    assert_eq!(fake.import().unwrap(), 1);
    assert_eq!(fake.kept(), [digest()], "nothing but the marker is left");
    assert_eq!(fake.import().unwrap(), 0);
    assert_eq!(fake.fetched.load(Ordering::SeqCst), 1);
}

#[test]
fn another_file_than_the_releases_is_not_imported() {
    let mut fake = fake();
    for (sha256, bytes, why) in
        [("0".repeat(64), TAR.len(), "and the SHA-256"), (digest(), 7, "bytes, not 7 with")]
    {
        fake.of_the_release("r2", &sha256, bytes);
        let fault = fake.import().unwrap_err();
        assert_eq!(fault.code, Code::ImageDigest);
        assert!(
            fault.message.contains(why) && fault.message.contains("/r/2/image-a.tar"),
            "{}",
            fault.message
        );
        assert!(!fake.calls().contains("import"), "{}", fake.calls());
        assert_eq!(fake.kept(), [""; 0]);
    }
}

#[test]
fn an_archive_of_the_release_that_has_no_room_is_not_asked_for() {
    let mut fake = fake();
    fake.of_the_release("r2", &digest(), usize::MAX);
    assert_eq!(fake.import().unwrap_err().code, Code::StateFull);
    assert_eq!(fake.fetched.load(Ordering::SeqCst), 0);
}

/// The slot holds another release than its list is of, as one whose install was cut off; or the list is missing.
#[test]
fn a_list_of_another_release_counts_for_nothing() {
    let mut fake = fake();
    fake.of_the_release("r3", &digest(), TAR.len());
    let refused = |fake: &Fake| {
        let fault = fake.import().unwrap_err();
        assert_eq!(fault.code, Code::ImageRelease);
        assert!(fault.message.starts_with("release r2 has no image archive `a.tar`"), "{}", fault.message);
    };
    refused(&fake);
    fs::remove_file(fake.root.path().join("var/lib/tatara/images-b.json")).unwrap();
    refused(&fake);
    assert_eq!(fake.fetched.load(Ordering::SeqCst), 0);
}

#[test]
fn a_full_disk_is_told_in_containerds_words_and_overcome() {
    let fake = fake();
    let full = fake.root.path().join("full");
    fs::write(&full, "").unwrap();
    let fault = fake.import().unwrap_err();
    assert_eq!(fault.code, Code::StateFull);
    assert!(
        fault.message.contains("no space left") && fault.message.contains("are free"),
        "{}",
        fault.message
    );
    assert_eq!(fake.kept(), [""; 0], "the archive does not take the room");
    assert_eq!(fake.names(), ["old/x:1", "reg/a:10"], "nothing is half there");
    fs::remove_file(full).unwrap();
    assert_eq!(fake.import().unwrap(), 1);
}

/// containerd's database was on the disk and the files were not: imported over it, they would not be unpacked again.
#[test]
fn what_an_import_that_was_cut_off_has_left_is_removed_first() {
    let fake = fake();
    let before = r#"{"images": [{"name": "old/x:1", "digest": "sha256:1"}, {"name": "reg/a:100", "digest": "sha256:2"}],
        "leases": ["2024"]}"#;
    fs::write(fake.root.path().join("leases"), "2024\n2025\n").unwrap();
    fs::create_dir_all(fake.root.path().join("var/lib/tatara/kubernetes")).unwrap();
    fs::write(fake.root.path().join("var/lib/tatara/kubernetes/importing"), before).unwrap();
    let half = "old/x:1 t sha256:1 9\nreg/a:100 t sha256:3 9\nsha256:4 t sha256:3 9\n";
    fs::write(fake.root.path().join("names"), half).unwrap();
    assert_eq!(fake.import().unwrap(), 1);
    let calls = fake.calls();
    let removed: Vec<&str> = calls.lines().filter(|call| call.contains("remove")).collect();
    assert_eq!(
        removed,
        ["leases remove --sync 2025", "images remove --sync reg/a:100", "images remove --sync sha256:4"]
    );
    assert!(calls.find("sha256:4") < calls.find("import "), "{calls}");
    assert!(!fake.root.path().join("var/lib/tatara/kubernetes/importing").exists());
    assert_eq!(fake.import().unwrap(), 0);
    assert_eq!(fake.calls().matches("remove").count(), 3, "once");
}

/// What a pod has pulled meanwhile looks like what the import has brought.
#[test]
fn beside_a_kubelet_nothing_is_removed_nor_at_the_next_boot() {
    let fake = fake();
    let full = fake.root.path().join("full");
    fs::write(&full, "").unwrap();
    assert_eq!(fake.pass(false).unwrap_err().code, Code::StateFull);
    assert!(!fake.calls().contains("remove"), "{}", fake.calls());
    fs::remove_file(full).unwrap();
    assert!(!fake.root.path().join("var/lib/tatara/kubernetes/importing").exists());
    assert_eq!(fake.pass(false).unwrap(), 1);
    assert_eq!(fake.import().unwrap(), 0);
    assert!(!fake.calls().contains("remove"), "{}", fake.calls());
}

#[test]
fn an_archive_that_a_power_cut_left_does_not_stay() {
    let fake = fake();
    fake.import().unwrap();
    fs::write(fake.root.path().join("var/lib/tatara/kubernetes/images/partial"), "half").unwrap();
    assert_eq!(fake.import().unwrap(), 0);
    assert_eq!(fake.kept(), [digest()]);
}

#[test]
fn a_boot_has_one_first_pass() {
    let fake = fake();
    assert!(super::first_pass(&fake.node).unwrap());
    assert!(!super::first_pass(&fake.node).unwrap());
}

//! Configs that are refused: the booting machine says, with line and column, what `tatara config check` says.

use crate::site::{CONFIG, Site, config, gets_its_config, installs, start};
use crate::{direct, good, refused, served};
use std::path::{Path, PathBuf};
use support::config::NodeYaml;
use support::guest::{Guest, Start};
use support::minisign::Signer;
use support::trial::{Disks, Trial};
use support::web::Answer;
use tatara_spec::Code;

/// The bad configs that the unit tests have, each named after its fault.
const BAD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/config/bad");

/// What `tatara config check` says about files, without their directory.
fn checked(dir: &Path, files: &[PathBuf]) -> Vec<String> {
    let output = std::process::Command::new(support::tool()).args(["config", "check"]).args(files).output();
    let output = output.expect("tatara config check");
    assert_eq!(output.status.code(), Some(1), "config check took them");
    let prefix = format!("{}/", dir.display());
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| line.strip_prefix(&prefix).unwrap_or_else(|| panic!("`{line}`")).to_owned())
        .collect()
}

/// What it says about one text that has the name of the served one.
fn checked_text(text: &[u8]) -> Vec<String> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join(CONFIG.trim_start_matches('/'));
    std::fs::write(&path, text).expect("the config");
    checked(dir.path(), &[path])
}

/// `config check` says of every bad config what stands beside it.
#[test]
fn every_bad_config_through_config_check() {
    let dir = Path::new(BAD);
    let entries = std::fs::read_dir(dir).expect("the bad configs").flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    files.sort();
    assert!(files.len() >= 60, "{} bad configs", files.len());
    let expected = files.iter().flat_map(|file| {
        let text = std::fs::read_to_string(file.with_extension("expected")).expect("the expected text");
        let lines: Vec<String> = text.lines().map(without_code).collect();
        lines
    });
    assert_eq!(checked(dir, &files), expected.collect::<Vec<String>>());
}

/// `file:1:2: text [E-CODE]` without its last word.
fn without_code(line: &str) -> String {
    line.rsplit_once(" [E-").map_or(line, |(text, _)| text).to_owned()
}

/// One boot; each try gets the next of these bad configs.
fn refused_one_after_another(names: &[(&str, Code)]) {
    let site = Site::new();
    let mut trial = site.trial("config", "one bad config after another", "");
    let text =
        |name: &str| std::fs::read(Path::new(BAD).join(name).with_extension("yaml")).expect("a bad config");
    site.web.answers(CONFIG, names.iter().map(|(name, _)| Answer::Says("200 OK", Vec::new(), text(name))));
    let guest = start(&trial);
    for (name, code) in names {
        let says = checked_text(&text(name));
        let says: Vec<&str> = says.iter().map(String::as_str).collect();
        trial.fails(&guest, &name.replace('-', " "), *code, &says);
    }
    trial.ends(guest, Disks::Untouched);
}

#[test]
fn text_that_is_no_yaml() {
    refused_one_after_another(&[
        ("unclosed-quote", Code::ConfigSyntax),
        ("tab-indentation", Code::ConfigSyntax),
        ("byte-order-mark", Code::ConfigSyntax),
        ("duplicate-key", Code::ConfigSyntax),
        ("alias-bomb", Code::ConfigSyntax),
        ("not-utf8", Code::ConfigSyntax),
    ]);
}

#[test]
fn yaml_that_is_no_config() {
    refused_one_after_another(&[
        ("unknown-key", Code::ConfigInvalid),
        ("wrong-type-text-for-number", Code::ConfigInvalid),
        ("mtu-too-large", Code::ConfigInvalid),
        ("housekeeping-both-ways", Code::ConfigInvalid),
        ("newer-api-version", Code::ConfigVersion),
        ("several-faults", Code::ConfigInvalid),
    ]);
}

#[test]
fn signatures() {
    let (site, signer, stranger) = (Site::new(), Signer::generate(), Signer::generate());
    let mut trial = site.trial(
        "config",
        "no fault: the right signature at last",
        &format!("tatara.key={}", signer.public),
    );
    let right = config().text().into_bytes();
    let other = config().with("tuning: {}\n").text().into_bytes();
    let signature = |bytes: Vec<u8>| Answer::Says("200 OK", Vec::new(), bytes);
    let missing = Answer::Says("404 Not Found", Vec::new(), Vec::new());
    let signatures = [
        missing,
        signature(b"untrusted comment: none\nRWQ\n".to_vec()),
        signature(stranger.sign(&right)),
        signature(signer.sign(&other)),
        signature(signer.sign(&right)),
    ];
    site.web.answers("/node.yaml.sig", signatures);
    let guest = start(&trial);
    let code = Code::ConfigSignature;
    trial.fails(&guest, "no signature where a key is given", code, &["the config must be signed", "404"]);
    trial.fails(&guest, "a signature file that is none", code, &["malformed"]);
    trial.fails(&guest, "a signature by another key", code, &["was not made by", &signer.public]);
    trial.fails(&guest, "the signature of another config", code, &["or the config was changed"]);
    gets_its_config(trial, guest);
}

/// The disk remembers the serial that it was installed with: what is older is refused, and the node stays as it is.
#[test]
fn lower_serial() {
    let mut setup = direct();
    let first = NodeYaml { serial: 7, ..good() };
    let server = served(&setup, &first.text());
    let guest = Guest::start(&setup, Some(&server));
    guest.expect("step=record state=ok", support::trial::SOON);
    let _ = guest.findings(support::trial::SOON);
    guest.ended(support::trial::SOON);
    drop((guest, server));

    setup = setup.again(Start::Direct);
    let older = NodeYaml { serial: 6, generation: 2, ..good() };
    let server = served(&setup, &older.text());
    let done = "a serial lower than the one accepted last; the node stays as it was";
    let mut trial = Trial::new("config", done, setup.clone());
    let guest = trial.start(&server);
    trial.refused(&guest, Code::ConfigSerial, "accepted 7 before");
    // The record of the failure is kept on the disk, and nothing else is written.
    let written = guest.bytes_written().expect("QEMU's count");
    assert!(written < 1 << 20, "{written} bytes were written");
    drop((guest, server));
    let guest = Guest::start(&setup.again(Start::Disk), None);
    let found = guest.findings(support::trial::SOON);
    assert_eq!((&found["texts"]["/etc/hostname"], &found["boots"]), (&"node-1".into(), &2.into()));
    trial.ends(guest, Disks::Irrelevant);
}

/// Whoever corrects the file at the server need not touch the machine.
#[test]
fn bad_config_then_right() {
    let site = Site::new();
    site.put(CONFIG, good().with("nework: {}\n").text().as_bytes());
    let mut trial = site.trial("config", "a config with a mistyped key, then mended", "");
    let guest = start(&trial);
    let says = ["node.yaml:10:1: unknown key `nework`; did you mean `network`?"];
    trial.fails(&guest, "a mistyped key", Code::ConfigInvalid, &says);
    site.put(CONFIG, good().text().as_bytes());
    installs(trial, guest);
}

/// What a release lacks is known before anything is written.
#[test]
fn kubernetes_on_a_release_without_it() {
    let config = good().with(
        "kubernetes: {endpoint: 'k8s.example.com:6443', join: {token: abcdef.0123456789abcdef, caCertHashes: \
         ['sha256:1111111111111111111111111111111111111111111111111111111111111111']}}\n",
    );
    let trial = Trial::new("config", "kubernetes in the config, and a release without it", direct());
    refused(trial, &config.text(), Code::KubernetesPayload, "the release has no kubeadm and kubelet");
}

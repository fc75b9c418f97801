//! Good configs are taken, bad ones refused with exactly the text beside them.
//!
//! `TATARA_UPDATE_FIXTURES=1` writes the expected texts anew; read the difference before it is committed.

// Helpers of tests are tests, which clippy.toml's exception does not know.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use tatara_spec::Code;
use tatara_spec::config::{self, Diagnostic, NodeConfig};

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let dir = Path::new("../../tests/fixtures/config").join(kind);
    let mut files: Vec<PathBuf> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no fixtures in {}", dir.display());
    files
}

fn file_name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

fn fixture(kind: &str, name: &str) -> Vec<u8> {
    let path = fixtures(kind).into_iter().find(|path| file_name(path) == name);
    fs::read(path.unwrap()).unwrap()
}

fn good(name: &str) -> NodeConfig {
    config::parse(name, &fixture("good", name)).unwrap()
}

fn refused(text: &[u8]) -> Vec<Diagnostic> {
    config::parse("node.yaml", text).unwrap_err()
}

#[test]
fn good_configs_are_taken() {
    for path in fixtures("good") {
        let result = config::parse(file_name(&path), &fs::read(&path).unwrap());
        assert!(result.is_ok(), "{}: {:#?}", path.display(), result.unwrap_err());
    }
}

#[test]
fn bad_configs_are_refused_with_line_column_and_message() {
    let mut wrong = Vec::new();
    let files = fixtures("bad");
    assert!(files.len() >= 60, "{} bad configs", files.len());
    for path in files {
        let found = match config::parse(file_name(&path), &fs::read(&path).unwrap()) {
            Ok(_) => "taken\n".to_owned(),
            Err(diagnostics) => {
                diagnostics.iter().map(|fault| format!("{fault} [{}]\n", fault.code)).collect()
            }
        };
        let expected_file = path.with_extension("expected");
        if std::env::var_os("TATARA_UPDATE_FIXTURES").is_some() {
            fs::write(&expected_file, &found).unwrap();
        }
        let expected = fs::read_to_string(&expected_file).unwrap_or_default();
        if found != expected || found == "taken\n" {
            wrong.push(format!("{}\nfound:\n{found}expected:\n{expected}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_arrive_as_written() {
    let config = good("full.yaml");
    assert_eq!(config.metadata.serial, 7);
    assert_eq!(
        config.install.disk.serial.as_deref(),
        Some("123456"),
        "a number where a text is wanted stays a text"
    );
    assert_eq!(config.users[1].name, "no", "`no` is a word, not a boolean");
    assert_eq!(config.files[0].mode.as_deref(), Some("0644"), "an octal mode keeps its zero");
    assert_eq!(config.files[0].content, "Welcome.\n\nTwo lines.\n");
    assert_eq!(config.tuning.sysctls["net.ipv4.ip_forward"], "1");
    assert_eq!(config.network.interfaces[0].gateways[1].to_string(), "fe80::1");
}

#[test]
fn another_reader_of_yaml_reads_the_same() {
    for path in fixtures("good") {
        let text = fs::read_to_string(&path).unwrap();
        let theirs: NodeConfig = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(good(file_name(&path)), theirs, "{}", path.display());
    }
}

#[test]
fn defaults_are_those_of_the_reference() {
    let config = good("minimal.yaml");
    assert_eq!(config.install.generation, 1);
    assert_eq!(config.install.wipe, config::Wipe::Never);
    assert_eq!(config.network, config::Network::default());
    assert_eq!(config.tuning.isolation, config::Isolation::None);
}

#[test]
fn a_file_over_the_limit_is_refused_unread() {
    let mut text = fixture("good", "minimal.yaml");
    text.resize(config::SIZE_MAX_BYTES, b'\n');
    assert!(config::parse("node.yaml", &text).is_ok(), "exactly the limit is taken");
    text.push(b'\n');
    assert_eq!(
        refused(&text)[0].to_string(),
        "node.yaml:1:1: the file has 1048577 bytes; expected at most 1048576"
    );
}

#[test]
fn the_fault_of_a_booting_machine_has_the_lines_of_config_check() {
    let diagnostics = refused(&fixture("bad", "several-faults.yaml"));
    let fault = config::to_fault(&diagnostics);
    assert_eq!(fault.code, Code::ConfigInvalid);
    let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    assert!(lines.len() > 5, "all faults at once: {lines:?}");
    assert_eq!(fault.message.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn thousands_of_faults_are_cut_off() {
    let mut text = fixture("good", "minimal.yaml");
    text.extend_from_slice(b"users:\n");
    text.extend(b"  - name: ROOT\n".repeat(1000));
    assert_eq!(refused(&text).len(), 100);
}

#[test]
fn long_lists_and_mappings_are_refused() {
    let list = "users:\n".to_owned() + &"  - name: u\n".repeat(1001);
    let mapping: String = (0..1001).map(|n| format!("key{n}: x\n")).collect();
    for (more, says) in
        [(list, "more than 1000 items in one list"), (mapping, "more than 1000 keys in one mapping")]
    {
        let mut text = fixture("good", "minimal.yaml");
        text.extend(more.into_bytes());
        let messages: Vec<String> = refused(&text).into_iter().map(|diagnostic| diagnostic.message).collect();
        assert!(messages.iter().any(|message| message == says), "{messages:?}");
    }
}

#[test]
fn every_message_is_one_line() {
    for path in fixtures("bad") {
        for diagnostic in refused(&fs::read(&path).unwrap()) {
            assert!(!diagnostic.message.contains(char::is_control), "{}: {diagnostic:?}", path.display());
        }
    }
}

#[test]
fn secrets_are_not_repeated() {
    for name in ["keys-url-with-password.yaml", "ssh-key-private.yaml"] {
        for diagnostic in refused(&fixture("bad", name)) {
            assert!(
                !diagnostic.message.contains("hunter2") && !diagnostic.message.contains("b3Blbn"),
                "{diagnostic}"
            );
        }
    }
}

mod properties {
    use proptest::prelude::{ProptestConfig, any, proptest};
    use tatara_spec::config;

    /// A good config into which the properties cut.
    const TEXT: &str = include_str!("../../../tests/fixtures/config/good/full.yaml");

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = config::parse("x", &bytes);
        }

        #[test]
        fn every_diagnostic_points_into_the_text(at in 0..TEXT.len(), inserted in any::<char>()) {
            let mut text = TEXT.to_owned();
            if text.is_char_boundary(at) {
                text.insert(at, inserted);
            }
            let lines = text.split(['\n', '\r']).count();
            for diagnostic in config::parse("x", text.as_bytes()).err().into_iter().flatten() {
                assert!((1..=lines).contains(&diagnostic.line) && diagnostic.column >= 1, "{diagnostic}");
            }
        }
    }
}

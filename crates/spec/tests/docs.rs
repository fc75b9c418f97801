//! docs/errors.md, docs/config.md and docs/config.schema.json are what the code says. `TATARA_UPDATE_DOCS=1` writes them anew.

// Helpers of tests are tests, which clippy.toml's exception does not know.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use tatara_spec::{config, error};

fn check(name: &str, text: &str) {
    let path = Path::new("../../docs").join(name);
    if std::env::var_os("TATARA_UPDATE_DOCS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == text,
        "docs/{name} differs from the code: run the tests with TATARA_UPDATE_DOCS=1 and commit it"
    );
}

#[test]
fn errors() {
    check("errors.md", &error::reference());
}

#[test]
fn config_reference() {
    let text = config::reference();
    for key in [
        "`metadata`",
        "`install.release`",
        "`network.interfaces[].bond`",
        "`users[]`",
        "`tuning.housekeeping`",
    ] {
        assert!(text.contains(&format!("\n## {key}\n")), "no section {key}");
    }
    check("config.md", &text);
}

#[test]
fn config_schema() {
    let text = serde_json::to_string_pretty(&config::NodeConfig::schema()).unwrap();
    check("config.schema.json", &format!("{text}\n"));
}

#[test]
fn every_warning_is_explained() {
    let text = std::fs::read_to_string("../../docs/tuning.md").unwrap();
    for code in tatara_spec::cpu::WarningCode::ALL {
        assert!(text.contains(&format!("| `{}` | ", code.name())), "{}", code.name());
    }
}

#[test]
fn codes_are_unique_and_explained() {
    let mut names: Vec<&str> = tatara_spec::Code::ALL.iter().map(|code| code.name()).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for code in tatara_spec::Code::ALL {
        assert!(
            code.name().starts_with("E-") && code.meaning().ends_with('.') && code.hint().ends_with('.'),
            "{code}"
        );
        assert!(code.hint().is_ascii(), "{code}: a VGA console shows no other letters");
    }
}

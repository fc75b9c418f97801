//! Configs that are refused: the booting machine says, with line and column, what `tatara config check` says.

use crate::{direct, good, refused};
use support::trial::Trial;
use tatara_spec::Code;

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

fn config_refused(done: &'static str, config: &str, code: Code, position: &str) {
    let says = checked(config);
    assert!(says.starts_with(position), "`{says}` is not at {position}");
    refused(Trial::new("config", done, direct()), config, code, &says);
}

#[test]
fn unknown_key() {
    let config = good().with("nework: {}\n").text();
    config_refused("a key that does not exist", &config, Code::ConfigInvalid, "10:1:");
}

#[test]
fn wrong_type() {
    let config = good().with("users: [{name: alice, sudo: maybe}]\n").text();
    config_refused("a value of the wrong type", &config, Code::ConfigInvalid, "10:29:");
}

#[test]
fn newer_api_version() {
    let config = good().text().replace("v1alpha1", "v2");
    config_refused("a newer apiVersion", &config, Code::ConfigVersion, "1:13:");
}

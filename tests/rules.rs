//! Rules about the tree itself: which crate may import which, where code that the compiler does not check may stand, how long a
//! file may be.

use cargo_metadata::{Metadata, MetadataCommand, Package};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom, as ARCHITECTURE.md says. A crate of ours that is not listed is an error.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("tatara-spec", &[]),
    ("tatara-sys", &[]),
    ("tatara-disk", &["tatara-spec"]),
    ("tatara-http", &["tatara-spec"]),
    ("tatara-installer", &["tatara-spec", "tatara-disk", "tatara-sys"]),
    ("tatara-firstboot", &["tatara-spec", "tatara-disk", "tatara-sys", "tatara-http", "tatara-installer"]),
    (
        "tatara-init",
        &["tatara-spec", "tatara-disk", "tatara-sys", "tatara-http", "tatara-installer", "tatara-firstboot"],
    ),
    ("tatara", &["tatara-spec", "tatara-disk", "tatara-installer"]),
    (
        "tatara-fuzz",
        &["tatara-spec", "tatara-disk", "tatara-sys", "tatara-http", "tatara-firstboot", "tatara-init"],
    ),
    ("tatara-checker", &[]),
    ("tatara-tests", &["tatara", "tatara-spec"]),
];

/// Longest source file, in lines.
const FILE_LINES: usize = 500;

fn root() -> PathBuf {
    Path::new("..").canonicalize().expect("the workspace")
}

fn metadata() -> Metadata {
    MetadataCommand::new().current_dir(root()).no_deps().exec().expect("cargo metadata")
}

fn ours(package: &Package) -> Vec<String> {
    let normal = |dep: &&cargo_metadata::Dependency| dep.kind != cargo_metadata::DependencyKind::Development;
    let names = package.dependencies.iter().filter(normal).map(|dep| dep.name.clone());
    names.filter(|name| name == "tatara" || name.starts_with("tatara-")).collect()
}

#[test]
fn crates_import_only_what_the_architecture_allows() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    for package in &metadata().packages {
        let list = allowed.get(package.name.as_str());
        let list = list.unwrap_or_else(|| panic!("{} is not in the table of ARCHITECTURE.md", package.name));
        for import in ours(package) {
            assert!(list.contains(&import.as_str()), "{} may not import {import}", package.name);
        }
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a directory of the tree").flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() && name != "target" && name != ".git" {
            sources(&path, found);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
}

/// The keyword, put together: it stands in no file outside crates/sys, this one included.
const UNCHECKED: &str = concat!("un", "safe");

/// Whether a line has the keyword as a word, be it in a comment.
fn is_unchecked(line: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == UNCHECKED)
}

#[test]
fn unchecked_code_is_in_crates_sys_only() {
    let root = root();
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files.iter().filter(|file| !file.starts_with(root.join("crates/sys"))) {
        let text = fs::read_to_string(file).expect("a source file");
        let line = text.lines().position(is_unchecked).map(|index| index + 1);
        assert_eq!(line, None, "{} has `{UNCHECKED}`", file.display());
    }
}

#[test]
fn files_are_short_enough_to_read() {
    let mut files = Vec::new();
    sources(&root(), &mut files);
    let long: Vec<String> = files
        .iter()
        .map(|file| (file, fs::read_to_string(file).expect("a source file").lines().count()))
        .filter(|(_, lines)| *lines > FILE_LINES)
        .map(|(file, lines)| format!("{} has {lines} lines", file.display()))
        .collect();
    assert!(long.is_empty(), "more than {FILE_LINES} lines: {long:?}");
}

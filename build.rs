//! Turns data of the source tree into Rust tables: `kernel-config/requirements.toml`, and the payload files of `image/rootfs`.
//! The tables depend on the tree alone: no clock, no environment, files in order of name.

use serde::Deserialize;
use std::error::Error;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

const REQUIREMENTS: &str = "kernel-config/requirements.toml";
const ROOTFS: &str = "image/rootfs";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirements {
    requirement: Vec<Requirement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Requirement {
    option: String,
    allowed: Vec<String>,
    reason: String,
    used_by: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let source = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={REQUIREMENTS}");
    println!("cargo::rerun-if-changed={ROOTFS}");
    let text = std::fs::read_to_string(source.join(REQUIREMENTS))?;
    std::fs::write(out.join("kernel_requirements.rs"), requirements_table(&text)?)?;
    std::fs::write(out.join("rootfs.rs"), rootfs_table(&source.join(ROOTFS), &out.join("rootfs"))?)?;
    Ok(())
}

/// `&[Requirement]` as Rust text. An option named twice, or one without an allowed value, is an error in the data.
fn requirements_table(text: &str) -> Result<String, Box<dyn Error>> {
    let mut list = toml::from_str::<Requirements>(text)?.requirement;
    list.sort_by(|a, b| a.option.cmp(&b.option));
    let mut table = String::from("&[\n");
    for (i, entry) in list.iter().enumerate() {
        if i > 0 && list[i - 1].option == entry.option {
            return Err(format!("{REQUIREMENTS}: {} is named twice", entry.option).into());
        }
        if entry.allowed.is_empty() || entry.allowed.iter().any(|value| value != "y" && value != "m") {
            return Err(format!("{REQUIREMENTS}: {}: allowed must be y, m or both", entry.option).into());
        }
        let Requirement { option, allowed, reason, used_by } = entry;
        writeln!(
            table,
            "Requirement {{ option: {option:?}, allowed: &{allowed:?}, reason: {reason:?}, used_by: {used_by:?} }},"
        )?;
    }
    table.push_str("]\n");
    Ok(table)
}

/// `&[RootfsEntry]` as Rust text: regular files by `include_bytes!` of a numbered copy, so that no path of a checkout is in a
/// build that several share; symbolic links by their target. Git keeps of a mode only the executable bit, so that is all
/// that counts here.
fn rootfs_table(root: &Path, copies: &Path) -> Result<String, Box<dyn Error>> {
    let mut table = String::from("&[\n");
    if !root.is_dir() {
        table.push_str("]\n");
        return Ok(table);
    }
    std::fs::create_dir_all(copies)?;
    for (number, entry) in
        walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name().into_iter().enumerate()
    {
        let entry = entry?;
        let path = entry.path().strip_prefix(root)?.to_str().ok_or("a payload path is not UTF-8")?;
        let kind = entry.file_type();
        let node = if kind.is_dir() {
            continue;
        } else if kind.is_symlink() {
            format!("RootfsNode::Symlink({:?})", std::fs::read_link(entry.path())?.to_string_lossy())
        } else {
            let executable = entry.metadata()?.permissions().mode() & 0o111 != 0;
            let mode = if executable { 0o755 } else { 0o644 };
            std::fs::write(copies.join(number.to_string()), std::fs::read(entry.path())?)?;
            let copy = format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/rootfs/{number}\"))");
            format!("RootfsNode::File {{ mode: {mode:#o}, bytes: {copy} }}")
        };
        writeln!(table, "RootfsEntry {{ path: {path:?}, node: {node} }},")?;
    }
    table.push_str("]\n");
    Ok(table)
}

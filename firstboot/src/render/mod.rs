//! `render`: a node's config to the files below /etc, one module a topic. No I/O.

mod files;
mod firewall;
mod identity;
pub mod kubernetes;
mod network;
mod slices;
mod sshd;
mod systemd;
mod time;
mod tuning;
mod users;

use std::collections::BTreeMap;
use tatara_spec::config::NodeConfig;
use tatara_spec::cpu::CpuPlan;
use tatara_spec::release::Versions;
use tatara_spec::{Code, Fault};

/// Everything that the files are made from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The accepted config.
    pub config: &'a NodeConfig,
    /// The machine's CPUs, split as the config wants.
    pub cpu: &'a CpuPlan,
    /// Keys fetched from the users' `keysUrl`: URL to keys.
    pub fetched_keys: &'a BTreeMap<String, Vec<String>>,
    /// 32 lower-case hex digits (machine-id(5)).
    pub machine_id: &'a str,
    /// The root's own account files, to which the users are appended.
    pub base: &'a BaseFiles,
    /// What the root has for Kubernetes; `None` where there is no root yet and the files are only made to see whether they can be.
    pub versions: Option<&'a Versions>,
}

/// The account files that the root was built with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BaseFiles {
    /// /etc/passwd, passwd(5).
    pub passwd: String,
    /// /etc/group, group(5).
    pub group: String,
    /// /etc/shadow, shadow(5).
    pub shadow: String,
    /// /etc/gshadow, gshadow(5).
    pub gshadow: String,
}

/// One file as it must be on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// Absolute path below /etc.
    pub path: String,
    /// Permission bits; without meaning for a symbolic link.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What is there.
    pub content: Content,
}

/// What a path holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A regular file with these bytes.
    File(Vec<u8>),
    /// A symbolic link to this target.
    Symlink(String),
}

impl Rendered {
    /// A file of root's that everybody may read.
    fn public(path: impl Into<String>, text: impl Into<String>) -> Self {
        Self::file(path, 0o644, text)
    }

    /// A file of root's.
    fn file(path: impl Into<String>, mode: u32, text: impl Into<String>) -> Self {
        let content = Content::File(text.into().into_bytes());
        Self { path: path.into(), mode, uid: 0, gid: 0, content }
    }

    /// The same file for another group.
    fn group(self, gid: u32) -> Self {
        Self { gid, ..self }
    }

    fn symlink(path: impl Into<String>, target: impl Into<String>) -> Self {
        Self { path: path.into(), mode: 0o777, uid: 0, gid: 0, content: Content::Symlink(target.into()) }
    }
}

/// Renders every file of a node, sorted by path. The same input gives the same files.
///
/// # Errors
/// [`Code::Render`] when a value has no place in its file's format, names something that is not in the config, or
/// when a file of `files` would replace one that is made from the rest of the config.
pub fn render(input: &Input<'_>) -> Result<Vec<Rendered>, Fault> {
    let config = input.config;
    let mut rendered = identity::render(&config.metadata.name, input.machine_id)?;
    rendered.extend(users::render(&config.users, input.fetched_keys, input.base)?);
    rendered.extend(sshd::render());
    rendered.extend(network::render(config)?);
    rendered.extend(time::render(&config.time)?);
    rendered.extend(tuning::render(config, input.cpu)?);
    rendered.extend(slices::render(input.cpu));
    rendered.extend(systemd::render(input.cpu));
    rendered.extend(kubernetes::render(config, input.cpu, input.versions)?);
    rendered.extend(firewall::render(config.firewall.as_ref())?);
    let mut made: std::collections::BTreeSet<String> =
        rendered.iter().map(|file| file.path.clone()).collect();
    for file in files::render(&config.files)? {
        if !made.insert(file.path.clone()) {
            return Err(fault(format!(
                "files: {} is made from the rest of the config; choose another path (a drop-in with a later name)",
                file.path
            )));
        }
        rendered.push(file);
    }
    rendered.sort_by(|a, b| a.path.cmp(&b.path));
    refuse_file_as_directory(&rendered)?;
    Ok(rendered)
}

/// A path cannot be a file and hold another file.
fn refuse_file_as_directory(rendered: &[Rendered]) -> Result<(), Fault> {
    let paths: std::collections::BTreeSet<&str> = rendered.iter().map(|file| file.path.as_str()).collect();
    for path in &paths {
        let above = path.match_indices('/').filter_map(|(at, _)| path.get(..at));
        if let Some(file) = above.into_iter().find(|above| paths.contains(above)) {
            return Err(fault(format!("files: {path} cannot be below {file}, which is a file, too")));
        }
    }
    Ok(())
}

/// The first line of every file whose format has comments.
fn header(from: &str) -> String {
    format!(
        "# Generated by tatara at every boot from `{from}` of the node's config; changes here are lost.\n"
    )
}

fn fault(message: String) -> Fault {
    Fault::new(Code::Render, message)
}

/// Refuses text that would start a new line, or end early, in a line-based file.
///
/// The config's validation is stricter; this is what keeps a value from becoming a directive when it is not.
fn one_line<'a>(key: &str, value: &'a str) -> Result<&'a str, Fault> {
    if value.is_empty() || value.chars().any(char::is_control) {
        // Fetched lists of keys may have lines of any length.
        let shown: String = value.chars().take(64).collect();
        return Err(fault(format!("{key}: {shown:?} must be one line of text without control characters")));
    }
    Ok(value)
}

/// Like [`one_line`], and without white space: for values that are one word in their file.
fn word<'a>(key: &str, value: &'a str) -> Result<&'a str, Fault> {
    if one_line(key, value)?.contains(char::is_whitespace) {
        return Err(fault(format!("{key}: {value:?} must not contain white space")));
    }
    Ok(value)
}

//! The node's config, `apiVersion: tatara.dev/v1alpha1`, `kind: NodeConfig`.
//!
//! Strict: an unknown key is an error, every value is validated, and what passes cannot be wrong later. The JSON Schema
//! that [`NodeConfig::schema`] gives to editors is also what [`parse`] checks against, so the two cannot differ. It is kept
//! as docs/config.schema.json, so that PID 1 has the text and not what makes it; a test compares them:
//!
//! 1. [`tree`]: YAML to values with positions; refuses what makes YAML surprising.
//! 2. `apiVersion` and `kind`, before anything else is looked at.
//! 3. [`check`]: every key and value against the schema, with [`format`] for the texts.
//! 4. [`typed`]: the same tree as JSON values, by the schema, and from these the types.
//! 5. [`consistency`]: contradictions between values that are right by themselves.

mod accept;
mod check;
mod consistency;
mod diagnostic;
mod firewall;
mod format;
mod kubernetes;
mod reference;
mod secret;
mod tree;
mod typed;
mod user_id;
mod v1alpha1;

pub use accept::Accept;
pub use diagnostic::{Diagnostic, nearest, to_fault};
pub use firewall::{Cni, Firewall, NodePorts, OpenPort, PortProtocol};
pub use format::is_bootstrap_token;
pub use kubernetes::{ImageArchive, ImageSource, Join, Kubernetes, RegistryMirror, Role, Taint, TaintEffect};
pub use reference::reference;
pub use secret::Secret;
pub use v1alpha1::{
    Bond, Confirm, DiskSelector, DiskTransport, FileEntry, Governor, Handover, Housekeeping, HugepageSize,
    Hugepages, Install, Interface, InterfaceMatch, Isolation, Metadata, Network, NodeConfig, ReleaseRef,
    Report, Route, Time, Tuning, User, Vlan, Wipe,
};

use diagnostic::{Position, Problem, did_you_mean, quote};
use serde_json::Value;
use tree::{Kind, Node};

/// What [`NodeConfig::schema`] makes.
const SCHEMA: &str = include_str!("../../../../docs/config.schema.json");

/// Largest config in bytes. Configs of real clusters are a few KiB; keys and files leave room to grow.
pub const SIZE_MAX_BYTES: usize = 1024 * 1024;

/// Most diagnostics that are given at once: a console scrolls, and the first ones matter.
const DIAGNOSTICS_MAX: usize = 100;

/// Parses and validates a config. `name` is only for messages: a path or a URL.
///
/// # Errors
/// Every fault that could be found in one go (at most 100), in the order of the text. A fault of the syntax or of the version hides
/// the others.
pub fn parse(name: &str, text: &[u8]) -> Result<NodeConfig, Vec<Diagnostic>> {
    let mut problems = Vec::new();
    match parse_into(text, &mut problems) {
        Some(config) if problems.is_empty() => Ok(config),
        _ => {
            problems.sort_by_key(|problem| problem.at);
            problems.truncate(DIAGNOSTICS_MAX);
            Err(problems.into_iter().map(|problem| Diagnostic::new(name, problem)).collect())
        }
    }
}

impl NodeConfig {
    /// The JSON Schema (draft 2020-12) of a config. `format` names the checks of texts; those that are not in the standard
    /// are described in docs/config.md.
    #[must_use]
    pub fn schema() -> Value {
        schemars::schema_for!(NodeConfig).to_value()
    }
}

/// `None` after at least one problem was pushed; problems may be pushed beside a config, too.
fn parse_into(text: &[u8], problems: &mut Vec<Problem>) -> Option<NodeConfig> {
    let read = decode(text).and_then(|text| tree::read(text, problems));
    let root = match read {
        Ok(root) => root,
        Err(problem) => {
            problems.push(problem);
            return None;
        }
    };
    if let Err(problem) = check_version(&root) {
        *problems = vec![problem];
        return None;
    }
    let schema = match serde_json::from_str(SCHEMA) {
        Ok(schema) => schema,
        Err(error) => {
            let message = format!("the schema of this release cannot be read: {error}");
            problems.push(Problem::invalid(Position::START, message));
            return None;
        }
    };
    let readable = problems.is_empty();
    check::check(&schema, &root, problems);
    if !readable {
        // Parts that were refused are missing in the tree.
        return None;
    }
    match serde_json::from_value(typed::value(&schema, &schema, &root)) {
        Ok(config) => {
            consistency::check(&config, &root, problems);
            Some(config)
        }
        Err(error) => {
            // The schema check has said the same, better.
            if problems.is_empty() {
                problems.push(Problem::invalid(Position::START, error.to_string()));
            }
            None
        }
    }
}

/// The bytes as text, or why they are none.
fn decode(text: &[u8]) -> Result<&str, Problem> {
    if text.len() > SIZE_MAX_BYTES {
        let message = format!("the file has {} bytes; expected at most {SIZE_MAX_BYTES}", text.len());
        return Err(Problem::syntax(Position::START, message));
    }
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err(Problem::syntax(Position::START, "a byte order mark; expected UTF-8 without one"));
    }
    std::str::from_utf8(text).map_err(|error| {
        let valid = String::from_utf8_lossy(&text[..error.valid_up_to()]);
        let line = valid.matches('\n').count() + 1;
        let column = valid.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Problem::syntax(Position { line, column }, "a byte that is not UTF-8")
    })
}

/// Refuses what this release does not know, before it complains about keys that a newer version may have.
fn check_version(root: &Node) -> Result<(), Problem> {
    if !matches!(root.kind, Kind::Mapping(_)) {
        return Err(Problem::invalid(
            root.at,
            "not a NodeConfig; expected a mapping with `apiVersion` and `kind`",
        ));
    }
    for (key, known) in [("apiVersion", v1alpha1::API_VERSION), ("kind", v1alpha1::KIND)] {
        let Some(entry) = root.entry(key) else {
            return Err(Problem::version(root.at, format!("missing key `{key}`; expected `{key}: {known}`")));
        };
        match &entry.value.kind {
            Kind::Scalar { text, .. } if text == known => {}
            Kind::Scalar { text, .. } => {
                // A version that is not known is not a typing error.
                let version = text.starts_with("tatara.dev/v");
                let hint = if version { String::new() } else { did_you_mean(text, [known]) };
                let message = format!("`{key}` is {}; this release knows `{known}`{hint}", quote(text));
                return Err(Problem::version(entry.value.at, message));
            }
            _ => {
                return Err(Problem::version(
                    entry.value.at,
                    format!("`{key}` is not a text; expected `{known}`"),
                ));
            }
        }
    }
    Ok(())
}

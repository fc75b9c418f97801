//! The `format`s of the schema: what a text must look like.
//!
//! Each check answers with what was expected, as the end of a message: `expected …`, perhaps with the nearest right value.

mod kubernetes;
mod machine;
mod net;
mod people;

pub use kubernetes::is_bootstrap_token;

use serde_json::Value;

/// What was expected instead.
type Checked = Result<(), String>;

/// Checks one format.
type Check = fn(&str) -> Checked;

/// The formats by name. The names are part of the JSON Schema that editors see.
pub(super) const FORMATS: &[(&str, Check)] = &[
    ("absolute-path", people::absolute_path),
    ("archive-name", kubernetes::archive_name),
    ("bond-mode", net::bond_mode),
    ("bootstrap-token", kubernetes::bootstrap_token),
    ("ca-cert-hash", kubernetes::ca_cert_hash),
    ("cpu-list", machine::cpu_list),
    ("device-path", machine::device_path),
    ("domain-name", net::domain_name),
    ("etc-path", people::etc_path),
    ("file-mode", people::file_mode),
    ("glob", machine::glob),
    ("host", net::host),
    ("host-name", net::host_name),
    ("host-port", kubernetes::host_port),
    ("https-url", net::https_url),
    ("identity", kubernetes::identity),
    ("image-reference", kubernetes::image_reference),
    ("interface-address", net::interface_address),
    ("interface-name", net::interface_name),
    ("ip", net::ip),
    ("kernel-argument", machine::kernel_argument),
    ("kubeconfig", kubernetes::kubeconfig),
    ("kubelet-key", kubernetes::kubelet_key),
    ("label-key", kubernetes::label_key),
    ("label-value", kubernetes::label_value),
    ("login-name", people::login_name),
    ("mac", net::mac),
    ("minisign-key", people::minisign_key),
    ("module-name", machine::module_name),
    ("moment", people::moment),
    ("network-address", net::network_address),
    ("node-label", kubernetes::node_label),
    ("one-line", machine::one_line),
    ("registry", kubernetes::registry),
    ("registry-url", kubernetes::registry_url),
    ("release-url", net::release_url),
    ("sha256", kubernetes::sha256),
    ("size", machine::size),
    ("source", kubernetes::source),
    ("ssh-public-key", people::ssh_public_key),
    ("sysctl-name", machine::sysctl_name),
    ("time-zone", people::time_zone),
    ("word", machine::word),
];

/// A text that no format takes, so that each can be asked for what it expects.
pub(super) const WRONG_FOR_ALL: &str = "\n";

/// Checks a text against the value of a schema's `format`; where there is none, everything is right.
pub(super) fn check(format: &Value, text: &str) -> Checked {
    let Some(name) = format.as_str() else { return Ok(()) };
    FORMATS.iter().find(|(known, _)| *known == name).map_or(Ok(()), |(_, check)| check(text))
}

/// `Ok` if the condition holds, else what was expected.
fn expect(holds: bool, expected: &str) -> Checked {
    if holds { Ok(()) } else { Err(format!("expected {expected}")) }
}

/// Whether a path has no `.` or `..`, no empty component and nothing unprintable.
fn is_clean_path(path: &str) -> bool {
    path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(|part| !matches!(part, "" | "." | "..")))
        && path.len() < PATH_MAX_BYTES
        && !path.chars().any(char::is_control)
}

/// Linux, `include/uapi/linux/limits.h`: PATH_MAX, the closing NUL included.
const PATH_MAX_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::{FORMATS, WRONG_FOR_ALL};
    use crate::config::NodeConfig;
    use serde_json::Value;

    fn collect_formats(schema: &Value, into: &mut Vec<String>) {
        match schema {
            Value::Object(object) => {
                into.extend(object.get("format").and_then(Value::as_str).map(str::to_owned));
                object.values().for_each(|value| collect_formats(value, into));
            }
            Value::Array(items) => items.iter().for_each(|value| collect_formats(value, into)),
            _ => {}
        }
    }

    #[test]
    fn the_schema_names_no_format_without_a_check_and_no_check_is_unused() {
        let mut used = Vec::new();
        collect_formats(&NodeConfig::schema(), &mut used);
        let known: Vec<&str> = FORMATS.iter().map(|(name, _)| *name).collect();
        for name in &used {
            assert!(known.contains(&name.as_str()) || name.starts_with("uint"), "no check for `{name}`");
        }
        for name in known {
            assert!(used.iter().any(|used| used == name), "`{name}` is not used");
        }
    }

    #[test]
    fn every_format_says_what_it_expects() {
        for (name, check) in FORMATS {
            let message = check(WRONG_FOR_ALL).unwrap_err();
            assert!(
                message.starts_with("expected ") && !message.contains("did you mean"),
                "{name}: {message}"
            );
        }
    }
}

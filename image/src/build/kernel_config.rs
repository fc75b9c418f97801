//! Checks a kernel's configuration against `kernel-config/requirements.toml`.

use anyhow::{Result, bail};
use std::collections::BTreeMap;

/// One option that the appliance needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requirement {
    /// Name without `CONFIG_`.
    pub option: &'static str,
    /// Values that do: `y`, `m`.
    pub allowed: &'static [&'static str],
    /// What fails without it.
    pub reason: &'static str,
    /// The source file that depends on it.
    pub used_by: &'static str,
}

/// Everything needed, in order of name; made by the root build script.
pub const REQUIREMENTS: &[Requirement] = include!(concat!(env!("OUT_DIR"), "/kernel_requirements.rs"));

/// Compares a `/boot/config-VERSION` with what is needed: option to value found, for the release manifest.
///
/// # Errors
/// One error that lists every option that is missing or has the wrong value, with its reason.
pub fn check(config: &str, requirements: &[Requirement]) -> Result<BTreeMap<String, String>> {
    let values = parse(config);
    let mut found = BTreeMap::new();
    let mut lacking = Vec::new();
    for requirement in requirements {
        let value = values.get(requirement.option).copied().unwrap_or("n");
        found.insert(requirement.option.to_owned(), value.to_owned());
        if !requirement.allowed.contains(&value) {
            lacking.push(format!(
                "  CONFIG_{}={value}, needed {}: {} ({})",
                requirement.option,
                requirement.allowed.join(" or "),
                requirement.reason,
                requirement.used_by
            ));
        }
    }
    if !lacking.is_empty() {
        bail!("the kernel lacks {} of the options that are needed:\n{}", lacking.len(), lacking.join("\n"));
    }
    Ok(found)
}

/// Option to value; `# CONFIG_X is not set` lines are absent, which reads as `n`.
fn parse(config: &str) -> BTreeMap<&str, &str> {
    config.lines().filter_map(|line| line.strip_prefix("CONFIG_")?.split_once('=')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDED: &[Requirement] = &[
        Requirement { option: "A", allowed: &["y"], reason: "first", used_by: "a.rs" },
        Requirement { option: "B", allowed: &["y", "m"], reason: "second", used_by: "b.rs" },
    ];

    #[test]
    fn values_found_are_given() {
        let found = check("CONFIG_A=y\nCONFIG_B=m\nCONFIG_C=\"text=\"\n", NEEDED).unwrap();
        assert_eq!(found.get("A").map(String::as_str), Some("y"));
        assert_eq!(found.get("B").map(String::as_str), Some("m"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn all_that_is_lacking_is_listed() {
        let error = check("CONFIG_A=m\n# CONFIG_B is not set\n", NEEDED).unwrap_err().to_string();
        assert!(error.contains("CONFIG_A=m, needed y: first (a.rs)"), "{error}");
        assert!(error.contains("CONFIG_B=n, needed y or m: second (b.rs)"), "{error}");
    }

    #[test]
    fn every_requirement_names_a_file_that_exists() {
        let root = std::path::Path::new(".");
        assert!(REQUIREMENTS.len() > 40);
        for requirement in REQUIREMENTS {
            assert!(
                root.join(requirement.used_by).exists(),
                "{}: {}",
                requirement.option,
                requirement.used_by
            );
        }
    }
}

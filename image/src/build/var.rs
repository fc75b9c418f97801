//! The tmpfiles.d rules that turn an empty state partition into the /var that the root's packages expect.
//!
//! Source: tmpfiles.d(5).

use anyhow::{Context as _, Result};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

/// State of package tools, which the node does not run: caches, memories of what was configured, systemd's notes about `enable`.
const SKIPPED: &[&str] = &[
    "/var/cache/apt",
    "/var/cache/debconf",
    "/var/cache/ldconfig",
    "/var/lib/apt",
    "/var/lib/pam",
    "/var/lib/shells.state",
    "/var/lib/systemd/deb-systemd-helper-enabled",
    "/var/lib/systemd/deb-systemd-helper-masked",
    "/var/lib/systemd/deb-systemd-user-helper-enabled",
    "/var/lib/ucf",
    "/var/log/alternatives.log",
    "/var/log/apt",
    "/var/log/bootstrap.log",
    "/var/log/dpkg.log",
    "/var/backups",
];

/// Where the contents of files in /var are kept in the root, as tmpfiles.d(5) says for lines of type C.
const FACTORY: &str = "usr/share/factory";

const HEADER: &str =
    "# Made from the root's /var by `tatara image build`: the state partition begins empty.\n";

/// The rules for everything below `ROOT/var`, in order of name, for which no package brings a rule of its own. A file that is
/// not empty is copied to the root's factory directory, from where the rule takes it.
///
/// # Errors
/// /var or a rule file cannot be read.
pub(crate) fn rules(root: &Path) -> Result<String> {
    let known = known_paths(root)?;
    let mut rules = String::from(HEADER);
    let var = root.join("var");
    let mut walk = walkdir::WalkDir::new(&var).min_depth(1).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.with_context(|| format!("cannot walk {}", var.display()))?;
        let relative = entry.path().strip_prefix(root).context("a path left the root")?;
        let path = format!("/{}", relative.display());
        if SKIPPED.contains(&path.as_str()) {
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        if known.contains(&path) || path.contains(char::is_whitespace) {
            continue;
        }
        let about = entry.metadata().with_context(|| format!("cannot read {}", entry.path().display()))?;
        rule(root, &path, entry.path(), &about, &mut rules)?;
    }
    Ok(rules)
}

fn rule(root: &Path, path: &str, source: &Path, about: &Metadata, rules: &mut String) -> Result<()> {
    // Numbers, not names: the users of the root are there before the rules run, but the file is made without asking them.
    let owner = format!("{:04o} {} {}", about.permissions().mode() & 0o7777, about.uid(), about.gid());
    if about.is_dir() {
        writeln!(rules, "d {path} {owner} - -")?;
    } else if about.is_symlink() {
        let target = fs::read_link(source).with_context(|| format!("cannot read {}", source.display()))?;
        writeln!(rules, "L {path} - - - - {}", target.display())?;
    } else if about.len() == 0 {
        writeln!(rules, "f {path} {owner} - -")?;
    } else if about.is_file() {
        let factory = root.join(FACTORY).join(path.trim_start_matches('/'));
        if let Some(parent) = factory.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        fs::copy(source, &factory).with_context(|| format!("cannot copy {}", source.display()))?;
        writeln!(rules, "C {path} {owner} - -")?;
    }
    Ok(())
}

/// Paths that rules of the root's packages (and ours) make already: two rules for one path are a warning at every boot.
fn known_paths(root: &Path) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    let directory = root.join("usr/lib/tmpfiles.d");
    if !directory.is_dir() {
        return Ok(known);
    }
    for entry in fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))? {
        let path = entry.with_context(|| format!("cannot list {}", directory.display()))?.path();
        if path.extension().is_none_or(|extension| extension != "conf") || !path.is_file() {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let makes = |line: &str| {
            let mut words = line.split_whitespace();
            let (kind, path) = (words.next()?, words.next()?);
            // Only lines that create something; z, x, e and r change or remove what is there.
            kind.starts_with(['d', 'D', 'f', 'L', 'C', 'q', 'Q', 'v'])
                .then(|| path.trim_end_matches('/').to_owned())
        };
        known.extend(text.lines().filter_map(makes));
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_file_has_its_rule_and_known_paths_have_none() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        for directory in ["var/mail", "var/lib/ucf/cache", "var/log", "var/lib/made", "usr/lib/tmpfiles.d"] {
            fs::create_dir_all(path(directory)).unwrap();
        }
        fs::set_permissions(path("var/mail"), fs::Permissions::from_mode(0o2775)).unwrap();
        fs::write(path("var/log/wtmp"), b"").unwrap();
        fs::write(path("var/lib/database"), b"content").unwrap();
        std::os::unix::fs::symlink("../run", path("var/run")).unwrap();
        fs::write(
            path("usr/lib/tmpfiles.d/x.conf"),
            "# c\nd /var/log 0755 - - -\nz /var/mail 0700\nd! /var/lib/made/ 0700\n",
        )
        .unwrap();
        let rules = rules(root.path()).unwrap();
        let lines: Vec<String> = rules
            .lines()
            .skip(1)
            .map(|line| {
                line.split_whitespace()
                    .filter(|w| w.parse::<u32>().is_err() || w.len() == 4)
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
        let expected = [
            "d /var/lib 0755 - -",
            "C /var/lib/database 0644 - -",
            "f /var/log/wtmp 0644 - -",
            "d /var/mail 2775 - -",
            "L /var/run - - - - ../run",
        ];
        assert_eq!(lines, expected, "{rules}");
        assert_eq!(fs::read(path("usr/share/factory/var/lib/database")).unwrap(), b"content");
    }
}

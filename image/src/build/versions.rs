//! `/usr/lib/tatara/versions.json`: what the node's config is rendered for. The node cannot ask the programs: that is
//! before they can run.

use super::rootfs;
use anyhow::{Context as _, Result};
use std::collections::BTreeMap;
use std::path::Path;
use tatara_spec::layout;
use tatara_spec::release::Versions;

/// Writes the versions to a shaped root, by its packages, and gives them for the manifest.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn record(
    root: &Path,
    kubernetes: Option<String>,
    packages: &BTreeMap<String, String>,
) -> Result<Versions> {
    let of = |name: &str| packages.get(name).map(|version| upstream(version).to_owned());
    let versions = Versions { kubernetes, containerd: of("containerd"), runc: of("runc") };
    let mut json = serde_json::to_string(&versions).context("the versions are no JSON")?;
    json.push('\n');
    rootfs::write(&root.join(layout::VERSIONS.trim_start_matches('/')), json.as_bytes(), 0o644)?;
    Ok(versions)
}

/// Upstream's part of a Debian version (deb-version(7)), without what Debian notes there: a repacked source, `+ds1` or `~ds1`.
fn upstream(version: &str) -> &str {
    let version = version.split_once(':').map_or(version, |(_epoch, version)| version);
    let version = version.rsplit_once('-').map_or(version, |(version, _revision)| version);
    for mark in ["~ds", "+ds", "~dfsg", "+dfsg"] {
        if let Some((version, _)) = version.split_once(mark) {
            return version;
        }
    }
    version
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_part_of_debian_versions() {
        for (debian, expected) in [
            ("1.7.24~ds1-6+b4", "1.7.24"),
            ("1.1.15+ds1-2+b4", "1.1.15"),
            ("1:2.0.0~rc.1-1", "2.0.0~rc.1"),
            ("1.34.2", "1.34.2"),
        ] {
            assert_eq!(upstream(debian), expected, "{debian}");
        }
    }

    #[test]
    fn what_is_not_there_is_null() {
        let root = tempfile::tempdir().unwrap();
        let packages = BTreeMap::from([("containerd".to_owned(), "1.7.24~ds1-6+b4".to_owned())]);
        let versions = record(root.path(), None, &packages).unwrap();
        assert_eq!(versions.containerd.as_deref(), Some("1.7.24"));
        let json =
            std::fs::read_to_string(root.path().join(layout::VERSIONS.trim_start_matches('/'))).unwrap();
        assert_eq!(json, "{\"kubernetes\":null,\"containerd\":\"1.7.24\",\"runc\":null}\n");
    }
}

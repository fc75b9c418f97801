//! `/usr/lib/tatara/versions.json`: what the node's config is rendered for. The node cannot ask the programs: that is
//! before they can run.

use super::rootfs;
use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::path::Path;
use tatara_spec::layout;
use tatara_spec::release::{Runtime, Versions};

/// Writes the versions to a shaped root, by its packages, and gives them for the manifest.
///
/// # Errors
/// The root has two container runtimes, or not the one that is wanted; or the file cannot be written.
pub(crate) fn record(
    root: &Path,
    kubernetes: Option<String>,
    packages: &BTreeMap<String, String>,
    wanted: Option<Runtime>,
) -> Result<Versions> {
    let of = |name: &str| packages.get(name).map(|version| upstream(version).to_owned());
    let versions = Versions { kubernetes, containerd: of("containerd"), runc: of("runc"), crio: of("cri-o") };
    let found = versions.runtime()?.map(|(runtime, _)| runtime);
    match wanted {
        Some(wanted) if found != Some(wanted) => {
            let found = found.map_or_else(|| "no container runtime".to_owned(), |found| found.to_string());
            bail!("the root has {found}, not {wanted}, by its packages");
        }
        _ => {}
    }
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
        let versions = record(root.path(), None, &packages, None).unwrap();
        assert_eq!(versions.containerd.as_deref(), Some("1.7.24"));
        let json =
            std::fs::read_to_string(root.path().join(layout::VERSIONS.trim_start_matches('/'))).unwrap();
        assert_eq!(json, "{\"kubernetes\":null,\"containerd\":\"1.7.24\",\"runc\":null,\"crio\":null}\n");
    }

    #[test]
    fn a_root_has_one_runtime_and_that_which_is_wanted() {
        let root = tempfile::tempdir().unwrap();
        let record = |names: &[&str], wanted| {
            let packages = names.iter().map(|name| ((*name).to_owned(), "1.34.1-1.1".to_owned())).collect();
            record(root.path(), None, &packages, wanted).map_err(|error| error.to_string())
        };
        let crio = record(&["cri-o"], Some(Runtime::CriO)).unwrap();
        assert_eq!((crio.crio.as_deref(), crio.containerd), (Some("1.34.1"), None));
        for (names, wanted, why) in [
            (
                &["cri-o", "containerd"][..],
                None,
                "two container runtimes, containerd 1.34.1 and CRI-O 1.34.1",
            ),
            (&["containerd"], Some(Runtime::CriO), "the root has containerd, not CRI-O"),
            (&["cri-o"], Some(Runtime::Containerd), "the root has CRI-O, not containerd"),
            (&[], Some(Runtime::CriO), "the root has no container runtime, not CRI-O"),
        ] {
            let error = record(names, wanted).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

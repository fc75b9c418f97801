//! Archives of container images in a release, which a config names by `kubernetes.images[].release`.

use super::check::file_name;
use super::{Digest, Release};
use crate::config::{NodeConfig, nearest};
use crate::error::{Code, Fault};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What the names of their files in a release begin with: artifacts are in one directory, and none of the others is named so.
const PREFIX: &str = "image-";

/// So many names are listed in a message.
const LISTED: usize = 20;

/// A release's archives by name; a node keeps them for each slot, as they were in the manifest that it verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archives {
    /// [`Release::id`] of the release that they are in.
    pub release: String,
    /// The archives.
    pub archives: BTreeMap<String, Archive>,
}

/// One archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Archive {
    /// Size of the file in bytes.
    pub bytes: u64,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: Digest,
}

impl Archives {
    /// Those that a manifest names.
    #[must_use]
    pub fn of(release: &Release) -> Self {
        let named = release.artifacts.iter().filter_map(|(file, artifact)| {
            let name = file.strip_prefix(PREFIX)?;
            Some((name.to_owned(), Archive { bytes: artifact.bytes, sha256: artifact.sha256 }))
        });
        Self { release: release.id.clone(), archives: named.collect() }
    }

    /// A release of which no archive is known.
    #[must_use]
    pub fn none(release: &str) -> Self {
        Self { release: release.to_owned(), archives: BTreeMap::new() }
    }

    /// The archive of this name.
    ///
    /// # Errors
    /// [`Code::ImageRelease`] with the names that there are.
    pub fn get(&self, name: &str) -> Result<&Archive, Fault> {
        self.archives.get(name).ok_or_else(|| {
            let names: Vec<&str> = self.archives.keys().map(String::as_str).collect();
            let hint = nearest(name, names.iter().copied())
                .map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            let message = format!(
                "release {} has no image archive `{name}`, which `kubernetes.images` names; it has {}{hint}",
                self.release,
                listed(&names)
            );
            Fault::new(Code::ImageRelease, message)
        })
    }

    /// Refuses a config that names an archive which is not there.
    ///
    /// # Errors
    /// As [`Self::get`], of the first such.
    pub fn check(&self, config: &NodeConfig) -> Result<(), Fault> {
        let images = config.kubernetes.iter().flat_map(|kubernetes| &kubernetes.images);
        images.filter_map(|image| image.release.as_deref()).try_for_each(|name| self.get(name).map(drop))
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let mut text =
        names.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<String>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}

/// Name of an archive's file in a release.
#[must_use]
pub fn archive_file(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// Whether an archive may be called so: its file's name stands in URLs and in SHA256SUMS.
#[must_use]
pub fn is_archive_name(name: &str) -> bool {
    !name.starts_with('.') && !name.is_empty() && file_name(&archive_file(name)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::{Archive, Archives, archive_file, is_archive_name};
    use crate::config::{self, NodeConfig};
    use crate::error::Code;
    use crate::release::{Artifact, Digest, Release, artifact};

    fn release(files: &[String]) -> Release {
        let artifact = |(bytes, name): (u64, &String)| {
            (name.clone(), Artifact { bytes, sha256: Digest([7; 32]), image: None })
        };
        let artifacts = (1..).zip(files).map(artifact).collect();
        Release { id: "0123".to_owned(), artifacts, ..Release::default() }
    }

    fn config(images: &str) -> NodeConfig {
        let text = format!(
            "apiVersion: tatara.dev/v1alpha1\nkind: NodeConfig\nmetadata: {{name: n}}\n\
             install: {{release: {{url: r/release.json}}}}\n\
             kubernetes:\n  endpoint: k:6443\n  join: {{tokenFrom: 'https://t/', caCertHashes: ['sha256:{}']}}\n  images: {images}\n",
            "0".repeat(64)
        );
        config::parse("node.yaml", text.as_bytes()).unwrap()
    }

    #[test]
    fn a_manifests_archives_are_those_of_their_prefix() {
        let files = [artifact::KERNEL.to_owned(), archive_file("pod.tar"), archive_file("image-a.tar")];
        let archives = Archives::of(&release(&files));
        assert_eq!(archives.release, "0123");
        assert_eq!(archives.archives.keys().collect::<Vec<_>>(), ["image-a.tar", "pod.tar"]);
        assert_eq!(archives.get("pod.tar").unwrap(), &Archive { bytes: 2, sha256: Digest([7; 32]) });
        let json = serde_json::to_vec(&archives).unwrap();
        assert_eq!(serde_json::from_slice::<Archives>(&json).unwrap(), archives);
    }

    #[test]
    fn one_that_is_not_there_is_refused_with_those_that_are() {
        let archives = Archives::of(&release(&[archive_file("pause.tar"), archive_file("pod.tar")]));
        archives.check(&config("[{release: pod.tar}, {release: pause.tar}]")).unwrap();
        let fault = archives.check(&config("[{release: pod.tar}, {release: paus.tar}]")).unwrap_err();
        assert_eq!(fault.code, Code::ImageRelease);
        assert_eq!(
            fault.message,
            "release 0123 has no image archive `paus.tar`, which `kubernetes.images` names; \
             it has `pause.tar`, `pod.tar`; did you mean `pause.tar`?"
        );
        let fault = Archives::none("0123").check(&config("[{release: pod.tar}]")).unwrap_err();
        assert!(fault.message.ends_with("it has none"), "{}", fault.message);
        let url = format!("[{{url: x.tar, sha256: {}}}]", "0".repeat(64));
        Archives::none("0123").check(&config(&url)).unwrap();
    }

    #[test]
    fn long_lists_are_cut() {
        let files: Vec<String> = (0..30).map(|n| archive_file(&format!("{n:02}.tar"))).collect();
        let fault = Archives::of(&release(&files)).get("another.tar").unwrap_err();
        assert!(fault.message.ends_with("`19.tar` and 10 more"), "{}", fault.message);
    }

    #[test]
    fn names_are_those_of_files() {
        for name in ["pause.tar", "a", "Pod_1+2.tar", "release.json", &"x".repeat(94)] {
            assert!(is_archive_name(name), "{name}");
        }
        for name in ["", ".", "..", ".a.tar", "a/b.tar", "a b", "ä.tar", "a\n", "a%2f", &"x".repeat(95)] {
            assert!(!is_archive_name(name), "{name:?}");
        }
    }
}

//! containerd's images, by its command `ctr`.

use crate::node::system::{self, System};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use tatara_spec::{Code, Fault};

/// containerd's namespace of the kubelet's images.
const NAMESPACE: &str = "k8s.io";
/// containerd tells the kubelet not to collect what has it (containerd, internal/cri/labels).
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// A name and the content that it stands for. The kubelet's part of containerd has a second name for each content: `sha256:…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Image {
    pub(super) name: String,
    digest: String,
}

/// The images of a running containerd.
pub(super) struct Containerd<'a>(pub(super) &'a System);

impl Containerd<'_> {
    pub(super) fn images(&self) -> Result<BTreeSet<Image>, Fault> {
        let said = self.ctr("list the images", &["list".as_ref()])?;
        Ok(said.lines().filter_map(row).collect())
    }

    /// The names of what was in the archive; they are pinned.
    pub(super) fn import(&self, what: &str, archive: &Path) -> Result<Vec<String>, Fault> {
        let said = self.ctr(what, &["import".as_ref(), archive.as_os_str()])?;
        // containerd's versions word it differently, but each names what it imported.
        let words: BTreeSet<&str> = said.split_whitespace().collect();
        let names = self.images()?.into_iter().map(|image| image.name);
        let imported: Vec<String> = names.filter(|name| words.contains(name.as_str())).collect();
        if imported.is_empty() {
            return Err(Fault::new(Code::ImageImport, format!("{what}: containerd names no image in it")));
        }
        for name in &imported {
            self.ctr(&format!("pin the image {name}"), &["label".as_ref(), name.as_ref(), PINNED.as_ref()])?;
        }
        Ok(imported)
    }

    /// Takes images away, and what was unpacked for them alone.
    pub(super) fn remove(&self, images: &[&Image]) -> Result<(), Fault> {
        let options: [&OsStr; 2] = ["remove".as_ref(), "--sync".as_ref()];
        let names = images.iter().map(|image| image.name.as_ref());
        let arguments: Vec<&OsStr> = options.into_iter().chain(names).collect();
        self.ctr("remove images that were half imported", &arguments).map(drop)
    }

    fn ctr(&self, what: &str, arguments: &[&OsStr]) -> Result<String, Fault> {
        let mut command = Command::new(&self.0.ctr);
        command.args(["--namespace", NAMESPACE, "images"]).args(arguments);
        let finished = system::run(&mut command, |_| ())
            .map_err(|error| Fault::caused(Code::ImageImport, format!("{what}: run ctr"), error))?;
        if finished.status.success() {
            return Ok(finished.said);
        }
        let message = format!("{what}: ctr ended with {}: {}", finished.status, finished.last_words());
        Err(Fault::new(Code::ImageImport, message))
    }
}

/// A row of `ctr images list`: `REF TYPE DIGEST SIZE PLATFORMS LABELS`, with that heading.
fn row(line: &str) -> Option<Image> {
    let mut words = line.split_whitespace();
    let (name, digest) = (words.next()?, words.nth(1)?);
    digest.starts_with("sha256:").then(|| Image { name: name.to_owned(), digest: digest.to_owned() })
}

//! containerd's images, by its command `ctr`.

use super::store::{Image, Kept};
use crate::node::system::{self, System};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;
use tatara_spec::{Code, Fault};

/// containerd's namespace of the kubelet's images.
const NAMESPACE: &str = "k8s.io";
/// containerd tells the kubelet not to collect what has it (containerd, internal/cri/labels).
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The images of a running containerd.
pub(super) struct Containerd<'a>(pub(super) &'a System);

impl Containerd<'_> {
    /// The kubelet's part of containerd has a second name for each content: `sha256:…`.
    pub(super) fn images(&self) -> Result<BTreeSet<Image>, Fault> {
        let said = self.ctr("list the images", "images", &["list".as_ref()])?;
        Ok(said.lines().filter_map(row).collect())
    }

    /// An import's lease is good for a day, also when containerd was started again (containerd, pkg/transfer/local, withLease).
    pub(super) fn kept(&self) -> Result<Kept, Fault> {
        let said = self.ctr("list the leases", "leases", &["list".as_ref(), "--quiet".as_ref()])?;
        let leases = said.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
        Ok(Kept { images: self.images()?, leases: leases.collect(), ..Kept::default() })
    }

    /// The names of what was in the archive; they are pinned.
    pub(super) fn import(&self, what: &str, archive: &Path) -> Result<Vec<String>, Fault> {
        let said = self.ctr(what, "images", &["import".as_ref(), archive.as_os_str()])?;
        // containerd's versions word it differently, but each names what it imported.
        let words: BTreeSet<&str> = said.split_whitespace().collect();
        let names = self.images()?.into_iter().map(|image| image.name);
        let imported: Vec<String> = names.filter(|name| words.contains(name.as_str())).collect();
        if imported.is_empty() {
            return Err(Fault::new(Code::ImageImport, format!("{what}: containerd names no image in it")));
        }
        for name in &imported {
            let label = ["label".as_ref(), name.as_ref(), PINNED.as_ref()];
            self.ctr(&format!("pin the image {name}"), "images", &label)?;
        }
        Ok(imported)
    }

    /// Takes away what came since then, and what was unpacked for it alone.
    pub(super) fn back_to(&self, before: &Kept) -> Result<(), Fault> {
        let now = self.kept()?;
        let leases: Vec<&str> = now.leases.difference(&before.leases).map(String::as_str).collect();
        self.remove("leases", &leases)?;
        let images: Vec<&str> =
            now.images.difference(&before.images).map(|image| image.name.as_str()).collect();
        self.remove("images", &images)
    }

    fn remove(&self, kind: &str, names: &[&str]) -> Result<(), Fault> {
        for name in names {
            self.ctr(
                &format!("remove what was half imported, {name}"),
                kind,
                &["remove".as_ref(), "--sync".as_ref(), name.as_ref()],
            )?;
        }
        Ok(())
    }

    fn ctr(&self, what: &str, kind: &str, arguments: &[&OsStr]) -> Result<String, Fault> {
        let mut command = Command::new(&self.0.ctr);
        command.args(["--namespace", NAMESPACE, kind]).args(arguments);
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

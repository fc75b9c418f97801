//! CRI-O's images. Its storage is a library's (containers/storage), which CRI-O shares with other programs by locks: skopeo(1) brings
//! images there, containers-storage(1) lists and removes them. CRI-O itself only has to hear what is pinned.

use super::store::{Image, Kept};
use super::unpacked;
use crate::node::system::{self, System};
use crate::node::{Node, write_whole};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::Command;
use tatara_firstboot::image_index;
use tatara_spec::layout::containers;
use tatara_spec::release::Runtime;
use tatara_spec::{Code, Fault};

/// In memory, as all of /etc: a boot whose config names no images has none pinned.
const PINNED: &str = "/etc/crio/crio.conf.d/30-tatara-images.conf";

/// The storage of a CRI-O, which may run meanwhile.
pub(super) struct CriO<'a> {
    pub(super) node: &'a Node,
    pub(super) system: &'a System,
}

/// Of `containers-storage images --json`.
#[derive(Deserialize)]
struct StoredImage {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

/// Of `containers-storage layers --json`.
#[derive(Deserialize)]
struct StoredLayer {
    id: String,
}

impl CriO<'_> {
    /// An image without a name is there with an empty one.
    pub(super) fn images(&self) -> Result<BTreeSet<Image>, Fault> {
        let stored: Option<Vec<StoredImage>> = self.list("images")?;
        let images = stored.unwrap_or_default().into_iter().flat_map(|image| {
            let names = image.names.filter(|names| !names.is_empty()).unwrap_or_else(|| vec![String::new()]);
            names.into_iter().map(move |name| Image { name, digest: image.id.clone() })
        });
        Ok(images.collect())
    }

    /// In the order in which they were made: a layer comes after the one below it.
    fn layers(&self) -> Result<Vec<String>, Fault> {
        let stored: Option<Vec<StoredLayer>> = self.list("layers")?;
        Ok(stored.unwrap_or_default().into_iter().map(|layer| layer.id).collect())
    }

    pub(super) fn kept(&self) -> Result<Kept, Fault> {
        let layers = self.layers()?.into_iter().collect();
        Ok(Kept { images: self.images()?, layers, ..Kept::default() })
    }

    /// The names of what was in the archive.
    pub(super) fn import(&self, what: &str, archive: &Path) -> Result<Vec<String>, Fault> {
        let (transport, images) = self.contents(what, archive)?;
        if images.is_empty() {
            return Err(Fault::new(Code::ImageImport, format!("{what}: no image in it has a name")));
        }
        let scratch = unpacked(self.node);
        fs::create_dir_all(&scratch)
            .map_err(|error| Fault::caused(Code::NodeState, format!("make {}", scratch.display()), error))?;
        for image in &images {
            let mut command = Command::new(&self.system.skopeo);
            // Who may be trusted was asked before: the archive has the digest of the config, or of the signed manifest.
            command.args(["--insecure-policy", "--tmpdir"]).arg(&scratch).args(["copy", "--quiet"]);
            command.arg(from(transport, archive, &image.selector)).arg(self.to(&image.name));
            self.run(&format!("{what}: {}", image.name), &mut command)?;
        }
        let there: BTreeSet<String> = self.images()?.into_iter().map(|image| image.name).collect();
        match images.iter().find(|image| !there.contains(&image.name)) {
            Some(image) => {
                let why = format!("{what}: {} is not in the storage after skopeo's end", image.name);
                Err(Fault::new(Code::ImageImport, why))
            }
            None => Ok(images.into_iter().map(|image| image.name).collect()),
        }
    }

    /// The archive's kind, in skopeo's word, and its images. One that is both, as Docker writes them, is Docker's.
    fn contents(&self, what: &str, archive: &Path) -> Result<(&'static str, Vec<image_index::Image>), Fault> {
        let tar = |arguments: &[&OsStr]| {
            let mut command = Command::new(&self.system.tar);
            command.args(arguments).arg("--file").arg(archive);
            self.answer(&format!("{what}: read it"), &mut command)
        };
        let listing = tar(&["--list".as_ref()])?;
        let listing = String::from_utf8_lossy(&listing);
        let member = |name: &str| listing.lines().find(|line| line.trim_start_matches("./") == name);
        let text = |member: &str| tar(&["--extract".as_ref(), "--to-stdout".as_ref(), member.as_ref()]);
        let parsed = match (member("manifest.json"), member("index.json")) {
            (Some(index), _) => image_index::docker(&text(index)?).map(|images| ("docker-archive", images)),
            (None, Some(index)) => image_index::oci(&text(index)?).map(|images| ("oci-archive", images)),
            (None, None) => Err(Fault::new(Code::ImageImport, "it has neither manifest.json nor index.json")),
        };
        parsed.map_err(|fault| Fault::caused(fault.code, what.to_owned(), fault))
    }

    /// Takes away what came since then. A layer of a cut may be known whole and be empty on the disk.
    pub(super) fn back_to(&self, before: &Kept) -> Result<(), Fault> {
        let ids = |images: &BTreeSet<Image>| -> BTreeSet<String> {
            images.iter().map(|image| image.digest.clone()).collect()
        };
        let images = ids(&self.images()?);
        self.remove("delete-image", images.difference(&ids(&before.images)))?;
        let layers = self.layers()?;
        self.remove("delete-layer", layers.iter().rev().filter(|layer| !before.layers.contains(*layer)))
    }

    fn remove<'i>(&self, action: &str, ids: impl Iterator<Item = &'i String>) -> Result<(), Fault> {
        for id in ids {
            let mut command = self.storage();
            command.args([action, id]);
            self.run(&format!("remove what was half imported, {id}"), &mut command)?;
        }
        Ok(())
    }

    /// CRI-O takes the list while it runs, and reads it when it is started again.
    pub(super) fn pin(&self, names: &BTreeSet<String>) -> Result<(), Fault> {
        let list: String = names.iter().map(|name| format!("  \"{name}\",\n")).collect();
        let text = format!(
            "# Generated by `tatara-node images` from `kubernetes.images` of the node's config; changes here are lost.\n\
             [crio.image]\npinned_images = [\n{list}]\n"
        );
        let path = self.node.run(PINNED);
        if fs::read_to_string(&path).is_ok_and(|there| there == text) {
            return Ok(());
        }
        write_whole(&path, text.as_bytes(), 0o644)?;
        let mut command = Command::new(&self.system.systemctl);
        command.args(["reload", Runtime::CriO.unit()]);
        self.run("pin the images", &mut command).inspect_err(|_| {
            // What is there was heard: this is not.
            let _ = fs::remove_file(&path);
        })
    }

    fn to(&self, name: &str) -> OsString {
        let mut to = OsString::from(format!("containers-storage:[{}@", self.system.storage_driver));
        to.push(self.node.run(containers::ROOT));
        to.push("+");
        to.push(self.node.run(containers::RUN));
        to.push("]");
        to.push(name);
        to
    }

    fn storage(&self) -> Command {
        let mut command = Command::new(&self.system.containers_storage);
        command.arg("--graph").arg(self.node.run(containers::ROOT));
        command.arg("--run").arg(self.node.run(containers::RUN));
        command.args(["--storage-driver", self.system.storage_driver]);
        command
    }

    fn list<T: DeserializeOwned>(&self, kind: &str) -> Result<T, Fault> {
        let what = format!("list the {kind} of CRI-O's storage");
        let mut command = self.storage();
        command.args([kind, "--json"]);
        let said = self.answer(&what, &mut command)?;
        serde_json::from_slice(&said).map_err(|error| Fault::caused(Code::ImageImport, what, error))
    }

    fn run(&self, what: &str, command: &mut Command) -> Result<(), Fault> {
        self.answer(what, command).map(drop)
    }

    /// What a program says on its standard output.
    fn answer(&self, what: &str, command: &mut Command) -> Result<Vec<u8>, Fault> {
        let program = command.get_program().to_string_lossy().into_owned();
        let (finished, answer) = system::answer(command)
            .map_err(|error| Fault::caused(Code::ImageImport, format!("{what}: run {program}"), error))?;
        if finished.status.success() {
            return Ok(answer);
        }
        let message = format!("{what}: {program} ended with {}: {}", finished.status, finished.last_words());
        Err(Fault::new(Code::ImageImport, message))
    }
}

/// containers-transports(5).
fn from(transport: &str, archive: &Path, selector: &str) -> OsString {
    let mut from = OsString::from(format!("{transport}:"));
    from.push(archive);
    from.push(selector);
    from
}

#[cfg(test)]
mod tests;

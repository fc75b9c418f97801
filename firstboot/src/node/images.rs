//! `tatara-node images`: container images of the config, imported before the node joins.
//!
//! An import can be cut off at any instruction. The runtime's database then may know of unpacked files that never came to the disk, and would
//! not unpack them again: what is new since the import began is removed first.

mod archive;
mod containerd;
mod crio;
mod room;
mod store;

use super::console::{Mark, announce, seconds_since_boot, step};
use super::join::Progress;
use super::system::System;
use super::{Node, read_json, timeline, web, write_atomically};
use archive::{Archive, Shelf};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use store::{Kept, Store};
use tatara_firstboot::render::kubernetes::node_name;
use tatara_http::fetch::{self, Authenticity};
use tatara_spec::config::ImageArchive;
use tatara_spec::layout::state;
use tatara_spec::record::StepTime;
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault, redact};

/// There when a pass has begun in this boot.
const PASSED: &str = "/run/tatara/images-passed";

/// More than the largest image archives there are; a wrong URL must not fill the disk for hours. 64 GiB.
const LIMIT_BYTES: u64 = 64 << 30;

/// Imports what is missing. Before the join it goes on until all are there; later, when pods already run, one pass is made: a server
/// that is away must not keep the kubelet from starting.
pub(crate) fn run(node: &Node) -> Result<ExitCode, Fault> {
    let config = node.config()?;
    let Some(kubernetes) = &config.kubernetes else { return Ok(ExitCode::SUCCESS) };
    let system = System::default();
    let alone = first_pass(node)?;
    let shelf = Shelf { node, release_url: &config.install.release.url };
    let importer = Importer { node, store: Store::of(node, &system)?, alone, shelf };
    let import = || {
        let imported = importer.all(&kubernetes.images)?;
        Ok(((), format!("images={} imported={imported}", kubernetes.images.len())))
    };
    if node.state(state::JOINED).exists() {
        once(node, import)?;
        return Ok(ExitCode::SUCCESS);
    }
    // The join waits for this, so `status` shows it as the join's.
    let name = node_name(&config, kubernetes);
    let mut progress = Progress::new(node, name, &kubernetes.endpoint, &std::thread::sleep);
    while let Err(fault) = progress.step(Step::Images, import) {
        progress.failed(&fault)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether this boot has had no pass yet: the kubelet starts when that has ended, however it ended.
fn first_pass(node: &Node) -> Result<bool, Fault> {
    let passed = node.run(PASSED);
    let first = !passed.exists();
    write_atomically(&passed, b"")?;
    Ok(first)
}

/// A pass of a node that is a member already.
fn once(node: &Node, import: impl FnOnce() -> Result<((), String), Fault>) -> Result<(), Fault> {
    let begin_s = seconds_since_boot();
    step(node, Step::Images, Mark::Begin);
    match import() {
        Ok(((), detail)) => step(node, Step::Images, Mark::Ok(&detail)),
        Err(fault) => {
            step(node, Step::Images, Mark::Fail(&fault));
            return Err(fault);
        }
    }
    let end_s = Some(seconds_since_boot());
    timeline::record(node, StepTime { name: Step::Images.name().to_owned(), begin_s, end_s });
    timeline::keep(node);
    Ok(())
}

struct Importer<'a> {
    node: &'a Node,
    store: Store<'a>,
    /// No kubelet has started yet, so that what is new in the store is the import's. Later it may be a pod's.
    alone: bool,
    /// Where the archives are.
    shelf: Shelf<'a>,
}

impl Importer<'_> {
    /// How many had to be imported.
    fn all(&self, archives: &[ImageArchive]) -> Result<usize, Fault> {
        // Cut off before its archive was removed, an import leaves that, also when it is all there.
        self.clean()?;
        if archives.is_empty() {
            return Ok(0);
        }
        self.undo_half()?;
        let mut there = self.store.names()?;
        let (mut imported, mut wanted) = (0, BTreeSet::new());
        let mut failure = None;
        for entry in archives {
            match self.unless_there(entry, &there) {
                Ok(found) => {
                    imported += usize::from(found.imported);
                    there.extend(found.names.iter().cloned());
                    wanted.extend(found.names);
                }
                // The others may be right all the same.
                Err(fault) => drop(failure.get_or_insert(room::explained(self.node, fault))),
            }
        }
        let pinned = self.store.pin(&wanted);
        failure.map_or(pinned.map(|()| imported), Err)
    }

    /// The images of an archive, which is imported unless they are there.
    fn unless_there(&self, entry: &ImageArchive, there: &BTreeSet<String>) -> Result<Found, Fault> {
        let archive = self.shelf.find(entry)?;
        let marker = self.node.state(&format!("{}/{}", state::IMAGES_DIR, archive.sha256));
        // A marker that cannot be read is no marker.
        let names = read_json::<Vec<String>>(&marker).ok().flatten();
        match names.filter(|names| names.iter().all(|name| there.contains(name))) {
            Some(names) => Ok(Found { names, imported: false }),
            None => Ok(Found { names: self.one(&archive, &marker)?, imported: true }),
        }
    }

    /// Removes what an import has left that did not come to its end. What was there before is kept. Beside a kubelet nothing is removed:
    /// what is new may be a pod's.
    fn undo_half(&self) -> Result<(), Fault> {
        let importing = self.importing();
        if !importing.exists() || !self.alone {
            return Ok(());
        }
        // A list that cannot be read is of nothing: every image comes again by its archive, or from its registry.
        let before = read_json::<Kept>(&importing).ok().flatten().unwrap_or_default();
        self.store.back_to(&before)?;
        self.end_import()
    }

    fn importing(&self) -> PathBuf {
        self.node.state(state::IMPORTING)
    }

    fn partial(&self) -> PathBuf {
        self.node.state(&format!("{}/partial", state::IMAGES_DIR))
    }

    /// Removes what is needed only while an archive is imported.
    fn clean(&self) -> Result<(), Fault> {
        let unpacked = unpacked(self.node);
        match fs::remove_dir_all(&unpacked) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(Fault::caused(Code::NodeState, format!("remove {}", unpacked.display()), error))
            }
            _ => remove(&self.partial()),
        }
    }

    fn end_import(&self) -> Result<(), Fault> {
        remove(&self.importing())
    }

    /// Fetches, verifies, imports and pins one archive; the names of its images.
    fn one(&self, archive: &Archive, marker: &Path) -> Result<Vec<String>, Fault> {
        let path = self.partial();
        let result = self.fetch(archive, &path).and_then(|()| self.import(archive, &path, marker));
        // Also what is half there: it would take the room that the next attempt needs.
        let removed = self.clean();
        if result.is_err() {
            // Tried again before the next attempt, which says why it cannot be.
            let _ = self.undo_half();
        }
        removed.and(result)
    }

    fn fetch(&self, archive: &Archive, path: &Path) -> Result<(), Fault> {
        let url = self.shelf.url(archive)?;
        let failed = |error: std::io::Error| {
            Fault::caused(Code::DiskWrite, format!("write {}", path.display()), error)
        };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .map_err(failed)?;
        let mut sink = Hashing { file, hash: Sha256::new() };
        let wanted = fetch::File {
            url: url.as_str(),
            what: "image archive",
            limit: LIMIT_BYTES,
            authenticity: Authenticity::Content,
        };
        let what = format!("the image archive {}", redact::url(url.as_str()));
        if let Some(bytes) = archive.bytes {
            room::check(self.node, &what, bytes)?;
        }
        let accept = |bytes| match archive.bytes {
            Some(_) => archive.check_size(&what, bytes),
            None => room::check(self.node, &what, bytes),
        };
        let bytes = web::client(self.node)?.save(&wanted, accept, &mut sink)?;
        let found: String = sink.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != archive.sha256 {
            let message = format!("{what} has {bytes} bytes and the SHA-256 {found}, not {}", archive.sha256);
            return Err(Fault::new(Code::ImageDigest, message));
        }
        Ok(())
    }

    fn import(&self, archive: &Archive, path: &Path, marker: &Path) -> Result<Vec<String>, Fault> {
        // What an earlier one has left is still to be undone: its list stays.
        if self.importing().exists() {
            return self.hand_over(archive, path, marker);
        }
        write_json(&self.importing(), &self.store.kept()?)?;
        let imported = self.hand_over(archive, path, marker);
        if imported.is_err() && !self.alone {
            // Nothing was cut off, so the store knows of no file that is not there: it needs no undoing at the next boot either, which
            // would take along what pods have pulled since.
            self.node.sync_state()?;
        }
        if imported.is_ok() || !self.alone {
            self.end_import()?;
        }
        imported
    }

    fn hand_over(&self, archive: &Archive, path: &Path, marker: &Path) -> Result<Vec<String>, Fault> {
        let shown = &archive.shown;
        announce(self.node, &format!("tatara: images: {shown} is verified; importing it"));
        let names = self.store.import(&format!("import the image archive {shown}"), path)?;
        announce(self.node, &format!("tatara: images: {shown} is imported: {}", names.join(", ")));
        // Neither runtime syncs what is unpacked: the marker must not say that it is there before it is.
        self.node.sync_state()?;
        write_json(marker, &names)?;
        Ok(names)
    }
}

/// The images of an archive.
struct Found {
    names: Vec<String>,
    /// They were not there before.
    imported: bool,
}

/// Where skopeo may unpack an archive that it cannot read as it is.
fn unpacked(node: &Node) -> PathBuf {
    node.state(&format!("{}/unpacked", state::IMAGES_DIR))
}

fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Fault> {
    let json = serde_json::to_vec(value)
        .map_err(|error| Fault::caused(Code::Internal, "write the names of images", error))?;
    write_atomically(path, &json)
}

fn remove(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Fault::caused(Code::NodeState, format!("remove {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

/// Writes and hashes.
struct Hashing {
    file: File,
    hash: Sha256,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests;

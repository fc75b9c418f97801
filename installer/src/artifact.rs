//! The files of a release, and where they come from.

use crate::fault::code_in;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use tatara_spec::release::{Artifact, Digest, Release, artifact};
use tatara_spec::step::Step;
use tatara_spec::{Code, Fault};

/// Bytes copied at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Where a release's files come from: the network, or a directory.
pub trait Source {
    /// Opens an artifact from its start. Digests are the caller's to check.
    ///
    /// # Errors
    /// Whatever stands in the way, with its own code.
    fn open(&self, name: &str, artifact: &Artifact) -> Result<Box<dyn Read + Send + '_>, Fault>;
}

/// Who is told how far an install is.
pub trait Progress: Sync {
    /// A step begins.
    fn begin(&self, step: Step);
    /// It is done; `detail` says what was done, in words.
    fn ok(&self, step: Step, detail: &str);
    /// Bytes of it that are done, and how many there are.
    fn bytes(&self, step: Step, done: u64, total: u64);
    /// Something worth knowing.
    fn info(&self, text: &str);
}

/// A kernel and its initramfs in memory, ready for kexec: what is on the disk is not read a second time.
#[derive(Debug)]
pub struct Handover {
    /// The kernel, a memfd.
    pub kernel: File,
    /// The initramfs, a memfd.
    pub initramfs: File,
}

/// Everything of a release but its disk images, in memory and verified.
#[derive(Debug)]
pub(crate) struct BootFiles {
    pub(crate) handover: Handover,
    pub(crate) grub_bios_boot: Vec<u8>,
    pub(crate) grub_bios_core: Vec<u8>,
    pub(crate) grub_efi: Vec<u8>,
    pub(crate) grub_cfg: Vec<u8>,
}

/// The artifacts that are kept in memory during an install.
pub(crate) const SMALL: [&str; 6] = [
    artifact::KERNEL,
    artifact::INITRAMFS,
    artifact::GRUB_BIOS_BOOT,
    artifact::GRUB_BIOS_CORE,
    artifact::GRUB_EFI,
    artifact::GRUB_CFG,
];

/// An artifact by name.
///
/// # Errors
/// [`Code::ReleaseBad`] when the release lacks it.
pub(crate) fn find<'a>(release: &'a Release, name: &str) -> Result<&'a Artifact, Fault> {
    release
        .artifacts
        .get(name)
        .ok_or_else(|| Fault::new(Code::ReleaseBad, format!("release {} has no {name}", release.id)))
}

/// Fetches and verifies everything that is kept in memory.
///
/// # Errors
/// Those of the source; [`Code::PayloadDigest`], [`Code::PayloadShort`]; [`Code::Sys`] when the kernel gives no memfd.
pub(crate) fn fetch_all(release: &Release, source: &dyn Source) -> Result<BootFiles, Fault> {
    let small = |name: &str| -> Result<Vec<u8>, Fault> {
        let mut bytes = Vec::new();
        fetch(release, name, source, &mut bytes)?;
        Ok(bytes)
    };
    let large = |name: &str| -> Result<File, Fault> {
        let mut file = memfd(name)?;
        fetch(release, name, source, &mut file)?;
        rewind(&mut file, name)?;
        Ok(file)
    };
    Ok(BootFiles {
        handover: Handover { kernel: large(artifact::KERNEL)?, initramfs: large(artifact::INITRAMFS)? },
        grub_bios_boot: small(artifact::GRUB_BIOS_BOOT)?,
        grub_bios_core: small(artifact::GRUB_BIOS_CORE)?,
        grub_efi: small(artifact::GRUB_EFI)?,
        grub_cfg: small(artifact::GRUB_CFG)?,
    })
}

/// A file in memory.
///
/// # Errors
/// [`Code::Sys`].
pub(crate) fn memfd(name: &str) -> Result<File, Fault> {
    tatara_sys::memory::memfd(name)
        .map_err(|cause| Fault::caused(Code::Sys, format!("no memory file for {name}"), cause))
}

/// Back to the start of a memfd.
///
/// # Errors
/// [`Code::Sys`].
pub(crate) fn rewind(file: &mut File, name: &str) -> Result<(), Fault> {
    file.rewind().map_err(|cause| Fault::caused(Code::Sys, format!("cannot rewind {name}"), cause))
}

/// Copies one artifact to `out`, verified; what was written to `out` is worth nothing unless this succeeds.
fn fetch(release: &Release, name: &str, source: &dyn Source, out: &mut dyn Write) -> Result<(), Fault> {
    let artifact = find(release, name)?;
    let mut reader = source.open(name, artifact)?;
    let (bytes, found) = copy(&mut reader, out, artifact.bytes).map_err(|cause| {
        let code = code_in(&cause).unwrap_or(Code::PayloadShort);
        Fault::caused(code, format!("cannot read {name}"), cause)
    })?;
    if bytes < artifact.bytes {
        let text = format!("{name} ended after {bytes} of {} bytes", artifact.bytes);
        return Err(Fault::new(Code::PayloadShort, text));
    }
    if found != artifact.sha256 {
        let text = format!("{name} has SHA-256 {found}, the manifest says {}", artifact.sha256);
        return Err(Fault::new(Code::PayloadDigest, text));
    }
    Ok(())
}

/// Copies at most `limit` bytes; gives how many there were and their digest.
pub(crate) fn copy(reader: &mut dyn Read, out: &mut dyn Write, limit: u64) -> io::Result<(u64, Digest)> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    let mut reader = reader.take(limit);
    let mut bytes = 0;
    loop {
        let got = match reader.read(&mut piece) {
            Ok(0) => return Ok((bytes, Digest(hash.finalize().into()))),
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..got]);
        out.write_all(&piece[..got])?;
        bytes += got as u64;
    }
}

/// A directory with a release in it.
#[derive(Debug, Clone)]
pub struct Directory(pub std::path::PathBuf);

impl Source for Directory {
    fn open(&self, name: &str, _artifact: &Artifact) -> Result<Box<dyn Read + Send + '_>, Fault> {
        let path = self.0.join(name);
        let file = File::open(&path).map_err(|cause| {
            Fault::caused(Code::PayloadShort, format!("cannot open {}", path.display()), cause)
        })?;
        Ok(Box::new(file))
    }
}

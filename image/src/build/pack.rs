//! Packs a disk image into independent zstd frames.

use super::progress::{Running, mib};
use super::release;
use anyhow::{Context as _, Result};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use tatara_spec::release::Artifact;

/// Bytes that a frame unpacks to: large enough to compress well, small enough that a machine with 512 MiB decodes several
/// at once.
const FRAME_BYTES: u64 = 4 << 20;

/// Packs `image` into `output` and gives its manifest entry. The bytes depend on image and level, not on the machine.
///
/// # Errors
/// A file cannot be read or written.
pub(crate) fn pack(image: &Path, output: &Path, level: i32, step: &Running) -> Result<Artifact> {
    let total = std::fs::metadata(image).with_context(|| format!("cannot read {}", image.display()))?.len();
    let mut source = File::open(image).with_context(|| format!("cannot read {}", image.display()))?;
    let target = File::create(output).with_context(|| format!("cannot make {}", output.display()))?;
    let mut target = BufWriter::new(target);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let progress = |done: u64| step.bytes(done, total);
    let packed = tatara_disk::stream::pack(&mut source, &mut target, FRAME_BYTES, level, threads, &progress)
        .with_context(|| format!("cannot pack {}", image.display()))?;
    target
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)
        .with_context(|| format!("cannot write {}", output.display()))?;
    let mut artifact = release::artifact(output)?;
    step.detail(format!("{} from {}", mib(artifact.bytes), mib(total)));
    artifact.image = Some(packed);
    Ok(artifact)
}

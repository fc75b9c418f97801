//! Disk images of a release onto partitions.

use crate::artifact::{self, Source};
use crate::fault::code_in;
use std::io::Read as _;
use std::path::Path;
use tatara_disk::stream::{self, ALIGNMENT, Error, Options, QUEUE_PER_WORKER, ReadBack, Stats, Target};
use tatara_spec::release::{Image, Release};
use tatara_spec::{Code, Fault};

/// More workers than this only cost memory: a disk or a network is the limit long before.
const WORKERS_MAX: usize = 8;
/// Unpacked frames that a worker has in memory: one to write, one to read back.
const BUFFERS_PER_WORKER: usize = 2;

/// The disk image in an artifact.
///
/// # Errors
/// [`Code::ReleaseBad`] when there is none, or not of whole blocks.
pub(crate) fn of<'a>(release: &'a Release, name: &str) -> Result<&'a Image, Fault> {
    let wrong = |what: &str| Fault::new(Code::ReleaseBad, format!("{name} {what}"));
    let artifact = artifact::find(release, name)?;
    let image = artifact.image.as_ref().ok_or_else(|| wrong("is no disk image"))?;
    // Direct I/O writes whole sectors only; every file system image consists of blocks of 4096 bytes.
    if image.bytes == 0 || !image.bytes.is_multiple_of(ALIGNMENT as u64) {
        return Err(wrong(&format!("unpacks to {} bytes, which are no whole blocks", image.bytes)));
    }
    Ok(image)
}

/// Fetches the first frame of an image and checks it: what is not on the server, or is of another build, is refused while the disk is as
/// it was.
pub(crate) fn probe(release: &Release, name: &str, source: &dyn Source) -> Result<(), Fault> {
    let Some(frame) = of(release, name)?.frames.first() else { return Ok(()) };
    let mut reader = source.open(name, artifact::find(release, name)?)?;
    let mut packed = Vec::new();
    reader.by_ref().take(frame.bytes).read_to_end(&mut packed).map_err(|cause| {
        let code = code_in(&cause).unwrap_or(Code::PayloadShort);
        Fault::caused(code, format!("cannot read {name}"), cause)
    })?;
    let bytes = packed.len() as u64;
    if bytes < frame.bytes {
        let text = format!("{name} ended after {bytes} bytes, inside its first frame of {}", frame.bytes);
        return Err(Fault::new(Code::PayloadShort, text));
    }
    let (found, expected) = (stream::digest(&packed), frame.packed_blake3);
    if found == expected {
        return Ok(());
    }
    let text = format!("the first frame of {name} has BLAKE3 {found}, the manifest says {expected}");
    Err(Fault::new(Code::PayloadDigest, text))
}

/// Memory that one worker takes, in bytes.
pub(crate) fn worker_bytes(image: &Image) -> u64 {
    image.frame_bytes.saturating_mul((BUFFERS_PER_WORKER + QUEUE_PER_WORKER) as u64)
}

/// As many workers as CPUs, or as half of the free memory is enough for.
fn workers(image: &Image) -> usize {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(WORKERS_MAX);
    let free = tatara_sys::memory::memory(Path::new("/proc")).map_or(u64::MAX, |memory| memory.available / 2);
    let affordable = usize::try_from(free / worker_bytes(image).max(1)).unwrap_or(cpus);
    cpus.min(affordable).max(1)
}

/// Streams an image to its place; every frame is checked before it is decoded and read back after it was written, and everything
/// is durable when this returns.
pub(crate) fn write(
    image: &Image,
    name: &str,
    source: &dyn Source,
    release: &Release,
    target: &dyn Target,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Stats, Fault> {
    let mut reader = source.open(name, artifact::find(release, name)?)?;
    let options = Options { threads: workers(image), read_back: ReadBack::Overlapped };
    let stats = stream::write_image(image, &mut reader, target, options, progress)
        .map_err(|error| Fault::caused(code(&error), format!("cannot write {name} to the disk"), error))?;
    if stats.verified_bytes == image.bytes {
        return Ok(stats);
    }
    let text = format!("{} of {} bytes of {name} were read back", stats.verified_bytes, image.bytes);
    Err(Fault::new(Code::DiskVerify, text))
}

fn code(error: &Error) -> Code {
    match error {
        Error::Manifest(_) => Code::ReleaseBad,
        Error::Source { source, .. } => code_in(source).unwrap_or(Code::PayloadShort),
        Error::SourceShort { .. } => Code::PayloadShort,
        Error::Packed { .. } | Error::Decode { .. } => Code::PayloadDigest,
        Error::ReadBack { .. } => Code::DiskRead,
        Error::Mismatch { .. } => Code::DiskVerify,
        Error::Write { .. } | Error::Flush(_) => Code::DiskWrite,
        _ => Code::Internal,
    }
}

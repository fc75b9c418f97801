//! The inner loop of an install: independent zstd frames from a stream to a device, each digest checked
//! before the frame is decoded and again after it was read back.
//!
//! One thread (the caller's) reads the source; workers hash, decode, write and read back whole frames side by side.
//! Memory is bounded: every worker has two buffers of one frame, and at most [`QUEUE_PER_WORKER`] packed frames per worker
//! wait.

mod buffer;
mod file;
mod pack;
mod verify;
mod write;

pub use buffer::Aligned;
pub use file::{FileTarget, Holes};
pub use pack::pack;
pub use verify::verify;
pub use write::write_image;

use std::io;
use tatara_spec::release::{Digest, Image};

/// Buffers given to a [`Target`] start at a multiple of this many bytes in memory, and requests start at a multiple of it
/// in the image: the largest logical sector of common disks, and what O_DIRECT needs (open(2)).
pub const ALIGNMENT: usize = 4096;
/// Packed frames that wait or are being worked on, per worker: one in work, one ready.
pub const QUEUE_PER_WORKER: usize = 2;
/// Frames larger than this are refused, so that a manifest cannot ask for all memory. Bytes.
pub const FRAME_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Shorter runs of zeros, in bytes, are written like data: an extra request costs a device more than the bytes do.
pub const ZERO_RUN_MIN_BYTES: usize = 64 * 1024;

/// Where an image goes. All methods take a shared reference: workers use it at the same time, at different places.
///
/// Offsets are bytes from the start of the image's place. Requests start at multiples of [`ALIGNMENT`] in file and
/// memory; their length is one too, except at the end of an image whose size is none.
pub trait Target: Sync {
    /// Writes some of `data` at `offset` and says how many bytes, as pwrite(2).
    ///
    /// # Errors
    /// What the device says.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize>;

    /// Makes all of the range read as zeros, whatever was there before.
    ///
    /// # Errors
    /// What the device says.
    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()>;

    /// Reads some bytes from `offset` and says how many, as pread(2). The bytes must come from the device, not from a
    /// cache of what was written.
    ///
    /// # Errors
    /// What the device says.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;

    /// Returns when everything written is on stable storage: device cache included.
    ///
    /// # Errors
    /// What the device says.
    fn flush(&self) -> io::Result<()>;
}

/// When written data is read back and compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadBack {
    /// Each frame right after it was written, by the same worker; the flush comes last. With O_DIRECT the data comes from the
    /// device either way. A device that answers from its volatile cache would do so after a flush as well, so this proves as
    /// much as [`ReadBack::AfterFlush`] about the device, and the flush still has to succeed. Time for reading hides behind
    /// the download.
    #[default]
    Overlapped,
    /// Everything in a second pass after the flush. Images larger than the device's cache are read from the medium.
    AfterFlush,
    /// Not here: the caller calls [`verify`], for example after it opened the device anew.
    ByCaller,
}

/// How to write an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Worker threads, at least 1.
    pub threads: usize,
    /// When to read back.
    pub read_back: ReadBack,
}

impl Default for Options {
    /// A worker for each CPU, reading back overlapped.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, read_back: ReadBack::default() }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Compressed bytes taken from the source.
    pub packed_bytes: u64,
    /// Bytes written as data.
    pub written_bytes: u64,
    /// Bytes covered by [`Target::zero_range`].
    pub zeroed_bytes: u64,
    /// Bytes read back and found right.
    pub verified_bytes: u64,
}

/// What can go wrong. Frames are counted from 0; offsets are bytes into the unpacked image unless they say otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The manifest contradicts itself.
    #[error("the manifest's description of the image is not usable: {0}")]
    Manifest(String),
    /// The source failed.
    #[error("cannot read frame {frame} of the image, {offset} bytes into the compressed stream")]
    Source {
        /// The frame being read.
        frame: usize,
        /// Bytes into the compressed stream.
        offset: u64,
        /// What the source said.
        source: io::Error,
    },
    /// The source ended inside the image.
    #[error(
        "the image ends {offset} bytes into the compressed stream, in frame {frame}; {expected} bytes were expected"
    )]
    SourceShort {
        /// The frame being read.
        frame: usize,
        /// Bytes that came.
        offset: u64,
        /// Bytes of the whole stream.
        expected: u64,
    },
    /// A frame is not the manifest's. It was not decoded, nothing of it was written.
    #[error(
        "frame {frame}, {offset} bytes into the compressed stream, has digest {found}; the manifest says {expected}"
    )]
    Packed {
        /// The frame.
        frame: usize,
        /// Where it starts in the compressed stream.
        offset: u64,
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of what came.
        found: Digest,
    },
    /// A frame with the right digest does not decode to what the manifest says.
    #[error("frame {frame} cannot be unpacked")]
    Decode {
        /// The frame.
        frame: usize,
        /// What the decoder said.
        source: io::Error,
    },
    /// Writing failed.
    #[error("cannot write {bytes} bytes at byte {offset} of the image")]
    Write {
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
        /// What the device said.
        source: io::Error,
    },
    /// Reading back failed.
    #[error("cannot read back {bytes} bytes at byte {offset} of the image")]
    ReadBack {
        /// Where.
        offset: u64,
        /// How many.
        bytes: u64,
        /// What the device said.
        source: io::Error,
    },
    /// What was read back is something else.
    #[error("bytes {offset} to {} of the image read back as {found}; the manifest says {expected}", offset + bytes)]
    Mismatch {
        /// The frame.
        frame: usize,
        /// Where it starts.
        offset: u64,
        /// How long it is.
        bytes: u64,
        /// Digest in the manifest.
        expected: Digest,
        /// Digest of what was read.
        found: Digest,
    },
    /// The data is not on stable storage.
    #[error("cannot flush the image to the device")]
    Flush(#[source] io::Error),
    /// The packed image could not be written.
    #[error("cannot write frame {frame} of the packed image")]
    Pack {
        /// The frame.
        frame: usize,
        /// What happened.
        source: io::Error,
    },
}

/// Offset and size in bytes of a frame in the unpacked image.
fn span(image: &Image, frame: usize) -> (u64, usize) {
    let offset = frame as u64 * image.frame_bytes;
    let bytes = image.frame_bytes.min(image.bytes.saturating_sub(offset));
    (offset, usize::try_from(bytes).unwrap_or(0))
}

/// Refuses a description whose numbers do not fit together, before memory is taken or anything is written.
fn check(image: &Image) -> Result<(), Error> {
    let wrong = |what: String| Err(Error::Manifest(what));
    if image.frame_bytes == 0
        || !image.frame_bytes.is_multiple_of(ALIGNMENT as u64)
        || image.frame_bytes > FRAME_MAX_BYTES
    {
        return wrong(format!(
            "frames of {} bytes (a multiple of {ALIGNMENT} up to {FRAME_MAX_BYTES} is possible)",
            image.frame_bytes
        ));
    }
    let needed = image.bytes.div_ceil(image.frame_bytes);
    if needed != image.frames.len() as u64 {
        return wrong(format!("{} frames instead of {needed}", image.frames.len()));
    }
    let largest = packed_max(image.frame_bytes);
    match image.frames.iter().position(|frame| frame.bytes == 0 || frame.bytes > largest) {
        Some(frame) => wrong(format!("frame {frame} of {} packed bytes", image.frames[frame].bytes)),
        None => Ok(()),
    }
}

/// The most bytes that zstd makes of a frame (`ZSTD_compressBound`, zstd.h).
fn packed_max(frame_bytes: u64) -> u64 {
    usize::try_from(frame_bytes).map_or(u64::MAX, |bytes| zstd::zstd_safe::compress_bound(bytes) as u64)
}

/// The digest of a frame, packed or unpacked: BLAKE3.
#[must_use]
pub fn digest(data: &[u8]) -> Digest {
    Digest(*blake3::hash(data).as_bytes())
}

/// The error of the earliest frame, so that the same fault gives the same message whatever the threads did.
#[derive(Debug, Default)]
struct Failure(std::sync::Mutex<Option<(usize, Error)>>);

impl Failure {
    fn record(&self, frame: usize, error: Error) {
        let mut first = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if first.as_ref().is_none_or(|(earlier, _)| frame < *earlier) {
            *first = Some((frame, error));
        }
    }

    /// Whether working on `frame` is pointless, because an earlier one failed.
    fn before(&self, frame: usize) -> bool {
        let first = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        first.as_ref().is_some_and(|(failed, _)| *failed < frame)
    }

    fn into_result(self) -> Result<(), Error> {
        let first = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        first.map_or(Ok(()), |(_, error)| Err(error))
    }
}

//! Reading back.

use super::buffer::Aligned;
use super::{Error, Failure, Target, check, digest, span};
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use tatara_spec::release::Image;

/// The least that a disk reads, in bytes.
const SECTOR_BYTES: usize = 512;

/// Reads the whole image back from `target` with `threads` threads and compares every frame with its digest.
/// `progress` gets the bytes done so far, from any thread.
///
/// # Errors
/// [`Error::ReadBack`], [`Error::Mismatch`], [`Error::Manifest`]; of several, the one of the earliest frame.
pub fn verify(
    image: &Image,
    target: &dyn Target,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<(), Error> {
    check(image)?;
    let failure = Failure::default();
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let work = || {
        let mut buffer = Aligned::zeroed(span(image, 0).1);
        loop {
            let frame = next.fetch_add(1, Ordering::Relaxed);
            if frame >= image.frames.len() || failure.before(frame) {
                return;
            }
            if let Err(error) = read_back(image, target, frame, &mut buffer) {
                return failure.record(frame, error);
            }
            let bytes = span(image, frame).1 as u64;
            progress(done.fetch_add(bytes, Ordering::Relaxed) + bytes);
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.clamp(1, image.frames.len().max(1)) {
            scope.spawn(work);
        }
    });
    failure.into_result()
}

/// Reads one frame into `buffer` and compares it with the manifest.
pub(super) fn read_back(
    image: &Image,
    target: &dyn Target,
    frame: usize,
    buffer: &mut Aligned,
) -> Result<(), Error> {
    let (offset, bytes) = span(image, frame);
    let buffer = &mut buffer[..bytes];
    // The buffer may hold the very frame, which was written from it: a target that claims to have read a sector but did not is found out.
    for sector in buffer.chunks_mut(SECTOR_BYTES) {
        sector[0] = !sector[0];
    }
    read_exact(target, offset, buffer)?;
    let (expected, found) = (image.frames[frame].raw_blake3, digest(buffer));
    if found == expected {
        return Ok(());
    }
    Err(Error::Mismatch { frame, offset, bytes: bytes as u64, expected, found })
}

fn read_exact(target: &dyn Target, mut offset: u64, mut buffer: &mut [u8]) -> Result<(), Error> {
    while !buffer.is_empty() {
        let bytes = buffer.len() as u64;
        let failed = |source| Error::ReadBack { offset, bytes, source };
        match target.read_at(offset, buffer) {
            Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
            Ok(got) => {
                let got = got.min(buffer.len());
                offset += got as u64;
                buffer = &mut buffer[got..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

//! Making a packed image: used where releases are built.

use super::{ALIGNMENT, Error, FRAME_MAX_BYTES, QUEUE_PER_WORKER, digest};
use sha2::Digest as _;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use tatara_spec::release::{Digest, Frame, Image};
use zstd::bulk::Compressor;

/// Compresses `reader` to `writer` as independent zstd frames of `frame_bytes` (a multiple of 4096) each, with `threads`
/// threads. The same input, frame size and level give the same bytes, whatever the number of threads.
/// `progress` gets the unpacked bytes written so far.
///
/// # Errors
/// [`Error::Manifest`] for an unusable frame size, [`Error::Source`] and [`Error::Pack`] for the two streams.
pub fn pack(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    frame_bytes: u64,
    level: i32,
    threads: usize,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Image, Error> {
    let size = usize::try_from(frame_bytes).unwrap_or(0);
    if size == 0 || !size.is_multiple_of(ALIGNMENT) || frame_bytes > FRAME_MAX_BYTES {
        return Err(Error::Manifest(format!("frames of {frame_bytes} bytes")));
    }
    let threads = threads.max(1);
    let (to_workers, queue) = channel::<Raw>();
    let queue = Mutex::new(queue);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| compress(&queue, level));
        }
        let mut packer =
            Packer { writer, progress, pending: VecDeque::new(), frames: Vec::new(), written: 0 };
        let mut whole = sha2::Sha256::new();
        let mut bytes = 0;
        loop {
            let data = read_frame(reader, size).map_err(|source| Error::Source {
                frame: packer.next_frame(),
                offset: bytes,
                source,
            })?;
            if data.is_empty() {
                break;
            }
            whole.update(&data);
            bytes += data.len() as u64;
            if packer.pending.len() >= threads * QUEUE_PER_WORKER {
                packer.write_one()?;
            }
            let (answer, pending) = channel();
            // The workers live until this sender is dropped.
            let _ = to_workers.send(Raw { data, answer });
            packer.pending.push_back(pending);
        }
        drop(to_workers);
        while !packer.pending.is_empty() {
            packer.write_one()?;
        }
        packer.writer.flush().map_err(|source| Error::Pack { frame: packer.frames.len(), source })?;
        Ok(Image { bytes, sha256: Digest(whole.finalize().into()), frame_bytes, frames: packer.frames })
    })
}

/// A frame to be compressed, and where the result goes.
struct Raw {
    data: Vec<u8>,
    answer: Sender<io::Result<Done>>,
}

/// A compressed frame.
struct Done {
    packed: Vec<u8>,
    raw_bytes: u64,
    raw: Digest,
}

/// The frames on their way, in order, and what was written.
struct Packer<'a> {
    writer: &'a mut dyn Write,
    progress: &'a (dyn Fn(u64) + Sync),
    pending: VecDeque<Receiver<io::Result<Done>>>,
    frames: Vec<Frame>,
    written: u64,
}

impl Packer<'_> {
    fn next_frame(&self) -> usize {
        self.frames.len() + self.pending.len()
    }

    /// Waits for the oldest frame and writes it.
    fn write_one(&mut self) -> Result<(), Error> {
        let frame = self.frames.len();
        let failed = |source| Error::Pack { frame, source };
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        let done =
            pending.recv().map_err(|lost| failed(io::Error::other(lost))).and_then(|r| r.map_err(failed))?;
        self.writer.write_all(&done.packed).map_err(failed)?;
        self.frames.push(Frame {
            bytes: done.packed.len() as u64,
            packed_blake3: digest(&done.packed),
            raw_blake3: done.raw,
        });
        self.written += done.raw_bytes;
        (self.progress)(self.written);
        Ok(())
    }
}

/// One worker.
fn compress(queue: &Mutex<Receiver<Raw>>, level: i32) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Raw { data, answer }) = next else { return };
        // A new context for each frame: what an earlier frame left behind cannot show in the output.
        let packed = Compressor::new(level).and_then(|mut compressor| compressor.compress(&data));
        let done = packed.map(|packed| Done { packed, raw_bytes: data.len() as u64, raw: digest(&data) });
        // The other side is gone only when packing failed.
        let _ = answer.send(done);
    }
}

/// Up to `size` bytes; fewer at the end of the source, none behind it.
fn read_frame(reader: &mut dyn Read, size: usize) -> io::Result<Vec<u8>> {
    let mut data = Vec::with_capacity(size);
    reader.take(size as u64).read_to_end(&mut data)?;
    Ok(data)
}

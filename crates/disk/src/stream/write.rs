//! Frames from a stream to a target.

use super::buffer::Aligned;
use super::verify::{read_back, verify};
use super::{
    ALIGNMENT, Error, Failure, Options, QUEUE_PER_WORKER, ReadBack, Stats, Target, ZERO_RUN_MIN_BYTES, check,
    digest, span,
};
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use tatara_spec::release::Image;
use zstd::bulk::Decompressor;

/// Writes an image whose compressed frames come from `source`, in order, to `target`, flushes, and reads back as the
/// options say. `progress` gets the bytes of the image done so far, from any thread, also out of order.
///
/// When it fails, frames before and after the one named may have been written.
///
/// # Errors
/// See [`Error`]; of several, the one of the earliest frame.
pub fn write_image(
    image: &Image,
    source: &mut dyn Read,
    target: &dyn Target,
    options: Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Stats, Error> {
    check(image)?;
    let threads = options.threads.clamp(1, image.frames.len().max(1));
    let job = Job { image, target, read_back: options.read_back, progress, done: AtomicU64::new(0) };
    let failure = Failure::default();
    let total = Mutex::new(Stats::default());
    let (to_workers, queue) = channel();
    let queue = Mutex::new(queue);
    let (to_reader, free) = channel();
    for _ in 0..threads * QUEUE_PER_WORKER {
        // The receiver is alive: sending cannot fail.
        let _ = to_reader.send(Vec::new());
    }
    thread::scope(|scope| {
        for _ in 0..threads {
            let to_reader = to_reader.clone();
            let (job, queue, failure, total) = (&job, &queue, &failure, &total);
            scope.spawn(move || {
                let stats = job.work(queue, &to_reader, failure);
                add(&mut total.lock().unwrap_or_else(PoisonError::into_inner), stats);
            });
        }
        // The workers hold the only senders now: when the last one ends, the reader's wait ends too.
        drop(to_reader);
        feed(image, source, &free, to_workers, &failure);
    });
    failure.into_result()?;
    target.flush().map_err(Error::Flush)?;
    let mut stats = total.into_inner().unwrap_or_else(PoisonError::into_inner);
    if options.read_back == ReadBack::AfterFlush {
        verify(image, target, threads, &|_| ())?;
        stats.verified_bytes = image.bytes;
    }
    Ok(stats)
}

fn add(total: &mut Stats, more: Stats) {
    total.packed_bytes += more.packed_bytes;
    total.written_bytes += more.written_bytes;
    total.zeroed_bytes += more.zeroed_bytes;
    total.verified_bytes += more.verified_bytes;
}

/// A frame on its way to a worker.
struct Packed {
    frame: usize,
    /// Where it starts in the compressed stream, in bytes.
    offset: u64,
    data: Vec<u8>,
}

/// Reads frame after frame and gives them to the workers, until the image is complete or something failed.
fn feed(
    image: &Image,
    source: &mut dyn Read,
    free: &Receiver<Vec<u8>>,
    to_workers: Sender<Packed>,
    failure: &Failure,
) {
    let expected = image.frames.iter().map(|frame| frame.bytes).sum();
    let mut offset = 0;
    for (frame, described) in image.frames.iter().enumerate() {
        let Ok(mut data) = free.recv() else { return };
        if failure.before(frame) {
            return;
        }
        data.clear();
        // No larger than a frame can be: `check` has looked.
        data.reserve_exact(usize::try_from(described.bytes).unwrap_or(0));
        match source.take(described.bytes).read_to_end(&mut data) {
            Ok(got) if got as u64 == described.bytes => {}
            Ok(got) => {
                let offset = offset + got as u64;
                return failure.record(frame, Error::SourceShort { frame, offset, expected });
            }
            Err(source) => return failure.record(frame, Error::Source { frame, offset, source }),
        }
        if to_workers.send(Packed { frame, offset, data }).is_err() {
            return;
        }
        offset += described.bytes;
    }
}

/// What all workers share.
struct Job<'a> {
    image: &'a Image,
    target: &'a dyn Target,
    read_back: ReadBack,
    progress: &'a (dyn Fn(u64) + Sync),
    done: AtomicU64,
}

impl Job<'_> {
    /// One worker: takes frames until there are none or something failed.
    fn work(&self, queue: &Mutex<Receiver<Packed>>, to_reader: &Sender<Vec<u8>>, failure: &Failure) -> Stats {
        let mut stats = Stats::default();
        let mut tools: Option<Tools> = None;
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(packed) = next else { return stats };
            if failure.before(packed.frame) {
                return stats;
            }
            let result = match &mut tools {
                Some(tools) => self.one_frame(&packed, tools, &mut stats),
                None => Tools::new(self.image, packed.frame)
                    .and_then(|new| self.one_frame(&packed, tools.insert(new), &mut stats)),
            };
            if let Err(error) = result {
                failure.record(packed.frame, error);
                return stats;
            }
            // The reader may have ended already.
            let _ = to_reader.send(packed.data);
        }
    }

    fn one_frame(&self, packed: &Packed, tools: &mut Tools, stats: &mut Stats) -> Result<(), Error> {
        let frame = packed.frame;
        let expected = self.image.frames[frame].packed_blake3;
        let found = digest(&packed.data);
        if found != expected {
            return Err(Error::Packed { frame, offset: packed.offset, expected, found });
        }
        let (offset, bytes) = span(self.image, frame);
        tools.decode(packed, bytes)?;
        let data = &tools.decoded[..bytes];
        for run in runs(data) {
            let at = offset + run.start as u64;
            match run.kind {
                Kind::Data => {
                    write_all(self.target, at, &data[run.start..run.end])?;
                    stats.written_bytes += (run.end - run.start) as u64;
                }
                Kind::Zeros => {
                    let bytes = (run.end - run.start) as u64;
                    self.target.zero_range(at, bytes).map_err(|source| Error::Write {
                        offset: at,
                        bytes,
                        source,
                    })?;
                    stats.zeroed_bytes += bytes;
                }
            }
        }
        if self.read_back == ReadBack::Overlapped {
            read_back(self.image, self.target, frame, &mut tools.decoded)?;
            stats.verified_bytes += bytes as u64;
        }
        stats.packed_bytes += packed.data.len() as u64;
        (self.progress)(self.done.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64);
        Ok(())
    }
}

/// What a worker uses again for every frame.
struct Tools {
    decoder: Decompressor<'static>,
    decoded: Aligned,
}

impl Tools {
    fn new(image: &Image, frame: usize) -> Result<Self, Error> {
        let decoder = Decompressor::new().map_err(|source| Error::Decode { frame, source })?;
        let (_, bytes) = span(image, 0);
        Ok(Self { decoder, decoded: Aligned::zeroed(bytes) })
    }

    /// Decodes into [`Tools::decoded`]. The decoder gets no more room than the frame may take.
    fn decode(&mut self, packed: &Packed, bytes: usize) -> Result<(), Error> {
        let failed = |source| Error::Decode { frame: packed.frame, source };
        let got = self
            .decoder
            .decompress_to_buffer(packed.data.as_slice(), &mut self.decoded[..bytes])
            .map_err(failed)?;
        if got == bytes {
            return Ok(());
        }
        Err(failed(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("it unpacks to {got} bytes instead of {bytes}"),
        )))
    }
}

/// Writes everything, however many requests the target makes of it.
fn write_all(target: &dyn Target, mut offset: u64, mut data: &[u8]) -> Result<(), Error> {
    while !data.is_empty() {
        let failed = |source| Error::Write { offset, bytes: data.len() as u64, source };
        match target.write_at(offset, data) {
            Ok(0) => return Err(failed(io::ErrorKind::WriteZero.into())),
            Ok(put) => {
                let put = put.min(data.len());
                offset += put as u64;
                data = &data[put..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Whether a stretch holds data or only zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data,
    Zeros,
}

/// A stretch of a frame, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    kind: Kind,
    start: usize,
    end: usize,
}

/// Splits a frame into stretches of data and of zeros, in blocks of [`ALIGNMENT`]. Zeros shorter than
/// [`ZERO_RUN_MIN_BYTES`] belong to the data around them, unless they reach the frame's edge on both sides.
fn runs(data: &[u8]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (index, block) in data.chunks(ALIGNMENT).enumerate() {
        let start = index * ALIGNMENT;
        let end = start + block.len();
        let kind = if is_zero(block) { Kind::Zeros } else { Kind::Data };
        match runs.last_mut() {
            Some(last) if last.kind == kind => last.end = end,
            _ => runs.push(Run { kind, start, end }),
        }
    }
    let mut merged: Vec<Run> = Vec::new();
    for run in runs {
        let short = run.kind == Kind::Zeros && run.end - run.start < ZERO_RUN_MIN_BYTES.min(data.len());
        let kind = if short { Kind::Data } else { run.kind };
        match merged.last_mut() {
            Some(last) if last.kind == kind => last.end = run.end,
            _ => merged.push(Run { kind, ..run }),
        }
    }
    merged
}

/// Whether all bytes are 0, in steps that the compiler turns into vector instructions.
fn is_zero(block: &[u8]) -> bool {
    block.chunks(256).all(|part| part.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT, Kind, Run, ZERO_RUN_MIN_BYTES, runs};
    use proptest::prelude::{any, prop, proptest};

    #[test]
    fn long_zeros_are_split_off_and_short_ones_are_not() {
        let mut data = vec![1; 4 * ZERO_RUN_MIN_BYTES + 100];
        data[ALIGNMENT..2 * ALIGNMENT].fill(0);
        data[ZERO_RUN_MIN_BYTES..3 * ZERO_RUN_MIN_BYTES].fill(0);
        let end = data.len();
        let expected = [
            Run { kind: Kind::Data, start: 0, end: ZERO_RUN_MIN_BYTES },
            Run { kind: Kind::Zeros, start: ZERO_RUN_MIN_BYTES, end: 3 * ZERO_RUN_MIN_BYTES },
            Run { kind: Kind::Data, start: 3 * ZERO_RUN_MIN_BYTES, end },
        ];
        assert_eq!(runs(&data), expected);
        assert_eq!(runs(&[0; 100]), [Run { kind: Kind::Zeros, start: 0, end: 100 }]);
        assert_eq!(runs(&[]), []);
    }

    proptest! {
        #[test]
        fn runs_cover_the_data_and_zero_runs_hold_zeros(
            blocks in prop::collection::vec(any::<bool>(), 0..80), tail in 0_usize..ALIGNMENT,
        ) {
            let mut data: Vec<u8> = Vec::new();
            for full in blocks {
                data.extend_from_slice(&[0; ALIGNMENT]);
                if full {
                    data.pop();
                    data.push(7);
                }
            }
            data.truncate(data.len().saturating_sub(tail));
            let mut at = 0;
            for run in runs(&data) {
                assert_eq!(run.start, at);
                assert!(run.end > run.start && run.start % ALIGNMENT == 0);
                assert!(run.kind == Kind::Data || data[run.start..run.end].iter().all(|b| *b == 0));
                at = run.end;
            }
            assert_eq!(at, data.len());
        }
    }
}

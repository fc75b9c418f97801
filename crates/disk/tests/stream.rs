//! The streaming copy on targets that fail, lie and stutter.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end the test")]

use proptest::prelude::{ProptestConfig, any, prop, proptest};
use std::io::{self, ErrorKind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tatara_disk::stream::{
    Error, FileTarget, Holes, Options, ReadBack, Stats, Target, digest, pack, verify, write_image,
};
use tatara_spec::release::Image;

const FRAME: u64 = 256 * 1024;

/// What a target does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// At most this many bytes a request.
    Stutter(usize),
    /// Writes fail from this byte on.
    FailWrite(u64),
    /// Writes succeed but flip a bit of this byte.
    FlipBit(u64),
    /// Writes are forgotten.
    Forget,
    /// Zero ranges are forgotten.
    KeepOldData,
    /// Reads say that they are done and touch nothing.
    LazyRead,
    /// The same, of one sector.
    LazySector(u64),
    FailRead(u64),
    FailFlush,
}

/// Memory that starts with old data.
struct Memory {
    data: Mutex<Vec<u8>>,
    fault: Fault,
    flushes: AtomicUsize,
}

impl Memory {
    fn new(bytes: u64, fault: Fault) -> Self {
        let data = Mutex::new(vec![0xEE; usize::try_from(bytes).unwrap()]);
        Self { data, fault, flushes: AtomicUsize::new(0) }
    }
}

impl Target for Memory {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let mut count = data.len();
        assert_eq!(
            data.as_ptr().align_offset(if matches!(self.fault, Fault::Stutter(_)) { 1 } else { 4096 }),
            0
        );
        let mut memory = self.data.lock().unwrap();
        match self.fault {
            Fault::Stutter(most) => count = count.min(most),
            Fault::FailWrite(at) if offset + count as u64 > at => return Err(ErrorKind::StorageFull.into()),
            Fault::Forget => return Ok(count),
            _ => {}
        }
        let at = offset as usize;
        memory[at..at + count].copy_from_slice(&data[..count]);
        if let Fault::FlipBit(bit) = self.fault
            && (offset..offset + count as u64).contains(&bit)
        {
            memory[bit as usize] ^= 0x10;
        }
        Ok(count)
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        if self.fault != Fault::KeepOldData {
            self.data.lock().unwrap()[offset as usize..(offset + bytes) as usize].fill(0);
        }
        Ok(())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = buffer.len();
        match self.fault {
            Fault::Stutter(most) => count = count.min(most),
            Fault::LazyRead => return Ok(count),
            Fault::FailRead(at) if offset + count as u64 > at => return Err(ErrorKind::TimedOut.into()),
            _ => {}
        }
        let at = offset as usize;
        let memory = self.data.lock().unwrap();
        for (i, sector) in buffer[..count].chunks_mut(512).enumerate() {
            let at = at + i * 512;
            if self.fault != Fault::LazySector(at as u64) {
                sector.copy_from_slice(&memory[at..at + sector.len()]);
            }
        }
        Ok(count)
    }

    fn flush(&self) -> io::Result<()> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        if self.fault == Fault::FailFlush { Err(ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// Ten frames: text, zeros across a frame's edge, single zero blocks, and an odd end.
fn raw_image() -> Vec<u8> {
    let mut raw: Vec<u8> = (0..9 * FRAME as u32 + 5000).map(|i| (i / 7) as u8 | 1).collect();
    raw[300_000..900_000].fill(0);
    raw[1_200_128..1_208_320].fill(0);
    raw
}

fn packed(raw: &[u8], threads: usize) -> (Image, Vec<u8>) {
    let mut stream = Vec::new();
    let image = pack(&mut &*raw, &mut stream, FRAME, 3, threads, &|_| ()).unwrap();
    (image, stream)
}

fn options(read_back: ReadBack) -> Options {
    Options { threads: 3, read_back }
}

fn run(image: &Image, stream: &[u8], target: &dyn Target, read_back: ReadBack) -> Result<Stats, Error> {
    write_image(image, &mut &*stream, target, options(read_back), &|_| ())
}

#[test]
fn packing_does_not_depend_on_threads_and_the_manifest_is_right() {
    let raw = raw_image();
    let (image, stream) = packed(&raw, 1);
    assert_eq!((image.clone(), stream.clone()), packed(&raw, 4));
    assert_eq!((image.bytes, image.frames.len()), (raw.len() as u64, 10));
    assert_eq!(image.frames.iter().map(|frame| frame.bytes).sum::<u64>(), stream.len() as u64);
    // Any zstd unpacks the stream as a whole.
    assert_eq!(zstd::decode_all(&*stream).unwrap(), raw);
    let (empty, stream) = packed(&[], 2);
    assert_eq!((empty.bytes, empty.frames.len(), stream.len()), (0, 0, 0));
    run(&empty, &stream, &Memory::new(0, Fault::None), ReadBack::Overlapped).unwrap();
}

#[test]
fn an_image_arrives_whole_in_every_mode() {
    let raw = raw_image();
    let (image, stream) = packed(&raw, 2);
    for read_back in [ReadBack::Overlapped, ReadBack::AfterFlush, ReadBack::ByCaller] {
        for fault in [Fault::None, Fault::Stutter(4096), Fault::Stutter(1000)] {
            let target = Memory::new(image.bytes, fault);
            let most = AtomicU64::new(0);
            let progress = |done| {
                most.fetch_max(done, Ordering::Relaxed);
            };
            let stats = write_image(&image, &mut &*stream, &target, options(read_back), &progress).unwrap();
            assert!(*target.data.lock().unwrap() == raw);
            assert_eq!(most.into_inner(), image.bytes);
            assert_eq!(stats.written_bytes + stats.zeroed_bytes, image.bytes);
            assert!(stats.zeroed_bytes > 500_000, "{stats:?}");
            assert_eq!(stats.packed_bytes, stream.len() as u64);
            let verified = if read_back == ReadBack::ByCaller { 0 } else { image.bytes };
            assert_eq!((stats.verified_bytes, target.flushes.into_inner()), (verified, 1));
        }
    }
}

#[test]
fn files_become_sparse_or_lose_their_old_data() {
    use std::os::unix::fs::MetadataExt;
    let raw = raw_image();
    let (image, stream) = packed(&raw, 2);
    let file = tempfile::NamedTempFile::new().unwrap();
    let sparse = FileTarget::sparse(file.reopen().unwrap(), image.bytes).unwrap();
    run(&image, &stream, &sparse, ReadBack::Overlapped).unwrap();
    assert!(std::fs::read(file.path()).unwrap() == raw);
    assert!(file.as_file().metadata().unwrap().blocks() * 512 < image.bytes - 400_000);
    std::fs::write(file.path(), vec![0xEE; raw.len() + 4096]).unwrap();
    let old = FileTarget::new(file.reopen().unwrap(), 4096, Holes::Unknown);
    run(&image, &stream, &old, ReadBack::AfterFlush).unwrap();
    let found = std::fs::read(file.path()).unwrap();
    assert!(found[4096..] == raw && found[..4096] == [0xEE; 4096]);
}

#[test]
fn every_fault_of_a_target_is_found_and_named() {
    let (image, stream) = packed(&raw_image(), 2);
    for read_back in [ReadBack::Overlapped, ReadBack::AfterFlush] {
        let fail = |fault| run(&image, &stream, &Memory::new(image.bytes, fault), read_back).unwrap_err();
        let error = fail(Fault::FailWrite(5 * FRAME + 1));
        assert!(matches!(error, Error::Write { offset, bytes: FRAME, .. } if offset == 5 * FRAME), "{error}");
        let error = fail(Fault::FlipBit(6 * FRAME + 77));
        assert!(
            matches!(error, Error::Mismatch { frame: 6, offset, bytes: FRAME, .. } if offset == 6 * FRAME),
            "{error}"
        );
        for lie in [Fault::Forget, Fault::LazyRead] {
            let error = fail(lie);
            assert!(matches!(error, Error::Mismatch { frame: 0, offset: 0, .. }), "{lie:?}: {error}");
        }
        let error = fail(Fault::LazySector(5 * FRAME + 1024));
        assert!(matches!(error, Error::Mismatch { frame: 5, .. }), "{error}");
        let error = fail(Fault::KeepOldData);
        assert!(matches!(error, Error::Mismatch { frame: 1, .. }), "{error}");
        let error = fail(Fault::FailRead(4 * FRAME + 1));
        assert!(matches!(error, Error::ReadBack { offset, .. } if offset == 4 * FRAME), "{error}");
        assert!(matches!(fail(Fault::FailFlush), Error::Flush(_)));
    }
}

#[test]
fn a_bad_stream_is_refused_before_it_is_written() {
    let (image, stream) = packed(&raw_image(), 2);
    let starts: Vec<_> =
        image.frames.iter().scan(0, |at, f| Some(std::mem::replace(at, *at + f.bytes as usize))).collect();
    let target = || Memory::new(image.bytes, Fault::None);
    for (frame, at) in starts.iter().enumerate() {
        let mut flipped = stream.clone();
        flipped[at + 9] ^= 1;
        let target = target();
        let error = run(&image, &flipped, &target, ReadBack::Overlapped).unwrap_err();
        assert!(
            matches!(error, Error::Packed { frame: f, offset, .. } if f == frame && offset == *at as u64),
            "{error}"
        );
        let (start, end) = (frame * FRAME as usize, ((frame + 1) * FRAME as usize).min(image.bytes as usize));
        assert!(target.data.lock().unwrap()[start..end].iter().all(|byte| *byte == 0xEE));
    }
    let cut = starts[4] + 3;
    let error = run(&image, &stream[..cut], &target(), ReadBack::Overlapped).unwrap_err();
    let all = stream.len() as u64;
    assert!(
        matches!(error, Error::SourceShort { frame: 4, offset, expected } if offset == cut as u64 && expected == all),
        "{error}"
    );
    let mut swapped = stream[starts[1]..].to_vec();
    swapped.splice(0..0, stream[..starts[1]].iter().rev().copied().collect::<Vec<_>>());
    assert!(matches!(
        run(&image, &swapped, &target(), ReadBack::Overlapped),
        Err(Error::Packed { frame: 0, .. })
    ));
    let mut broken = io::Read::chain(&stream[..100], Breaks);
    let error = write_image(&image, &mut broken, &target(), Options::default(), &|_| ()).unwrap_err();
    assert!(matches!(error, Error::Source { frame: 0, .. }), "{error}");
}

struct Breaks;
impl io::Read for Breaks {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_frame_that_unpacks_to_more_or_less_is_refused() {
    let (mut image, _) = packed(&raw_image()[..FRAME as usize], 1);
    for bytes in [FRAME as usize - 1, FRAME as usize + 1, 50 << 20] {
        let bomb = zstd::bulk::compress(&vec![0; bytes], 3).unwrap();
        image.frames[0].bytes = bomb.len() as u64;
        image.frames[0].packed_blake3 = digest(&bomb);
        let target = Memory::new(FRAME, Fault::None);
        let error = run(&image, &bomb, &target, ReadBack::Overlapped).unwrap_err();
        assert!(matches!(error, Error::Decode { frame: 0, .. }), "{error}");
        assert!(target.data.lock().unwrap().iter().all(|byte| *byte == 0xEE));
    }
}

#[test]
fn a_manifest_that_contradicts_itself_is_refused() {
    let (image, stream) = packed(&raw_image(), 2);
    let wrong: [fn(&mut Image); 6] = [
        |i| i.frame_bytes = 0,
        |i| i.frame_bytes = 1000,
        |i| i.frame_bytes = 1 << 40,
        |i| i.bytes = u64::MAX,
        |i| i.frames.truncate(3),
        |i| i.frames[2].bytes = 1 << 40,
    ];
    for change in wrong {
        let mut image = image.clone();
        change(&mut image);
        let target = Memory::new(0, Fault::None);
        assert!(matches!(run(&image, &stream, &target, ReadBack::Overlapped), Err(Error::Manifest(_))));
        assert!(matches!(verify(&image, &target, 2, &|_| ()), Err(Error::Manifest(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_images_with_zero_runs_survive(
        parts in prop::collection::vec((any::<u8>(), 1_usize..200_000, any::<bool>()), 0..8), threads in 1_usize..4,
    ) {
        let mut raw = Vec::new();
        for (seed, bytes, zeros) in parts {
            let part = (0..bytes).map(|i| if zeros { 0 } else { seed.wrapping_add((i / 3) as u8) });
            raw.extend(part);
        }
        let mut stream = Vec::new();
        let image = pack(&mut &*raw, &mut stream, 64 * 1024, 1, threads, &|_| ()).unwrap();
        let target = Memory::new(image.bytes, Fault::None);
        write_image(&image, &mut &*stream, &target, Options { threads, ..Options::default() }, &|_| ()).unwrap();
        verify(&image, &target, threads, &|_| ()).unwrap();
        assert!(*target.data.lock().unwrap() == raw);
    }
}

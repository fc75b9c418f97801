//! A seekable view of a [`Target`], for code that reads and writes small pieces: partition tables, FAT, signatures.
//!
//! Everything on a disk goes through the same [`Target`], past the kernel's page cache, so there is nothing to get out of step
//! with the cache of another node of the same disk. What is written here is on its way to the device only after [`Cached::sync`].

use crate::span::{get, put};
use std::io::{self, Error, ErrorKind, Read, Seek, SeekFrom, Write};
use tatara_disk::stream::{Aligned, Target};

/// How much is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pieces {
    /// For reading little at many places: a partition table or a directory of FAT is one piece.
    Small,
    /// Large enough that a kernel is copied in few requests, small enough that eight are nothing.
    Large,
}

impl Pieces {
    const fn bytes(self) -> usize {
        match self {
            Pieces::Small => 32 * 1024,
            Pieces::Large => 256 * 1024,
        }
    }
}

/// Pieces kept: FAT code alternates between both tables, a directory and the data.
const CHUNKS: usize = 8;

struct Chunk {
    /// Offset in the view.
    offset: u64,
    /// Aligned, so that it is read without a copy.
    data: Aligned,
    /// What differs from the device, as byte range in `data`.
    dirty: Option<(usize, usize)>,
}

/// The bytes `start..start + bytes` of a target.
pub(crate) struct Cached<'a> {
    target: &'a dyn Target,
    start: u64,
    bytes: u64,
    sector_bytes: usize,
    position: u64,
    chunk_bytes: usize,
    /// Least recently used first.
    chunks: Vec<Chunk>,
}

impl<'a> Cached<'a> {
    /// A view; `start` and `bytes` are multiples of `sector_bytes`, the device's logical sector.
    pub(crate) fn new(
        target: &'a dyn Target,
        start: u64,
        bytes: u64,
        sector_bytes: u32,
        pieces: Pieces,
    ) -> Self {
        let (sector_bytes, chunk_bytes) = (sector_bytes as usize, pieces.bytes());
        Self { target, start, bytes, sector_bytes, position: 0, chunk_bytes, chunks: Vec::new() }
    }

    /// Writes what has changed and has the device make it durable.
    ///
    /// From the end to the start, with a flush before the first piece: what describes a disk or a file system lies at its
    /// start, and so is never there without what it describes. (A partition table's backup is durable before the primary.)
    ///
    /// # Errors
    /// What the target says.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        let mut dirty: Vec<&mut Chunk> = self.chunks.iter_mut().filter(|c| c.dirty.is_some()).collect();
        dirty.sort_by_key(|chunk| std::cmp::Reverse(chunk.offset));
        let count = dirty.len();
        for (i, chunk) in dirty.into_iter().enumerate() {
            if i + 1 == count && count > 1 {
                self.target.flush()?;
            }
            write_back(self.target, self.start, self.sector_bytes, chunk)?;
        }
        self.target.flush()
    }

    fn clamp(&self, wanted: usize) -> usize {
        let left = self.bytes.saturating_sub(self.position);
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// The chunk that `position` is in, and the offset in it. `whole` means that all of it will be overwritten.
    fn chunk(&mut self, overwritten: usize) -> io::Result<(&mut Chunk, usize)> {
        let offset = self.position / self.chunk_bytes as u64 * self.chunk_bytes as u64;
        let within = usize::try_from(self.position - offset).map_err(Error::other)?;
        let chunk = match self.chunks.iter().position(|chunk| chunk.offset == offset) {
            Some(index) => self.chunks.remove(index),
            None => self.load(offset, within == 0 && overwritten >= self.chunk_bytes)?,
        };
        self.chunks.push(chunk);
        let last = self.chunks.last_mut().ok_or(ErrorKind::NotFound)?;
        Ok((last, within))
    }

    fn load(&mut self, offset: u64, overwritten: bool) -> io::Result<Chunk> {
        let length =
            usize::try_from((self.bytes - offset).min(self.chunk_bytes as u64)).map_err(Error::other)?;
        let mut oldest = (self.chunks.len() == CHUNKS).then(|| self.chunks.remove(0));
        if let Some(oldest) = &mut oldest {
            write_back(self.target, self.start, self.sector_bytes, oldest)?;
        }
        let free = oldest.map(|oldest| oldest.data).filter(|data| data.len() == length);
        let mut data = free.unwrap_or_else(|| Aligned::zeroed(length));
        if !overwritten {
            get(self.target, self.start + offset, &mut data)?;
        }
        Ok(Chunk { offset, data, dirty: None })
    }
}

fn write_back(target: &dyn Target, start: u64, sector_bytes: usize, chunk: &mut Chunk) -> io::Result<()> {
    let Some((from, to)) = chunk.dirty else { return Ok(()) };
    let from = from / sector_bytes * sector_bytes;
    let to = to.next_multiple_of(sector_bytes).min(chunk.data.len());
    put(target, start + chunk.offset + from as u64, &chunk.data[from..to])?;
    chunk.dirty = None;
    Ok(())
}

impl Read for Cached<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let wanted = self.clamp(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        let (chunk, within) = self.chunk(0)?;
        let got = wanted.min(chunk.data.len() - within);
        buf[..got].copy_from_slice(&chunk.data[within..within + got]);
        self.position += got as u64;
        Ok(got)
    }
}

impl Write for Cached<'_> {
    /// Writes at most up to the end of the view; there, 0 bytes.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let wanted = self.clamp(buf.len());
        if wanted == 0 {
            return Ok(0);
        }
        let (chunk, within) = self.chunk(wanted)?;
        let put = wanted.min(chunk.data.len() - within);
        chunk.data[within..within + put].copy_from_slice(&buf[..put]);
        let (from, to) = chunk.dirty.unwrap_or((within, within));
        chunk.dirty = Some((from.min(within), to.max(within + put)));
        self.position += put as u64;
        Ok(put)
    }

    /// Does nothing: libraries flush often, and durability is [`Cached::sync`]'s.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Cached<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(delta) => self.bytes.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "seek before the start"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cached, Pieces};
    use crate::power_cut::FakeDisk;
    use crate::span::get;
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};
    use std::io::{Read, Seek, SeekFrom, Write};

    /// More pieces than are kept, and a last one that is not whole.
    const BYTES: usize = 12 * CHUNK_BYTES + 1024;
    const CHUNK_BYTES: usize = Pieces::Small.bytes();

    proptest! {
        #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

        #[test]
        fn reads_give_what_was_written_and_sync_takes_it_to_the_device(
            writes in prop::collection::vec((0..BYTES, 1..2 * CHUNK_BYTES, any::<u8>()), 1..30),
        ) {
            let disk = FakeDisk::default();
            let mut model = vec![0; BYTES];
            let mut view = Cached::new(&disk, 4096, BYTES as u64, 512, Pieces::Small);
            for (at, length, value) in writes {
                let end = (at + length).min(BYTES);
                model[at..end].fill(value);
                view.seek(SeekFrom::Start(at as u64)).unwrap();
                view.write_all(&vec![value; end - at]).unwrap();
            }
            let mut seen = Vec::new();
            view.rewind().unwrap();
            view.read_to_end(&mut seen).unwrap();
            prop_assert!(seen == model);
            view.sync().unwrap();
            get(&disk, 4096, &mut seen).unwrap();
            prop_assert!(seen == model);
        }
    }

    #[test]
    fn nothing_is_written_behind_the_end() {
        let disk = FakeDisk::default();
        let mut view = Cached::new(&disk, 0, 1024, 512, Pieces::Large);
        view.seek(SeekFrom::Start(1020)).unwrap();
        assert_eq!(view.write(&[1; 10]).unwrap(), 4);
        assert_eq!(view.write(&[1; 10]).unwrap(), 0);
    }
}

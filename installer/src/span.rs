//! Parts of a disk as targets of their own.

use crate::cached::{Cached, Pieces};
use crate::ext4::HEAD_BYTES;
use std::io::{self, Error, ErrorKind};
use std::sync::{Mutex, PoisonError};
use tatara_disk::gpt::table::Entry;
use tatara_disk::stream::Target;

/// Writes all of `data`, or fails.
///
/// # Errors
/// What the target says; `WriteZero` when it takes nothing.
pub(crate) fn put(target: &dyn Target, offset: u64, data: &[u8]) -> io::Result<()> {
    let mut done = 0;
    while done < data.len() {
        match target.write_at(offset + done as u64, &data[done..]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer`, or fails.
///
/// # Errors
/// What the target says; `UnexpectedEof` when it gives nothing.
pub(crate) fn get(target: &dyn Target, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        match target.read_at(offset + done as u64, &mut buffer[done..]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => done += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A whole disk and what is known about it.
#[derive(Clone, Copy)]
pub struct Medium<'a> {
    /// The disk.
    pub target: &'a dyn Target,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical sector size in bytes, 512 or 4096.
    pub sector_bytes: u32,
}

impl<'a> Medium<'a> {
    /// A partition of it.
    #[must_use]
    pub(crate) fn span(&self, entry: &Entry) -> Span<'a> {
        Span { target: self.target, start: entry.first_byte, bytes: entry.bytes }
    }

    /// A seekable view of all of it.
    #[must_use]
    pub(crate) fn cached(&self, pieces: Pieces) -> Cached<'a> {
        Cached::new(self.target, 0, self.bytes, self.sector_bytes, pieces)
    }

    /// A seekable view of a partition.
    #[must_use]
    pub(crate) fn cached_part(&self, entry: &Entry, pieces: Pieces) -> Cached<'a> {
        Cached::new(self.target, entry.first_byte, entry.bytes, self.sector_bytes, pieces)
    }
}

/// A byte range of a target; nothing outside is reached.
#[derive(Clone, Copy)]
pub(crate) struct Span<'a> {
    target: &'a dyn Target,
    start: u64,
    bytes: u64,
}

impl Span<'_> {
    fn place(&self, offset: u64, length: u64) -> io::Result<u64> {
        let inside = offset.checked_add(length).is_some_and(|end| end <= self.bytes);
        if inside {
            return Ok(self.start + offset);
        }
        let text = format!("{length} bytes at {offset} are outside of a partition of {} bytes", self.bytes);
        Err(Error::new(ErrorKind::InvalidInput, text))
    }
}

impl Target for Span<'_> {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        self.target.write_at(self.place(offset, data.len() as u64)?, data)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.target.read_at(self.place(offset, buffer.len() as u64)?, buffer)
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.target.zero_range(self.place(offset, bytes)?, bytes)
    }

    fn flush(&self) -> io::Result<()> {
        self.target.flush()
    }
}

/// A span whose first [`HEAD_BYTES`] stay in memory until [`Beheaded::head`] is written by hand: a file system without its
/// superblock is none, so it comes into being at once, when everything behind it is durable and verified.
pub(crate) struct Beheaded<'a> {
    span: Span<'a>,
    head: Mutex<[u8; HEAD_BYTES]>,
}

impl<'a> Beheaded<'a> {
    /// Nothing is written.
    #[must_use]
    pub(crate) fn new(span: Span<'a>) -> Self {
        Self { span, head: Mutex::new([0; HEAD_BYTES]) }
    }

    /// What was written to the first bytes.
    #[must_use]
    pub(crate) fn head(&self) -> [u8; HEAD_BYTES] {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of `length` bytes at `offset` lies in the head, as range of the head.
    fn held(offset: u64, length: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(HEAD_BYTES);
        start..start.saturating_add(length).min(HEAD_BYTES)
    }
}

impl Target for Beheaded<'_> {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<usize> {
        let held = Self::held(offset, data.len());
        let count = held.len();
        if count == 0 {
            return self.span.write_at(offset, data);
        }
        // A short write, as pwrite(2) may do; the caller comes back for the rest.
        self.head.lock().unwrap_or_else(PoisonError::into_inner)[held].copy_from_slice(&data[..count]);
        Ok(count)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let held = Self::held(offset, buffer.len());
        let count = held.len();
        if count == 0 {
            return self.span.read_at(offset, buffer);
        }
        buffer[..count].copy_from_slice(&self.head()[held]);
        Ok(count)
    }

    fn zero_range(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let held = Self::held(offset, usize::try_from(bytes).unwrap_or(usize::MAX));
        let count = held.len() as u64;
        if count > 0 {
            self.head.lock().unwrap_or_else(PoisonError::into_inner)[held].fill(0);
        }
        if count == bytes { Ok(()) } else { self.span.zero_range(offset + count, bytes - count) }
    }

    fn flush(&self) -> io::Result<()> {
        self.span.flush()
    }
}

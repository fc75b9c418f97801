//! A disk made of few sectors: cheap to make, and it counts what is asked of it.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// A disk on which only the sectors that were written are kept; the others are zero.
#[derive(Debug, Clone)]
pub(crate) struct Sectors {
    sectors: BTreeMap<u64, Sector>,
    bytes: u64,
    position: u64,
    /// Bytes that may still be moved; a reader that goes in circles comes to their end.
    budget: u64,
}

impl Sectors {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { sectors: BTreeMap::new(), bytes, position: 0, budget: u64::MAX }
    }

    /// From here on no more than these bytes may be read and written.
    pub(crate) fn limit(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    /// The numbers of the sectors that were written.
    pub(crate) fn written(&self) -> Vec<u64> {
        self.sectors.keys().copied().collect()
    }

    /// Whether all is zero.
    pub(crate) fn is_zero(&self) -> bool {
        self.sectors.values().flatten().all(|byte| *byte == 0)
    }

    pub(crate) fn put(&mut self, offset: u64, data: &[u8]) {
        for (at, byte) in (offset..self.bytes).zip(data) {
            let sector = self.sectors.entry(at / SECTOR_BYTES as u64).or_insert([0; SECTOR_BYTES]);
            sector[(at % SECTOR_BYTES as u64) as usize] = *byte;
        }
    }

    pub(crate) fn get(&self, offset: u64, count: usize) -> Vec<u8> {
        let mut data = vec![0; count];
        self.copy(offset, &mut data);
        data
    }

    fn copy(&self, offset: u64, into: &mut [u8]) {
        const BYTES: u64 = SECTOR_BYTES as u64;
        into.fill(0);
        let end = offset + into.len() as u64;
        for (number, sector) in self.sectors.range(offset / BYTES..end.div_ceil(BYTES)) {
            let first = number * BYTES;
            let (from, to) = (offset.max(first), end.min(first + BYTES));
            let piece = &sector[(from - first) as usize..(to - first) as usize];
            into[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
        }
    }

    /// How much of a request can be met.
    fn spend(&mut self, wanted: usize) -> usize {
        let left = self.bytes.saturating_sub(self.position);
        let count = wanted.min(usize::try_from(left).unwrap_or(usize::MAX));
        let cost = (count as u64).max(1);
        assert!(self.budget >= cost, "the code reads or writes without end");
        self.budget -= cost;
        count
    }
}

impl Read for Sectors {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.spend(buffer.len());
        let position = self.position;
        self.copy(position, &mut buffer[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Sectors {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let count = self.spend(data.len());
        self.put(self.position, &data[..count]);
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sectors {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(delta) => self.bytes.checked_add_signed(delta),
            SeekFrom::Current(delta) => self.position.checked_add_signed(delta),
        };
        self.position = target.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

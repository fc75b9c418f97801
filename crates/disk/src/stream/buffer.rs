//! Buffers that O_DIRECT accepts.

use super::ALIGNMENT;

/// Bytes whose start is a multiple of [`ALIGNMENT`] in memory: one alignment too many is allocated and skipped.
#[derive(Debug)]
pub(super) struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// `bytes` zeros.
    pub(super) fn zeroed(bytes: usize) -> Self {
        let memory = vec![0; bytes + ALIGNMENT];
        // `align_offset` may give up, by its documentation; unaligned memory then makes O_DIRECT fail with EINVAL, no more.
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self { memory, start, bytes }
    }

    pub(super) fn get(&self, bytes: usize) -> &[u8] {
        &self.memory[self.start..self.start + bytes.min(self.bytes)]
    }

    pub(super) fn get_mut(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.start + bytes.min(self.bytes);
        &mut self.memory[self.start..end]
    }
}

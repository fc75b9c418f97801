//! Buffers that direct I/O accepts.

use memmap2::{Advice, MmapMut};
use std::alloc::{Layout, handle_alloc_error};
use std::ops::{Deref, DerefMut};

/// Memory in pages of its own, so that it starts at a multiple of [`super::ALIGNMENT`]; a large one in huge pages where the kernel has
/// them (Documentation/admin-guide/mm/transhuge.rst), because direct I/O looks up every page of every request.
#[derive(Debug)]
pub struct Aligned {
    memory: MmapMut,
    bytes: usize,
}

/// A smaller buffer would have a whole huge page zeroed for it.
const HUGE_BYTES: usize = 2 << 20;

/// Memory behind the buffer that nobody uses. QEMU's `vinsertf128` reads 32 bytes where the CPU reads 16
/// (target/i386/tcg/decode-new.c.inc has `W,qq`), so that BLAKE3 of a buffer at the end of a mapping would end an emulated machine's worker.
const SPARE_BYTES: usize = 4096;

impl Aligned {
    /// `bytes` zeros. Ends the process when there is no memory, as `Vec` does.
    #[must_use]
    pub fn zeroed(bytes: usize) -> Self {
        let memory = MmapMut::map_anon(bytes + SPARE_BYTES).unwrap_or_else(|_| no_memory(bytes));
        if bytes >= HUGE_BYTES {
            // A wish: a kernel without huge pages serves as well.
            let _ = memory.advise(Advice::HugePage);
        }
        Self { memory, bytes }
    }
}

impl Deref for Aligned {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.memory[..self.bytes]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[..self.bytes]
    }
}

fn no_memory(bytes: usize) -> ! {
    handle_alloc_error(Layout::array::<u8>(bytes).unwrap_or(Layout::new::<u8>()))
}

#[cfg(test)]
mod tests {
    use super::super::ALIGNMENT;
    use super::Aligned;

    #[test]
    fn it_is_aligned_zeroed_and_writable() {
        for bytes in [1, 512, 4096, 1 << 20, 4 << 20] {
            let mut buffer = Aligned::zeroed(bytes);
            assert!(buffer.as_ptr().addr().is_multiple_of(ALIGNMENT));
            assert_eq!(buffer.len(), bytes);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer[bytes - 1] = 7;
            assert_eq!(buffer.last(), Some(&7));
        }
        assert!(Aligned::zeroed(0).is_empty());
    }
}

//! Memory that direct I/O takes.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// What every device's direct I/O is content with: the page, and the largest logical sector (open(2), section "O_DIRECT").
pub const ALIGNMENT_BYTES: usize = 4096;

/// A zeroed buffer whose address is a multiple of [`ALIGNMENT_BYTES`].
#[derive(Debug)]
pub struct AlignedBuf {
    start: NonNull<u8>,
    layout: Option<Layout>,
    len: usize,
}

// SAFETY: the buffer owns its memory as a Vec<u8> does; access goes through & and &mut of the whole value.
unsafe impl Send for AlignedBuf {}
// SAFETY: as above; a shared reference only reads.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// A buffer of `len` bytes, all zero. Ends the process when there is no memory, as `Vec` does.
    #[must_use]
    pub fn zeroed(len: usize) -> Self {
        let layout = Layout::from_size_align(len, ALIGNMENT_BYTES).ok().filter(|layout| layout.size() > 0);
        let Some(layout) = layout else {
            return Self { start: NonNull::dangling(), layout: None, len: 0 };
        };
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { handle_alloc_error(layout) };
        Self { start, layout: Some(layout), len }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `len` initialised bytes that live as long as self (or dangles, aligned, with len 0).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and &mut self is the only access.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if let Some(layout) = self.layout {
            // SAFETY: allocated in `zeroed` with this layout, and freed only here.
            unsafe { dealloc(self.start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALIGNMENT_BYTES, AlignedBuf};

    #[test]
    fn it_is_aligned_zeroed_and_writable() {
        for len in [1, 512, 4096, 1 << 20] {
            let mut buffer = AlignedBuf::zeroed(len);
            assert_eq!(buffer.as_ptr() as usize % ALIGNMENT_BYTES, 0);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|byte| *byte == 0));
            buffer[len - 1] = 7;
            assert_eq!(buffer.last(), Some(&7));
        }
        assert!(AlignedBuf::zeroed(0).is_empty());
    }
}

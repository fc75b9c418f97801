//! A queue of byte blocks between the thread that receives and the one that writes, bounded by bytes.

use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use tatara_spec::Fault;

/// What the reading side gets.
#[derive(Debug)]
pub(super) enum Item {
    /// The next bytes; never empty.
    Block(Bytes),
    /// All bytes were delivered.
    End,
    /// There will be no more, because of this. Said once; afterwards it is the end.
    Failed(Fault),
}

/// Blocks of at most `limit` bytes in total, plus one.
#[derive(Debug)]
pub(super) struct Queue {
    limit: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    blocks: VecDeque<Bytes>,
    bytes: usize,
    /// The writing side is done, well or with a fault.
    ended: Option<Result<(), Fault>>,
    /// The reading side is gone.
    abandoned: bool,
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds a block, after waiting for room. `false`: nobody reads any more.
    pub(super) fn push(&self, block: Bytes) -> bool {
        let full = |state: &mut State| state.bytes >= self.limit && !state.abandoned;
        let mut state = self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner);
        if state.abandoned {
            return false;
        }
        if !block.is_empty() {
            state.bytes += block.len();
            state.blocks.push_back(block);
            self.changed.notify_all();
        }
        true
    }

    /// No more blocks will come.
    pub(super) fn end(&self, result: Result<(), Fault>) {
        self.lock().ended = Some(result);
        self.changed.notify_all();
    }

    /// The next block, after waiting for one.
    pub(super) fn pop(&self) -> Item {
        let empty = |state: &mut State| state.blocks.is_empty() && state.ended.is_none();
        let mut state = self.changed.wait_while(self.lock(), empty).unwrap_or_else(PoisonError::into_inner);
        if let Some(block) = state.blocks.pop_front() {
            state.bytes -= block.len();
            self.changed.notify_all();
            return Item::Block(block);
        }
        match state.ended.replace(Ok(())) {
            Some(Err(fault)) => Item::Failed(fault),
            _ => Item::End,
        }
    }

    /// The reading side goes: a waiting [`Self::push`] returns.
    pub(super) fn abandon(&self) {
        self.lock().abandoned = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic on the other side leaves the state whole: no method panics between two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use tatara_spec::Code;

    #[test]
    fn bounds_the_bytes_and_keeps_the_order() {
        let queue = Arc::new(Queue::new(10));
        let writer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || {
            for n in 0..100_u8 {
                assert!(writer.push(Bytes::from(vec![n; 7])));
                assert!(writer.lock().bytes <= 10 + 7);
            }
            writer.end(Err(Fault::new(Code::HttpBody, "cut")));
        });
        for n in 0..100_u8 {
            assert!(matches!(queue.pop(), Item::Block(block) if block[..] == [n; 7]));
        }
        assert!(matches!(queue.pop(), Item::Failed(fault) if fault.code == Code::HttpBody));
        assert!(matches!(queue.pop(), Item::End));
        thread.join().unwrap();
    }

    #[test]
    fn a_reader_that_goes_frees_the_writer() {
        let queue = Arc::new(Queue::new(1));
        assert!(queue.push(Bytes::from_static(b"full")));
        let writer = Arc::clone(&queue);
        let thread = std::thread::spawn(move || writer.push(Bytes::from_static(b"waits")));
        queue.abandon();
        assert!(!thread.join().unwrap());
    }
}

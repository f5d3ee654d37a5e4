//! The buffers of one worker: lent to a connection while a message is under way, so that one that
//! idles owns none.
//!
//! Invariant: what is taken is empty and has room for [`SIZE`] bytes; what nobody else still holds
//! a slice of is used again.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::BytesMut;

/// A usual head and a small body behind it.
pub(crate) const SIZE: usize = 8 * 1024;

/// Buffers beyond these are given back to the allocator: as many as are in use at once in a busy
/// turn of a worker.
const KEPT_MOST: usize = 32;

/// A buffer that grew beyond this is not kept: one large head must not stay for ever.
const LARGEST_KEPT: usize = 64 * 1024;

/// The spare buffers of a worker. Clones share them.
#[derive(Clone, Default)]
pub struct Buffers(Rc<RefCell<Vec<BytesMut>>>);

impl Buffers {
    /// None yet; they are made when they are first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> BytesMut {
        let spare = self.0.borrow_mut().pop();
        spare.unwrap_or_else(|| BytesMut::with_capacity(SIZE))
    }

    /// Gives a buffer back. One that others hold slices of is not reusable yet, and is let go.
    pub(crate) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        if !buffer.try_reclaim(SIZE) || buffer.capacity() > LARGEST_KEPT {
            return;
        }
        let mut spare = self.0.borrow_mut();
        if spare.len() < KEPT_MOST {
            spare.push(buffer);
        }
    }

    /// How many are waiting to be used.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.0.borrow().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_unless_somebody_still_holds_a_part_of_it() {
        let buffers = Buffers::new();
        let mut first = buffers.take();
        first.extend_from_slice(b"head");
        let part = first.split_to(4).freeze();
        buffers.give(first);
        assert_eq!(buffers.spare(), 0);
        drop(part);
        let mut second = buffers.take();
        second.extend_from_slice(b"head");
        drop(second.split_to(4).freeze());
        buffers.give(second);
        assert_eq!(buffers.spare(), 1);
        let again = buffers.take();
        assert!(again.is_empty() && again.capacity() >= SIZE);
    }

    #[test]
    fn neither_many_nor_large_ones_are_kept() {
        let buffers = Buffers::new();
        buffers.give(BytesMut::with_capacity(LARGEST_KEPT * 2));
        assert_eq!(buffers.spare(), 0);
        for _ in 0..KEPT_MOST * 2 {
            buffers.give(BytesMut::with_capacity(SIZE));
        }
        assert_eq!(buffers.spare(), KEPT_MOST);
    }
}

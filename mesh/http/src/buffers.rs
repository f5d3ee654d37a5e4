//! The buffers of one worker: lent to a connection while a message is under way, so that one that
//! idles owns none.
//!
//! Invariant: what is taken is empty and has room for [`SIZE`] bytes; nothing is used again while
//! somebody else still holds a slice of it.

use std::cell::RefCell;
use std::collections::VecDeque;
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
pub struct Buffers(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    spare: Vec<BytesMut>,
    /// Those of which a part was still on its way elsewhere when they came back, the oldest first.
    lent: VecDeque<BytesMut>,
}

impl Buffers {
    /// None yet; they are made when they are first needed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> BytesMut {
        let kept = &mut *self.0.borrow_mut();
        let spare = kept.spare.pop().or_else(|| kept.returned());
        spare.unwrap_or_else(|| BytesMut::with_capacity(SIZE))
    }

    /// Gives a buffer back. One that others hold slices of is not reusable yet, and is let go.
    pub(crate) fn give(&self, mut buffer: BytesMut) {
        buffer.clear();
        if reclaim(&mut buffer) {
            self.0.borrow_mut().keep(buffer);
        }
    }

    /// Gives a buffer back that has never grown, and of which a part may be on its way elsewhere.
    pub(crate) fn lend(&self, mut buffer: BytesMut) {
        buffer.clear();
        let kept = &mut *self.0.borrow_mut();
        if reclaim(&mut buffer) {
            kept.keep(buffer);
            return;
        }
        if !kept.has_room() {
            // Who still holds a part of that one is slow.
            kept.lent.pop_front();
        }
        if kept.has_room() {
            kept.lent.push_back(buffer);
        }
    }

    /// How many are waiting to be used.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.0.borrow().spare.len()
    }
}

impl Kept {
    fn has_room(&self) -> bool {
        self.spare.len() + self.lent.len() < KEPT_MOST
    }

    fn keep(&mut self, buffer: BytesMut) {
        if self.has_room() {
            self.spare.push(buffer);
        }
    }

    /// The one that was lent first, if all of it has come back. One that has not goes behind the
    /// others, so that who holds a part of it for long keeps none of them from being used.
    fn returned(&mut self) -> Option<BytesMut> {
        let mut oldest = self.lent.pop_front()?;
        if reclaim(&mut oldest) {
            return Some(oldest);
        }
        self.lent.push_back(oldest);
        None
    }
}

/// Whether all of an empty buffer is ours again, and worth keeping.
fn reclaim(buffer: &mut BytesMut) -> bool {
    buffer.try_reclaim(SIZE) && buffer.capacity() <= LARGEST_KEPT
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
    fn one_that_was_lent_is_used_again_once_all_of_it_is_back_and_not_before() {
        let buffers = Buffers::new();
        let lend = || {
            let mut buffer = buffers.take();
            buffer.extend_from_slice(b"body");
            let at = buffer.as_ptr();
            let part = buffer.split_to(4).freeze();
            buffers.lend(buffer);
            (at, part)
        };
        let (first, slow) = lend();
        let (second, quick) = lend();
        assert_eq!(buffers.spare(), 0);
        drop(quick);
        let other = buffers.take();
        assert!(other.as_ptr() != first && other.as_ptr() != second);
        assert_eq!(buffers.take().as_ptr(), second);
        assert_eq!(slow, "body");
    }

    #[test]
    fn no_more_are_lent_than_kept() {
        let buffers = Buffers::new();
        let parts: Vec<_> = (0..KEPT_MOST * 2)
            .map(|_| {
                let mut buffer = BytesMut::with_capacity(SIZE);
                buffer.extend_from_slice(b"body");
                let part = buffer.split_to(4).freeze();
                buffers.lend(buffer);
                part
            })
            .collect();
        assert_eq!(buffers.0.borrow().lent.len(), KEPT_MOST);
        buffers.give(BytesMut::with_capacity(SIZE));
        assert_eq!((buffers.spare(), parts.len()), (0, KEPT_MOST * 2));
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

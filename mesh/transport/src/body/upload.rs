//! How far a request's body has come, for whoever waits for its answer while another reads it.

use std::cell::{Cell, RefCell};
use std::task::{Context, Waker};

use super::error::BodyFault;

/// What is known of a request's body while somebody else reads it.
#[derive(Default)]
pub struct Upload {
    bytes: Cell<u64>,
    state: Cell<UploadState>,
    waiting: RefCell<Option<Waker>>,
}

/// How far a request's body has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UploadState {
    /// More may come.
    #[default]
    Flowing,
    /// It has been read to its end.
    Finished,
    /// It broke.
    Failed(BodyFault),
}

impl Upload {
    /// A body that was never there is at its end.
    #[must_use]
    pub fn finished() -> Self {
        Self {
            state: Cell::new(UploadState::Finished),
            ..Self::default()
        }
    }

    /// Counts bytes that were read.
    pub(crate) fn count(&self, more: u64) {
        self.bytes.set(self.bytes.get() + more);
    }

    /// Bytes read so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// How far the body has come; wakes `cx` when that changes.
    pub(crate) fn poll_state(&self, cx: &mut Context<'_>) -> UploadState {
        let state = self.state.get();
        if state == UploadState::Flowing {
            drop(self.waiting.replace(Some(cx.waker().clone())));
        }
        state
    }

    /// How far the body has come.
    #[must_use]
    pub fn state(&self) -> UploadState {
        self.state.get()
    }

    pub(super) fn set(&self, state: UploadState) {
        if self.state.get() == UploadState::Flowing {
            self.state.set(state);
            let waiting = self.waiting.borrow_mut().take();
            if let Some(waker) = waiting {
                waker.wake();
            }
        }
    }
}

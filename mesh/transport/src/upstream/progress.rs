//! Notices that nobody takes of an upload any more.
//!
//! In: how far a body has come, looked at four times a minute. Out: that a whole minute has passed
//! without a byte of it.

use std::task::{Context, Poll};
use std::time::Duration;

use crate::body::Upload;
use crate::timers::{Sleep, Timers};

/// How often a body that flows is looked at, and for how many looks the next program may take none
/// of it: a minute.
const LOOK_EVERY: Duration = Duration::from_secs(15);
const LOOKS: u8 = 4;

/// Notices that the next program takes nothing of a body that flows. A sender that is too slow is
/// the body's own business.
pub(super) struct Progress {
    look: Sleep,
    passed: u64,
    stalled: u8,
}

impl Progress {
    /// Looks at `upload` from now on.
    pub(super) fn new(upload: &Upload, timers: &Timers) -> Self {
        Self {
            look: timers.sleep(LOOK_EVERY),
            passed: upload.bytes(),
            stalled: 0,
        }
    }

    /// Ready once nothing has passed for a minute.
    pub(super) fn poll_stalled(&mut self, upload: &Upload, cx: &mut Context<'_>) -> Poll<()> {
        while self.stalled < LOOKS {
            std::task::ready!(self.look.poll_passed(cx));
            let before = std::mem::replace(&mut self.passed, upload.bytes());
            self.stalled = if self.passed == before {
                self.stalled + 1
            } else {
                0
            };
            self.look.reset(LOOK_EVERY);
        }
        Poll::Ready(())
    }
}

//! Deadlines, as a connection asks for them. The worker's own table of timers implements both
//! traits.

use std::task::{Context, Poll};
use std::time::Duration;

/// Makes deadlines.
pub trait Timer {
    /// What it makes.
    type Deadline: Deadline;

    /// A deadline that is not set yet.
    fn unset(&self) -> Self::Deadline;
}

/// A deadline that can be moved.
pub trait Deadline {
    /// Moves it to `after` from now.
    fn reset(&self, after: Duration);

    /// Takes it away: it never passes until it is reset.
    fn unset(&self);

    /// Ready once it has passed; wakes `cx` when it does.
    fn poll_passed(&self, cx: &mut Context<'_>) -> Poll<()>;
}

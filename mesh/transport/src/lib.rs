//! Messages under way on one worker.
//!
//! In: a stream that somebody accepted or opened, a [`Timer`] and the worker's [`Buffers`]. Out: requests and answers, whole or
//! refused with a reason. Nothing here knows tokens, routes, logs or metrics, nor which of the four legs it serves: the client's
//! side of the gateway, the two ends of the hop, and the plugin's side all use it alike.
//! Invariant: everything belongs to one thread. No lock, no channel, and no task that is not the connection's own.

mod buffers;
pub mod http1;
pub mod http2;
mod stream;
mod timer;

pub use buffers::Buffers;
pub use stream::Stream;
pub use timer::{Deadline, Timer};

//! Messages on one connection: one reader, one writer, and what both need.
//!
//! In: a [`Stream`] of bytes, and a [`Timer`]. Out: requests and answers that can be read in one
//! way only, each body read as it is asked for. [`http1`] speaks HTTP/1.1; the other HTTP of the
//! house, in a crate of its own, has its service, its refusals, its limits and its bodies in common
//! with it. It refuses to know who is at the other end, what a message is for, logs, counters and
//! workers.

mod buffers;
pub mod http1;
pub mod pace;
mod stream;
mod timer;

pub use buffers::Buffers;
pub use stream::{BoxStream, Stream};
pub use timer::{Deadline, Timer};

#[cfg(test)]
extern crate self as gapura_http; // what the tests share is read by those of HTTP/2 too, from outside

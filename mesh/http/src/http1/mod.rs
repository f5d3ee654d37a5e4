//! HTTP/1.1, read and written once: for clients at the gateway, for both ends of the hop, and for
//! plugins.
//!
//! In: bytes. Out: messages that can be read in one way only, or a [`Refusal`] that says what was
//! wrong and what is known of the request all the same. [`head`] and [`body`] read, [`mod@write`]
//! writes, [`server`] and [`client`] carry exchanges over a connection. Strictness is a property of
//! the parse: there is no second look at the bytes, and nothing is repaired.
//! Invariant: however a stream is cut into pieces, the messages read from it, or the place of the
//! refusal, are the same.

pub mod body;
pub mod client;
pub mod fields;
pub mod head;
mod incoming;
mod outbox;
mod refusal;
pub mod server;
mod wire;
pub mod write;

#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod testing;

pub use incoming::{Incoming, Interim, Rest, Source};
pub(crate) use refusal::Malformed;
pub use refusal::{Refusal, RefusalKind, Seen};

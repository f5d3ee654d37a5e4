//! Heads of messages: found whole in a buffer, then parsed once.
//!
//! In: the bytes that have come, from the beginning of a message on. Out: a [`RequestHead`] or [`ResponseHead`] taken off the
//! buffer, nothing while it is not whole, or a refusal as soon as the bytes at hand can't become a head any more. Which host a
//! request is for, and whether its path is canonical, is not known here.

mod request;
mod response;
mod scan;

pub use gapura_protocol::framing::{CLIENT_LIMITS, HOP_LIMITS, Limits};
pub use request::{RequestHead, RequestReader};
pub use response::{ResponseHead, ResponseReader};
pub(super) use scan::{Lines, Scan};

/// The longest registered method is `UPDATEREDIRECTREF`; twice that is no method any more.
pub(super) const METHOD_MOST: usize = 32;

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long the body of a message is, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// There is none.
    None,
    /// So many bytes.
    Exact(u64),
    /// In chunks.
    Chunked,
    /// All that comes until the stream ends: answers alone.
    UntilClose,
}

//! Heads of messages: found whole in a buffer, then parsed once.
//!
//! In: the bytes that have come, from the beginning of a message on. Out: a [`RequestHead`] or [`ResponseHead`] taken off the
//! buffer, nothing while it is not whole, or a refusal as soon as the bytes at hand can't become a head any more. Which host a
//! request is for, and whether its path is canonical, is not known here.

mod request;
mod response;
mod scan;

pub use request::{RequestHead, RequestReader};
pub use response::{ResponseHead, ResponseReader};
pub(super) use scan::{Lines, Scan};

/// How much of a head is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all fields, line ends among them.
    pub head: usize,
    /// Fields, 128 at most.
    pub fields: usize,
    /// Bytes of the target.
    pub target: usize,
}

/// From clients: what browsers and their cookies need (CONTRACT section 5).
pub const CLIENT_LIMITS: Limits = Limits {
    head: 32 * 1024,
    fields: 100,
    target: 8 * 1024,
};

/// On the hop and on the plugin's side: what the door took and the gateway added is never refused behind it.
pub const HOP_LIMITS: Limits = Limits {
    head: 64 * 1024,
    fields: 128,
    target: 16 * 1024,
};

/// The longest registered method is `UPDATEREDIRECTREF`; twice that is no method any more.
pub(super) const METHOD_MOST: usize = 32;

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
pub const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

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

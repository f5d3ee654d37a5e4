//! Heads of messages: found whole in a buffer, then parsed once.
//!
//! In: the bytes that have come, from the beginning of a message on. Out: a [`RequestHead`] or
//! [`ResponseHead`] taken off the buffer, nothing while it is not whole, or a refusal as soon as
//! the bytes at hand can't become a head any more. Which host a request is for, and whether its
//! path is canonical, is not known here.

mod request;
mod response;
mod scan;

use bytes::{Buf, Bytes, BytesMut};

pub use gapura_protocol::framing::{CLIENT_LIMITS, HOP_LIMITS, Limits};
pub use request::{RequestHead, RequestReader};
pub use response::{ResponseHead, ResponseReader};
pub(super) use scan::{Lines, Scan};

/// The longest registered method is `UPDATEREDIRECTREF`; twice that is no method any more.
pub(super) const METHOD_MOST: usize = 32;

/// The first bytes of an HTTP/2 connection (RFC 9113, section 3.4).
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Takes the first `end` bytes off `bytes` as a copy of their own, as large as they are: what
/// outlives the message (a field in the table of an HTTP/2 connection, a token that is remembered)
/// must not keep a whole buffer, and the buffer is free for what comes next.
pub(super) fn take_block(bytes: &mut BytesMut, end: usize) -> Bytes {
    let block = Bytes::copy_from_slice(&bytes[..end]);
    bytes.advance(end);
    block
}

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

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::ACCEPT;

    #[test]
    fn a_field_that_outlives_its_message_keeps_no_buffer() {
        let mut buffer = BytesMut::with_capacity(8 * 1024);
        buffer.extend_from_slice(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\n\r\nGET");
        let before = buffer.as_ptr();
        let head = RequestReader::default().read(&mut buffer, &CLIENT_LIMITS);
        let kept = head.unwrap().unwrap().parts.headers.remove(ACCEPT).unwrap();
        assert_eq!(kept, "text/html");
        assert_eq!(&buffer[..], b"GET", "what follows stays");
        assert!(buffer.try_reclaim(8 * 1024 - 3), "nobody else holds it");
        assert_eq!(buffer.as_ptr(), before);
    }
}

//! The bounds of a connection, for each whom this side serves.
//!
//! In: nothing. Out: [`Settings`] for clients and for the gateway. The numbers are those of
//! CONTRACT section 5, each with its reason beside it.

use std::time::Duration;

use gapura_http::http1::head::{CLIENT_LIMITS, HOP_LIMITS, Limits};
use gapura_http::http1::server::Settings as Http1;
use gapura_http::pace::Rate;

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of a head, counted as HTTP/1 would write it; each crumb of a cookie is a field.
    pub limits: Limits,
    /// Bytes of a head as HTTP/2 counts them (RFC 9113, section 6.5.2): beyond these `h2` refuses
    /// it by itself, bare.
    pub header_list: u32,
    /// Streams at a time.
    pub streams: u32,
    /// What may be under way to us on one stream.
    pub stream_window: u32,
    /// What may be under way to us on all of the connection.
    pub connection_window: u32,
    /// For the preface and the first request.
    pub head_within: Duration,
    /// For the next request, while none is under way.
    pub idle_within: Duration,
    /// For the next byte of a body that somebody reads; not of gRPC, where silence is no fault.
    pub body_idle: Option<Duration>,
    /// For the client to take some of what we send, and for an upload to go on once its answer has
    /// ended.
    pub stall_within: Duration,
    /// The least that the client takes of an answer in the time it is waited for.
    pub least: Option<Rate>,
    /// For the rest of an upload that nobody reads any more.
    pub drain_within: Duration,
    /// And so many bytes of it.
    pub drain_most: u64,
    /// Silence after which a client with open streams is asked whether it is there.
    pub ping_after: Duration,
    /// For its answer.
    pub pong_within: Duration,
}

/// Eight times what a client may send: all that a proxy or a browser is likely to bring is refused
/// by us, with an envelope, and not by `h2`, bare. A hundred streams of it are 25 MiB, which their
/// client has to send, byte by byte.
const HEADER_LIST: u32 = 256 * 1024;

impl Settings {
    /// For clients (CONTRACT section 5).
    #[must_use]
    pub fn client() -> Self {
        // A client's times are the same, whatever it speaks.
        let http1 = Http1::client();
        Self {
            limits: CLIENT_LIMITS,
            header_list: HEADER_LIST,
            // As Envoy's guide for the edge has it.
            streams: 100,
            // Enough for a fast upload over a long line.
            stream_window: 256 * 1024,
            connection_window: 1024 * 1024,
            head_within: http1.head_within,
            idle_within: http1.idle_within,
            body_idle: http1.body_idle,
            stall_within: http1.stall_within,
            least: None,
            drain_within: http1.drain_within,
            drain_most: http1.drain_most,
            ping_after: Duration::from_secs(30),
            pong_within: Duration::from_secs(10),
        }
    }

    /// For the gateway, at the sidecar: what the door took passes, and no stream holds up another.
    #[must_use]
    pub fn hop() -> Self {
        Self {
            limits: HOP_LIMITS,
            header_list: crate::client::HEADER_LIST,
            // The gateway opens another connection beyond.
            streams: 256,
            stream_window: crate::client::STREAM_WINDOW,
            connection_window: crate::client::CONNECTION_WINDOW,
            // The gateway keeps a connection for an hour, and asks by itself whether we are there.
            idle_within: Duration::from_secs(2 * 3600),
            head_within: Duration::from_secs(2 * 3600),
            ..Self::client()
        }
    }
}

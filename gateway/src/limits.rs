//! How long the gateway waits for whom (CONTRACT section 5). For heads, request bodies and between
//! requests it is `gapura_http` and `gapura_http2` that wait. Sizes of heads and targets are in
//! `gapura_protocol::framing`, where the hop's own, wider ones stand beside them.

use std::time::Duration;

/// An answer's body without a byte; event streams, gRPC and upgraded streams are silent for longer
/// by design.
pub(crate) const ANSWER_IDLE: Duration = Duration::from_secs(60);

/// A request's wait for a place with a plugin that has as many as it takes: a second, of which a
/// deadline may be late by a step.
pub(crate) const TURN_WITHIN: Duration = Duration::from_millis(900);

/// A client's TLS handshake.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

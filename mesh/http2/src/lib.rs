//! HTTP/2 on the `h2` crate, for every leg: clients at the gateway, both ends of the hop, and
//! plugins that speak h2c.
//!
//! In: a stream, and the same [`Service`](gapura_http::http1::server::Service) that answers
//! HTTP/1.1, or requests to send. Out: answers, refusals and ends. `h2` is trusted with frames,
//! header compression, flow control and the states of streams; what it leaves to its user is here:
//! writes gathered into one a turn, bounds that its defaults leave wide, what an end means, who has
//! stopped reading, and how much all of it holds.
//! Invariants: no task is detached; what one stream does or fails to do is felt by no other;
//! nothing waits unbounded.

pub mod client;
mod frames;
mod gather;
mod head;
mod held;
mod length;
mod owner;
mod pump;
mod received;
mod relief;
pub mod server;
mod watch;

#[cfg(test)]
#[path = "../../http/src/http1/testing.rs"]
#[expect(dead_code, reason = "the tests of gapura-http use the rest")]
mod shared_testing;
#[cfg(test)]
mod testing;

pub use held::{Held, Share, Streams};
pub use owner::Owner;

/// The largest frame that we take: with a piece of DATA that is cut to it, 9 bytes of frame header
/// fill two TLS records.
const MAX_FRAME: u32 = 32 * 1024;

/// What a stream may hand to `h2` ahead of the socket.
const SEND_BUFFER: usize = 64 * 1024;

/// How often a connection that carries something looks whether it still moves.
const PULSE: std::time::Duration = std::time::Duration::from_secs(1);

/// How many pulses make up `time`, one at least.
fn pulses(time: std::time::Duration) -> u32 {
    u32::try_from(time.as_millis().div_ceil(PULSE.as_millis()))
        .unwrap_or(u32::MAX)
        .max(1)
}

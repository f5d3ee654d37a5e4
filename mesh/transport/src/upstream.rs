//! Requests towards the plugin, over connections that one worker keeps.
//!
//! In: a request whose headers are final and whose body is a [`Body`](crate::body::Body), how long
//! it may wait, and a way to open a connection. Out: the answer with its body still under way, or
//! why there is none and whether a single byte may have been written. Both programs send this way:
//! the gateway over the hop, the sidecar to its plugin. Nothing here knows of routes, tokens or
//! TLS.

mod answer;
pub mod crowd;
pub mod dial;
pub mod kept;
pub mod lifeline;
mod patience;
mod progress;

pub use answer::{Answer, Failed, Hint, carry_on};
pub use patience::{Over, Patience};

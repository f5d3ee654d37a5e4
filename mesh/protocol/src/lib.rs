//! What both ends of Gapura's hop must agree on: who a peer is, which header may pass, which
//! message is unambiguous, what an answer of our own looks like, what time it is.
//!
//! Pure: values and functions over them. It refuses to know sockets and runtimes, TLS, files and
//! logs, so that each rule can be tested as a function, fuzzed, and used by every program in the
//! same words.

pub mod clock;
pub mod context;
pub mod duration;
pub mod envelope;
pub mod framing;
pub mod grpc;
pub mod headers;
pub mod host;
pub mod identity;
mod labels;
pub mod leg;
mod once;
pub mod path;
pub mod random;
pub mod text;
pub mod trace;
pub mod words;

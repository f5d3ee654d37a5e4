//! What both ends of Gapura's hop must agree on.
//!
//! A file is here because at least two of the programs need it to mean the same thing: who a peer is, which header may pass,
//! which message is unambiguous, what an answer of our own looks like.

pub mod alarms;
pub mod clock;
pub mod context;
pub mod identity;
pub mod log;
pub mod tls;

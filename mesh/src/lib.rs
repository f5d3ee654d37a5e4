//! What both ends of Gapura's hop must agree on.
//!
//! A file is here because at least two of the programs need it to mean the same thing: who a peer is, which header may pass,
//! which message is unambiguous, what an answer of our own looks like.

pub mod access;
pub mod admin;
pub mod alarms;
pub mod body;
pub mod bound;
pub mod caught;
pub mod clock;
pub mod coalesce;
pub mod config;
pub mod context;
pub mod envelope;
pub mod fetch;
pub mod framing;
pub mod headers;
pub mod healthcheck;
pub mod identity;
pub mod inbound;
pub mod json;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod path;
pub mod program;
pub mod pump;
pub mod random;
pub mod secret;
pub mod shutdown;
pub mod signals;
pub mod streams;
pub mod systemd;
pub mod timers;
pub mod tls;
pub mod trace;
pub mod tunnel;
pub mod upstream;
pub mod worker;

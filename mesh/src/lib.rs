//! What both ends of Gapura's hop must agree on.
//!
//! A file is here because at least two of the programs need it to mean the same thing: who a peer is, which header may pass,
//! which message is unambiguous, what an answer of our own looks like.

pub mod admin;
pub mod bound;
pub mod config;
pub mod exchange;
pub mod healthcheck;
pub mod json;
pub mod listen;
pub mod program;
pub mod secret;
pub mod signals;
pub mod systemd;
pub mod tls;
pub mod trust_metrics;
pub mod worker;

pub use gapura_protocol::{
    clock, context, envelope, framing, headers, identity, leg, path, random, trace,
};
pub use gapura_telemetry::{access, alarms, log, metrics};
pub use gapura_transport::{
    body, caught, coalesce, inbound, io, pump, shutdown, streams, tasks, timers, tunnel, upstream,
    verdict,
};

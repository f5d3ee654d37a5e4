//! What both ends of Gapura's hop must agree on.
//!
//! A file is here because at least two of the programs need it to mean the same thing: who a peer is, which header may pass,
//! which message is unambiguous, what an answer of our own looks like.

pub mod admin;
pub mod body;
pub mod bound;
pub mod caught;
pub mod coalesce;
pub mod config;
pub mod exchange;
pub mod healthcheck;
pub mod inbound;
pub mod io;
pub mod json;
pub mod listen;
pub mod program;
pub mod pump;
pub mod secret;
pub mod shutdown;
pub mod signals;
pub mod streams;
pub mod systemd;
pub mod tasks;
pub mod timers;
pub mod tls;
pub mod trust_metrics;
pub mod tunnel;
pub mod upstream;
pub mod verdict;
pub mod worker;

pub use gapura_protocol::{
    clock, context, envelope, framing, headers, identity, leg, path, random, trace,
};
pub use gapura_telemetry::{access, alarms, log, metrics};

//! The door by which the programs reach the libraries under `mesh/`, and what has no library of its own yet: the trust of a program,
//! its secrets, and what is shown of them.

pub mod fetch;
pub mod healthcheck;
pub mod tls;
pub mod trust_metrics;

pub use gapura_protocol::{
    clock, context, envelope, framing, headers, identity, leg, path, random, trace,
};
pub use gapura_runtime::{
    admin, bound, config, exchange, json, listen, program, signals, systemd, worker,
};
pub use gapura_telemetry::{access, alarms, log, metrics};
pub use gapura_transport::{
    BoxStream, Buffers, Stream, body, caught, coalesce, http1, http2, inbound, io, pump, shutdown,
    streams, tasks, timers, tunnel, upstream, verdict,
};
pub use gapura_trust::{ed25519, file, ownership, secret};

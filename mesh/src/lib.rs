//! The door by which the programs reach the libraries under `mesh/`.

pub mod tls;

pub use gapura_protocol::{
    clock, context, envelope, framing, headers, identity, leg, path, random, trace,
};
pub use gapura_runtime::{
    admin, bound, config, exchange, fetch, healthcheck, json, listen, program, signals, systemd,
    trust_metrics, worker,
};
pub use gapura_telemetry::{access, alarms, log, metrics};
pub use gapura_transport::{
    BoxStream, Buffers, Stream, body, caught, coalesce, http1, http2, io, pump, shutdown, streams,
    tasks, timers, tunnel, upstream, verdict,
};
pub use gapura_trust::{ed25519, file, ownership, secret};

//! The door by which the programs reach the libraries under `mesh/`.

pub mod tls;

pub use gapura_protocol::{
    clock, context, duration, envelope, framing, headers, host, identity, leg, path, random, text,
    trace,
};
pub use gapura_runtime::{
    admin, bound, cli, config, exchange, fetch, healthcheck, json, listen, load, pages, program,
    reload, shared, signals, start, systemd, trust_metrics, worker,
};
pub use gapura_telemetry::{access, alarms, log, metrics};
pub use gapura_transport::{
    BoxStream, Buffers, Stream, body, caught, coalesce, http1, http2, io, pump, shutdown, streams,
    tasks, timers, tunnel, upstream, verdict,
};
pub use gapura_trust::{ed25519, file, ownership, secret};

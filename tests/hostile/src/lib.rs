//! What every parser of hostile input must hold, whatever the bytes: one module a parser, one
//! `check` each.
//!
//! `fuzz/` runs each by the million under libFuzzer; `tests/it/corpora.rs` replays what
//! `fuzz/seeds` keeps, as plain tests. A `check` panics when its sentence does not hold. Nothing
//! here is part of a program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // that is how a sentence fails

pub mod crl;
pub mod enrol;
pub mod headers;
pub mod http1_request;
pub mod http1_response;
pub mod http2_frames;
pub mod jwks;
pub mod mesh_dir;
pub mod openapi;
#[path = "../../../mesh/http/tests/oracle/mod.rs"]
mod oracle;
pub mod path;
pub mod peer_id;
pub mod pem;
pub mod registry;
pub mod rules;
mod targets;
pub mod token;
pub mod whole;

pub use targets::{Check, TARGETS};

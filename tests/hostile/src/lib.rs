//! What every parser of hostile input must hold, whatever the bytes: one module a parser, one `check` each.
//!
//! `fuzz/` runs each by the million under libFuzzer; `tests/it/corpora.rs` replays what `fuzz/seeds` keeps, as plain tests.
//! A `check` panics when its sentence does not hold. Nothing here is part of a program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // that is how a sentence fails

pub mod headers;
pub mod path;
pub mod peer_id;
pub mod pem;
pub mod registry;
pub mod token;

/// Panics when what a parser promises does not hold for an input.
pub type Check = fn(&[u8]);

/// A parser's name, as its folder in `fuzz/seeds` and its target have it, and what its input must hold.
pub const TARGETS: [(&str, Check); 6] = [
    ("headers", headers::check),
    ("path", path::check),
    ("peer_id", peer_id::check),
    ("pem", pem::check),
    ("registry", registry::check),
    ("token", token::check),
];

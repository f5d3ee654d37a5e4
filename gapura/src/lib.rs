//! The command for people: the whole mesh on this machine, with nothing set up.
//!
//! `gapura up` makes what is missing in a state folder (two certificate authorities, certificates,
//! a key for tokens), starts the sample plugin or puts one's own behind a sidecar, starts the
//! gateway, and prints lines to try. `gapura token` makes a token, `gapura status` asks running
//! programs how they are, `gapura tap` shows their requests as they end, `gapura plugin test` tries
//! whether a plugin keeps companies apart. All of that is for development: the keys lie in plain
//! files, so the door stays on loopback unless one insists. `gapura prove` attacks one's own door,
//! whatever it is made of.
//!
//! This crate decides nothing about a request: gateway and sidecar are the very libraries that run
//! in production.

mod error;
mod essence;
pub mod health;
pub mod keys;
pub mod plugin_test;
pub mod prove;
mod state;
pub mod status;
pub mod tap;
pub mod token;
pub mod up;

pub use error::Error;

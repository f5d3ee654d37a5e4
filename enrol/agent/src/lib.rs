//! The agent: on each host, so that nobody carries certificates, roots and revocation lists there
//! by hand.
//!
//! In: a CA server's address, a mesh directory, and once a join token. Out: the mesh directory,
//! written one generation at a time by the rules of `gapura-pki`, for the gateway or sidecar that
//! follows it. The path of what it writes, each step a file:
//!
//! `enrol` (a first certificate for the token) or `renewal` (the next one, in time) and `news`
//! (roots and CRLs) → `est` (what is asked) → `link` (over TLS, with whom) → `directory` (does it
//! fit, then one rename) → `hook` (who wants to hear of it).
//!
//! It holds no CA code and no CA key: the one key here is made on this host and never leaves it.
//! Invariant: nothing is written that the programs would not take; roots come only from who is
//! proven under roots that are held already, or under the one whose fingerprint the operator
//! carried here; whatever fails, what is there stays in force.

pub mod config;

mod directory;
mod enrol;
mod est;
mod hook;
mod host;
mod key;
mod link;
mod news;
mod once;
mod pages;
mod reminder;
mod renewal;
mod run;
mod schedule;
mod state;
mod status;
mod stranger;
mod token;
mod trouble;

//! The CA server: where hosts get their certificates, roots and CRLs from, beside the inventory of
//! `gapura-pki`.
//!
//! The path of a request, each step a file:
//!
//! `server` (TLS: who is it, if anybody) → `service` (what is asked for, how often) → `office` (the
//! one thread that signs, many requests in one change of the inventory) or `herald` (the one thread
//! that looks for news) → back through `service`.
//!
//! It knows nothing of the mesh's requests. Of a host it believes what a certificate or a join
//! token proves, and no more.

pub mod config;

mod admin;
mod counters;
mod herald;
mod limits;
mod office;
mod run;
mod server;
mod service;

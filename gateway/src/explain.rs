//! Which plugin would serve a request, and each decision on the way: for the files as they stand,
//! and for what is in force.
//!
//! `steps` has the decisions, by the very functions of the request path, and `own` those at the
//! gateway's own paths; `files` asks them for `gapura-gateway explain`, and `running` for `POST
//! /explain` on the operator's side.

mod files;
mod own;
mod running;
mod steps;

pub(crate) use files::{explain, trust_domain};
pub(crate) use running::{InForce, answer};

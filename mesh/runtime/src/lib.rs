//! What makes a program of the libraries: its workers and listeners, how it starts, reloads and ends, the operator's side.
//!
//! It brings together what the other libraries keep apart: an [`exchange`] ties a request's record to its body, a worker's tasks tell
//! the log how they ended. It refuses to know tokens, routes and plugins: both programs run on it.

pub mod admin;
pub mod ask;
pub mod cli;
pub mod exchange;
mod feed;
pub mod healthcheck;
pub mod listen;
pub mod listeners;
pub mod load;
pub mod memory;
mod pages;
pub mod places;
pub mod program;
pub mod report;
pub mod room;
pub mod shared;
mod shedding;
pub mod signals;
mod spans;
pub mod start;
pub mod systemd;
pub mod takeover;
mod tap;
pub mod trust_metrics;
pub mod worker;

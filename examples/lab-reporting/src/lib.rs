//! A sample plugin: the lab reports of many companies, in one SQLite file.
//!
//! It is what a plugin author writes: a small HTTP service that knows nothing of tokens or
//! certificates. A request says whom it acts for in `X-Company-Id`, which the sidecar in front
//! vouches for; every query is filtered by it, and a request without it is refused. Listen on
//! loopback or a unix socket only: whoever can reach the port can say any company.
//!
//! A request meets `server` (connections), `routes` (which handler), `company` (for whom), `report`
//! (is the input sound) and `store` (the rows). `envelope` is the form of every answer, `log` the
//! form of every line.

mod company;
mod envelope;
pub mod health;
mod io;
mod listen;
mod log;
mod report;
mod routes;
mod server;
mod store;

pub use listen::{Address, Listen};
pub use log::Log;
pub use server::{Config, Running, StartError, run, start};
pub use store::Database;

/// The plugin's name, as it stands in its logs and in `GET /version`.
pub const NAME: &str = "lab-reporting";

/// The version it answers with.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

#[cfg(test)]
mod tests;

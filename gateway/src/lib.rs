//! The front door. The path of a request, each step a file:
//!
//! `server` (TLS, HTTP) → `pipeline` (the order of all that follows) → `route` (who answers) → `authenticate` (who asks) →
//! `standing` (are they still welcome) → `authorise` (may they) → `outgoing` (headers) → `upstream` (mTLS to the sidecar) → back through `pipeline` and `respond`.
//!
//! What the programs see of it is [`config`], whose `Config` can be started and asked; the fuzzer also sees the readers of tokens and
//! of plugin files.

pub mod authenticate;
pub mod authorise;
pub mod config;
pub mod registry;

mod admin;
mod ahead;
mod cidr;
mod client;
mod command;
mod cors;
mod endpoints;
mod explain;
mod limits;
mod load;
mod outgoing;
mod pipeline;
mod rejection;
mod respond;
mod route;
mod run;
mod server;
mod settings;
mod sign;
mod standing;
mod until;
mod upstream;
mod ws_token;

//! The front door. The path of a request, each step a file:
//!
//! `server` (TLS, HTTP) → `pipeline` (the order of all that follows) → `route` (who answers) →
//! `authenticate` (who asks) → `standing` (are they still welcome) → `authorise` (may they) →
//! `rate_limit` (so often) → `upload` (its body) → `outgoing` (headers) → `upstream` (mTLS to the
//! sidecar) → back through `pipeline` and `respond`.
//!
//! What the programs see of it is [`config`], whose `Config` can be started and asked, and
//! [`inspection`] of a token; tests with hostile input see [`hostile`].

pub mod config;
pub mod hostile;

mod admin;
mod ahead;
mod authenticate;
mod authorise;
mod check;
mod cidr;
mod client;
mod command;
mod cors;
mod docs;
mod endpoints;
mod envelope;
mod explain;
mod grpc;
mod limits;
mod load;
mod logout;
mod openapi;
mod outgoing;
mod page;
mod pipeline;
mod rate_limit;
mod registry;
mod rejection;
mod respond;
mod route;
mod run;
mod server;
mod settings;
mod sign;
mod standing;
mod until;
mod upload;
mod upstream;
mod ws_token;

/// What can be said of a token without serving anybody.
pub mod inspection {
    pub use crate::authenticate::{
        ClaimNames, ClaimPath, HmacAlgorithm, Inspection, IssuerName, IssuerSettings, KeySource,
        Settings, inspect,
    };
}

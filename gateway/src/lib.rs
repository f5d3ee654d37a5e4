//! The front door. The path of a request, each step a file:
//!
//! `server` (TLS, HTTP) → `pipeline` (the order of all that follows) → `route` (who answers) → `authenticate` (who asks) →
//! `standing` (are they still welcome) → `authorise` (may they) → `forward` (headers, then mTLS to the sidecar) → back through `pipeline` and `respond`.

pub mod admin;
pub mod authenticate;
pub mod authorise;
pub mod client;
pub mod config;
pub mod cors;
pub mod explain;
pub mod forward;
pub mod limits;
pub mod load;
pub mod own;
pub mod pipeline;
pub mod registry;
pub mod respond;
pub mod route;
pub mod run;
pub mod server;
pub mod settings;
pub mod standing;
pub mod ws_token;

pub use run::{start, start_with};

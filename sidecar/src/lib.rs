//! The sidecar: beside each plugin instance, the only way in.
//!
//! The path of a request, each step a file:
//!
//! `server` (mTLS: who is it) → `authorise` (may it use this plugin) → `sanitise` (framing,
//! headers, tenant) → `forward` (to the plugin on loopback or a unix socket) → back through
//! `pipeline`, which takes from the answer what is inside the mesh only.
//!
//! It knows nothing of tokens and routes: who the caller is was proven at the door, and stands in
//! headers that only a gateway's certificate may bring.

pub mod config;

mod admin;
mod authorise;
mod forward;
mod page;
mod pipeline;
mod rejection;
mod respond;
mod run;
mod sanitise;
mod server;
mod wrap;

//! Which plugins there are: `plugins.d/*.json`, read at start and again whenever the folder
//! changes.
//!
//! In: the folder. Out: a [`Table`] behind one swapped pointer, in which each mount leads to one
//! checked [`Plugin`] or is on hold. What a reload does is a pure function, [`build`]: the state of
//! each file so far and a snapshot of the folder give the new table, the new state and the faults;
//! start-up is the same function without a state. A faulty file never takes down another, and a
//! mount that any file names is never served by a shorter one. Nothing here connects to anything.

mod access;
mod auth_mode;
mod build;
mod canary;
mod contract;
mod cors;
mod earlier;
mod envelope;
mod excerpt;
mod fault;
mod fields;
mod file;
mod folder;
mod headers;
mod health;
mod journal;
mod last_good;
mod mount;
mod origin;
mod plugin;
mod rate_limit;
mod rules;
mod schema;
mod shadowed;
mod table;
mod upstream;
mod version;
mod watch;

pub(crate) use access::read_company;
pub(crate) use access::{Refusal, Subject, Verdict};
pub(crate) use auth_mode::AuthMode;
pub(crate) use build::{Built, build};
pub(crate) use canary::Canary;
pub(crate) use contract::Contract;
pub(crate) use cors::Cors;
pub(crate) use cors::read_origins;
pub(crate) use envelope::Envelope;
pub(crate) use fault::FileFault;
pub(crate) use folder::{Bounds, reading as read_folder, stamp as stamp_folder};
pub(crate) use folder::{File, Snapshot};
pub(crate) use health::{HealthCheck, Retry};
pub(crate) use journal::FileSeen;
pub(crate) use last_good::keep as keep_files;
pub(crate) use mount::is_reserved;
pub(crate) use origin::OriginSet;
pub(crate) use plugin::Plugin;
pub(crate) use rate_limit::{LimitKey, Limited, RateLimit};
pub(crate) use rules::{Rules, Signing};
pub(crate) use schema::schema;
pub(crate) use table::{Found, Table};
pub(crate) use upstream::{Host, Instance, Upstream};
pub(crate) use version::SemVer;
pub(crate) use watch::{Registry, Settings, Watcher, check};

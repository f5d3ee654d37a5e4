//! Which plugins there are: `plugins.d/*.json`, read at start and again whenever the folder changes.
//!
//! In: the folder. Out: a [`Table`] behind one swapped pointer, in which each mount leads to one checked [`Plugin`] or is on hold.
//! What a reload does is a pure function, [`build`]: the state of each file so far and a snapshot of the folder give the new
//! table, the new state and the faults; start-up is the same function without a state. A faulty file never takes down another,
//! and a mount that any file names is never served by a shorter one. Nothing here connects to anything.

mod access;
mod build;
mod cors;
mod file;
mod folder;
mod headers;
mod last_good;
mod mount;
mod origin;
mod plugin;
mod table;
mod upstream;
mod watch;

use std::fmt;

use gapura_protocol::identity::TrustDomain;
use gapura_runtime::json::Position;

pub(crate) use access::read_company;
pub use access::{Access, Refusal, Subject, Verdict};
pub use build::{Built, State, build};
pub use cors::Cors;
pub(crate) use cors::read_origins;
pub(crate) use folder::{Bounds, Stamp};
pub use folder::{File, Snapshot};
pub use headers::HeaderPatterns;
pub(crate) use last_good::keep as keep_files;
pub use mount::{MAX_SEGMENTS, Mount, OWN_PATHS};
pub use origin::OriginSet;
pub use plugin::{AuthMode, Plugin};
pub use table::{Found, Table};
pub use upstream::{Host, Instance, Scheme, Upstream};
pub use watch::{Counts, Registry, Settings, Watcher, check};

/// What a signature on a request to a plain http upstream covers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Signing {
    /// There is none.
    #[default]
    Off,
    /// All facts but who acts for the user.
    WithoutActor,
    /// All facts.
    WithActor,
}

/// What of the gateway's own settings decides whether a plugin file is acceptable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The gateway's own trust domain: no plugin of another is ever dialled.
    pub trust_domain: TrustDomain,
    /// Whether requests to plain http upstreams are signed, and whether that covers who acts.
    pub signing: Signing,
    /// The limit for plugins that set none.
    pub max_body: Option<u64>,
}

/// One mistake in the folder: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The file, or the folder itself.
    pub file: String,
    /// Where in the file; `None` for the file or folder as a whole.
    pub position: Option<Position>,
    /// What is wrong; never a value of `inject_headers`.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(position) = self.position {
            write!(f, ":{position}")?;
        }
        write!(f, ": {}", self.message)
    }
}

//! Which roots and CRLs the host of each join token holds, as its agent says when it asks for
//! others: `agents.json` in the state directory.
//!
//! A rotation waits by it for hosts that can't be seen from here, as it waits for mesh directories
//! that can. It is no part of the record: a file that is lost makes a rotation wait until every
//! agent has said it once more, ten minutes at most.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gapura_files::file;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store;
use crate::timestamp::Timestamp;

/// What a host holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Held {
    /// The generation of its roots and CRLs.
    pub(crate) generation: String,
    /// When its agent said so.
    pub(crate) at: Timestamp,
}

/// All hosts, by what their leaves have in place of a mesh directory.
pub(crate) type Hosts = BTreeMap<PathBuf, Held>;

/// What was kept; nothing where that can't be read.
pub(crate) fn load(dir: &Path) -> Hosts {
    let bytes = store::read_if_there(&path(dir)).ok().flatten();
    let kept = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    kept.unwrap_or_default()
}

/// Keeps it. Written without the lock, so under a name of its own until it is whole: the holder of
/// the lock removes what others of this program seem to have left unfinished.
pub(crate) fn save(dir: &Path, hosts: &Hosts) -> Result<(), Error> {
    let text = serde_json::to_vec(hosts)
        .map_err(|why| Error::Failed(format!("agents.json can't be written: {why}")))?;
    let path = path(dir);
    file::replace(&path, &text).map_err(Error::io("replace", &path))
}

fn path(dir: &Path) -> PathBuf {
    dir.join("agents.json")
}

//! Folders of others, held by handle behind this crate's gate.

use std::path::Path;

use gapura_files::held_dir::DirError;

use crate::disk::GATE;
use crate::error::Error;

pub(crate) use gapura_files::held_dir::{HeldDir, LIMIT};

/// Opens the folder `path`; `None` where there is none.
pub(crate) fn open(path: &Path) -> Result<Option<HeldDir>, Error> {
    Ok(HeldDir::open(path, GATE)?)
}

/// The same, made where it is missing.
pub(crate) fn create(path: &Path) -> Result<HeldDir, Error> {
    Ok(HeldDir::create(path, GATE)?)
}

/// Told of a folder that takes longer than its limit.
pub(crate) fn late(path: &Path) -> Error {
    gapura_files::held_dir::late(path).into()
}

impl From<DirError> for Error {
    fn from(error: DirError) -> Self {
        match error {
            DirError::Io {
                doing,
                path,
                source,
            } => Self::Io {
                doing,
                path,
                source,
            },
            DirError::Refused(why) => Self::Refused(why),
            DirError::Damaged { path, why } => Self::Damaged { path, why },
            DirError::Failed(why) => Self::Failed(why),
        }
    }
}

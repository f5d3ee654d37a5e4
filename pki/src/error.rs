//! Why a command could not do its work, sorted by what the operator has to do next; each sort has
//! its own exit code.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// A fault, as told to the operator. No variant ever carries key material or a passphrase.
#[derive(Debug)]
pub enum Error {
    /// A file or folder could not be read or written.
    Io {
        /// What was being done, e.g. `write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The command does not make sense as given.
    Usage(String),
    /// A policy or a gate of the rotation says no; the sentence says what would be needed.
    Refused(String),
    /// Another run holds the state directory.
    Locked(PathBuf),
    /// No passphrase, or a wrong one.
    Passphrase(String),
    /// What was made did not pass the mesh's own judgement, so nothing was released.
    SelfCheck(String),
    /// A file is not what this program wrote: cut, edited by hand, or of another installation.
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found, what was wanted, what to do.
        why: String,
    },
    /// Anything else that went wrong.
    Failed(String),
}

impl Error {
    /// The program's exit code for this fault.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Damaged { .. } | Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Refused(_) => 5,
            Self::Locked(_) => 6,
            Self::Passphrase(_) => 7,
            Self::SelfCheck(_) => 8,
        }
    }

    /// A fixed word for the sort of fault, for `--json`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Io { .. } => "io",
            Self::Usage(_) => "usage",
            Self::Refused(_) => "refused",
            Self::Locked(_) => "locked",
            Self::Passphrase(_) => "passphrase",
            Self::SelfCheck(_) => "self_check",
            Self::Damaged { .. } => "damaged",
            Self::Failed(_) => "failed",
        }
    }

    /// Whether it may well be of one mesh directory alone, so that the others are worth a try.
    pub(crate) fn is_of_one_directory(&self) -> bool {
        matches!(
            self,
            Self::Io { .. } | Self::Damaged { .. } | Self::Refused(_) | Self::Failed(_)
        )
    }

    /// For `map_err` on a file operation.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            doing,
            path,
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, why: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            why: why.into(),
        }
    }

    /// For `map_err` on a call of the certificate library: its faults are ours, not the operator's.
    pub(crate) fn minting(error: rcgen::Error) -> Self {
        Self::Failed(format!("the certificate could not be made: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => write!(f, "cannot {doing} {}: {source}", path.display()),
            Self::Usage(why) | Self::Refused(why) | Self::Passphrase(why) | Self::Failed(why) => {
                f.write_str(why)
            }
            Self::SelfCheck(why) => write!(f, "self-check failed, nothing was released: {why}"),
            Self::Locked(path) => {
                write!(
                    f,
                    "another run holds {}; wait for it, or give --lock-timeout a longer time",
                    path.display()
                )
            }
            Self::Damaged { path, why } => write!(f, "{}: {why}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

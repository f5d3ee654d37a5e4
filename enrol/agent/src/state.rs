//! What must outlast a crash: the key that a certificate has been asked for, the answer that has
//! not been published yet, and when the CA was last heard of.
//!
//! In: the folder of `--state-dir`. Out: a [`State`], which one agent at a time has. A key is on
//! the disk before the request for it leaves, so that whatever breaks off, the next try asks with
//! the same one: a join token that was used is answered again for that key alone. Nobody else may
//! read here.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gapura_files::file;
use gapura_files::ownership::{self, Owners};
use gapura_files::pem;
use gapura_protocol::clock::{Rfc3339, from_unix, parse_rfc3339, unix};
use rustls::pki_types::CertificateDer;

use crate::key::HostKey;
use crate::trouble::Trouble;

/// The folder, held by one agent. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct State {
    dir: PathBuf,
    _lock: Arc<File>,
}

const KEY: &str = "pending-key.pem";
const ANSWER: &str = "pending-cert.pem";
const LOCK: &str = "agent.lock";
const HEARD: &str = "heard-at";

/// A key has under 1 KiB, a chain a few.
const MOST_BYTES: u64 = 1 << 20;

impl State {
    /// Takes the folder; one that is not there is made, for this user alone.
    ///
    /// # Errors
    /// A sentence that says what is wrong with it and what to do.
    pub(crate) fn open(dir: &Path) -> Result<Self, String> {
        let shown = dir.display();
        if !dir.exists() {
            let made = DirBuilder::new().mode(0o700).recursive(true).create(dir);
            made.map_err(|error| format!("--state-dir {shown}: cannot be made: {error}"))?;
        }
        if !dir.is_dir() {
            return Err(format!(
                "--state-dir {shown}: is no folder; name one that is this agent's own"
            ));
        }
        ownership::check(dir, Owners::Ours).map_err(|why| format!("--state-dir {shown}: {why}"))?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(LOCK));
        let lock =
            lock.map_err(|error| format!("--state-dir {shown}: cannot be written to: {error}"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                dir: dir.to_owned(),
                _lock: Arc::new(lock),
            }),
            Err(TryLockError::WouldBlock) => Err(format!(
                "--state-dir {shown}: another agent works with it; each mesh directory has one agent, with a state directory of its own"
            )),
            Err(TryLockError::Error(error)) => {
                Err(format!("--state-dir {shown}: cannot be locked: {error}"))
            }
        }
    }

    /// The key that a certificate is being asked for: the one of a try before, or a new one that is
    /// on the disk when this returns.
    pub(crate) fn key(&self) -> Result<HostKey, Trouble> {
        if let Some(known) = self.known_key()? {
            return Ok(known);
        }
        let fresh = HostKey::generate()?;
        self.write(KEY, fresh.pem())?;
        Ok(fresh)
    }

    fn known_key(&self) -> Result<Option<HostKey>, Trouble> {
        let path = self.dir.join(KEY);
        match file::read_secret(&path, MOST_BYTES) {
            Ok((bytes, _)) => match HostKey::read(&bytes) {
                Some(key) => Ok(Some(key)),
                // Written whole or not at all: somebody else's doing, and no certificate was issued
                // to it that anybody has.
                None => Err(Trouble::Disk(format!(
                    "{} is no key of this agent's; take it away, and a new one is made",
                    path.display()
                ))),
            },
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(Trouble::Disk(format!("--state-dir: {error}"))),
        }
    }

    /// What the CA server answered to the request for that key, if it did and the answer was not
    /// published yet.
    pub(crate) fn answer(&self, key: &HostKey) -> Option<Vec<CertificateDer<'static>>> {
        let (bytes, _) = file::read(&self.dir.join(ANSWER), MOST_BYTES).ok()?;
        let chain = pem::certificates(&bytes).ok()?;
        chain.first().filter(|leaf| key.is_of(leaf))?;
        Some(chain)
    }

    /// Keeps an answer until it is published.
    pub(crate) fn keep_answer(&self, chain: &[CertificateDer<'_>]) -> Result<(), Trouble> {
        let text: String = chain
            .iter()
            .map(|der| pem::encode("CERTIFICATE", der))
            .collect();
        self.write(ANSWER, text.as_bytes())
    }

    /// Forgets an answer that is good for nothing.
    pub(crate) fn drop_answer(&self) {
        let _ = fs::remove_file(self.dir.join(ANSWER)); // best effort: it is judged again before it is used
    }

    /// The certificate is published: the next one gets a key of its own.
    pub(crate) fn published(&self) -> Result<(), Trouble> {
        for name in [ANSWER, KEY] {
            match fs::remove_file(self.dir.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.unwritable(&error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Forgets a pending key whose certificate is published already: a crash came between the two.
    pub(crate) fn settle(&self, leaf: &CertificateDer<'_>) -> Result<(), Trouble> {
        match self.known_key()? {
            Some(key) if key.is_of(leaf) => self.published(),
            _ => Ok(()),
        }
    }

    /// When the CA was last heard of, Unix time, by the wall clock of then. One that can't be read
    /// is as if it were not there.
    pub(crate) fn heard_at(&self) -> Option<u64> {
        let (bytes, _) = file::read(&self.dir.join(HEARD), MOST_BYTES).ok()?;
        let text = std::str::from_utf8(&bytes).ok()?;
        parse_rfc3339(text.trim()).map(unix)
    }

    /// The CA was heard of then.
    pub(crate) fn note_heard(&self, at: u64) -> Result<(), Trouble> {
        let text = format!("{}\n", Rfc3339(from_unix(at)));
        file::replace(&self.dir.join(HEARD), text.as_bytes()).map_err(|error| {
            Trouble::Disk(format!(
                "--state-dir {}: cannot be written to, so how old the news are is not known after a restart: {error}",
                self.dir.display()
            ))
        })
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Trouble> {
        let written = file::replace(&self.dir.join(name), bytes)
            .and_then(|()| File::open(&self.dir)?.sync_all());
        written.map_err(|error| self.unwritable(&error))
    }

    fn unwritable(&self, error: &io::Error) -> Trouble {
        Trouble::Disk(format!(
            "--state-dir {}: cannot be written to, so no certificate is asked for: {error}",
            self.dir.display()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_is_the_same_until_its_certificate_is_published() {
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("a/state");
        let state = State::open(&dir).unwrap();
        let first = state.key().unwrap();
        assert_eq!(state.key().unwrap().pem(), first.pem());
        for (name, mode) in [("", 0o700), (KEY, 0o600)] {
            let found = fs::metadata(dir.join(name)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
        }
        drop(state);
        let again = State::open(&dir).unwrap();
        assert_eq!(again.key().unwrap().pem(), first.pem());
        again.published().unwrap();
        assert_ne!(again.key().unwrap().pem(), first.pem());
    }

    #[test]
    fn when_the_ca_was_heard_of_outlasts_an_end() {
        let parent = tempfile::tempdir().unwrap();
        let state = State::open(parent.path()).unwrap();
        assert_eq!(state.heard_at(), None);
        state.note_heard(1_800_000_000).unwrap();
        drop(state);
        let again = State::open(parent.path()).unwrap();
        assert_eq!(again.heard_at(), Some(1_800_000_000));
        fs::write(parent.path().join(HEARD), "yesterday").unwrap();
        assert_eq!(again.heard_at(), None);
    }

    #[test]
    fn two_agents_never_share_a_folder_and_a_damaged_key_is_said() {
        let parent = tempfile::tempdir().unwrap();
        let state = State::open(parent.path()).unwrap();
        let fault = State::open(parent.path()).unwrap_err();
        assert!(fault.contains("another agent"), "{fault}");
        state.write(KEY, b"x").unwrap();
        let fault = state.key().err().unwrap().to_string();
        assert!(fault.contains("take it away"), "{fault}");
        drop(state);
        assert!(State::open(parent.path()).is_ok());
        fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(State::open(parent.path()).is_err());
    }
}

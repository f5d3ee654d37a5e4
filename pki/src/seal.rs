//! The passphrase of the CA keys: proved on a key that is there before a new one is sealed with it,
//! and changed for all of them.
//!
//! A slip of the hand at a rotation would otherwise seal the new CA's key for ever, and nobody
//! would know before the old one has ended. A change goes key by key, each by one rename; one that
//! was interrupted is finished by repeating it, because a key that the new passphrase opens is done
//! and any other is opened with the old one. Invariant: no key is written before all have been
//! opened.

use std::path::{Path, PathBuf};

use rcgen::{KeyPair, PublicKeyData};
use x509_parser::prelude::{FromDer, X509Certificate};
use zeroize::Zeroizing;

use crate::ca;
use crate::error::Error;
use crate::keys;
use crate::ledger::{Authority, AuthorityKind, AuthorityState, Event, Ledger};
use crate::passphrase::KeyProtection;
use crate::pki::Pki;
use crate::store::{self, Access};

/// How the keys are to be kept from now on.
#[derive(Debug)]
pub struct PassphraseChange {
    /// All keys, or those of the issuing CAs.
    pub new: KeyProtection,
    /// The roots' keys, where they have a passphrase of their own.
    pub new_for_roots: Option<KeyProtection>,
}

/// What a change did.
#[derive(Clone, Debug, Default)]
pub struct PassphraseChanged {
    /// CAs whose key is under the new passphrase now.
    pub changed: Vec<String>,
    /// CAs whose key was already, after a change that was interrupted.
    pub already: Vec<String>,
    /// CAs whose key is kept elsewhere and is still under the old one.
    pub away: Vec<String>,
    /// CAs that nobody needs any more, whose key neither passphrase opens.
    pub left: Vec<String>,
}

/// A key file as it is.
struct KeyFile {
    path: PathBuf,
    text: Zeroizing<String>,
}

impl Pki {
    /// Where the key of an authority is, if it is at hand.
    pub(crate) fn key_path(&self, authority: &Authority) -> Option<PathBuf> {
        let here = ca::folder(self.dir(), &authority.id).join("key.pem");
        let elsewhere = self
            .offline_folder()
            .filter(|_| authority.kind == AuthorityKind::Root)
            .map(|folder| folder.join(&authority.id).join("key.pem"));
        std::iter::once(here)
            .chain(elsewhere)
            .find(|path| path.exists())
    }

    fn key_file(&self, authority: &Authority) -> Result<Option<KeyFile>, Error> {
        let Some(path) = self.key_path(authority) else {
            return Ok(None);
        };
        let text = String::from_utf8(store::read(&path)?)
            .map_err(|_| Error::damaged(&path, "not a PEM file"))?;
        Ok(Some(KeyFile {
            path,
            text: Zeroizing::new(text),
        }))
    }

    fn protection_of(&self, kind: AuthorityKind) -> &KeyProtection {
        match kind {
            AuthorityKind::Root => self.root_protection().unwrap_or(self.protection()),
            AuthorityKind::Issuer => self.protection(),
        }
    }

    /// Opens a key that is there with the passphrase that is to seal the new one's.
    ///
    /// # Errors
    /// It does not open.
    pub(crate) fn prove_protection(
        &self,
        ledger: &Ledger,
        kind: AuthorityKind,
    ) -> Result<(), Error> {
        let kinds: &[AuthorityKind] = match kind {
            // A root brings an issuer of its own.
            AuthorityKind::Root => &[AuthorityKind::Root, AuthorityKind::Issuer],
            AuthorityKind::Issuer => &[AuthorityKind::Issuer],
        };
        for kind in kinds {
            let one_for_all = self.root_protection().is_none();
            let own = ledger
                .authorities()
                .iter()
                .rev()
                .filter(|one| one.kind == *kind);
            // A root's key may be away; where there is one passphrase for all, any key proves it.
            let others = ledger
                .authorities()
                .iter()
                .rev()
                .filter(|one| one.kind != *kind && one_for_all);
            for authority in own.chain(others).filter(|one| is_in_use(one)) {
                let Some(file) = self.key_file(authority)? else {
                    continue;
                };
                if keys::is_encrypted(&file.text) {
                    self.open_key(&file, authority)?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn open_key(&self, file: &KeyFile, authority: &Authority) -> Result<KeyPair, Error> {
        let shown = file.path.display();
        let passphrase = self.protection_of(authority.kind).passphrase()?;
        let passphrase = passphrase.ok_or_else(|| {
            Error::Passphrase(format!(
                "{shown} is encrypted; give its passphrase with --passphrase-file, --passphrase-fd or --passphrase-command"
            ))
        })?;
        keys::from_encrypted_pem(&file.text, &passphrase).map_err(|why| match why {
            Error::Passphrase(why) => Error::Passphrase(format!(
                "{shown}: {why}; nothing was changed, run it again with the right one"
            )),
            why => damaged(&file.path, &why),
        })
    }

    /// Seals every key anew.
    ///
    /// # Errors
    /// A key that is in use opens with neither passphrase: then none was changed. Or one can't be
    /// written: repeat it.
    pub fn change_passphrase(&self, wanted: &PassphraseChange) -> Result<PassphraseChanged, Error> {
        let mut change = self.hold()?;
        let (mut done, mut opened) = (PassphraseChanged::default(), Vec::new());
        for authority in change.inventory.ledger().authorities() {
            let new = match authority.kind {
                AuthorityKind::Root => wanted.new_for_roots.as_ref().unwrap_or(&wanted.new),
                AuthorityKind::Issuer => &wanted.new,
            };
            let Some(file) = self.key_file(authority)? else {
                if is_in_use(authority) {
                    done.away.push(authority.id.clone());
                }
                continue;
            };
            match self.to_be_sealed(&file, authority, new) {
                Ok(Some(key)) => opened.push((authority.id.clone(), file.path, key, new)),
                Ok(None) => done.already.push(authority.id.clone()),
                Err(Error::Passphrase(_) | Error::Damaged { .. }) if !is_in_use(authority) => {
                    done.left.push(authority.id.clone());
                }
                Err(why) => return Err(why),
            }
        }
        let sealed = opened
            .into_iter()
            .map(|(id, path, key, new)| Ok((id, path, ca::seal(&key, new)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        if sealed.is_empty() {
            return Ok(done);
        }
        done.changed = sealed.iter().map(|(id, _, _)| id.clone()).collect();
        change.append(vec![Event::PassphraseChanged {
            authorities: done.changed.clone(),
        }])?;
        for (_, path, pem) in &sealed {
            if let Some(folder) = path.parent() {
                store::sweep(folder)?;
            }
            store::replace(path, pem.as_bytes(), Access::Owner)?;
        }
        Ok(done)
    }

    /// The key of a file, or `None` where it is kept as wanted already.
    fn to_be_sealed(
        &self,
        file: &KeyFile,
        authority: &Authority,
        new: &KeyProtection,
    ) -> Result<Option<KeyPair>, Error> {
        let passphrase = new.passphrase()?;
        let key = match (keys::is_encrypted(&file.text), passphrase) {
            (false, None) => return Ok(None),
            (false, Some(_)) => {
                keys::from_plain_pem(&file.text).map_err(|why| damaged(&file.path, &why))?
            }
            (true, Some(new)) if keys::from_encrypted_pem(&file.text, &new).is_ok() => {
                return Ok(None);
            }
            (true, _) => self.open_key(file, authority)?,
        };
        let certificate = ca::certificate(self.dir(), authority)?;
        let is_its = X509Certificate::from_der(&certificate)
            .is_ok_and(|(_, ca)| ca.public_key().raw == key.subject_public_key_info().as_slice());
        if is_its {
            Ok(Some(key))
        } else {
            let why = "it is not the key of the certificate; run `gapura-pki restore` with the last backup";
            Err(Error::damaged(&file.path, why))
        }
    }

    /// Keys in use that the passphrase which was given does not open, each with the reason; nothing
    /// where none was given.
    pub(crate) fn keys_that_do_not_open(&self, ledger: &Ledger) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for authority in ledger.authorities().iter().filter(|one| is_in_use(one)) {
            let protection = self.protection_of(authority.kind);
            if protection.is_unsaid() || matches!(protection, KeyProtection::Plaintext) {
                continue;
            }
            let file = self.key_file(authority).ok().flatten();
            let Some(file) = file.filter(|file| keys::is_encrypted(&file.text)) else {
                continue;
            };
            if let Err(Error::Passphrase(why)) = self.open_key(&file, authority) {
                found.push((authority.id.clone(), why));
            }
        }
        found
    }
}

fn is_in_use(authority: &Authority) -> bool {
    !matches!(
        authority.state,
        AuthorityState::Retired | AuthorityState::Tainted
    )
}

fn damaged(path: &Path, why: &Error) -> Error {
    Error::damaged(
        path,
        format!("{why}; run `gapura-pki restore` with the last backup"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_protocol::clock::Clock;

    fn under(text: &str) -> KeyProtection {
        KeyProtection::Passphrase(Zeroizing::new(text.to_owned()))
    }

    #[test]
    fn a_change_that_was_interrupted_is_finished_by_repeating_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("pki");
        let domain = "mylab.internal".parse().unwrap();
        Pki::init(&dir, &domain, under("old"), &Clock::system()).unwrap();
        let open = |text| Pki::open(&dir, under(text), &Clock::system()).unwrap();
        let change = || PassphraseChange {
            new: under("new"),
            new_for_roots: None,
        };
        let refused = open("wrong").change_passphrase(&change()).unwrap_err();
        assert_eq!(refused.exit_code(), 7);
        let root_key = dir.join("authorities/root-g1/key.pem");
        let before = std::fs::read(&root_key).unwrap();

        let done = open("old").change_passphrase(&change()).unwrap();
        assert_eq!(done.changed, ["root-g1", "iss-g1-001"]);
        // As if the run had died between the two keys.
        std::fs::write(&root_key, before).unwrap();
        assert_eq!(open("new").crl_refresh().unwrap_err().exit_code(), 7);
        let done = open("old").change_passphrase(&change()).unwrap();
        assert_eq!(
            (done.changed, done.already),
            (vec!["root-g1".to_owned()], vec!["iss-g1-001".to_owned()])
        );
        open("new").crl_refresh().unwrap();
        assert_eq!(open("old").crl_refresh().unwrap_err().exit_code(), 7);
        // And back to keys in the clear.
        let plain = PassphraseChange {
            new: KeyProtection::Plaintext,
            new_for_roots: None,
        };
        open("new").change_passphrase(&plain).unwrap();
        Pki::open(&dir, KeyProtection::Plaintext, &Clock::system())
            .unwrap()
            .crl_refresh()
            .unwrap();
    }
}

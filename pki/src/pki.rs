//! One installation's state directory, and the few steps that every command is made of.
//!
//! ```text
//! DIR/pki.json                       settings
//! DIR/inventory.jsonl .head          what has happened; the only truth about it
//! DIR/authorities/ID/cert.pem key.pem
//! DIR/crl/ID.pem                     the last CRL of each authority
//! DIR/out/ROLE/NAME/                 mesh directories, unless --out says otherwise
//! ```
//! A change is: lock, read the inventory, sign in memory, judge, write the inventory, publish.
//! Nobody learns of anything before the inventory has it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gapura_protocol::clock::Clock;
use gapura_protocol::identity::TrustDomain;

use crate::adopted::Adopted;
use crate::ca::{self, Signer};
use crate::error::Error;
use crate::inventory::Inventory;
use crate::keys::{self, sha256_hex};
use crate::ledger::{Authority, AuthorityKind, AuthorityState, Event, Ledger};
use crate::passphrase::KeyProtection;
use crate::profile;
use crate::settings::Settings;
use crate::standing::{self, Own, Standings};
use crate::store::{self, Lock};
use crate::timestamp::Timestamp;

/// How long a command waits for another one, unless told otherwise.
pub(crate) const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

/// A state directory, with what is needed to change it.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    settings: Settings,
    protection: KeyProtection,
    root_protection: Option<KeyProtection>,
    offline_root: Option<PathBuf>,
    clock: Clock,
    clock_is_right: bool,
    patience: Duration,
    adopted: Mutex<Vec<Adopted>>,
}

/// A state directory held for a change.
pub(crate) struct Change {
    pub(crate) lock: Lock,
    pub(crate) inventory: Inventory,
    pub(crate) now: Timestamp,
    /// Whether CRLs were made anew on the way, so that every directory has to get them.
    pub(crate) crls_changed: bool,
    /// How the mesh directories stand to the inventory, after what runs that died left was brought
    /// to its end.
    pub(crate) standings: Standings,
}

impl Pki {
    /// Makes a new installation in `dir`: a root, an issuing CA, their CRLs.
    ///
    /// # Errors
    /// Refuses a directory that holds a CA already; reports what can't be written.
    pub fn init(
        dir: &Path,
        trust_domain: &TrustDomain,
        protection: KeyProtection,
        clock: &Clock,
    ) -> Result<Self, Error> {
        Self::init_with(
            dir,
            Settings::for_domain(trust_domain.clone()),
            protection,
            (None, None),
            clock,
        )
    }

    /// The same with other lifetimes, and with the root's key kept in another folder.
    ///
    /// # Errors
    /// As [`Pki::init`].
    pub fn init_with(
        dir: &Path,
        settings: Settings,
        protection: KeyProtection,
        (offline_root, root_protection): (Option<PathBuf>, Option<KeyProtection>),
        clock: &Clock,
    ) -> Result<Self, Error> {
        settings
            .check()
            .map_err(|problems| Error::Usage(problems.join("; ")))?;
        protection.passphrase()?; // before anything is written
        store::make_dir(dir)?;
        let dir = std::path::absolute(dir).map_err(Error::io("find", dir))?;
        let lock = Lock::take(&dir, LOCK_TIMEOUT)?;
        refuse_a_used(&dir)?;
        let now = Timestamp::now(clock);
        let mut change = Change {
            lock,
            inventory: Inventory::load(&dir)?,
            now,
            crls_changed: false,
            standings: Standings::new(),
        };
        let offline_root = offline_root
            .map(|path| std::path::absolute(&path).map_err(Error::io("find", &path)))
            .transpose()?;
        let this = Self {
            dir,
            settings,
            protection,
            root_protection,
            offline_root,
            clock: clock.clone(),
            clock_is_right: false,
            patience: LOCK_TIMEOUT,
            adopted: Mutex::default(),
        };
        let (root_record, root) = this.make_root("root-g1", AuthorityState::Active, now)?;
        let (issuer_record, issuer) = this.make_issuer(
            "iss-g1-001",
            AuthorityState::Active,
            (&root_record, &root),
            now,
        )?;
        let created = Event::Created {
            trust_domain: this.settings.trust_domain.to_string(),
        };
        // The settings come last of the files: without them the directory counts as unused, and a
        // second try may begin anew.
        change.append(vec![
            created,
            Event::Authority(root_record),
            Event::Authority(issuer_record),
        ])?;
        this.sign_crl(&mut change, &root)?;
        this.sign_crl(&mut change, &issuer)?;
        this.settings.save(&this.dir)?;
        store::sync_dir(&this.dir)?;
        Ok(this)
    }

    /// Opens the installation in `dir`. The keys stay closed until one is needed.
    ///
    /// # Errors
    /// There is none, or its settings are not sound.
    pub fn open(dir: &Path, protection: KeyProtection, clock: &Clock) -> Result<Self, Error> {
        let settings = Settings::load(dir)?;
        let dir = std::path::absolute(dir).map_err(Error::io("find", dir))?;
        Ok(Self {
            dir,
            settings,
            protection,
            root_protection: None,
            offline_root: None,
            clock: clock.clone(),
            clock_is_right: false,
            patience: LOCK_TIMEOUT,
            adopted: Mutex::default(),
        })
    }

    /// How long to wait for another run.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Where the roots' keys are, when not in the state directory, and what opens them, when not
    /// the same passphrase.
    #[must_use]
    pub fn with_offline_root(
        mut self,
        folder: Option<PathBuf>,
        protection: Option<KeyProtection>,
    ) -> Self {
        self.offline_root = folder;
        self.root_protection = protection;
        self
    }

    /// Insists that the clock is right although the inventory has lines of the future.
    #[must_use]
    pub fn with_clock_said_right(mut self, right: bool) -> Self {
        self.clock_is_right = right;
        self
    }

    pub(crate) fn clock_is_right(&self) -> bool {
        self.clock_is_right
    }

    /// What our own CA signed and the inventory did not know, as far as commands on this value met
    /// it.
    #[must_use]
    pub fn adopted(&self) -> Vec<Adopted> {
        self.adopted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn remember_adopted(&self, met: Vec<Adopted>) {
        let mut adopted = self.adopted.lock().unwrap_or_else(PoisonError::into_inner);
        adopted.extend(met);
    }

    /// The state directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The name all identities live under.
    #[must_use]
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.settings.trust_domain
    }

    /// The present.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::now(&self.clock)
    }

    pub(crate) fn protection(&self) -> &KeyProtection {
        &self.protection
    }

    pub(crate) fn root_protection(&self) -> Option<&KeyProtection> {
        self.root_protection.as_ref()
    }

    pub(crate) fn offline_folder(&self) -> Option<&Path> {
        self.offline_root.as_deref()
    }

    pub(crate) fn patience(&self) -> Duration {
        self.patience
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What has happened so far.
    ///
    /// # Errors
    /// The inventory was edited, cut or is of another installation.
    pub fn ledger(&self) -> Result<Ledger, Error> {
        Ok(self.inventory()?.ledger().clone())
    }

    /// How many lines the inventory has, and the hash of the last.
    ///
    /// # Errors
    /// As [`Pki::ledger`].
    pub fn inventory_head(&self) -> Result<(u64, String), Error> {
        let inventory = self.inventory()?;
        Ok((inventory.lines(), inventory.last_hash().to_owned()))
    }

    fn inventory(&self) -> Result<Inventory, Error> {
        self.inventory_after(None)
    }

    /// The inventory as it is now, read from where `known` ends.
    pub(crate) fn inventory_after(&self, known: Option<Inventory>) -> Result<Inventory, Error> {
        let inventory = match known {
            Some(known) => known.follow(&self.dir)?,
            None => Inventory::load(&self.dir)?,
        };
        self.fits(&inventory)?;
        Ok(inventory)
    }

    fn fits(&self, inventory: &Inventory) -> Result<(), Error> {
        let recorded = inventory.ledger().trust_domain();
        if recorded == Some(&self.settings.trust_domain) {
            return Ok(());
        }
        let found = recorded.map_or("none".to_owned(), ToString::to_string);
        let why = format!(
            "trust_domain is `{}`, but the inventory was begun for `{found}`; set it back",
            self.settings.trust_domain
        );
        Err(Error::damaged(&self.dir.join("pki.json"), why))
    }

    /// Takes the lock, reads the inventory, and brings to its end what a run that died left in the
    /// mesh directories.
    pub(crate) fn hold(&self) -> Result<Change, Error> {
        let lock = Lock::take(&self.dir, self.patience)?;
        store::sweep(&self.dir)?;
        let inventory = self.inventory()?;
        let ledger = inventory.ledger();
        let standings = standing::of_all(&ledger.by_directory(), self.own(ledger), true)?;
        Ok(Change {
            inventory,
            now: self.now(),
            lock,
            crls_changed: false,
            standings,
        })
    }

    /// Takes the lock and reads the inventory from where `known` ends, for a change that touches no
    /// mesh directory.
    pub(crate) fn hold_from(&self, known: Option<Inventory>) -> Result<Change, Error> {
        let lock = Lock::take(&self.dir, self.patience)?;
        Ok(Change {
            inventory: self.inventory_after(known)?,
            now: self.now(),
            lock,
            crls_changed: false,
            standings: Standings::new(),
        })
    }

    /// What tells our certificates from others.
    pub(crate) fn own(&self, ledger: &Ledger) -> Own {
        Own::of(&self.dir, ledger, self.trust_domain())
    }

    /// Opens the key of an authority.
    pub(crate) fn signer(&self, authority: &Authority) -> Result<Signer, Error> {
        match authority.kind {
            AuthorityKind::Issuer => Signer::open(&self.dir, authority, None, &self.protection),
            AuthorityKind::Root => {
                let here = ca::folder(&self.dir, &authority.id)
                    .join("key.pem")
                    .exists();
                let elsewhere = self.offline_root.as_deref().filter(|_| !here);
                Signer::open(
                    &self.dir,
                    authority,
                    elsewhere,
                    self.root_protection.as_ref().unwrap_or(&self.protection),
                )
            }
        }
    }

    /// Whether the key of a root can be had without asking the operator for it.
    pub(crate) fn root_key_at_hand(&self, root: &Authority) -> bool {
        let elsewhere = self
            .offline_root
            .as_ref()
            .map(|folder| folder.join(&root.id).join("key.pem"));
        ca::folder(&self.dir, &root.id).join("key.pem").exists()
            || elsewhere.is_some_and(|path| path.exists())
    }

    /// Whether a folder for roots' keys was named.
    pub(crate) fn has_offline_folder(&self) -> bool {
        self.offline_root.is_some()
    }

    /// Whether the key of a root is kept somewhere else.
    pub(crate) fn is_offline(&self, root: &Authority) -> bool {
        root.kind == AuthorityKind::Root
            && !ca::folder(&self.dir, &root.id).join("key.pem").exists()
    }

    /// The issuing CA that signs leaves at present, open.
    pub(crate) fn active_issuer(&self, change: &Change) -> Result<(Authority, Signer), Error> {
        let issuer = self.signing_issuer(change)?;
        let signer = self.signer(&issuer)?;
        Ok((issuer, signer))
    }

    /// The issuing CA that signs leaves at present, closed.
    pub(crate) fn signing_issuer(&self, change: &Change) -> Result<Authority, Error> {
        let ledger = change.inventory.ledger();
        let active = ledger.in_state(AuthorityKind::Issuer, AuthorityState::Active);
        let mend = "run `gapura-pki ca rotate issuer --emergency`";
        let issuer = active
            .ok_or_else(|| Error::Refused(format!("no issuing CA is active; {mend}")))?
            .clone();
        let root = issuer
            .parent
            .as_deref()
            .and_then(|id| ledger.authority(id))
            .cloned();
        // The root first: a new issuing CA under one that has ended would mend nothing.
        for (authority, mend) in [
            (root.as_ref(), "run `gapura-pki ca rotate root --emergency`"),
            (Some(&issuer), mend),
        ] {
            let Some(authority) = authority else { continue };
            in_its_life(authority, change.now, mend)?;
        }
        self.refuse_lines_of_the_future(change)?;
        Ok(issuer)
    }

    /// How a new CA's key is kept: as was said, and where nothing was said like those that are
    /// there.
    fn protection_for_new(&self, kind: AuthorityKind) -> Result<&KeyProtection, Error> {
        let said = match kind {
            AuthorityKind::Root => self.root_protection.as_ref().unwrap_or(&self.protection),
            AuthorityKind::Issuer => &self.protection,
        };
        if !said.is_unsaid() {
            return Ok(said);
        }
        let ledger = Inventory::load(&self.dir)?;
        let before = ledger
            .ledger()
            .authorities()
            .iter()
            .rev()
            .find(|authority| authority.kind == AuthorityKind::Issuer);
        let key = before
            .map(|authority| {
                store::read_if_there(&ca::folder(&self.dir, &authority.id).join("key.pem"))
            })
            .transpose()?
            .flatten();
        let plain = key.is_some_and(|pem| !keys::is_encrypted(&String::from_utf8_lossy(&pem)));
        Ok(if plain {
            &KeyProtection::Plaintext
        } else {
            said
        })
    }

    /// Makes a root; the inventory has to be told.
    pub(crate) fn make_root(
        &self,
        id: &str,
        state: AuthorityState,
        now: Timestamp,
    ) -> Result<(Authority, Signer), Error> {
        let life = profile::life(now, self.settings.root_ttl.as_secs(), None);
        let params = profile::root(id, &self.settings, life)?;
        let key = keys::generate()?;
        let certificate = params.self_signed(&key).map_err(Error::minting)?;
        let folder = ca::folder(&self.dir, id);
        let key_folder = self
            .offline_root
            .as_ref()
            .map_or_else(|| folder.clone(), |elsewhere| elsewhere.join(id));
        ca::save(
            &folder,
            &key_folder,
            &certificate,
            &key,
            self.protection_for_new(AuthorityKind::Root)?,
        )?;
        let record = Authority {
            id: id.to_owned(),
            kind: AuthorityKind::Root,
            parent: None,
            serial: profile::serial_text(&params),
            not_before: life.0,
            not_after: life.1,
            fingerprint: sha256_hex(certificate.der()),
            state,
        };
        Ok((record, Signer::new(id, certificate.into(), key)?))
    }

    /// Makes an issuing CA under `root`; the inventory has to be told.
    pub(crate) fn make_issuer(
        &self,
        id: &str,
        state: AuthorityState,
        (root, signer): (&Authority, &Signer),
        now: Timestamp,
    ) -> Result<(Authority, Signer), Error> {
        let life = profile::life(
            now,
            self.settings.issuer_ttl.as_secs(),
            Some((root.not_before, root.not_after)),
        );
        let params = profile::issuer(id, &self.settings, life)?;
        let key = keys::generate()?;
        let certificate = signer.sign(&params, &key)?;
        let folder = ca::folder(&self.dir, id);
        ca::save(
            &folder,
            &folder,
            &certificate,
            &key,
            self.protection_for_new(AuthorityKind::Issuer)?,
        )?;
        let record = Authority {
            id: id.to_owned(),
            kind: AuthorityKind::Issuer,
            parent: Some(root.id.clone()),
            serial: profile::serial_text(&params),
            not_before: life.0,
            not_after: life.1,
            fingerprint: sha256_hex(certificate.der()),
            state,
        };
        Ok((record, Signer::new(id, certificate.into(), key)?))
    }
}

impl Change {
    /// Writes events down and syncs them.
    pub(crate) fn append(&mut self, events: Vec<Event>) -> Result<(), Error> {
        self.inventory.append(&self.lock, self.now, events)
    }
}

/// A clock that is behind or a CA that has ended would give certificates that every peer refuses.
fn in_its_life(authority: &Authority, now: Timestamp, mend: &str) -> Result<(), Error> {
    if now < authority.not_before {
        let behind = crate::timestamp::for_people(authority.not_before.since(now));
        return Err(Error::Refused(format!(
            "{} is valid from {}, but this machine's clock says {now}, {behind} before that; set the clock",
            authority.id, authority.not_before
        )));
    }
    if now >= authority.not_after {
        return Err(Error::Refused(format!(
            "{} ended at {}, and it is {now} now; {mend}",
            authority.id, authority.not_after
        )));
    }
    Ok(())
}

/// A CA that is overwritten takes every certificate of its mesh with it.
fn refuse_a_used(dir: &Path) -> Result<(), Error> {
    let used = |name: &str| dir.join(name).exists();
    if used("pki.json") {
        let next = format!(
            "see it with `gapura-pki --dir {} ca show`, or give another --dir",
            dir.display()
        );
        return Err(Error::Refused(format!(
            "{} holds a CA already; {next}",
            dir.display()
        )));
    }
    store::sweep(dir)?;
    if used("inventory.jsonl") {
        // Without settings nothing was ever issued here: what is left is of an `init` that did not
        // come to its end.
        for name in ["inventory.jsonl", "inventory.head"] {
            store::remove_if_there(&dir.join(name))?;
        }
    }
    for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
        let name = entry.map_err(Error::io("read", dir))?.file_name();
        if !matches!(name.to_str(), Some(".lock" | "authorities" | "crl")) {
            return Err(Error::Refused(format!(
                "{} is not empty (it holds {}); give an empty or new --dir",
                dir.display(),
                name.display()
            )));
        }
    }
    Ok(())
}

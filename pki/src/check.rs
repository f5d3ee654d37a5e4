//! `check`: what an operator must do, and by when. Looks at everything and changes nothing; needs
//! no passphrase.
//!
//! In: the state directory, the mesh directories it published, and endpoints that are named. Out:
//! findings, each with what was found, what is wanted and the command that mends it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::ca;
use crate::deliver::{HookKind, Runs};
use crate::error::Error;
use crate::inspect::serial;
use crate::keys::{self, sha256_hex};
use crate::ledger::{Authority, AuthorityKind, AuthorityState, Ledger};
use crate::pki::Pki;
use crate::probe;
use crate::rotate;
use crate::store::{self, Lock};
use crate::timestamp::Timestamp;

mod checkup;
mod leaf;
mod record;

pub use checkup::{Checkup, End, EndOf, Finding, Level};

/// How long another look waits for whoever writes.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many further looks there are beside one who never stops writing.
const LOOKS: usize = 6;

impl Pki {
    /// Looks at everything.
    ///
    /// # Errors
    /// The inventory can't be read at all; nothing else could be said then.
    pub fn check(&self, endpoints: &[String]) -> Result<Checkup, Error> {
        let mut checkup = match self.look() {
            Ok(found) if found.worst() < Some(Level::Warning) => found,
            first => self.look_again(first)?,
        };
        let (ledger, now) = (self.ledger()?, self.now());
        for endpoint in endpoints {
            check_endpoint(&mut checkup, &ledger, endpoint, now);
        }
        checkup
            .findings
            .sort_by_key(|finding| std::cmp::Reverse(finding.level));
        Ok(checkup)
    }

    /// Beside a writer the first look may meet the inventory of one moment and the directories of
    /// another. So nothing is said that another look, while nobody writes, does not find too; where
    /// the lock can't be had, that several looks in a row do not all find.
    fn look_again(&self, first: Result<Checkup, Error>) -> Result<Checkup, Error> {
        let mut last = Checkup::default();
        let mut known = first.ok().map(|first| first.findings);
        for _ in 0..LOOKS {
            let lock = Lock::take(self.dir(), PATIENCE);
            let mut next = self.look()?;
            if lock.is_ok() {
                return Ok(next);
            }
            if let Some(known) = &known {
                next.findings.retain(|finding| {
                    // Of a directory that is behind each time, but behind another certificate or
                    // list, a writer is the cause.
                    let moves = finding.id.starts_with("DIR_");
                    let same = |other: &Finding| {
                        other.id == finding.id
                            && other.object == finding.object
                            && (!moves || other.found == finding.found)
                    };
                    finding.level < Level::Warning || known.iter().any(same)
                });
            }
            if next.worst() < Some(Level::Warning) {
                return Ok(next);
            }
            known = Some(next.findings.clone());
            last = next;
        }
        Ok(last)
    }

    fn look(&self) -> Result<Checkup, Error> {
        let (ledger, now) = (self.ledger()?, self.now());
        let mut checkup = Checkup::default();
        check_mode(&mut checkup, self.dir(), 0o077, "STATE_MODE");
        for authority in ledger.authorities() {
            self.check_authority(&mut checkup, &ledger, authority, now);
        }
        for kind in [AuthorityKind::Root, AuthorityKind::Issuer] {
            if ledger.in_state(kind, AuthorityState::Active).is_none() {
                let fix = format!("gapura-pki ca rotate {} --emergency", kind.as_str());
                checkup.add(
                    Level::Critical,
                    "CA_NONE",
                    kind.as_str(),
                    ("none is active".to_owned(), "one that signs", &fix),
                );
            }
            match rotate::next_step(&ledger, kind) {
                rotate::Step::Prepare => {}
                step => {
                    let fix = format!(
                        "gapura-pki ca rotate {} --step {}",
                        kind.as_str(),
                        step.as_str()
                    );
                    let found = format!("a rotation is under way, next is {}", step.as_str());
                    checkup.add(
                        Level::Info,
                        "CA_ROTATION",
                        kind.as_str(),
                        (found, "its end", &fix),
                    );
                }
            }
        }
        for authority in ledger
            .published_issuers(now)
            .chain(ledger.trusted_roots(now))
        {
            self.check_crl(&mut checkup, &ledger, authority, now);
        }
        leaf::check_all(self, &mut checkup, &ledger, now)?;
        self.check_runs(&mut checkup, &ledger, now);
        self.check_record(&mut checkup, &ledger, now)?;
        Ok(checkup)
    }

    /// What the commands of --push and --exec have yet to be told.
    fn check_runs(&self, checkup: &mut Checkup, ledger: &Ledger, now: Timestamp) {
        let runs = Runs::load(self.dir());
        checkup.last_success = runs.last_success;
        for (kind, leaf, why) in runs.pending(ledger, &self.own(ledger), now) {
            checkup.undelivered += 1;
            let object = format!("{} in {}", leaf.label(), leaf.out.display());
            let fix = format!("gapura-pki renew --all --due --{kind} COMMAND");
            let want = format!("--{kind} to have succeeded for what it holds");
            let id = match kind {
                HookKind::Push => "PUSH_BEHIND",
                HookKind::Exec => "EXEC_BEHIND",
            };
            checkup.add(Level::Warning, id, &object, (why, &want, &fix));
        }
    }

    fn check_authority(
        &self,
        checkup: &mut Checkup,
        ledger: &Ledger,
        authority: &Authority,
        now: Timestamp,
    ) {
        let object = format!("authorities/{}", authority.id);
        let in_use = matches!(
            authority.state,
            AuthorityState::Active | AuthorityState::Prepared
        );
        if let Err(why) = ca::certificate(self.dir(), authority) {
            checkup.add(
                Level::Critical,
                "CA_FILE",
                &object,
                (
                    why.to_string(),
                    "the certificate that was made",
                    "gapura-pki restore FILE",
                ),
            );
        }
        let key = ca::folder(self.dir(), &authority.id).join("key.pem");
        if key.exists() {
            check_mode(checkup, &key, 0o077, "KEY_MODE");
            self.check_key(checkup, authority, &key, &object);
            let plain = |pem: Vec<u8>| keys::is_plain(&String::from_utf8_lossy(&pem));
            if store::read(&key).is_ok_and(plain) && in_use {
                let found = "its key is in the clear (--plaintext-keys)".to_owned();
                checkup.add(
                    Level::Info,
                    "CA_KEY_PLAIN",
                    &object,
                    (
                        found,
                        "an encrypted key, outside development",
                        "docs/pki.md, First day",
                    ),
                );
            }
        } else if in_use && authority.kind == AuthorityKind::Issuer {
            let found = format!("{} is not there", key.display());
            checkup.add(
                Level::Critical,
                "CA_KEY_GONE",
                &object,
                (found, "the key that signs", "gapura-pki restore FILE"),
            );
        } else if in_use {
            let found = "its key is offline".to_owned();
            checkup.add(
                Level::Info,
                "ROOT_OFFLINE",
                &object,
                (
                    found,
                    "nothing; the safest place",
                    "--offline-root DIR when it is needed",
                ),
            );
        }
        if authority.state != AuthorityState::Active {
            return;
        }
        if now < authority.not_before {
            let found = format!(
                "the clock says {now}, it begins at {}",
                authority.not_before
            );
            checkup.add(
                Level::Critical,
                "CLOCK",
                &object,
                (found, "a clock that is right", "timedatectl set-ntp true"),
            );
        }
        let fix = match (authority.kind, authority.not_after > now) {
            (AuthorityKind::Issuer, true) => "gapura-pki ca rotate issuer",
            (AuthorityKind::Issuer, false) => "gapura-pki ca rotate issuer --emergency",
            (AuthorityKind::Root, true) => "gapura-pki ca rotate root",
            (AuthorityKind::Root, false) => "gapura-pki ca rotate root --emergency",
        };
        // A successor that waits already is what the warning is for.
        if rotate::next_step(ledger, authority.kind) != rotate::Step::Activate {
            checkup.age(
                "CA_EXPIRY",
                &object,
                (authority.not_before, authority.not_after),
                now,
                fix,
            );
        }
        checkup.ends(EndOf::Ca(authority.id.clone()), authority.not_after);
    }

    /// Whether a key file is whole; no passphrase is needed to see that.
    fn check_key(&self, checkup: &mut Checkup, authority: &Authority, key: &Path, object: &str) {
        let certificate = ca::certificate(self.dir(), authority).ok();
        let whole = store::read(key)
            .map_err(|why| why.to_string())
            .and_then(|pem| keys::examine(&pem, certificate.as_deref()));
        if let Err(why) = whole {
            let found = format!("{}: {why}", key.display());
            let want = "the key that was made";
            let fix = "gapura-pki restore FILE";
            checkup.add(
                Level::Critical,
                "CA_KEY_DAMAGED",
                object,
                (found, want, fix),
            );
        }
    }

    fn check_crl(
        &self,
        checkup: &mut Checkup,
        ledger: &Ledger,
        authority: &Authority,
        now: Timestamp,
    ) {
        let object = format!("crl/{}", authority.id);
        let fix = if self.is_offline(authority) {
            "gapura-pki crl refresh --offline-root DIR"
        } else {
            "gapura-pki crl refresh"
        };
        let der = match self.stored_crl(authority) {
            Ok(der) => der,
            Err(why) => {
                return checkup.add(
                    Level::Critical,
                    "CRL_FILE",
                    &object,
                    (why.to_string(), "the last CRL", fix),
                );
            }
        };
        if let Some(crl) = ledger.crl(&authority.id) {
            checkup.age("CRL_AGE", &object, (crl.made_at, crl.next_update), now, fix);
            checkup.ends(EndOf::Crl(authority.id.clone()), crl.next_update);
        }
        let Ok((_, parsed)) = CertificateRevocationList::from_der(&der) else {
            return;
        };
        let listed: Vec<String> = parsed
            .iter_revoked_certificates()
            .map(|entry| serial(entry.raw_serial()))
            .collect();
        let missing = ledger
            .revoked_by(&authority.id, now)
            .iter()
            .filter(|revoked| !listed.contains(&revoked.serial))
            .count();
        let found = if missing > 0 {
            format!("{missing} revoked serials are not on it")
        } else if self.crl_is_behind(ledger, authority, now) {
            "an earlier one than was made last".to_owned()
        } else {
            return;
        };
        checkup.add(
            Level::Critical,
            "CRL_BEHIND",
            &object,
            (found, "every revocation of the inventory", fix),
        );
    }
}

/// What a running program shows, against what was issued.
fn check_endpoint(checkup: &mut Checkup, ledger: &Ledger, endpoint: &str, now: Timestamp) {
    let chain = match probe::served(endpoint, Duration::from_secs(5)) {
        Ok(chain) => chain,
        Err(why) => {
            return checkup.add(
                Level::Critical,
                "ENDPOINT_DOWN",
                endpoint,
                (why.to_string(), "a TLS answer", "start it"),
            );
        }
    };
    let Some(print) = chain.first().map(|leaf| sha256_hex(leaf)) else {
        return;
    };
    let Some(shown) = ledger
        .leaves()
        .iter()
        .find(|leaf| leaf.fingerprint == print)
    else {
        let found = format!("it shows a certificate this CA did not issue (sha256 {print})");
        return checkup.add(
            Level::Warning,
            "ENDPOINT_STRANGE",
            endpoint,
            (found, "one of this CA's", "gapura-pki inspect HOST:PORT"),
        );
    };
    let object = format!("{endpoint} ({})", shown.label());
    let newest = ledger
        .in_use()
        .into_iter()
        .find(|leaf| leaf.out == shown.out && leaf.label() == shown.label());
    if newest.is_some_and(|newest| newest.serial != shown.serial) {
        let found = format!("it still shows serial {}", shown.serial);
        let want = format!(
            "serial {}, which {} holds",
            newest.map_or("", |newest| newest.serial.as_str()),
            shown.out.display()
        );
        checkup.add(
            Level::Warning,
            "ENDPOINT_DRIFT",
            &object,
            (found, &want, "see its log for the alarm `trust`"),
        );
    }
    if !ledger.is_live(shown, now) {
        let found = "the certificate it shows has ended or is revoked".to_owned();
        checkup.add(
            Level::Critical,
            "ENDPOINT_DEAD",
            &object,
            (found, "a live one", "gapura-pki renew --all"),
        );
    }
}

fn check_mode(checkup: &mut Checkup, path: &Path, forbidden: u32, id: &'static str) {
    let Ok(found) = fs::metadata(path) else {
        return;
    };
    let mode = found.permissions().mode() & 0o777;
    if mode & forbidden != 0 {
        let want = if found.is_dir() { "0700" } else { "0600" };
        let fix = format!("chmod {want} {}", path.display());
        checkup.add(
            Level::Critical,
            id,
            &path.display().to_string(),
            (format!("mode {mode:04o}"), want, &fix),
        );
    }
}

//! Answers requests for certificates, many in one change: one lock, one reading of what others
//! wrote, one synced batch of lines.
//!
//! In: [`Ask`]s. Out: an answer to each, in their order. What is wrong with one is its own refusal;
//! what is wrong with the CA (no lock, a full disk, an issuing CA that has ended) is everybody's.
//! Invariant: a certificate is in the inventory, and its join token used up in the same batch of
//! lines, before anybody gets to see it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gapura_enrol::refusal::{Code, Refused};
use gapura_protocol::identity::{Name, PeerId, Role};
use gapura_protocol::text::hex;
use rustls::pki_types::CertificateDer;

use crate::adopted::Adopted;
use crate::ca::{self, Signer};
use crate::csr::{self, Unfit};
use crate::error::Error;
use crate::inventory::Inventory;
use crate::issue::{IssueRequest, KeyWanted, Minted};
use crate::key_rules::KeyRules;
use crate::keys::sha256_hex;
use crate::ledger::{Authority, Event, JoinState, Leaf, Ledger};
use crate::pem;
use crate::pki::{Change, Pki};

/// A request for a certificate, by whoever was proven to make it.
#[derive(Clone, Debug)]
pub enum Ask {
    /// By the secret of a join token.
    Join {
        /// What it wants to be.
        role: Role,
        /// Which one.
        name: Name,
        /// SHA-256 of the secret.
        secret_sha256: [u8; 32],
        /// The PKCS#10 request, DER.
        csr: Vec<u8>,
    },
    /// By the certificate that the handshake proved.
    Renew {
        /// Whom it speaks for.
        id: PeerId,
        /// Its serial in hexadecimal.
        serial: String,
        /// The PKCS#10 request, DER.
        csr: Vec<u8>,
    },
}

/// A certificate that may leave.
#[derive(Clone, Debug)]
pub struct Granted {
    /// Whom it speaks for.
    pub id: PeerId,
    /// Its serial in hexadecimal.
    pub serial: String,
    /// Its last second, Unix time.
    pub not_after: u64,
    /// The leaf, then the issuing CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether it was made before, and the host asked again because the answer was lost.
    pub again: bool,
}

/// A key that is in two hands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// Whose, `plugin/billing`.
    pub label: String,
    /// The serial of the certificate that both renewed.
    pub renewed: String,
    /// What it was renewed to.
    pub serials: Vec<String>,
}

/// Answers requests for certificates.
pub struct Registrar {
    pki: Pki,
    ttl: Duration,
    kept: Option<Kept>,
    signer: Option<(Authority, Signer)>,
}

/// What is known of the inventory from the change before.
struct Kept {
    inventory: Inventory,
    keys: KeyRules,
}

/// What becomes of one request.
enum Plan {
    Refused(Refused),
    /// What was made before.
    Known(Granted),
    /// The new leaf at this place.
    New(usize),
}

/// What a change makes.
#[derive(Default)]
struct Batch {
    minted: Vec<Minted>,
    /// Of a leaf that a token is used for: which.
    joins: Vec<Option<String>>,
    /// The leaf for which a token is used in this very batch.
    used: HashMap<String, usize>,
}

impl Registrar {
    /// Answers with leaves that live for `ttl`, signed by the issuing CA of `pki`; opens its key.
    ///
    /// # Errors
    /// There is none that can sign at present, or its key does not open.
    pub fn new(pki: Pki, ttl: Duration) -> Result<Self, Error> {
        let mut this = Self {
            pki,
            ttl,
            kept: None,
            signer: None,
        };
        let change = this.hold()?;
        this.ready(&change)?;
        this.keep(change, None);
        Ok(this)
    }

    /// Answers each of `asks`.
    ///
    /// # Errors
    /// Nothing can be issued at present: why. Nothing was written.
    pub fn answer(&mut self, asks: &[Ask]) -> Result<Vec<Result<Granted, Refused>>, Error> {
        match self.answer_all(asks) {
            // One that does not stand its test must not take the others with it.
            Err(Error::SelfCheck(_)) if asks.len() > 1 => {
                let mut answers = Vec::with_capacity(asks.len());
                for ask in asks {
                    answers.push(match self.answer_all(std::slice::from_ref(ask)) {
                        Ok(mut one) => one.pop().unwrap_or(Err(Code::Internal.into())),
                        Err(Error::SelfCheck(_)) => Err(Code::Internal.into()),
                        Err(why) => return Err(why),
                    });
                }
                Ok(answers)
            }
            answered => answered,
        }
    }

    /// Takes in the CRLs (PEM) that the host of `id` was given once, where the record has forgotten
    /// what they say. Out: a line for each thing that it knows again.
    ///
    /// # Errors
    /// They can't be taken in at present: why.
    pub fn remember(
        &mut self,
        id: &PeerId,
        crls: &[u8],
    ) -> Result<Result<Vec<String>, Refused>, Error> {
        let ders = pem::crls(crls).unwrap_or_default();
        if ders.is_empty() {
            let why = "the body holds no CRLs as PEM";
            return Ok(Err(Refused::new(Code::BadRequest, why)));
        }
        let from = PathBuf::from(id.to_string());
        let crls: Vec<_> = ders.into_iter().map(|der| (from.clone(), der)).collect();
        // What is known, or is of no CA of ours, takes no lock and looks into no directory.
        let inventory = Kept::read_on(&mut self.kept, &self.pki)?;
        if !self.pki.is_unknown(inventory, &crls) {
            return Ok(Ok(Vec::new()));
        }
        let known = self.pki.relearn(crls)?;
        let told = |adopted: Adopted| format!("{} {}", adopted.what, adopted.which);
        Ok(Ok(known.into_iter().map(told).collect()))
    }

    /// The keys that are in two hands; and of the serials `unknown` those that the record knows by
    /// now.
    ///
    /// # Errors
    /// The inventory can't be read.
    pub fn copied<'a>(
        &mut self,
        unknown: impl Iterator<Item = &'a String>,
    ) -> Result<(Vec<Copied>, Vec<String>), Error> {
        let inventory = Kept::read_on(&mut self.kept, &self.pki)?;
        let ledger = inventory.ledger();
        let is_known = |serial: &&String| {
            let revoked = |authority: &Authority| ledger.revocation(&authority.id, serial);
            ledger.leaf(serial).is_some()
                || ledger
                    .authorities()
                    .iter()
                    .any(|one| revoked(one).is_some())
        };
        let known = unknown.filter(is_known).cloned().collect();
        let copied = ledger.copied(self.pki.now());
        let copied = copied
            .into_iter()
            .map(|(renewed, heirs)| Copied {
                label: heirs.first().map(|heir| heir.label()).unwrap_or_default(),
                renewed: renewed.to_owned(),
                serials: heirs.iter().map(|heir| heir.serial.clone()).collect(),
            })
            .collect();
        Ok((copied, known))
    }

    fn answer_all(&mut self, asks: &[Ask]) -> Result<Vec<Result<Granted, Refused>>, Error> {
        let known = self.kept.as_ref().map(|kept| end_of(&kept.inventory));
        let keys = self
            .kept
            .as_mut()
            .map(|kept| std::mem::take(&mut kept.keys));
        let mut change = self.hold()?;
        // Others may have revoked a key meanwhile; what was asked here and refused has claimed
        // none.
        let mut keys = keys
            .filter(|_| known == Some(end_of(&change.inventory)))
            .unwrap_or_else(|| KeyRules::of(change.inventory.ledger(), self.pki.dir()));
        self.ready(&change)?;
        let mut batch = Batch::default();
        let plans: Vec<Plan> = asks
            .iter()
            .map(|ask| self.plan(&change, ask, &mut keys, &mut batch))
            .collect::<Result<_, Error>>()?;
        if !batch.minted.is_empty() {
            self.pki.self_check(&batch.minted, &change)?;
            change.append(batch.events())?;
        }
        let made = self.granted(&batch)?;
        self.keep(change, Some(keys));
        Ok(plans
            .into_iter()
            .map(|plan| match plan {
                Plan::Refused(why) => Err(why),
                Plan::Known(granted) => Ok(granted),
                Plan::New(at) => made.get(at).cloned().ok_or(Code::Internal.into()),
            })
            .collect())
    }

    /// Takes the lock. What was known is given up until the change has come to its end.
    fn hold(&mut self) -> Result<Change, Error> {
        let known = self.kept.take().map(|kept| kept.inventory);
        self.pki.hold_from(known)
    }

    fn keep(&mut self, change: Change, keys: Option<KeyRules>) {
        let inventory = change.inventory;
        let keys = keys.unwrap_or_else(|| KeyRules::of(inventory.ledger(), self.pki.dir()));
        self.kept = Some(Kept { inventory, keys });
    }

    /// Opens the key of the CA that signs at present, unless it is open.
    fn ready(&mut self, change: &Change) -> Result<(), Error> {
        let issuer = self.pki.signing_issuer(change)?;
        let open = self.signer.as_ref().map(|(open, _)| &open.fingerprint);
        if open != Some(&issuer.fingerprint) {
            self.signer = None;
            let signer = self.pki.signer(&issuer)?;
            self.signer = Some((issuer, signer));
        }
        Ok(())
    }

    fn plan(
        &self,
        change: &Change,
        ask: &Ask,
        keys: &mut KeyRules,
        batch: &mut Batch,
    ) -> Result<Plan, Error> {
        let planned = match ask {
            Ask::Join {
                role,
                name,
                secret_sha256,
                csr,
            } => {
                let hash = hex(secret_sha256);
                self.join(change, (*role, name, &hash), csr, (keys, batch))
            }
            Ask::Renew { id, serial, csr } => self.renew(change, (id, serial), csr, (keys, batch)),
        };
        match planned {
            Ok(plan) => Ok(plan),
            Err(Fault::Refused(refused)) => Ok(Plan::Refused(refused)),
            Err(Fault::Broken(why)) => Err(why),
        }
    }

    fn join(
        &self,
        change: &Change,
        (role, name, hash): (Role, &Name, &str),
        csr: &[u8],
        (keys, batch): (&mut KeyRules, &mut Batch),
    ) -> Result<Plan, Fault> {
        let ledger = change.inventory.ledger();
        let (join, state) = ledger.joins().of(hash).ok_or(Code::TokenUnknown)?;
        if (join.role, &join.name) != (role, name) {
            return Err(Refused::new(
                Code::TokenIdentity,
                format!(
                    "the join token {} is for another identity than {role}/{name}",
                    join.id
                ),
            )
            .into());
        }
        let id = PeerId::new(self.pki.trust_domain().clone(), role, name.clone());
        if *state == JoinState::Void {
            let why = format!(
                "the join token {} was made before {id} was revoked or forgotten, and counts no more; make a new one with `gapura-pki token`",
                join.id
            );
            return Err(Refused::new(Code::TokenUnknown, why).into());
        }
        let is_late = change.now > join.expires;
        let late = || {
            let why = format!(
                "the join token {} ended at {}; make a new one with `gapura-pki token`",
                join.id, join.expires
            );
            Refused::new(Code::TokenExpired, why)
        };
        if is_late && *state == JoinState::Open {
            return Err(late().into());
        }
        let spki = judged(csr, &id, &join.dns)?;
        // A host that never got its answer asks again, with the key that it has made.
        let same_key = |leaf: &Leaf| leaf.key == sha256_hex(&spki);
        if let JoinState::Used(serial, certificate) = state {
            let leaf = ledger.leaf(serial).filter(|leaf| same_key(leaf));
            return match leaf.filter(|leaf| ledger.is_live(leaf, change.now)) {
                Some(_) if is_late => Err(late().into()),
                Some(leaf) => Ok(Plan::Known(self.made_before(ledger, leaf, certificate)?)),
                None => Err(used(&join.id).into()),
            };
        }
        if let Some(at) = batch.used.get(&join.id) {
            let minted = batch.minted.get(*at);
            return match minted.filter(|minted| same_key(&minted.leaf)) {
                Some(_) => Ok(Plan::New(*at)),
                None => Err(used(&join.id).into()),
            };
        }
        let request = IssueRequest {
            ttl: Some(self.ttl),
            dns: join.dns.clone(),
            key: KeyWanted::Enrolled(spki),
            ..IssueRequest::new(role, name.clone())
        };
        let minted = self.mint(change, &request, Leaf::place_of_join(&join.id), keys)?;
        let at = batch.enter(minted, Some(join.id.clone()));
        Ok(Plan::New(at))
    }

    fn renew(
        &self,
        change: &Change,
        (id, serial): (&PeerId, &str),
        csr: &[u8],
        (keys, batch): (&mut KeyRules, &mut Batch),
    ) -> Result<Plan, Fault> {
        let ledger = change.inventory.ledger();
        let known = ledger.leaf(serial);
        let leaf = known.filter(|leaf| leaf.id(self.pki.trust_domain()) == *id);
        let leaf = leaf.ok_or_else(|| {
            let way = "make a new join token with `gapura-pki token`";
            Refused::new(
                Code::CertificateUnknown,
                format!("the record of this CA does not know the certificate of {id} with serial {serial}: it was restored from an older backup; {way}"),
            )
        })?;
        if ledger.revocation(&leaf.issuer, &leaf.serial).is_some() {
            let why =
                format!("the certificate of {id} with serial {serial} is revoked and never renews");
            return Err(Refused::new(Code::Revoked, why).into());
        }
        if ledger.is_forgotten(leaf) {
            let why = format!(
                "{id} was said to be gone for good and never renews; if it is back, make a join token with `gapura-pki token`"
            );
            return Err(Refused::new(Code::Forgotten, why).into());
        }
        if leaf.not_after <= change.now {
            let why = format!(
                "the certificate of {id} ended at {}; make a new join token with `gapura-pki token`",
                leaf.not_after
            );
            return Err(Refused::new(Code::Expired, why).into());
        }
        if !leaf.is_enrolled() {
            let why = format!(
                "the certificate of {id} was issued by hand, and is renewed by hand; for an agent, make a join token with `gapura-pki token`"
            );
            return Err(Refused::new(Code::NotEnrolled, why).into());
        }
        let spki = judged(csr, id, &leaf.dns)?;
        let request = IssueRequest {
            ttl: Some(self.ttl),
            dns: leaf.dns.clone(),
            key: KeyWanted::Enrolled(spki),
            ..IssueRequest::new(leaf.role, leaf.name.clone())
        };
        let mut minted = self.mint(change, &request, leaf.out.clone(), keys)?;
        minted.leaf.renews = Some(leaf.serial.clone());
        let at = batch.enter(minted, None);
        Ok(Plan::New(at))
    }

    fn mint(
        &self,
        change: &Change,
        request: &IssueRequest,
        place: PathBuf,
        keys: &mut KeyRules,
    ) -> Result<Minted, Fault> {
        let closed = || Error::Failed("the issuing CA's key is not open".to_owned());
        let (authority, signer) = self.signer.as_ref().ok_or_else(closed)?;
        if let KeyWanted::Enrolled(spki) = &request.key {
            let domain = self.pki.trust_domain().clone();
            let id = PeerId::new(domain, request.role, request.name.clone());
            let claimed = keys.claim(spki, &id);
            claimed.map_err(|why| Refused::new(Code::KeyTaken, why.to_string()))?;
        }
        let minted = self
            .pki
            .mint(change.now, (authority, signer), request, place, keys);
        minted.map_err(|why| match why {
            // Names that the settings allow no more: of this one alone.
            Error::Refused(why) => Refused::new(Code::Unavailable, why).into(),
            why => Fault::Broken(why),
        })
    }

    fn granted(&self, batch: &Batch) -> Result<Vec<Granted>, Error> {
        let issuer = |minted: &Minted| match &self.signer {
            Some((open, signer)) if open.id == minted.leaf.issuer => {
                Ok(signer.certificate().clone())
            }
            _ => Err(Error::Failed("the issuing CA's key is not open".to_owned())),
        };
        let granted = batch.minted.iter().map(|minted| {
            Ok(Granted {
                id: minted.id.clone(),
                serial: minted.leaf.serial.clone(),
                not_after: minted.leaf.not_after.0,
                chain: vec![minted.certificate.clone(), issuer(minted)?],
                again: false,
            })
        });
        granted.collect()
    }

    fn made_before(
        &self,
        ledger: &Ledger,
        leaf: &Leaf,
        certificate: &str,
    ) -> Result<Granted, Error> {
        let damaged = || Error::Failed("the inventory holds no certificate".to_owned());
        let der = STANDARD.decode(certificate).map_err(|_| damaged())?;
        let issuer = ledger.authority(&leaf.issuer).ok_or_else(damaged)?;
        Ok(Granted {
            id: leaf.id(self.pki.trust_domain()),
            serial: leaf.serial.clone(),
            not_after: leaf.not_after.0,
            chain: vec![der.into(), ca::certificate(self.pki.dir(), issuer)?],
            again: true,
        })
    }
}

impl Kept {
    /// Takes in what others have written since.
    fn read_on<'k>(this: &'k mut Option<Self>, pki: &Pki) -> Result<&'k Inventory, Error> {
        let kept = this.take();
        let (known, keys) =
            kept.map_or((None, None), |kept| (Some(kept.inventory), Some(kept.keys)));
        let end = known.as_ref().map(end_of);
        let inventory = pki.inventory_after(known)?;
        let keys = keys.filter(|_| end == Some(end_of(&inventory)));
        let keys = keys.unwrap_or_else(|| KeyRules::of(inventory.ledger(), pki.dir()));
        Ok(&this.insert(Self { inventory, keys }).inventory)
    }
}

impl Batch {
    fn enter(&mut self, minted: Minted, join: Option<String>) -> usize {
        let at = self.minted.len();
        if let Some(id) = &join {
            self.used.insert(id.clone(), at);
        }
        self.minted.push(minted);
        self.joins.push(join);
        at
    }

    /// Its lines: each leaf, and right behind it the token that it was issued for.
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::with_capacity(self.minted.len());
        for (minted, join) in self.minted.iter().zip(&self.joins) {
            events.push(Event::Issued(minted.leaf.clone()));
            events.extend(join.as_ref().map(|id| Event::JoinUsed {
                id: id.clone(),
                serial: minted.leaf.serial.clone(),
                certificate: STANDARD.encode(&minted.certificate),
            }));
        }
        events
    }
}

/// Why a request came to nothing.
enum Fault {
    /// It is refused.
    Refused(Refused),
    /// Nothing can be issued.
    Broken(Error),
}

impl From<Refused> for Fault {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<Code> for Fault {
    fn from(code: Code) -> Self {
        Self::Refused(code.into())
    }
}

impl From<Error> for Fault {
    fn from(why: Error) -> Self {
        Self::Broken(why)
    }
}

/// What tells a reading of the inventory from a later one.
fn end_of(inventory: &Inventory) -> (u64, String) {
    (inventory.lines(), inventory.last_hash().to_owned())
}

fn used(id: &str) -> Refused {
    let why = format!(
        "the join token {id} has been used; each is good for one host. Make a new one with `gapura-pki token`, and find out who used this one if it was not you: `gapura-pki list`"
    );
    Refused::new(Code::TokenUsed, why)
}

/// The key of a request for `id`.
fn judged(csr: &[u8], id: &PeerId, dns: &[String]) -> Result<Vec<u8>, Refused> {
    csr::judge(csr, id, dns).map_err(|unfit| {
        let (code, why) = match unfit {
            Unfit::OtherName(why) => (Code::CsrIdentity, why),
            Unfit::Form(why) => (Code::CsrInvalid, why),
        };
        Refused::new(code, format!("the certificate request is refused: {why}"))
    })
}

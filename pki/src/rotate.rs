//! Replacing an issuing CA or a root without anybody noticing: prepare, activate, retire.
//!
//! ```text
//! prepare    the new CA is made; its CRL (and a new root) goes to every mesh directory; it signs nothing
//! activate   it signs from now on; the old one drains: still trusted, signs no more; leaves move over as they are renewed
//! retire     the old one is done with
//! cancel     a prepared one is dropped again, unused
//! ```
//! In: a step, or none for the next one. Out: what was done, or a refusal that names who still depends on the old state.
//! Invariant: no program meets a certificate under a CA whose root or CRL it has not had time to read, and none loses a CA that its
//! own or a peer's certificate leads to. An emergency breaks that on purpose and moves everybody at once.

use std::collections::HashSet;
use std::time::Duration;

use crate::ca::Signer;
use crate::error::Error;
use crate::issue::Issued;
use crate::keys::sha256_hex;
use crate::ledger::{
    Authority, AuthorityKind, AuthorityState, Event, Leaf, Ledger, Reason, Revoked,
};
use crate::mesh_dir;
use crate::moment::Timestamp;
use crate::pki::{Change, Pki};
use crate::publish::{Outcome, Republished};
use crate::renew::{self, IssuedOrNot, RenewRequest};

/// Gateways and sidecars take up a change within 2 s; this is that, and as much again.
pub const SETTLE: Duration = Duration::from_secs(4);

/// One step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Make the new CA and tell everyone of it.
    Prepare,
    /// Let it sign.
    Activate,
    /// Be done with the old one.
    Retire,
    /// Drop what was prepared.
    Cancel,
}

/// What is to be rotated, and how.
#[derive(Clone, Debug)]
pub struct RotateRequest {
    /// Issuing CA or root.
    pub kind: AuthorityKind,
    /// Which step; `None`: the next one.
    pub step: Option<Step>,
    /// All steps at once, whoever is cut off for a moment; works when everything has ended.
    pub emergency: bool,
    /// With an emergency: the old CA's key is in other hands, so nothing under it may be let through any more.
    pub taint: bool,
    /// Mesh directories that can't be seen from here have been seen to by hand.
    pub distributed: bool,
    /// How long programs get to read what was published before the next thing relies on it.
    pub settle: Duration,
}

/// What a rotation did.
#[derive(Clone, Debug, Default)]
pub struct Rotated {
    /// The steps, in words.
    pub steps: Vec<String>,
    /// Leaves that were issued anew (in an emergency).
    pub issued: Vec<Issued>,
    /// Leaves that should have been and could not be.
    pub failed: Vec<(String, String)>,
    /// The mesh directories that got new trust files.
    pub republished: Vec<Republished>,
    /// What to run next.
    pub next: Option<String>,
}

impl RotateRequest {
    /// The next safe step for `kind`.
    #[must_use]
    pub fn next(kind: AuthorityKind) -> Self {
        Self {
            kind,
            step: None,
            emergency: false,
            taint: false,
            distributed: false,
            settle: SETTLE,
        }
    }

    /// The same with a step named.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.step = Some(step);
        self
    }
}

impl Step {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Activate => "activate",
            Self::Retire => "retire",
            Self::Cancel => "cancel",
        }
    }
}

impl std::str::FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "prepare" => Ok(Self::Prepare),
            "activate" => Ok(Self::Activate),
            "retire" => Ok(Self::Retire),
            "cancel" => Ok(Self::Cancel),
            _ => Err(format!(
                "`{text}` is not a step; one of: prepare, activate, retire, cancel"
            )),
        }
    }
}

impl Pki {
    /// Does one step of a rotation, or all of them in an emergency.
    ///
    /// # Errors
    /// A gate: someone still depends on the state before, and the sentence says who and what to do.
    pub fn rotate(&self, request: &RotateRequest) -> Result<Rotated, Error> {
        let mut held = self.hold_to_publish(&[])?;
        if request.emergency {
            return self.emergency(&mut held, request);
        }
        let next = next_step(held.inventory.ledger(), request.kind);
        let step = request.step.unwrap_or(next);
        if step == Step::Cancel {
            return self.cancel(&mut held, request.kind);
        }
        if step != next {
            let before = matches!(
                (step, next),
                (Step::Prepare, Step::Activate)
                    | (Step::Activate, Step::Retire)
                    | (Step::Retire, Step::Prepare)
            );
            if let Some(done) = self.finish(&held).map(|done| done.filter(|_| before))? {
                return Ok(done);
            }
            let kind = request.kind.as_str();
            return Err(Error::Refused(format!(
                "the next step for the {kind} is {}, not {}; run `gapura-pki ca rotate {kind} --step {}`",
                next.as_str(),
                step.as_str(),
                next.as_str()
            )));
        }
        match step {
            Step::Prepare => self.prepare(&mut held, request.kind),
            Step::Activate => self.activate(&mut held, request),
            Step::Retire => self.retire(&mut held, request),
            Step::Cancel => self.cancel(&mut held, request.kind),
        }
    }

    /// Brings to its end what a step that died had left; `None` where nothing was.
    fn finish(&self, held: &Change) -> Result<Option<Rotated>, Error> {
        let republished = self.republish_behind(held, &HashSet::new())?;
        self.forget_keys(held)?;
        let any = republished
            .iter()
            .any(|done| matches!(done.outcome, Outcome::Published(_)));
        Ok(any.then(|| Rotated {
            steps: vec!["what a run that died had begun is brought to its end".to_owned()],
            republished,
            ..Rotated::default()
        }))
    }

    /// Drops what was prepared: it never signed, so nobody depends on it. Its lines in the inventory stay, its key goes.
    fn cancel(&self, held: &mut Change, kind: AuthorityKind) -> Result<Rotated, Error> {
        let waiting: Vec<String> = prepared(held.inventory.ledger(), kind)
            .into_iter()
            .map(|authority| authority.id.clone())
            .collect();
        if waiting.is_empty() {
            if let Some(done) = self.finish(held)? {
                return Ok(done);
            }
            let kind = kind.as_str();
            return Err(Error::Refused(format!(
                "no {kind} is prepared, so there is nothing to cancel; what is active is replaced with `gapura-pki ca rotate {kind}`"
            )));
        }
        held.append(
            waiting
                .iter()
                .map(|id| Event::AuthorityState {
                    id: id.clone(),
                    state: AuthorityState::Retired,
                })
                .collect(),
        )?;
        let republished = self.republish(held)?;
        self.forget_keys(held)?;
        let mut steps: Vec<String> = waiting
            .iter()
            .map(|id| format!("{id} is dropped, unused"))
            .collect();
        let away = |id: &&String| {
            self.offline_folder()
                .is_some_and(|folder| folder.join(id).join("key.pem").exists())
        };
        steps.extend(
            waiting
                .iter()
                .filter(away)
                .map(|id| format!("the key of {id} in the offline folder is of no use any more")),
        );
        Ok(Rotated {
            steps,
            republished,
            ..Rotated::default()
        })
    }

    /// Makes the new CA (a root brings an issuer of its own) and publishes its CRL.
    pub(crate) fn prepare(&self, held: &mut Change, kind: AuthorityKind) -> Result<Rotated, Error> {
        let made = self.make(held, kind, AuthorityState::Prepared)?;
        let republished = self.republish(held)?;
        Ok(Rotated {
            steps: vec![format!(
                "prepared {}, and published its CRL",
                made.join(" with ")
            )],
            republished,
            next: Some(format!(
                "gapura-pki ca rotate {} --step activate",
                kind.as_str()
            )),
            ..Rotated::default()
        })
    }

    /// Makes a CA of `kind`, and an issuer under a new root; signs their CRLs. Says what was made.
    fn make(
        &self,
        held: &mut Change,
        kind: AuthorityKind,
        state: AuthorityState,
    ) -> Result<Vec<String>, Error> {
        self.refuse_lines_of_the_future(held)?;
        let now = held.now;
        let ledger = held.inventory.ledger();
        self.prove_protection(ledger, kind)?;
        let (events, signers) = match kind {
            AuthorityKind::Root => {
                let before = ledger.in_state(AuthorityKind::Root, AuthorityState::Active);
                if before.is_some_and(|root| self.is_offline(root)) && !self.has_offline_folder() {
                    let way = "say where the new one's goes with --offline-root DIR";
                    return Err(Error::Refused(format!(
                        "the present root's key is kept offline; {way}"
                    )));
                }
                let generation = 1 + ledger
                    .authorities()
                    .iter()
                    .filter(|authority| authority.kind == AuthorityKind::Root)
                    .count();
                let (root, root_signer) =
                    self.make_root(&format!("root-g{generation}"), state, now)?;
                let id = format!("iss-g{generation}-001");
                let (issuer, signer) = self.make_issuer(&id, state, (&root, &root_signer), now)?;
                (
                    vec![Event::Authority(root), Event::Authority(issuer)],
                    vec![root_signer, signer],
                )
            }
            AuthorityKind::Issuer => {
                let root = ledger.in_state(AuthorityKind::Root, AuthorityState::Active);
                let none = || {
                    Error::Refused(
                        "no root is active; run `gapura-pki ca rotate root --emergency`".to_owned(),
                    )
                };
                let root = root.ok_or_else(none)?.clone();
                if now >= root.not_after {
                    let mend = "run `gapura-pki ca rotate root --emergency`";
                    return Err(Error::Refused(format!(
                        "{} ended at {}; {mend}",
                        root.id, root.not_after
                    )));
                }
                let under = ledger
                    .authorities()
                    .iter()
                    .filter(|authority| authority.parent.as_deref() == Some(&root.id))
                    .count();
                let generation = root.id.strip_prefix("root-").unwrap_or("g1");
                let root_signer = self.signer(&root)?;
                let id = format!("iss-{generation}-{:03}", under + 1);
                let (issuer, signer) = self.make_issuer(&id, state, (&root, &root_signer), now)?;
                (vec![Event::Authority(issuer)], vec![signer])
            }
        };
        held.append(events)?;
        for signer in &signers {
            self.sign_crl(held, signer)?;
        }
        Ok(signers
            .iter()
            .map(|signer| signer.id().to_owned())
            .collect())
    }

    /// Lets the prepared CA sign.
    pub(crate) fn activate(
        &self,
        held: &mut Change,
        request: &RotateRequest,
    ) -> Result<Rotated, Error> {
        let ledger = held.inventory.ledger();
        let prepared: Vec<Authority> = prepared(ledger, request.kind)
            .into_iter()
            .cloned()
            .collect();
        let (behind, unseen) = self.adoption(held, &prepared)?;
        if !behind.is_empty() {
            let why = format!(
                "these mesh directories do not hold the new CRL or root yet: {}",
                behind.join(", ")
            );
            return Err(Error::Refused(format!(
                "{why}; run `gapura-pki crl refresh`, then repeat"
            )));
        }
        if !unseen.is_empty() && !request.distributed {
            let why = format!(
                "these mesh directories can't be seen from here: {}",
                unseen.join(", ")
            );
            let way = "bring them what `gapura-pki bundle export --out DIR` writes, then repeat with --distributed";
            return Err(Error::Refused(format!("{why}; {way}")));
        }
        self.settle(&prepared, held, request.settle)?;
        let steps = self.switch(held, &prepared, AuthorityState::Draining)?;
        // A changed order of the intermediates in cert.pem; no program waits for it.
        let republished = self.republish(held)?;
        let next = Some(format!(
            "gapura-pki renew --all; then gapura-pki ca rotate {} --step retire",
            request.kind.as_str()
        ));
        Ok(Rotated {
            steps,
            republished,
            next,
            ..Rotated::default()
        })
    }

    /// Makes the `prepared` authorities active and puts whatever was active before into `old_state`.
    pub(crate) fn switch(
        &self,
        held: &mut Change,
        prepared: &[Authority],
        old_state: AuthorityState,
    ) -> Result<Vec<String>, Error> {
        self.switch_and(held, prepared, old_state, Vec::new())
    }

    /// The same, with what has to be true in the same moment: either all of it is in the inventory or nothing.
    fn switch_and(
        &self,
        held: &mut Change,
        prepared: &[Authority],
        old_state: AuthorityState,
        mut events: Vec<Event>,
    ) -> Result<Vec<String>, Error> {
        let ledger = held.inventory.ledger();
        let mut steps = Vec::new();
        let with_root = prepared
            .iter()
            .any(|authority| authority.kind == AuthorityKind::Root);
        for old in ledger.authorities() {
            let replaced = old.state == AuthorityState::Active
                && (with_root || old.kind == AuthorityKind::Issuer);
            if replaced {
                events.push(Event::AuthorityState {
                    id: old.id.clone(),
                    state: old_state,
                });
                steps.push(format!("{} is {}", old.id, old_state.as_str()));
            } else if with_root
                && old.state == AuthorityState::Prepared
                && !prepared.iter().any(|new| new.id == old.id)
            {
                events.push(Event::AuthorityState {
                    id: old.id.clone(),
                    state: AuthorityState::Retired,
                });
                steps.push(format!("{} is retired unused", old.id));
            }
        }
        for new in prepared {
            events.push(Event::AuthorityState {
                id: new.id.clone(),
                state: AuthorityState::Active,
            });
            steps.push(format!("{} is active", new.id));
        }
        held.append(events)?;
        Ok(steps)
    }

    /// Is done with what drains, once nobody depends on it.
    fn retire(&self, held: &mut Change, request: &RotateRequest) -> Result<Rotated, Error> {
        let ledger = held.inventory.ledger();
        let draining = draining(ledger, request.kind);
        let ids: Vec<String> = draining
            .iter()
            .map(|authority| authority.id.clone())
            .collect();
        let dependents: Vec<&Leaf> = dependents(ledger, &ids, held.now);
        if !dependents.is_empty() {
            let label = |leaf: &&Leaf| {
                format!(
                    "{} (until {}, {})",
                    leaf.label(),
                    leaf.not_after,
                    leaf.out.display()
                )
            };
            let list: Vec<String> = dependents.iter().map(label).collect();
            return Err(Error::Refused(format!(
                "{} still needed by {} leaves: {}; run `gapura-pki renew --all --due`, revoke what is gone, then repeat",
                if ids.len() == 1 {
                    format!("{} is", ids.join(", "))
                } else {
                    format!("{} are", ids.join(", "))
                },
                list.len(),
                list.join(", ")
            )));
        }
        let moved: Vec<Timestamp> = ledger
            .in_use()
            .iter()
            .map(|leaf| leaf.issued_at())
            .collect();
        if let Some(last) = moved.into_iter().max() {
            wait(last, held.now, request.settle);
        }
        if request.kind == AuthorityKind::Root {
            // Whoever still has a connection from before the leaves moved takes up a new set now and opens new ones with it; only then
            // does the old root go, and nothing that is under way hangs on it.
            self.republish(held)?;
            std::thread::sleep(request.settle);
        }
        held.append(
            ids.iter()
                .map(|id| Event::AuthorityState {
                    id: id.clone(),
                    state: AuthorityState::Retired,
                })
                .collect(),
        )?;
        let republished = self.republish(held)?;
        Ok(Rotated {
            steps: ids.iter().map(|id| format!("{id} is retired")).collect(),
            republished,
            ..Rotated::default()
        })
    }

    /// All steps at once.
    fn emergency(&self, held: &mut Change, request: &RotateRequest) -> Result<Rotated, Error> {
        let mut done = Rotated::default();
        // A root that has ended takes its issuers with it, so replacing the issuer alone would mend nothing; `make` says so.
        let waiting = prepared(held.inventory.ledger(), request.kind)
            .into_iter()
            .cloned()
            .collect::<Vec<_>>();
        let fresh = if waiting.is_empty() || request.taint {
            let made = self.make(held, request.kind, AuthorityState::Prepared)?;
            let ledger = held.inventory.ledger();
            made.iter()
                .filter_map(|id| ledger.authority(id))
                .cloned()
                .collect()
        } else {
            waiting
        };
        let active: Vec<Authority> = replaced_by(held.inventory.ledger(), request.kind)
            .into_iter()
            .cloned()
            .collect();
        let old_state = if request.taint {
            AuthorityState::Tainted
        } else {
            AuthorityState::Draining
        };
        // The key that is needed to give the old issuer up is opened before anything changes.
        let root = self.root_of_the_tainted(held.inventory.ledger(), request)?;
        let given_up = root
            .as_ref()
            .map_or_else(Vec::new, |root| revocations(&active, root, held.now));
        done.steps = self.switch_and(held, &fresh, old_state, given_up)?;
        if let Some(root) = root {
            self.sign_crl(held, &root)?;
            done.steps.push(format!(
                "{} lists {} as revoked",
                root.id(),
                active
                    .iter()
                    .map(|old| old.id.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
        }
        // Everyone learns of the new CA before the first leaf under it, if only by a moment.
        self.republish(held)?;
        let (issuer, signer) = self.active_issuer(held)?;
        let (issued, failed) = self.reissue(held, (&issuer, &signer))?;
        let renewed: HashSet<_> = issued
            .iter()
            .map(|issued| issued.leaf.out.clone())
            .collect();
        done.steps
            .push(format!("{} leaves issued anew", issued.len()));
        done.republished = self.republish_but(held, &renewed)?;
        (done.issued, done.failed) = (issued, failed);
        Ok(done)
    }

    /// The root that has to list a tainted issuer; a tainted root is dropped from `ca.pem` instead, which takes no signature.
    fn root_of_the_tainted(
        &self,
        ledger: &Ledger,
        request: &RotateRequest,
    ) -> Result<Option<Signer>, Error> {
        if !request.taint || request.kind == AuthorityKind::Root {
            return Ok(None);
        }
        let root = ledger.in_state(AuthorityKind::Root, AuthorityState::Active);
        root.map(|root| self.signer(root)).transpose()
    }

    /// Issues every leaf in use once more, as far as its directory can be seen; one that can't be written stops no other.
    fn reissue(
        &self,
        held: &mut Change,
        issuer: (&Authority, &Signer),
    ) -> Result<IssuedOrNot, Error> {
        let ledger = held.inventory.ledger();
        let wanted: Vec<_> = ledger
            .in_use()
            .into_iter()
            .filter(|leaf| {
                ledger.revocation(&leaf.issuer, &leaf.serial).is_none()
                    && leaf.issuer != issuer.0.id
                    && renew::is_there(&held.standings, leaf)
            })
            .map(|leaf| renew::again(leaf, false))
            .collect();
        self.issue_each(held, issuer, &wanted, &RenewRequest::default())
    }

    /// Which mesh directories of live leaves lack a prepared CA's CRL or root, and which can't be seen.
    fn adoption(
        &self,
        held: &Change,
        prepared: &[Authority],
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        let ledger = held.inventory.ledger();
        let crls = prepared
            .iter()
            .map(|authority| self.stored_crl(authority))
            .collect::<Result<Vec<_>, _>>()?;
        let roots: Vec<&Authority> = prepared
            .iter()
            .filter(|authority| authority.kind == AuthorityKind::Root)
            .collect();
        let (mut behind, mut unseen) = (Vec::new(), Vec::new());
        for leaf in ledger
            .by_directory()
            .into_iter()
            .filter(|leaf| ledger.is_live(leaf, held.now))
        {
            let place = format!("{} ({})", leaf.out.display(), leaf.label());
            match mesh_dir::current(&leaf.out) {
                Ok(Some(current)) if renew::is_there(&held.standings, leaf) => {
                    let has_crls = crls.iter().all(|crl| current.crls.contains(crl));
                    let has_root = |root: &&Authority| {
                        current
                            .roots
                            .iter()
                            .any(|known| sha256_hex(known) == root.fingerprint)
                    };
                    if !has_crls || !roots.iter().all(has_root) {
                        behind.push(place);
                    }
                }
                _ => unseen.push(place),
            }
        }
        Ok((behind, unseen))
    }

    /// Waits until everyone has had `settle` to read the CRLs of `prepared`.
    fn settle(&self, prepared: &[Authority], held: &Change, settle: Duration) -> Result<(), Error> {
        let ledger = held.inventory.ledger();
        let made = prepared
            .iter()
            .filter_map(|authority| ledger.crl(&authority.id))
            .map(|crl| crl.made_at)
            .max();
        let none =
            || Error::Failed("the prepared CA has no CRL; run `gapura-pki crl refresh`".to_owned());
        wait(made.ok_or_else(none)?, held.now, settle);
        Ok(())
    }
}

/// That `root` revokes those of `issuers` that are its own.
fn revocations(issuers: &[Authority], root: &Signer, now: Timestamp) -> Vec<Event> {
    issuers
        .iter()
        .filter(|issuer| issuer.parent.as_deref() == Some(root.id()))
        .map(|issuer| {
            Event::Revoked(Revoked {
                issuer: root.id().to_owned(),
                serial: issuer.serial.clone(),
                revoked_at: now,
                reason: Reason::CaCompromise,
                not_after: issuer.not_after,
                key: None,
            })
        })
        .collect()
}

/// The step that comes next.
#[must_use]
pub fn next_step(ledger: &Ledger, kind: AuthorityKind) -> Step {
    if !prepared(ledger, kind).is_empty() {
        Step::Activate
    } else if !draining(ledger, kind).is_empty() {
        Step::Retire
    } else {
        Step::Prepare
    }
}

/// The leaves in use and alive that lead to one of the authorities `ids`.
#[must_use]
pub fn dependents<'a>(ledger: &'a Ledger, ids: &[String], now: Timestamp) -> Vec<&'a Leaf> {
    ledger
        .in_use()
        .into_iter()
        .filter(|leaf| ids.contains(&leaf.issuer) && ledger.is_live(leaf, now))
        .collect()
}

/// The prepared authorities that one activation of `kind` lets in: a root with its issuer, or an issuer of the active root.
pub(crate) fn prepared(ledger: &Ledger, kind: AuthorityKind) -> Vec<&Authority> {
    let is_root_ready = |id: Option<&str>| {
        id.and_then(|id| ledger.authority(id))
            .is_some_and(|root| root.state == AuthorityState::Active)
    };
    let all = ledger
        .authorities()
        .iter()
        .filter(|authority| authority.state == AuthorityState::Prepared);
    match kind {
        AuthorityKind::Issuer => {
            let under_active = |authority: &&Authority| {
                authority.kind == AuthorityKind::Issuer
                    && is_root_ready(authority.parent.as_deref())
            };
            all.filter(under_active).collect()
        }
        AuthorityKind::Root => {
            let found: Vec<&Authority> = all
                .filter(|authority| !is_root_ready(authority.parent.as_deref()))
                .collect();
            if found
                .iter()
                .any(|authority| authority.kind == AuthorityKind::Root)
            {
                found
            } else {
                Vec::new()
            }
        }
    }
}

/// What one retirement of `kind` is done with: a draining root with all its issuers, or the draining issuers of roots that stay.
fn draining(ledger: &Ledger, kind: AuthorityKind) -> Vec<&Authority> {
    let is = |authority: &Authority, state| authority.state == state;
    let root_drains = |id: &str| {
        ledger
            .authority(id)
            .is_some_and(|root| is(root, AuthorityState::Draining))
    };
    ledger
        .authorities()
        .iter()
        .filter(|authority| match (kind, authority.kind) {
            (AuthorityKind::Root, AuthorityKind::Root) => is(authority, AuthorityState::Draining),
            (AuthorityKind::Root, AuthorityKind::Issuer) => {
                let open = !matches!(
                    authority.state,
                    AuthorityState::Retired | AuthorityState::Tainted
                );
                open && authority.parent.as_deref().is_some_and(root_drains)
            }
            (AuthorityKind::Issuer, AuthorityKind::Issuer) => {
                is(authority, AuthorityState::Draining)
                    && !authority.parent.as_deref().is_some_and(root_drains)
            }
            (AuthorityKind::Issuer, AuthorityKind::Root) => false,
        })
        .collect()
}

/// What an emergency for `kind` replaces.
fn replaced_by(ledger: &Ledger, kind: AuthorityKind) -> Vec<&Authority> {
    let wanted = |authority: &&Authority| {
        kind == AuthorityKind::Root || authority.kind == AuthorityKind::Issuer
    };
    ledger
        .authorities()
        .iter()
        .filter(|authority| authority.state == AuthorityState::Active)
        .filter(wanted)
        .collect()
}

/// Sleeps until `settle` after `since`, by the wall clock, but never longer than `settle`.
fn wait(since: Timestamp, now: Timestamp, settle: Duration) {
    let passed = Duration::from_secs(now.since(since));
    std::thread::sleep(settle.saturating_sub(passed));
}

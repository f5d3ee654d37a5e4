//! Replacing an issuing CA or a root without anybody noticing: prepare, activate, retire.
//!
//! ```text
//! prepare    the new CA is made; its CRL (and a new root) goes to every mesh directory; it signs nothing
//! activate   it signs from now on; the old one drains: still trusted, signs no more; leaves move over as they are renewed
//! retire     the old one is done with
//! cancel     a prepared one is dropped again, unused
//! ```
//! In: a step, or none for the next one. Out: what was done, or a refusal that names who still
//! depends on the old state.
//! Invariant: no program meets a certificate under a CA whose root or CRL it has not had time to
//! read, and none loses a CA that its own or a peer's certificate leads to. An emergency breaks
//! that on purpose and moves everybody at once.

mod emergency;
mod request;
mod stage;

use std::collections::HashSet;
use std::time::Duration;

use crate::enrol;
use crate::error::Error;
use crate::keys::sha256_hex;
use crate::ledger::{Authority, AuthorityKind, AuthorityState, Event, Leaf, Ledger};
use crate::mesh_dir;
use crate::pki::{Change, Pki};
use crate::publish::Outcome;
use crate::renew;
use crate::timestamp::Timestamp;
use stage::draining;

pub use request::{RotateRequest, Rotated, SETTLE, Step};
pub use stage::next_step;
pub(crate) use stage::{dependents, prepared};

impl Pki {
    /// Does one step of a rotation, or all of them in an emergency.
    ///
    /// # Errors
    /// A gate: someone still depends on the state before, and the sentence says who and what to do.
    pub fn rotate(&self, request: &RotateRequest) -> Result<Rotated, Error> {
        let mut change = self.hold_to_publish(&[])?;
        if request.emergency {
            return self.emergency(&mut change, request);
        }
        let next = next_step(change.inventory.ledger(), request.kind);
        let step = request.step.unwrap_or(next);
        if step == Step::Cancel {
            return self.cancel(&mut change, request.kind);
        }
        if step != next {
            let before = matches!(
                (step, next),
                (Step::Prepare, Step::Activate)
                    | (Step::Activate, Step::Retire)
                    | (Step::Retire, Step::Prepare)
            );
            if let Some(done) = self.finish(&change).map(|done| done.filter(|_| before))? {
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
            Step::Prepare => self.prepare(&mut change, request.kind),
            Step::Activate => self.activate(&mut change, request),
            Step::Retire => self.retire(&mut change, request),
            Step::Cancel => self.cancel(&mut change, request.kind),
        }
    }

    /// Brings to its end what a step that died had left; `None` where nothing was.
    fn finish(&self, change: &Change) -> Result<Option<Rotated>, Error> {
        let republished = self.republish_behind(change, &HashSet::new())?;
        self.forget_keys(change)?;
        let any = republished
            .iter()
            .any(|done| matches!(done.outcome, Outcome::Published(_)));
        Ok(any.then(|| Rotated {
            steps: vec!["what a run that died had begun is brought to its end".to_owned()],
            republished,
            ..Rotated::default()
        }))
    }

    /// Drops what was prepared: it never signed, so nobody depends on it. Its lines in the
    /// inventory stay, its key goes.
    fn cancel(&self, change: &mut Change, kind: AuthorityKind) -> Result<Rotated, Error> {
        let waiting: Vec<String> = prepared(change.inventory.ledger(), kind)
            .into_iter()
            .map(|authority| authority.id.clone())
            .collect();
        if waiting.is_empty() {
            if let Some(done) = self.finish(change)? {
                return Ok(done);
            }
            let kind = kind.as_str();
            return Err(Error::Refused(format!(
                "no {kind} is prepared, so there is nothing to cancel; what is active is replaced with `gapura-pki ca rotate {kind}`"
            )));
        }
        change.append(
            waiting
                .iter()
                .map(|id| Event::AuthorityState {
                    id: id.clone(),
                    state: AuthorityState::Retired,
                })
                .collect(),
        )?;
        let republished = self.republish(change)?;
        self.forget_keys(change)?;
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
    pub(crate) fn prepare(
        &self,
        change: &mut Change,
        kind: AuthorityKind,
    ) -> Result<Rotated, Error> {
        let made = self.make(change, kind, AuthorityState::Prepared)?;
        let republished = self.republish(change)?;
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
        change: &mut Change,
        kind: AuthorityKind,
        state: AuthorityState,
    ) -> Result<Vec<String>, Error> {
        self.refuse_lines_of_the_future(change)?;
        let now = change.now;
        let ledger = change.inventory.ledger();
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
        change.append(events)?;
        for signer in &signers {
            self.sign_crl(change, signer)?;
        }
        Ok(signers
            .iter()
            .map(|signer| signer.id().to_owned())
            .collect())
    }

    /// Lets the prepared CA sign.
    pub(crate) fn activate(
        &self,
        change: &mut Change,
        request: &RotateRequest,
    ) -> Result<Rotated, Error> {
        let ledger = change.inventory.ledger();
        let prepared: Vec<Authority> = prepared(ledger, request.kind)
            .into_iter()
            .cloned()
            .collect();
        let (behind, unseen) = self.adoption(change, &prepared)?;
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
        self.settle(&prepared, change, request.settle)?;
        let steps = self.switch(change, &prepared, AuthorityState::Draining)?;
        // A changed order of the intermediates in cert.pem; no program waits for it.
        let republished = self.republish(change)?;
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

    /// Makes the `prepared` authorities active and puts whatever was active before into
    /// `old_state`.
    pub(crate) fn switch(
        &self,
        change: &mut Change,
        prepared: &[Authority],
        old_state: AuthorityState,
    ) -> Result<Vec<String>, Error> {
        self.switch_and(change, prepared, old_state, Vec::new())
    }

    /// The same, with what has to be true in the same moment: either all of it is in the inventory
    /// or nothing.
    fn switch_and(
        &self,
        change: &mut Change,
        prepared: &[Authority],
        old_state: AuthorityState,
        mut events: Vec<Event>,
    ) -> Result<Vec<String>, Error> {
        let ledger = change.inventory.ledger();
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
        change.append(events)?;
        Ok(steps)
    }

    /// Is done with what drains, once nobody depends on it.
    fn retire(&self, change: &mut Change, request: &RotateRequest) -> Result<Rotated, Error> {
        let ledger = change.inventory.ledger();
        let draining = draining(ledger, request.kind);
        let ids: Vec<String> = draining
            .iter()
            .map(|authority| authority.id.clone())
            .collect();
        let dependents: Vec<&Leaf> = dependents(ledger, &ids, change.now);
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
            wait(last, change.now, request.settle);
        }
        if request.kind == AuthorityKind::Root {
            // Whoever still has a connection from before the leaves moved takes up a new set now
            // and opens new ones with it; only then does the old root go, and nothing that is under
            // way hangs on it.
            self.republish(change)?;
            std::thread::sleep(request.settle);
        }
        change.append(
            ids.iter()
                .map(|id| Event::AuthorityState {
                    id: id.clone(),
                    state: AuthorityState::Retired,
                })
                .collect(),
        )?;
        let republished = self.republish(change)?;
        Ok(Rotated {
            steps: ids.iter().map(|id| format!("{id} is retired")).collect(),
            republished,
            ..Rotated::default()
        })
    }

    /// Which mesh directories of live leaves lack a prepared CA's CRL or root, and which can't be
    /// seen.
    fn adoption(
        &self,
        change: &Change,
        prepared: &[Authority],
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        let ledger = change.inventory.ledger();
        let crls = prepared
            .iter()
            .map(|authority| self.stored_crl(authority))
            .collect::<Result<Vec<_>, _>>()?;
        let roots: Vec<&Authority> = prepared
            .iter()
            .filter(|authority| authority.kind == AuthorityKind::Root)
            .collect();
        let (mut behind, mut unseen) = self.adoption_by_agents(ledger, change.now)?;
        for leaf in ledger
            .by_directory()
            .into_iter()
            .filter(|leaf| ledger.is_live(leaf, change.now))
        {
            let place = format!("{} ({})", leaf.out.display(), leaf.label());
            match mesh_dir::current(&leaf.out) {
                Ok(Some(current)) if renew::is_there(&change.standings, leaf) => {
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

    /// Which hosts with agents do not hold what everybody has to know at `now`, and of which nobody
    /// has heard for long.
    fn adoption_by_agents(
        &self,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(Vec<String>, Vec<String>), Error> {
        let (mut behind, mut unseen) = (Vec::new(), Vec::new());
        let enrolled: Vec<&Leaf> = ledger
            .in_use()
            .into_iter()
            .filter(|leaf| leaf.is_enrolled() && ledger.is_live(leaf, now))
            .collect();
        if enrolled.is_empty() {
            return Ok((behind, unseen));
        }
        let (wanted, hosts) = (enrol::print(self, ledger, now)?, enrol::hosts(self.dir()));
        for leaf in enrolled {
            let place = format!("the agent of {} ({})", leaf.label(), leaf.out.display());
            match hosts.get(&leaf.out) {
                Some(held) if held.generation == wanted => {}
                Some(held) if now.since(held.at) < AGENT_SILENT => behind.push(place),
                _ => unseen.push(place),
            }
        }
        Ok((behind, unseen))
    }

    /// Waits until everyone has had `settle` to read the CRLs of `prepared`.
    fn settle(
        &self,
        prepared: &[Authority],
        change: &Change,
        settle: Duration,
    ) -> Result<(), Error> {
        let ledger = change.inventory.ledger();
        let made = prepared
            .iter()
            .filter_map(|authority| ledger.crl(&authority.id))
            .map(|crl| crl.made_at)
            .max();
        let none =
            || Error::Failed("the prepared CA has no CRL; run `gapura-pki crl refresh`".to_owned());
        wait(made.ok_or_else(none)?, change.now, settle);
        Ok(())
    }
}

/// An agent asks once a minute, and what it says is kept every ten: one that was not heard of for
/// this long is away, in seconds.
const AGENT_SILENT: u64 = 1200;

/// Sleeps until `settle` after `since`, by the wall clock, but never longer than `settle`.
fn wait(since: Timestamp, now: Timestamp, settle: Duration) {
    let passed = Duration::from_secs(now.since(since));
    std::thread::sleep(settle.saturating_sub(passed));
}

//! How far a rotation has come, as the ledger tells it: what is prepared, what drains, who still
//! depends on it, which step is next.
//!
//! Pure functions over the ledger; nothing here signs or writes.

use super::request::Step;
use crate::ledger::{Authority, AuthorityKind, AuthorityState, Leaf, Ledger};
use crate::timestamp::Timestamp;

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
pub(crate) fn dependents<'a>(ledger: &'a Ledger, ids: &[String], now: Timestamp) -> Vec<&'a Leaf> {
    ledger
        .in_use()
        .into_iter()
        .filter(|leaf| ids.contains(&leaf.issuer) && ledger.is_live(leaf, now))
        .collect()
}

/// The prepared authorities that one activation of `kind` lets in: a root with its issuer, or an
/// issuer of the active root.
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

/// What one retirement of `kind` is done with: a draining root with all its issuers, or the
/// draining issuers of roots that stay.
pub(super) fn draining(ledger: &Ledger, kind: AuthorityKind) -> Vec<&Authority> {
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
pub(super) fn replaced_by(ledger: &Ledger, kind: AuthorityKind) -> Vec<&Authority> {
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

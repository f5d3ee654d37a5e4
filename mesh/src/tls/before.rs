//! What a trust set follows: the set in force, or what is left of the last run of the program.
//!
//! In: either of the two. Out: how far the CRLs had come, and what becomes of a set that does not go on from there: beside a set in
//! force it is no set, at a start it lets nobody in.

use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use super::marks::Marks;
use super::refusal::Refusal;
use super::revocation::RevocationError;
use super::trust::TrustSet;
use super::unfit::TrustError;

/// What a set follows.
#[derive(Clone, Copy)]
pub(super) enum Before<'a> {
    /// Nothing but what outlasted the last end of the program.
    Start(&'a Marks),
    /// The set in force.
    Set(&'a TrustSet),
}

impl Before<'_> {
    pub(super) fn generation(&self) -> u64 {
        match self {
            Self::Start(_) => 0,
            Self::Set(set) => set.generation(),
        }
    }

    pub(super) fn marks(&self, now: u64) -> Marks {
        match self {
            Self::Start(marks) => (*marks).clone(),
            Self::Set(set) => set.marks(UNIX_EPOCH + Duration::from_secs(now)),
        }
    }

    pub(super) fn has_crls(&self) -> bool {
        matches!(self, Self::Set(set) if set.has_crls())
    }

    /// Lists that do not go on from those before: at a start, why nobody is let in; else no set at all.
    pub(super) fn not_going_on(
        &self,
        err: RevocationError,
        path: PathBuf,
        now: u64,
    ) -> Result<Refusal, TrustError> {
        match (self, err) {
            (Self::Start(_), RevocationError::NotBegun { begins, .. }) => {
                Ok(Refusal::CrlNotBegun {
                    this_update: begins,
                    now,
                })
            }
            (Self::Start(_), err) => Ok(Refusal::CrlWentBack {
                what: err.to_string(),
            }),
            (Self::Set(_), RevocationError::NotBegun { issuer, begins }) => Err(
                TrustError::NotBegun(path, format!("the CRL of {issuer}"), begins),
            ),
            (Self::Set(_), err) => Err(TrustError::Crl(path, err)),
        }
    }
}

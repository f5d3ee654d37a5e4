//! What a trust set follows: the set in force, or what is left of the last run of the program.
//!
//! In: either of the two. Out: how far the CRLs had come, and what becomes of a set that does not
//! go on from there: beside a set in force it is no set, at a start it lets nobody in.

use std::path::PathBuf;

use super::unfit::TrustError;
use gapura_certificates::marks::Marks;
use gapura_certificates::refusal::Refusal;
use gapura_certificates::revocation::RevocationError;

/// What a set follows.
pub(super) struct Before {
    /// The generation of the set in force; none at a start.
    pub(super) generation: Option<u64>,
    /// How far each issuer's CRLs had come.
    pub(super) marks: Marks,
    /// Whether the set in force has CRLs.
    pub(super) has_crls: bool,
}

impl Before {
    /// Nothing but what outlasted the last end of the program.
    pub(super) fn start(marks: &Marks) -> Self {
        Self {
            generation: None,
            marks: marks.clone(),
            has_crls: false,
        }
    }

    /// Whether the program starts: no set is in force.
    pub(super) fn is_start(&self) -> bool {
        self.generation.is_none()
    }

    /// Lists that do not go on from those before: at a start, why nobody is let in; else no set at
    /// all.
    pub(super) fn not_going_on(
        &self,
        err: RevocationError,
        path: PathBuf,
        now: u64,
    ) -> Result<Refusal, TrustError> {
        match (self.is_start(), err) {
            (true, RevocationError::NotBegun { begins, .. }) => Ok(Refusal::CrlNotBegun {
                this_update: begins,
                now,
            }),
            (true, err) => Ok(Refusal::CrlWentBack {
                what: err.to_string(),
            }),
            (false, RevocationError::NotBegun { issuer, begins }) => Err(TrustError::NotBegun(
                path,
                format!("the CRL of {issuer}"),
                begins,
            )),
            (false, err) => Err(TrustError::Crl(path, err)),
        }
    }
}

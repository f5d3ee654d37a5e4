//! The tokens that hosts join by, as far as the CA knows them: which were made, and what became of
//! each.
//!
//! In: what the inventory says of one. Out: who may still join. Of a token's secret only its
//! SHA-256 is known here.

use gapura_protocol::identity::{Name, Role};
use serde::{Deserialize, Serialize};

use crate::timestamp::Timestamp;

/// A join token, as far as the CA knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// Which one.
    pub id: String,
    /// What its bearer may become.
    #[serde(with = "super::as_text")]
    pub role: Role,
    /// Which one.
    #[serde(with = "super::as_text")]
    pub name: Name,
    /// Further DNS names of the certificates it leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
    /// SHA-256 of its secret.
    pub secret_sha256: String,
    /// Its last second.
    pub expires: Timestamp,
}

/// What became of a join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinState {
    /// Nothing yet.
    Open,
    /// The leaf that it was used for: its serial and its certificate (base64).
    Used(String, String),
    /// It counts no more.
    Void,
}

/// All join tokens, oldest first, with what became of each.
#[derive(Clone, Debug, Default)]
pub struct Joins(Vec<(Join, JoinState)>);

impl Joins {
    /// One more was made.
    pub(super) fn make(&mut self, join: Join) {
        self.0.push((join, JoinState::Open));
    }

    /// Something became of one.
    pub(super) fn turn(&mut self, id: &str, state: JoinState) -> Result<(), String> {
        let mut all = self.0.iter_mut().rev();
        let known = all.find(|(join, _)| join.id == id);
        known
            .ok_or_else(|| format!("join token {id} was never made"))?
            .1 = state;
        Ok(())
    }

    pub(super) fn know(&self, id: &str) -> bool {
        self.0.iter().any(|(join, _)| join.id == id)
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[(Join, JoinState)] {
        &self.0
    }

    /// The one of which this is the SHA-256 of the secret.
    #[must_use]
    pub fn of(&self, secret_sha256: &str) -> Option<&(Join, JoinState)> {
        let mut all = self.0.iter().rev();
        all.find(|(join, _)| join.secret_sha256 == secret_sha256)
    }

    /// Those that may still be used at `now`.
    pub fn open(&self, now: Timestamp) -> impl Iterator<Item = &Join> {
        let open = move |(join, state): &&(Join, JoinState)| {
            *state == JoinState::Open && join.expires >= now
        };
        self.0.iter().filter(open).map(|(join, _)| join)
    }
}

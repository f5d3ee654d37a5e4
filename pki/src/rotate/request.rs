//! What is asked of a rotation, and what it did.

use std::time::Duration;

use crate::issue::Issued;
use crate::ledger::AuthorityKind;
use crate::publish::Republished;

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
    /// With an emergency: the old CA's key is in other hands, so nothing under it may be let
    /// through any more.
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

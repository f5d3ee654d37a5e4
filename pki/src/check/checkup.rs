//! What a look at everything has found: findings, and when everything that is in use ends.
//!
//! A value that is filled by whoever looks; what is looked at, and what is a finding, is not
//! decided here.

use std::path::PathBuf;

use serde::Serialize;

use crate::timestamp::{Timestamp, for_people};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Good to know.
    Info,
    /// Something to do before it hurts.
    Warning,
    /// It hurts, or will very soon.
    Critical,
}

impl Level {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// A fixed word for the rule.
    pub id: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub object: String,
    /// What was found.
    pub found: String,
    /// What is wanted.
    pub want: String,
    /// The command that mends it.
    pub fix: String,
}

/// Everything that was found.
#[derive(Clone, Debug, Default)]
pub struct Checkup {
    /// Worst first.
    pub findings: Vec<Finding>,
    /// What ends first of all that is in use: its name and when.
    pub next_expiry: Option<(String, Timestamp)>,
    /// How many leaves are in use and alive.
    pub live_leaves: usize,
    /// How many mesh directories `--push` or `--exec` has yet to succeed for.
    pub undelivered: usize,
    /// When a run last did all it had to.
    pub last_success: Option<Timestamp>,
    /// When everything that is in use ends.
    pub ends: Vec<End>,
}

/// When one thing that is in use ends.
#[derive(Clone, Debug)]
pub struct End {
    /// Leaf, CA or CRL.
    pub of: EndOf,
    /// Its last second.
    pub at: Timestamp,
}

/// What it is that ends.
#[derive(Clone, Debug)]
pub enum EndOf {
    /// A leaf: its role and name, and its mesh directory.
    Leaf(String, PathBuf),
    /// A CA, by its id.
    Ca(String),
    /// The CRL of a CA, by that one's id.
    Crl(String),
}

impl Checkup {
    /// The worst level found.
    #[must_use]
    pub fn worst(&self) -> Option<Level> {
        self.findings.iter().map(|finding| finding.level).max()
    }

    pub(crate) fn add(
        &mut self,
        level: Level,
        id: &'static str,
        object: &str,
        (found, want, fix): (String, &str, &str),
    ) {
        self.findings.push(Finding {
            id,
            level,
            object: object.to_owned(),
            found,
            want: want.to_owned(),
            fix: fix.to_owned(),
        });
    }

    /// Warns when a third of a life is left and cries out when a tenth is.
    pub(super) fn age(
        &mut self,
        id: &'static str,
        object: &str,
        (from, to): (Timestamp, Timestamp),
        now: Timestamp,
        fix: &str,
    ) {
        let (life, left) = (to.since(from), to.since(now));
        let level = match left {
            left if left * 10 <= life => Level::Critical,
            left if left * 3 <= life => Level::Warning,
            _ => return,
        };
        let found = if left == 0 {
            format!("ended {} ago", for_people(now.since(to)))
        } else {
            format!("{} left", for_people(left))
        };
        self.add(
            level,
            id,
            object,
            (found, "more than a third of its life left", fix),
        );
    }

    pub(super) fn ends(&mut self, of: EndOf, at: Timestamp) {
        let name = match &of {
            EndOf::Leaf(label, _) => label.clone(),
            EndOf::Ca(id) => id.clone(),
            EndOf::Crl(id) => format!("crl/{id}"),
        };
        if self
            .next_expiry
            .as_ref()
            .is_none_or(|(_, known)| at < *known)
        {
            self.next_expiry = Some((name, at));
        }
        self.ends.push(End { of, at });
    }
}

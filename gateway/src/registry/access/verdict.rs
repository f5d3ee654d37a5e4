//! What the rules say to a request, and why they refuse.
//!
//! In: the line of the rule that decided. Out: a value to serve by, and a clause to tell. No rule
//! is known here.

use std::fmt;

/// What the rules say to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It may pass; by the rule at this line, if the plugin has rules.
    Allowed(Option<usize>),
    /// It may not.
    Refused(Refusal),
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `tenants` does not take its company.
    Tenants,
    /// The rule at this line denies it.
    Denied(usize),
    /// The rule at this line allows it for the company or user that its path names, who is another.
    Another(usize),
    /// No rule matches.
    NoRule,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenants => f.write_str("the field \"tenants\" does not take this company"),
            Self::Denied(line) => write!(f, "the rule at line {line} denies it"),
            Self::Another(line) => write!(
                f,
                "the rule at line {line} allows it for the company or user in its path only, who is another"
            ),
            Self::NoRule => f.write_str("no rule allows it"),
        }
    }
}

//! Who may use a plugin: its `allow` rules, its `tenants`, and whether they only watch (`shadow`).
//!
//! In: the fields of a file, compiled once when it loads; then who calls, a method and a path below the mount. Out: a [`Verdict`],
//! the same to serving, to `explain` and to the file's own `tests`: all three ask [`Access::decide`]. Nothing here knows tokens,
//! connections or time.
//! Invariant: where rules stand and none matches, nobody is let through.

mod examples;
mod index;
mod method;
mod pattern;
mod read;
mod rule;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use http::Method;

use index::Index;
use method::Methods;
use pattern::Segments;
use rule::{Effect, Outcome, Question, Rule};

pub(in crate::registry) use method::known as unknown_method;
pub(crate) use read::read_company;

/// Who calls, as a verified token says.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The company the request acts for.
    pub company: &'a str,
    /// The user.
    pub user: &'a str,
    /// The roles, joined by `,`; empty for none.
    pub roles: &'a str,
    /// The scopes.
    pub scopes: &'a [&'a str],
    /// Whether somebody acts for the user.
    pub has_actor: bool,
}

/// Of whom a plugin is told in a way that it can believe.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Told {
    /// Who calls.
    pub(in crate::registry) caller: bool,
    /// Who acts for the user.
    pub(in crate::registry) actor: bool,
}

/// Who may use a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    rules: Option<Rules>,
    tenants: Option<Tenants>,
    shadow: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rules {
    list: Box<[Rule]>,
    index: Index,
}

/// The field `tenants`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tenants {
    Only(TenantSet),
    Except(TenantSet),
}

/// Company ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TenantSet(BTreeSet<Box<str>>);

/// What the rules say to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass; by the rule at this line, if the plugin has rules.
    Allowed(Option<usize>),
    /// It may not.
    Refused(Refusal),
}

/// Why a request may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `tenants` does not take its company.
    Tenants,
    /// The rule at this line denies it.
    Denied(usize),
    /// The rule at this line allows it for the company or user that its path names, who is another.
    Another(usize),
    /// No rule matches.
    NoRule,
}

impl Access {
    /// What the rules say, `shadow` or not. The path is below the mount.
    #[must_use]
    pub fn decide(&self, subject: Option<&Subject<'_>>, method: &Method, path: &str) -> Verdict {
        if let Some(tenants) = &self.tenants
            && !subject.is_some_and(|subject| tenants.take(subject.company))
        {
            return Verdict::Refused(Refusal::Tenants);
        }
        let Some(rules) = &self.rules else {
            return Verdict::Allowed(None);
        };
        let question = Question {
            method: Methods::of(method),
            path: Segments::of(path),
            subject,
        };
        let Some((at, outcome)) = rules.index.first(&rules.list, &question) else {
            return Verdict::Refused(Refusal::NoRule);
        };
        let line = rules.list.get(at).map_or(0, |rule| rule.line);
        match outcome {
            Outcome::Decides(Effect::Allow) => Verdict::Allowed(Some(line)),
            Outcome::Decides(Effect::Deny) => Verdict::Refused(Refusal::Denied(line)),
            _ => Verdict::Refused(Refusal::Another(line)),
        }
    }

    /// Whether what the rules refuse is only counted.
    #[must_use]
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Whether anything is asked of a request at all.
    #[must_use]
    pub fn restricts(&self) -> bool {
        self.rules.is_some() || self.tenants.is_some()
    }

    /// Each rule as far as it was asked, with its line and what it says: what `explain` shows.
    #[must_use]
    pub fn explain(
        &self,
        subject: Option<&Subject<'_>>,
        method: &Method,
        path: &str,
    ) -> Vec<(usize, &'static str)> {
        let question = Question {
            method: Methods::of(method),
            path: Segments::of(path),
            subject,
        };
        let mut steps = Vec::new();
        for rule in self.rules.iter().flat_map(|rules| &rules.list) {
            let outcome = rule.judge(&question);
            steps.push((rule.line, outcome.as_str()));
            if outcome.is_final() {
                break;
            }
        }
        steps
    }

    /// What this asks less of a caller than `before` did, each in a clause.
    pub(super) fn weaker_than(&self, before: &Self) -> Vec<&'static str> {
        let mut weaker = Vec::new();
        if self.shadow && !before.shadow && self.restricts() {
            weaker.push("shadow is on: what its rules refuse passes now");
        }
        match (&before.tenants, &self.tenants) {
            (Some(_), None) => weaker.push("tenants is gone: every company may call now"),
            (Some(before), Some(now)) if !before.covers(now) => {
                weaker.push("tenants became wider: companies may call that could not");
            }
            _ => {}
        }
        if before.rules.is_some() && self.rules.is_none() {
            weaker.push("allow is gone: every caller may do everything now");
        }
        weaker
    }
}

impl Tenants {
    fn take(&self, company: &str) -> bool {
        match self {
            Self::Only(set) => set.has(company),
            Self::Except(set) => !set.has(company),
        }
    }

    /// Whether it takes every company that `other` takes.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(mine), Self::Only(theirs)) => theirs.0.is_subset(&mine.0),
            (Self::Only(_), Self::Except(_)) => false,
            (Self::Except(mine), Self::Only(theirs)) => theirs.0.is_disjoint(&mine.0),
            (Self::Except(mine), Self::Except(theirs)) => mine.0.is_subset(&theirs.0),
        }
    }
}

impl TenantSet {
    /// These companies.
    pub(crate) fn of(companies: impl IntoIterator<Item = String>) -> Self {
        Self(companies.into_iter().map(String::into_boxed_str).collect())
    }

    /// Whether a company is one of them.
    pub(crate) fn has(&self, company: &str) -> bool {
        self.0.contains(company)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|company| &**company)
    }
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

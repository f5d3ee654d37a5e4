//! Decides whether a request may use a plugin.
//!
//! In: the compiled rules and companies; then who calls, a method and a path below the mount. Out:
//! a [`Verdict`]. How a file writes rules is not known here.
//! Invariant: where rules stand and none matches, nobody is let through.

use http::Method;

use super::index::Index;
use super::method::Methods;
use super::pattern::Segments;
use super::rule::{Effect, Outcome, Question, Rule};
use super::subject::Subject;
use super::tenants::Tenants;
use super::verdict::{Refusal, Verdict};

/// So many rules are compared with one another.
const COMPARED_MOST: usize = 500;

/// Who may use a plugin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(super) rules: Option<Rules>,
    pub(super) tenants: Option<Tenants>,
    pub(super) shadow: bool,
}

/// The field `allow`, compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    pub(super) list: Box<[Rule]>,
    pub(super) index: Index,
}

impl Access {
    /// What the rules say, `shadow` or not. The path is below the mount.
    #[must_use]
    pub(crate) fn decide(
        &self,
        subject: Option<&Subject<'_>>,
        method: &Method,
        path: &str,
    ) -> Verdict {
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
    pub(crate) fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Whether anything is asked of a request at all.
    #[must_use]
    pub(crate) fn restricts(&self) -> bool {
        self.rules.is_some() || self.tenants.is_some()
    }

    /// The rules that an earlier one leaves nothing to decide: the line of each, and that of the
    /// earlier one.
    #[must_use]
    pub(in crate::registry) fn idle_rules(&self) -> Vec<(usize, usize)> {
        let list = self.rules.as_ref().map(|rules| &*rules.list);
        let list = list.unwrap_or_default();
        let by_whom = |(at, later): (usize, &Rule)| {
            let earlier = list.iter().take(at).find(|rule| rule.covers(later))?;
            Some((later.line, earlier.line))
        };
        // Each is compared with all before it: of a list as long as this nobody reads a warning.
        let looked_at = list.iter().enumerate().take(COMPARED_MOST);
        looked_at.filter_map(by_whom).collect()
    }

    /// Each rule as far as it was asked, with its line and what it says: what `explain` shows.
    #[must_use]
    pub(crate) fn explain(
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
    pub(in crate::registry) fn weaker_than(&self, before: &Self) -> Vec<&'static str> {
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

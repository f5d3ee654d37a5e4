//! One rule of `allow`, compiled.
//!
//! In: a request's method and path and who calls. Out: whether the rule decides, and how.
//! Everything a rule says must hold for it to decide; what it does not say holds for everyone.
//! Invariant: a rule that asks who calls never decides for a request of which nobody knows that.

use super::method::Methods;
use super::pattern::{Fit, Meets, PathPattern, Segments, Template};
use super::subject::Subject;
use super::tenants::TenantSet;

/// What a rule says of the requests it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// They pass.
    Allow,
    /// They are refused.
    Deny,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Where it stands in the file.
    pub(crate) line: usize,
    pub(crate) methods: Methods,
    pub(crate) path: Option<PathPattern>,
    pub(crate) tenants: Option<TenantSet>,
    /// One of them is enough.
    pub(crate) roles: Option<Box<[Box<str>]>>,
    /// One of them is enough.
    pub(crate) scopes: Option<Box<[Box<str>]>>,
    /// Whether a caller who acts for somebody does not match.
    pub(crate) no_actor: bool,
    pub(crate) effect: Effect,
}

/// What all rules of a plugin are asked.
pub(crate) struct Question<'a> {
    pub(crate) method: Methods,
    pub(crate) path: Segments<'a>,
    pub(crate) subject: Option<&'a Subject<'a>>,
}

/// What a rule says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is about others: by its methods.
    Method,
    /// By its path.
    Path,
    /// By its companies.
    Tenant,
    /// By its roles.
    Role,
    /// By its scopes.
    Scope,
    /// Because the caller acts for somebody.
    Actor,
    /// All of it fits but for the company or user named in the path: refused at once.
    Another,
    /// It decides.
    Decides(Effect),
}

/// What a rule says to requests of which only the shape of the path is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// It is about others.
    Never,
    /// It decides some of them.
    Perhaps(Effect),
    /// It decides all of them.
    Surely(Effect),
    /// It refuses all of them: the path names another company or user than the caller's.
    Refused,
}

impl Outcome {
    /// Whether no later rule is asked.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Another | Self::Decides(_))
    }

    /// In words, for `explain`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Method => "does not match: another method",
            Self::Path => "does not match: another path",
            Self::Tenant => "does not match: another company",
            Self::Role => "does not match: none of the roles",
            Self::Scope => "does not match: none of the scopes",
            Self::Actor => "does not match: the caller acts for somebody",
            Self::Another => "refuses: the path names another company or user than the caller's",
            Self::Decides(Effect::Allow) => "matches and allows",
            Self::Decides(Effect::Deny) => "matches and denies",
        }
    }
}

impl Rule {
    /// Whether it can be about a caller whom nobody knows.
    pub(crate) fn asks_who(&self) -> bool {
        self.tenants.is_some()
            || self.roles.is_some()
            || self.scopes.is_some()
            || self.no_actor
            || self
                .path
                .as_ref()
                .is_some_and(PathPattern::names_the_caller)
    }

    /// Whether it decides every request that `later` could decide, so that one behind it is never
    /// asked.
    pub(crate) fn covers(&self, later: &Self) -> bool {
        let path = match (&self.path, &later.path) {
            (None, _) => true,
            (Some(mine), None) => mine.is_everything(),
            (Some(mine), Some(theirs)) => mine.covers(theirs),
        };
        let tenants = match (&self.tenants, &later.tenants) {
            (None, _) => true,
            (Some(mine), Some(theirs)) => mine.covers(theirs),
            (Some(_), None) => false,
        };
        path && tenants
            && self.methods.covers(later.methods)
            && has_all(self.roles.as_deref(), later.roles.as_deref())
            && has_all(self.scopes.as_deref(), later.scopes.as_deref())
            && (!self.no_actor || later.no_actor)
    }

    /// What it says to a request.
    pub(crate) fn judge(&self, question: &Question<'_>) -> Outcome {
        if !self.methods.has(question.method) {
            return Outcome::Method;
        }
        let fit = self
            .path
            .as_ref()
            .map_or(Fit::Yes, |path| path.fits(&question.path, question.subject));
        if fit == Fit::No {
            return Outcome::Path;
        }
        if let Some(other) = self.is_about_others(question.subject) {
            return other;
        }
        if fit == Fit::Another {
            return Outcome::Another;
        }
        Outcome::Decides(self.effect)
    }

    /// What it says to requests of which only the shape of the path is known.
    pub(crate) fn outlook(
        &self,
        method: Methods,
        template: &Template<'_>,
        subject: Option<&Subject<'_>>,
    ) -> Outlook {
        let meets = self
            .path
            .as_ref()
            .map_or(Meets::Always, |path| path.meets(template, subject));
        if !self.methods.has(method)
            || meets == Meets::Never
            || self.is_about_others(subject).is_some()
        {
            return Outlook::Never;
        }
        match meets {
            Meets::Another => Outlook::Refused,
            Meets::Always => Outlook::Surely(self.effect),
            Meets::Sometimes | Meets::Never => Outlook::Perhaps(self.effect),
        }
    }

    /// Why it is not about this caller, if it is not.
    fn is_about_others(&self, subject: Option<&Subject<'_>>) -> Option<Outcome> {
        let Some(subject) = subject else {
            // Loading sees to it that no such rule stands on a route without a token; should one
            // ever, it lets nobody through.
            return self.asks_who().then_some(Outcome::Another);
        };
        if self
            .tenants
            .as_ref()
            .is_some_and(|tenants| !tenants.has(subject.company))
        {
            return Some(Outcome::Tenant);
        }
        let is_one =
            |wanted: &[Box<str>], given: &str| wanted.iter().any(|wanted| **wanted == *given);
        if let Some(roles) = &self.roles
            && !subject.roles.split(',').any(|role| is_one(roles, role))
        {
            return Some(Outcome::Role);
        }
        if let Some(scopes) = &self.scopes
            && !subject.scopes.iter().any(|scope| is_one(scopes, scope))
        {
            return Some(Outcome::Scope);
        }
        if self.no_actor && subject.has_actor {
            return Some(Outcome::Actor);
        }
        None
    }
}

/// Whether a list of which one is enough takes everybody whom the other takes; none takes all.
fn has_all(mine: Option<&[Box<str>]>, theirs: Option<&[Box<str>]>) -> bool {
    match (mine, theirs) {
        (None, _) => true,
        (Some(mine), Some(theirs)) => theirs.iter().all(|one| mine.contains(one)),
        (Some(_), None) => false,
    }
}

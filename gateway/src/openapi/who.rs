//! Who asks for the document, as rules see a caller, and fit to go to another thread.

use crate::authenticate::VerifiedCaller;
use crate::registry::Subject;

/// A verified caller.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    company: String,
    user: String,
    roles: String,
    scopes: Vec<String>,
    has_actor: bool,
}

impl Who {
    /// Whom a token has proven.
    pub(crate) fn of(caller: &VerifiedCaller) -> Self {
        Self {
            company: caller.tenant().as_str().to_owned(),
            user: caller.user().as_str().to_owned(),
            roles: caller.roles().map_or("", |roles| roles.as_str()).to_owned(),
            scopes: caller.scopes().iter().map(str::to_owned).collect(),
            has_actor: caller.actor().is_some(),
        }
    }

    /// The same for one look at the rules.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&Subject<'_>) -> T) -> T {
        let scopes: Vec<&str> = self.scopes.iter().map(String::as_str).collect();
        ask(&Subject {
            company: &self.company,
            user: &self.user,
            roles: &self.roles,
            scopes: &scopes,
            has_actor: self.has_actor,
        })
    }
}

//! Decides whether a caller may use a plugin.
//!
//! In: the route that takes the request, the caller its token proved, the method and the path. Out:
//! a [`Permit`], without which `forward` sends nothing. The rules themselves were compiled when the
//! plugin's file loaded, and are asked there; where they only watch (`shadow`) the permit says what
//! they would have refused.
//! Invariant: `Permit` is built in `admit` and nowhere else.

use std::rc::Rc;
use std::sync::Arc;

use gapura_protocol::headers::Auth;
use http::Method;

use crate::authenticate::{Caller, VerifiedCaller};
use crate::registry::{AuthMode, Plugin, Refusal, Subject, Verdict};

/// Leave to send one request to one plugin, for one caller.
pub(crate) struct Permit {
    plugin: Arc<Plugin>,
    caller: Option<Rc<VerifiedCaller>>,
    auth: Auth,
    shadowed: Option<Refusal>,
}

/// The caller may not use the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forbidden {
    /// The route wants more of a caller than was proven.
    Unproven,
    /// The plugin's rules say no.
    Rules(Refusal),
}

/// Lets a caller use a plugin. `path` is the whole canonical path.
///
/// # Errors
/// [`Forbidden`] if the route wants more of a caller than was proven, or its rules say no.
pub(crate) fn admit(
    plugin: &Arc<Plugin>,
    caller: Caller,
    method: &Method,
    path: &str,
) -> Result<Permit, Forbidden> {
    let (caller, auth) = match (plugin.auth, caller) {
        (AuthMode::GatewayVerified | AuthMode::ForwardJwt, Caller::Verified(caller)) => {
            (Some(caller), Auth::Verified)
        }
        (AuthMode::ForwardUnverified, Caller::Unverified) => (None, Auth::Unverified),
        (AuthMode::Public, Caller::Public) => (None, Auth::Public),
        _ => return Err(Forbidden::Unproven),
    };
    let refusal = match decide(plugin, caller.as_deref(), method, path) {
        Verdict::Allowed(_) => None,
        Verdict::Refused(refusal) => Some(refusal),
    };
    if let Some(refusal) = refusal.filter(|_| !plugin.access.is_shadow()) {
        return Err(Forbidden::Rules(refusal));
    }
    Ok(Permit {
        plugin: plugin.clone(),
        caller,
        auth,
        shadowed: refusal,
    })
}

/// What a plugin's rules say, whether they only watch or not.
#[must_use]
pub(crate) fn decide(
    plugin: &Plugin,
    caller: Option<&VerifiedCaller>,
    method: &Method,
    path: &str,
) -> Verdict {
    if !plugin.access.restricts() {
        return Verdict::Allowed(None);
    }
    with_subject(caller, |subject| {
        plugin.access.decide(subject, method, below(plugin, path))
    })
}

/// Each rule as far as it was asked: its line, and what it says.
#[must_use]
pub(crate) fn explain(
    plugin: &Plugin,
    caller: Option<&VerifiedCaller>,
    method: &Method,
    path: &str,
) -> Vec<(usize, &'static str)> {
    with_subject(caller, |subject| {
        plugin.access.explain(subject, method, below(plugin, path))
    })
}

fn below<'p>(plugin: &Plugin, path: &'p str) -> &'p str {
    plugin.mount.rest(path).unwrap_or(path)
}

/// A verified caller as rules see one.
fn with_subject<T>(
    caller: Option<&VerifiedCaller>,
    ask: impl FnOnce(Option<&Subject<'_>>) -> T,
) -> T {
    let Some(caller) = caller else {
        return ask(None);
    };
    let scopes: Vec<&str> = caller.scopes().iter().collect();
    ask(Some(&Subject {
        company: caller.tenant().as_str(),
        user: caller.user().as_str(),
        roles: caller.roles().map_or("", |roles| roles.as_str()),
        scopes: &scopes,
        has_actor: caller.actor().is_some(),
    }))
}

impl Permit {
    /// The plugin it is for.
    #[must_use]
    pub(crate) fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// The same leave for the plugin as it is at its canary, whose rules are the plugin's own; for
    /// any other it changes nothing.
    #[must_use]
    pub(crate) fn at_canary(self, plugin: &Arc<Plugin>) -> Self {
        let is_its = self.plugin.name == plugin.name && self.plugin.auth <= plugin.auth;
        Self {
            plugin: if is_its { plugin.clone() } else { self.plugin },
            ..self
        }
    }

    /// Leave for a copy of the request, to the same plugin as it is at its canary.
    #[must_use]
    pub(crate) fn for_copy(&self, plugin: &Arc<Plugin>) -> Self {
        let same = Self {
            plugin: self.plugin.clone(),
            caller: self.caller.clone(),
            auth: self.auth,
            shadowed: self.shadowed,
        };
        same.at_canary(plugin)
    }

    /// Whom the request speaks for.
    #[must_use]
    pub(crate) fn caller(&self) -> Option<&VerifiedCaller> {
        self.caller.as_deref()
    }

    /// The same, to be kept for as long as the answer lasts.
    #[must_use]
    pub(crate) fn kept_caller(&self) -> Option<Rc<VerifiedCaller>> {
        self.caller.clone()
    }

    /// What was proven.
    #[must_use]
    pub(crate) fn auth(&self) -> Auth {
        self.auth
    }

    /// Why the plugin's rules would have refused it, where they only watch.
    #[must_use]
    pub(crate) fn shadowed(&self) -> Option<Refusal> {
        self.shadowed
    }

    /// Whether the plugin may see the token.
    #[must_use]
    pub(crate) fn passes_token(&self) -> bool {
        matches!(
            self.plugin.auth,
            AuthMode::ForwardJwt | AuthMode::ForwardUnverified
        )
    }
}

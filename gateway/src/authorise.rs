//! Decides whether a caller may use a plugin.
//!
//! In: the route that takes the request, and the caller its token proved. Out: a [`Permit`], without which `forward` sends nothing.
//! Until a plugin's `allow` rules are enforced a registry file that has any is refused at load, so that none is ever ignored; what
//! is checked here is that a route which wants a verified caller has one.
//! Invariant: `Permit` is built in `admit` and nowhere else.

use std::rc::Rc;
use std::sync::Arc;

use gapura_mesh::headers::Auth;

use crate::authenticate::{Caller, VerifiedCaller};
use crate::registry::{AuthMode, Plugin};

/// Leave to send one request to one plugin, for one caller.
pub struct Permit {
    plugin: Arc<Plugin>,
    caller: Option<Rc<VerifiedCaller>>,
    auth: Auth,
}

/// The caller may not use the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forbidden;

/// Lets a caller use a plugin.
///
/// # Errors
/// [`Forbidden`] if the route wants more of a caller than was proven.
pub fn admit(plugin: &Arc<Plugin>, caller: Caller) -> Result<Permit, Forbidden> {
    let (caller, auth) = match (plugin.auth, caller) {
        (AuthMode::GatewayVerified | AuthMode::ForwardJwt, Caller::Verified(caller)) => {
            (Some(caller), Auth::Verified)
        }
        (AuthMode::ForwardUnverified, Caller::Unverified) => (None, Auth::Unverified),
        (AuthMode::Public, Caller::Public) => (None, Auth::Public),
        _ => return Err(Forbidden),
    };
    Ok(Permit {
        plugin: plugin.clone(),
        caller,
        auth,
    })
}

impl Permit {
    /// The plugin it is for.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Whom the request speaks for.
    #[must_use]
    pub fn caller(&self) -> Option<&VerifiedCaller> {
        self.caller.as_deref()
    }

    /// What was proven.
    #[must_use]
    pub fn auth(&self) -> Auth {
        self.auth
    }

    /// Whether the plugin may see the token.
    #[must_use]
    pub fn passes_token(&self) -> bool {
        matches!(
            self.plugin.auth,
            AuthMode::ForwardJwt | AuthMode::ForwardUnverified
        )
    }
}

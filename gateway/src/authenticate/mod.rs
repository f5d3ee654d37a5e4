//! Decides who a request speaks for, from its bearer token.
//!
//! In: what the route asks for (an `AuthMode`), the request's headers, and the time. Out: a
//! [`Caller`]. Nothing here knows routes, paths or bodies, and nothing a request says chooses a
//! key, an algorithm or a rule: those come from the configuration.
//! Invariant: a [`VerifiedCaller`] exists only for a token whose signature a configured key has
//! verified, whose every rule held, and whose time was checked for this very request, remembered or
//! not.
//!
//! A token's way, each step a file: `bearer` finds it, `cache` knows it from before or `jws` takes
//! it apart (with `json`, which refuses names said twice), `key_ring` picks the issuer and the key,
//! `algorithm` verifies the signature, `claims` judges what it says, with `tenants` and
//! `confirmation`. `settings`, `rules_between`, `jwk`, `pem_keys`, `fetching`, `provider` and
//! `keys` are how the ring comes to be and is swapped. A request waits for one thing alone: keys
//! that are being fetched, and that for a second.
//!
//! RFC 6750 (bearer tokens), 7515 (JWS), 7517 (JWK), 7518 (algorithms), 7519 (JWT), 8037 (Ed25519),
//! 8725 (best practice), 9068 (`at+jwt`). Signatures are verified by aws-lc-rs itself and not by
//! jsonwebtoken: that one parses an RSA key anew for each token, takes its cryptography from a
//! process-wide provider, lets `crit`, a missing `iss` or `aud` and a future `nbf` pass unless told
//! otherwise, and caps no length. What is ours here is the reading and the rules, none of the
//! cryptography.

use std::cell::RefCell;
use std::rc::Rc;

use http::HeaderMap;

mod algorithm;
mod bearer;
mod cache;
mod claims;
mod confirmation;
mod error;
mod fetching;
mod inspect;
mod issuer_name;
mod json;
mod jwk;
mod jws;
mod key_ring;
mod keys;
mod logout;
#[cfg(test)]
mod mint;
mod pem_keys;
mod provider;
mod rules_between;
mod scopes;
mod settings;
mod tenants;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use claims::TokenFacts;
pub(crate) use claims::VerifiedCaller;
pub(crate) use confirmation::Thumbprint;
pub(crate) use error::{Error, Reason};
pub use inspect::{Inspection, inspect};
pub use issuer_name::IssuerName;
pub(crate) use key_ring::KeyRing;
pub(crate) use keys::{Follow, Keys};
pub(crate) use logout::{LOGOUT_WITHIN, LogoutFault, VerifiedLogout};
pub(crate) use rules_between::check;
pub(crate) use settings::{Algorithm, LEEWAY, LogoutSettings};
pub use settings::{ClaimNames, ClaimPath, HmacAlgorithm, IssuerSettings, KeySource, Settings};
pub(crate) use tenants::Tenants;

use crate::registry::AuthMode;
use cache::Cache;
use json::Json;
use jws::Jws;
use key_ring::Stop;
use provider::PATIENCE;

/// Who a request speaks for.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// Whoever the token proved.
    Verified(Rc<VerifiedCaller>),
    /// Whoever the plugin will find the token to prove.
    Unverified,
    /// Nobody in particular.
    Public,
}

/// Verifies tokens for one worker, and remembers those it has verified.
pub(crate) struct Authenticator {
    keys: Keys,
    cache: RefCell<Cache>,
}

impl Authenticator {
    /// An authenticator that remembers nothing yet.
    #[must_use]
    pub(crate) fn new(keys: Keys) -> Self {
        Self {
            keys,
            cache: RefCell::default(),
        }
    }

    /// Who the request speaks for at `now`, in Unix seconds, over a connection whose client proved
    /// `certificate`. Waits where keys have to be fetched first.
    ///
    /// # Errors
    /// The code the request is to be refused with.
    pub(crate) async fn verify(
        &self,
        mode: AuthMode,
        headers: &HeaderMap,
        certificate: Option<&Thumbprint>,
        now: u64,
    ) -> Result<Caller, Error> {
        patiently(|| self.judge(mode, headers, certificate, now)).await
    }

    /// The logout that a logout token tells of at `now`. Waits as [`Authenticator::verify`] does.
    ///
    /// # Errors
    /// The first rule that is broken. Where logout tokens are not taken at all it is their
    /// audience.
    pub(crate) async fn verify_logout(
        &self,
        token: &[u8],
        now: u64,
    ) -> Result<VerifiedLogout, LogoutFault> {
        let judge = || {
            let ring = self.keys.ring();
            let settings = ring.logout().ok_or(Reason::Audience)?;
            logout::judge(&ring, settings, token, now)
        };
        patiently(judge).await?
    }

    /// The same over no connection and without waiting: keys that are not here are unavailable. For
    /// programs that serve nothing.
    ///
    /// # Errors
    /// As [`Authenticator::verify`].
    pub(crate) fn verify_offline(
        &self,
        mode: AuthMode,
        headers: &HeaderMap,
        now: u64,
    ) -> Result<Caller, Error> {
        self.judge(mode, headers, None, now)
            .map_err(|stop| match stop {
                Stop::Refused(error) => error,
                Stop::Wait(..) => Error::KeysUnavailable,
            })
    }

    /// Why the issuer of a verified token may speak for its company, in words, for `explain`.
    #[must_use]
    pub(crate) fn why_it_speaks(&self, caller: &VerifiedCaller) -> &'static str {
        let iss = caller.token().issuer.as_deref();
        self.keys.ring().why_it_speaks(iss)
    }

    fn judge(
        &self,
        mode: AuthMode,
        headers: &HeaderMap,
        certificate: Option<&Thumbprint>,
        now: u64,
    ) -> Result<Caller, Stop> {
        match mode {
            AuthMode::Public => Ok(Caller::Public),
            AuthMode::ForwardUnverified => {
                bearer::token(headers)?;
                Ok(Caller::Unverified)
            }
            AuthMode::GatewayVerified | AuthMode::ForwardJwt => self
                .caller_of(bearer::token(headers)?, certificate, now)
                .map(Caller::Verified),
        }
    }

    fn caller_of(
        &self,
        token: &[u8],
        certificate: Option<&Thumbprint>,
        now: u64,
    ) -> Result<Rc<VerifiedCaller>, Stop> {
        let ring = self.keys.ring();
        let mut cache = self.cache.borrow_mut();
        cache.renew(ring.generation());
        if let Some(caller) = cache.get(token) {
            caller.in_force(now)?;
            caller.proven_by(certificate)?;
            return Ok(caller);
        }
        let caller = Rc::new(verify_anew(&ring, token, now)?);
        cache.put(token, caller.clone());
        caller.proven_by(certificate)?;
        Ok(caller)
    }
}

/// What `judge` comes to once the keys it needs are here, if they come in time.
async fn patiently<T>(judge: impl Fn() -> Result<T, Stop>) -> Result<T, Error> {
    let provider = match judge() {
        Ok(judged) => return Ok(judged),
        Err(Stop::Refused(error)) => return Err(error),
        Err(Stop::Wait(provider, _)) => provider,
    };
    let Some(_place) = provider.place() else {
        return Err(Error::KeysUnavailable);
    };
    let judged = tokio::time::timeout(PATIENCE, async {
        let mut rounds = provider.rounds();
        loop {
            // Judged after `rounds` was taken: a fetch that ends in between is heard of.
            let kid = match judge() {
                Ok(judged) => return Ok(judged),
                Err(Stop::Refused(error)) => return Err(error),
                Err(Stop::Wait(_, kid)) => kid,
            };
            provider.ask(kid.as_deref());
            if rounds.changed().await.is_err() || rounds.borrow().failed {
                return Err(Error::KeysUnavailable);
            }
        }
    });
    judged.await.unwrap_or(Err(Error::KeysUnavailable))
}

/// Nothing the token says is believed before the line that verifies its signature, but for `iss`
/// where several issuers are configured.
fn verify_anew(ring: &KeyRing, token: &[u8], now: u64) -> Result<VerifiedCaller, Stop> {
    let jws = Jws::parse(token)?;
    let issuer = ring.issuer_of(&jws)?;
    if !issuer.key_for(&jws)?.verifies(jws.signed, &jws.signature) {
        return Err(Reason::Signature.into());
    }
    let payload = jws.payload()?;
    let claims = Json::parse(&payload).map_err(Reason::from)?;
    Ok(ring.rules(issuer).judge(&claims, now)?)
}

//! Turns the claims of a token whose signature is good into a caller.
//!
//! In: claims that an issuer's key vouches for, that issuer's rules, and the time. Out: a
//! [`VerifiedCaller`], or the first rule that is broken. Who issued the token and for whom comes
//! first, then its time, then the user and roles, and the tenant last: a client is told
//! `token_expired` or `tenant_missing` only about a token that is good in every other way.
//! Last of all the issuer must be one that may speak for the tenant.
//! Invariant: a `VerifiedCaller` is built in [`Rules::judge`] and nowhere else.

use gapura_protocol::context::{Roles, TenantId, UserId};

use super::confirmation::{Binding, Thumbprint};
use super::error::{Error, Reason};
use super::issuer_name::IssuerName;
use super::json::Json;
use super::scopes::Scopes;
use super::settings::ClaimNames;
use super::tenants::SpeaksFor;

/// Who a verified token speaks for, and until when.
#[derive(Debug)]
pub(crate) struct VerifiedCaller {
    user: UserId,
    tenant: TenantId,
    roles: Option<Roles>,
    actor: Option<UserId>,
    scopes: Scopes,
    binding: Binding,
    token: TokenFacts,
    term: Term,
}

/// What a token says of itself, for lists of tokens that no longer count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenFacts {
    /// `iss`.
    pub issuer: Option<Box<str>>,
    /// `jti`.
    pub id: Option<Box<str>>,
    /// `sub`.
    pub subject: Option<Box<str>>,
    /// `sid`.
    pub session: Option<Box<str>>,
    /// `iat`, in whole seconds; `None` where it is missing or no time.
    pub issued_at: Option<u64>,
}

/// The seconds in which a token is good, the leeway counted in.
#[derive(Clone, Copy, Debug)]
struct Term {
    not_before: u64,
    expires: u64,
}

/// What an issuer's tokens have to fulfil.
pub(super) struct Rules<'a> {
    pub(super) issuer: Option<&'a IssuerName>,
    pub(super) audience: &'a [String],
    pub(super) claims: &'a ClaimNames,
    pub(super) speaks_for: &'a SpeaksFor,
    /// In seconds.
    pub(super) leeway: u64,
    /// How long a token may live, in seconds: where logouts are kept, none may outlive them.
    pub(super) longest_life: Option<u64>,
}

/// The last second of the year 9999, the last that RFC 3339 can write. What lies beyond is
/// milliseconds taken for seconds, or a token that never ends.
const LAST_SECOND: u64 = 253_402_300_799;

impl VerifiedCaller {
    /// The user the request acts for.
    #[must_use]
    pub(crate) fn user(&self) -> &UserId {
        &self.user
    }

    /// The company the request acts for.
    #[must_use]
    pub(crate) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The caller's roles; `None` if the token has none.
    #[must_use]
    pub(crate) fn roles(&self) -> Option<&Roles> {
        self.roles.as_ref()
    }

    /// Who acts for the user now: the `sub` of the outermost `act` (RFC 8693, section 4.1). `None`
    /// if the user acts for itself.
    #[must_use]
    pub(crate) fn actor(&self) -> Option<&UserId> {
        self.actor.as_ref()
    }

    /// What the token was granted.
    #[must_use]
    pub(crate) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// What the token says of itself.
    #[must_use]
    pub(crate) fn token(&self) -> &TokenFacts {
        &self.token
    }

    /// The bytes it holds beside itself, for the sum of what is remembered.
    pub(super) fn bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let TokenFacts {
            issuer,
            id,
            subject,
            session,
            issued_at: _,
        } = &self.token;
        self.roles.as_ref().map_or(0, |roles| roles.header().len())
            + self.actor.as_ref().map_or(0, |actor| actor.header().len())
            + self.scopes.bytes()
            + [issuer, id, subject, session]
                .into_iter()
                .map(text)
                .sum::<usize>()
    }

    /// Whether the connection with this proven certificate may use the token; asked on every use.
    pub(super) fn proven_by(&self, certificate: Option<&Thumbprint>) -> Result<(), Error> {
        Ok(self.binding.proven_by(certificate)?)
    }

    /// The Unix second from which the token is no longer good: `exp` and the leeway.
    #[must_use]
    pub(crate) fn expires(&self) -> u64 {
        self.term.expires
    }

    /// Whether the token is good at `now`; asked on every use, a remembered token grows old too.
    pub(super) fn in_force(&self, now: u64) -> Result<(), Error> {
        self.term.holds(now)
    }

    /// The same with what a token says of itself.
    #[cfg(test)]
    pub(crate) fn with_token(mut self, token: TokenFacts) -> Self {
        self.token = token;
        self
    }

    /// A caller without a token, for the tests of the stages behind this one.
    #[cfg(test)]
    pub(crate) fn for_test(user: &str, tenant: &str, roles: &[&str]) -> Self {
        Self {
            user: UserId::parse(user.as_bytes()).unwrap(),
            tenant: TenantId::parse(tenant.as_bytes()).unwrap(),
            roles: if roles.is_empty() {
                None
            } else {
                Some(Roles::join(roles.iter().copied()).unwrap())
            },
            actor: None,
            scopes: Scopes::default(),
            binding: Binding::Bearer,
            token: TokenFacts::default(),
            term: Term {
                not_before: 0,
                expires: u64::MAX,
            },
        }
    }
}

impl Rules<'_> {
    /// The caller these claims speak for at `now`.
    pub(super) fn judge(&self, claims: &Json<'_>, now: u64) -> Result<VerifiedCaller, Error> {
        if !matches!(claims, Json::Object(_)) {
            return Err(Reason::Malformed.into());
        }
        let iss = claims.get("iss").and_then(Json::text);
        if let Some(name) = self.issuer
            && !iss.is_some_and(|iss| name.matches(iss))
        {
            return Err(Reason::Issuer.into());
        }
        if !self.audience.is_empty() && !claims.get("aud").is_some_and(|aud| self.is_for_us(aud)) {
            return Err(Reason::Audience.into());
        }
        // A logout token is signed by the same keys and may name us as its audience.
        if claims.get("events").is_some() {
            return Err(Reason::Events.into());
        }
        let term = Term::read(claims, self.leeway)?;
        term.holds(now)?;
        self.lives_short_enough(claims, now)?;
        let binding = Binding::read(claims.get("cnf"))?;
        let user = self.user(claims).ok_or(Reason::User)?;
        let roles = roles(self.claims.role.find(claims))?;
        let scopes = Scopes::read(claims)?;
        let actor = actor(claims.get("act"))?;
        let tenant = tenant(self.claims.tenant.find(claims))?;
        self.may_speak_for(&tenant, iss)?;
        Ok(VerifiedCaller {
            user,
            tenant,
            roles,
            actor,
            scopes,
            binding,
            token: TokenFacts::read(claims),
            term,
        })
    }

    /// Everything that is wrong at `now`, not only the first of it: for people, never for a
    /// request.
    pub(super) fn faults(&self, claims: &Json<'_>, now: u64) -> Vec<Error> {
        let mut faults = Vec::new();
        let mut note = |result: Result<(), Error>| faults.extend(result.err());
        let iss = claims.get("iss").and_then(Json::text);
        let is_named = |name: &IssuerName| iss.is_some_and(|iss| name.matches(iss));
        let demand = |holds: bool, reason: Reason| if holds { Ok(()) } else { Err(reason.into()) };
        note(demand(self.issuer.is_none_or(is_named), Reason::Issuer));
        let for_us = claims.get("aud").is_some_and(|aud| self.is_for_us(aud));
        note(demand(self.audience.is_empty() || for_us, Reason::Audience));
        note(demand(claims.get("events").is_none(), Reason::Events));
        note(
            Term::read(claims, self.leeway)
                .map_err(Error::from)
                .and_then(|term| term.holds(now)),
        );
        note(self.lives_short_enough(claims, now).map_err(Error::from));
        note(
            Binding::read(claims.get("cnf"))
                .map(drop)
                .map_err(Error::from),
        );
        note(demand(self.user(claims).is_some(), Reason::User));
        note(
            roles(self.claims.role.find(claims))
                .map(drop)
                .map_err(Error::from),
        );
        note(Scopes::read(claims).map(drop).map_err(Error::from));
        note(actor(claims.get("act")).map(drop).map_err(Error::from));
        let tenant = tenant(self.claims.tenant.find(claims));
        note(tenant.and_then(|tenant| Ok(self.may_speak_for(&tenant, iss)?)));
        faults
    }

    /// A token that outlives the memory of a logout would come back to life. One that does not say
    /// when it was issued is measured from now.
    fn lives_short_enough(&self, claims: &Json<'_>, now: u64) -> Result<(), Reason> {
        let Some(longest) = self.longest_life else {
            return Ok(());
        };
        let at = |name: &str| claims.get(name).and_then(|date| seconds(date, f64::floor));
        let (begins, ends) = (at("iat").unwrap_or(now), at("exp").unwrap_or(u64::MAX));
        if ends.saturating_sub(begins) <= longest {
            Ok(())
        } else {
            Err(Reason::Lifetime)
        }
    }

    /// The company must be one of the issuer's, and of a template the very one that `iss` names.
    fn may_speak_for(&self, tenant: &TenantId, iss: Option<&str>) -> Result<(), Reason> {
        let named = match self.issuer.filter(|name| name.is_template()) {
            None => true,
            Some(name) => iss.and_then(|iss| name.company_in(iss)) == Some(tenant.as_str()),
        };
        if named && self.speaks_for.allows(tenant) {
            Ok(())
        } else {
            Err(Reason::TenantNotIssuers)
        }
    }

    /// RFC 7519, section 4.1.3: one text or a list of texts; one that is ours is enough.
    pub(super) fn is_for_us(&self, aud: &Json<'_>) -> bool {
        let ours = |text: &str| self.audience.iter().any(|audience| audience == text);
        match aud {
            Json::Text(text) => ours(text),
            Json::List(entries) => {
                entries.iter().all(|entry| entry.text().is_some())
                    && entries.iter().filter_map(Json::text).any(ours)
            }
            _ => false,
        }
    }

    /// `sub` stands in for a `user_id` that is not there, never for one that is wrong: the two may
    /// be names of different spaces.
    fn user(&self, claims: &Json<'_>) -> Option<UserId> {
        let claim = match &self.claims.user {
            Some(path) => path.find(claims),
            None => claims.get("user_id").or_else(|| claims.get("sub")),
        };
        user_id(claim?)
    }
}

impl TokenFacts {
    pub(super) fn read(claims: &Json<'_>) -> Self {
        let text = |name: &str| match claims.get(name)? {
            Json::Text(text) => Some(text.as_ref().into()),
            Json::Whole(number) => Some(number.to_string().into()),
            _ => None,
        };
        Self {
            issuer: text("iss"),
            id: text("jti"),
            subject: text("sub"),
            session: text("sid"),
            issued_at: claims.get("iat").and_then(|iat| seconds(iat, f64::floor)),
        }
    }
}

impl Term {
    fn read(claims: &Json<'_>, leeway: u64) -> Result<Self, Reason> {
        // RFC 7519 makes `exp` optional; for us a token that never ends turns one leaked line into
        // a permanent key. `iat` is not looked at: one in the future says that a clock is off, not
        // that the token is bad.
        let expires = claims
            .get("exp")
            .and_then(|exp| seconds(exp, f64::floor))
            .ok_or(Reason::Expiry)?
            .saturating_add(leeway);
        let not_before = match claims.get("nbf") {
            None => 0,
            Some(nbf) => seconds(nbf, f64::ceil)
                .ok_or(Reason::NotBefore)?
                .saturating_sub(leeway),
        };
        Ok(Self {
            not_before,
            expires,
        })
    }

    /// RFC 7519, sections 4.1.4 and 4.1.5: not on or after `exp`, not before `nbf`.
    fn holds(self, now: u64) -> Result<(), Error> {
        if now >= self.expires {
            Err(Error::TokenExpired)
        } else if now < self.not_before {
            Err(Reason::NotYetValid.into())
        } else {
            Ok(())
        }
    }
}

/// A NumericDate (RFC 7519, section 2): a JSON number, whole or not, never a text.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss
)] // within the range just checked
pub(super) fn seconds(date: &Json<'_>, round: fn(f64) -> f64) -> Option<u64> {
    match date {
        Json::Whole(whole) if *whole <= LAST_SECOND => Some(*whole),
        Json::Number(number) if (0.0..=LAST_SECOND as f64).contains(number) => {
            Some(round(*number) as u64)
        }
        _ => None,
    }
}

/// "0" is what the number 0 looks like in a header, and 0 stands for no company: both spellings of
/// it are missing.
fn tenant(claim: Option<&Json<'_>>) -> Result<TenantId, Error> {
    match claim {
        None | Some(Json::Null | Json::Whole(0)) => Err(Error::TenantMissing),
        Some(Json::Text(text)) if text.is_empty() || text == "0" => Err(Error::TenantMissing),
        Some(Json::Whole(number)) => {
            TenantId::from_number(*number).map_err(|_| Reason::Tenant.into())
        }
        Some(Json::Text(text)) => {
            TenantId::parse(text.as_bytes()).map_err(|_| Reason::Tenant.into())
        }
        Some(_) => Err(Reason::Tenant.into()),
    }
}

/// A user's name, as text or as a number.
fn user_id(claim: &Json<'_>) -> Option<UserId> {
    match claim {
        Json::Whole(number) => UserId::from_number(*number).ok(),
        Json::Text(text) => UserId::parse(text.as_bytes()).ok(),
        _ => None,
    }
}

/// Who acts now. Earlier actors, nested in the outermost `act`, decide nothing (RFC 8693, section
/// 4.1).
fn actor(act: Option<&Json<'_>>) -> Result<Option<UserId>, Reason> {
    let Some(act) = act else { return Ok(None) };
    let sub = act.get("sub").and_then(user_id);
    sub.map(Some).ok_or(Reason::Actor)
}

fn roles(claim: Option<&Json<'_>>) -> Result<Option<Roles>, Reason> {
    let roles = match claim {
        None | Some(Json::Null) => return Ok(None),
        Some(Json::Text(text)) if text.is_empty() => return Ok(None),
        Some(Json::List(entries)) if entries.is_empty() => return Ok(None),
        Some(Json::Text(text)) => Roles::parse(text.as_bytes()),
        Some(Json::List(entries)) => {
            let texts: Option<Vec<&str>> = entries.iter().map(Json::text).collect();
            Roles::join(texts.ok_or(Reason::Role)?)
        }
        Some(_) => return Err(Reason::Role),
    };
    roles.map(Some).map_err(|_| Reason::Role)
}

#[cfg(test)]
mod tests;

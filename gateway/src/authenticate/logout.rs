//! Takes a logout token: how an OpenID provider says that a user has logged out there (OpenID
//! Connect Back-Channel Logout 1.0).
//!
//! In: the bytes of a token that somebody posted, the keys and rules of the issuer it names, and
//! the time. Out: a [`VerifiedLogout`], or the first rule that is broken. It is signed by the keys
//! that sign access tokens, so the two must never be taken for one another: a logout token has
//! `events` and no `nonce`, an access token has no `events`.
//! Invariant: a `VerifiedLogout` is built in [`judge`] and nowhere else.

use std::fmt;

use super::bearer::TOKEN_MAX;
use super::claims::{Rules, TokenFacts, seconds};
use super::error::{Error, Reason};
use super::json::Json;
use super::jws::Jws;
use super::key_ring::{KeyRing, Stop};
use super::settings::LogoutSettings;

/// A logout that a configured issuer vouches for: its issuer, its id, and the user or the session
/// or both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VerifiedLogout {
    token: TokenFacts,
    issued_at: u64,
}

/// Why a logout token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogoutFault {
    /// As an access token would not be: its form, its key, its signature, its issuer or its
    /// audience.
    Token(Reason),
    /// A `typ` that is neither `logout+jwt` nor `JWT`.
    Type,
    /// No `events` with the member of a back-channel logout.
    Events,
    /// It has a `nonce`: an ID token.
    Nonce,
    /// No `iat`, or one that is more than five minutes away.
    IssuedAt,
    /// It has expired, or its `exp` is no time.
    Expired,
    /// No `jti`, or one that is no text or too long.
    Id,
    /// Neither a `sub` nor a `sid`, or one that is no text or too long.
    Nobody,
    /// There are no keys to verify it with.
    KeysUnavailable,
}

/// Back-Channel Logout 1.0, section 2.4.
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// How far `iat` may be from now, in seconds.
pub(crate) const LOGOUT_WITHIN: u64 = 300;

/// The longest name of a user, a session or a token that is kept. OpenID Connect allows a `sub`
/// of 255.
const NAME_MAX: usize = 1024;

impl VerifiedLogout {
    /// Its issuer, its id and whom it names.
    #[must_use]
    pub(crate) fn token(&self) -> &TokenFacts {
        &self.token
    }

    /// When it was made, Unix seconds.
    #[must_use]
    pub(crate) fn issued_at(&self) -> u64 {
        self.issued_at
    }

    /// A logout without a token, for the tests of the stages behind this one.
    #[cfg(test)]
    pub(crate) fn for_test(token: TokenFacts, issued_at: u64) -> Self {
        Self { token, issued_at }
    }
}

/// The logout that `token` tells of at `now`; a fault of the token itself is the inner one.
pub(super) fn judge(
    ring: &KeyRing,
    settings: &LogoutSettings,
    token: &[u8],
    now: u64,
) -> Result<Result<VerifiedLogout, LogoutFault>, Stop> {
    if token.len() > TOKEN_MAX {
        return Err(Reason::TooLong.into());
    }
    let Some(jws) = Jws::parse_logout(token)? else {
        return Ok(Err(LogoutFault::Type));
    };
    let issuer = ring.issuer_of(&jws)?;
    if !issuer.key_for(&jws)?.verifies(jws.signed, &jws.signature) {
        return Err(Reason::Signature.into());
    }
    let payload = jws.payload()?;
    let claims = Json::parse(&payload).map_err(Reason::from)?;
    let rules = Rules {
        audience: &settings.audience,
        ..ring.rules(issuer)
    };
    Ok(read(&rules, &claims, now))
}

/// What verified claims come to.
fn read(rules: &Rules<'_>, claims: &Json<'_>, now: u64) -> Result<VerifiedLogout, LogoutFault> {
    if !matches!(claims, Json::Object(_)) {
        return Err(Reason::Malformed.into());
    }
    // An issuer without a name is whoever holds the key: a logout is taken from one that is
    // configured.
    let iss = claims.get("iss").and_then(Json::text);
    if !rules
        .issuer
        .is_some_and(|name| iss.is_some_and(|iss| name.matches(iss)))
    {
        return Err(Reason::Issuer.into());
    }
    if !claims.get("aud").is_some_and(|aud| rules.is_for_us(aud)) {
        return Err(Reason::Audience.into());
    }
    let event = claims.get("events").and_then(|events| events.get(EVENT));
    if !matches!(event, Some(Json::Object(_))) {
        return Err(LogoutFault::Events);
    }
    if claims.get("nonce").is_some() {
        return Err(LogoutFault::Nonce);
    }
    let at = |name: &str, round| claims.get(name).map(|date| seconds(date, round));
    let issued_at = at("iat", f64::floor).flatten();
    let issued_at = issued_at
        .filter(|at| at.abs_diff(now) <= LOGOUT_WITHIN)
        .ok_or(LogoutFault::IssuedAt)?;
    match at("exp", f64::floor) {
        None => {}
        Some(Some(exp)) if now < exp.saturating_add(rules.leeway) => {}
        Some(_) => return Err(LogoutFault::Expired),
    }
    match at("nbf", f64::ceil) {
        None => {}
        Some(Some(nbf)) if now.saturating_add(rules.leeway) >= nbf => {}
        Some(Some(_)) => return Err(Reason::NotYetValid.into()),
        Some(None) => return Err(Reason::NotBefore.into()),
    }
    let token = TokenFacts::read(claims);
    let name = |claim: &str, fault: LogoutFault| match claims.get(claim) {
        None => Ok(false),
        Some(Json::Text(text)) if !text.is_empty() && text.len() <= NAME_MAX => Ok(true),
        Some(_) => Err(fault),
    };
    if !name("jti", LogoutFault::Id)? {
        return Err(LogoutFault::Id);
    }
    let (user, session) = (
        name("sub", LogoutFault::Nobody)?,
        name("sid", LogoutFault::Nobody)?,
    );
    if user || session {
        Ok(VerifiedLogout { token, issued_at })
    } else {
        Err(LogoutFault::Nobody)
    }
}

impl From<Reason> for LogoutFault {
    fn from(reason: Reason) -> Self {
        Self::Token(reason)
    }
}

impl From<Error> for LogoutFault {
    fn from(error: Error) -> Self {
        match error {
            Error::TokenInvalid(reason) => Self::Token(reason),
            Error::TokenExpired => Self::Expired,
            Error::TokenMissing | Error::TenantMissing => Self::Nobody,
            Error::KeysUnavailable => Self::KeysUnavailable,
        }
    }
}

impl fmt::Display for LogoutFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::Token(reason) => return write!(f, "the logout token is not taken: {reason}"),
            Self::Type => "its typ is neither logout+jwt nor JWT",
            Self::Events => "its events do not name a back-channel logout",
            Self::Nonce => "it has a nonce, which is for ID tokens",
            Self::IssuedAt => "it has no iat, or one more than five minutes away",
            Self::Expired => "it has expired",
            Self::Id => "it has no jti of at most 1024 bytes",
            Self::Nobody => "it names neither a sub nor a sid of at most 1024 bytes",
            Self::KeysUnavailable => return f.write_str("there are no keys to verify it with"),
        };
        write!(f, "the logout token is not taken: {what}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::issuer_name::IssuerName;
    use super::super::mint::NOW;
    use super::super::settings::ClaimNames;
    use super::super::tenants::SpeaksFor;
    use super::*;

    fn read_of(changes: &Value) -> Result<VerifiedLogout, LogoutFault> {
        let mut claims = json!({"iss": "https://id", "aud": "door", "iat": NOW, "jti": "1", "sub": "ann",
            "events": {EVENT: {}}});
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        let text = claims.to_string();
        let issuer: IssuerName = "https://id".parse().unwrap();
        let rules = Rules {
            issuer: Some(&issuer),
            audience: &["door".to_owned()],
            claims: &ClaimNames::default(),
            speaks_for: &SpeaksFor::Any,
            leeway: 30,
            longest_life: None,
        };
        read(&rules, &Json::parse(text.as_bytes()).unwrap(), NOW)
    }

    #[test]
    fn a_logout_names_a_user_or_a_session_and_is_fresh() {
        for good in [
            json!({}),
            json!({"sid": "s"}),
            json!({"sid": "s", "sub": null}),
            json!({"aud": ["other", "door"]}),
            json!({"iat": NOW - 300}),
            json!({"iat": NOW + 300}),
            json!({"exp": NOW - 29}),
            json!({"nbf": NOW + 30}),
            json!({"events": {EVENT: {}, "https://other": {}}}),
            json!({"sub": "a".repeat(1024)}),
        ] {
            assert!(read_of(&good).is_ok(), "{good}: {:?}", read_of(&good));
        }
        let logout = read_of(&json!({"sid": "s"})).unwrap();
        assert_eq!(logout.token().subject.as_deref(), Some("ann"));
        assert_eq!(logout.token().session.as_deref(), Some("s"));
        assert_eq!(logout.issued_at(), NOW);
    }

    #[test]
    fn each_rule_is_held() {
        use LogoutFault::{Events, Expired, Id, IssuedAt, Nobody, Nonce, Token};
        for (change, fault) in [
            (json!({"iss": null}), Token(Reason::Issuer)),
            (json!({"iss": "https://other"}), Token(Reason::Issuer)),
            (json!({"aud": null}), Token(Reason::Audience)),
            (json!({"aud": "api"}), Token(Reason::Audience)),
            (json!({"events": null}), Events),
            (json!({"events": {}}), Events),
            (json!({"events": {"https://other": {}}}), Events),
            (json!({"events": {EVENT: true}}), Events),
            (json!({"events": [EVENT]}), Events),
            (json!({"nonce": "n"}), Nonce),
            (json!({"iat": null}), IssuedAt),
            (json!({"iat": "now"}), IssuedAt),
            (json!({"iat": NOW - 301}), IssuedAt),
            (json!({"iat": NOW + 301}), IssuedAt),
            (json!({"exp": NOW - 30}), Expired),
            (json!({"exp": "never"}), Expired),
            (json!({"nbf": NOW + 31}), Token(Reason::NotYetValid)),
            (json!({"nbf": "soon"}), Token(Reason::NotBefore)),
            (json!({"jti": null}), Id),
            (json!({"jti": ""}), Id),
            (json!({"jti": 1}), Id),
            (json!({"jti": "j".repeat(1025)}), Id),
            (json!({"sub": null}), Nobody),
            (json!({"sub": "", "sid": "s"}), Nobody),
            (json!({"sub": ["ann"]}), Nobody),
            (json!({"sid": 7}), Nobody),
        ] {
            assert_eq!(read_of(&change), Err(fault), "{change}");
        }
    }
}

//! Says in words what a token says and why it would be refused, offline: `gapura token inspect`.
//!
//! In: a token, what is configured, and the time. Out: what it says, and everything that is wrong
//! with it, where a request hears of one thing and of that in a word. The very functions that serve
//! judge here. The token itself and its signature are never shown.

use std::time::{Duration, UNIX_EPOCH};

use gapura_protocol::clock::Rfc3339;

use super::bearer::TOKEN_MAX;
use super::claims::Rules;
use super::error::{Error, Reason};
use super::json::Json;
use super::jws::Jws;
use super::key_ring::{KeyRing, Stop};
use super::keys::Keys;
use super::tenants::SpeaksFor;
use super::{ClaimNames, Settings};

/// What there is to say of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What it says, a line each.
    pub says: Vec<String>,
    /// Why it would be refused, a line each; empty: as far as can be told here it would be taken.
    pub refused: Vec<String>,
    /// What could not be told here.
    pub open: Vec<String>,
}

/// Looks into a token. Without issuers in `settings` its signature, issuer and audience stay open.
///
/// # Errors
/// Every fault of the settings, a sentence each.
pub fn inspect(token: &str, settings: Settings, now: u64) -> Result<Inspection, Vec<String>> {
    let mut found = Inspection::default();
    let claims_of = settings.claims.clone();
    let leeway = settings.leeway.as_secs();
    let known = !settings.issuers.is_empty();
    let keys = Keys::load(settings)?;
    let ring = keys.ring();
    if token.len() > TOKEN_MAX {
        found.refuse(Reason::TooLong.into());
    }
    let jws = match Jws::parse(token.as_bytes()) {
        Ok(jws) => jws,
        Err(reason) => {
            found.refuse(reason.into());
            return Ok(found);
        }
    };
    found.says.push(match &jws.kid {
        Some(kid) => format!("signed with {} by the key {kid:?}", jws.algorithm.as_str()),
        None => format!(
            "signed with {} by a key without a name",
            jws.algorithm.as_str()
        ),
    });
    let payload = jws.payload().map_err(|reason| vec![reason.to_string()]);
    let payload = match payload {
        Ok(payload) => payload,
        Err(_) => {
            found.refuse(Reason::Malformed.into());
            return Ok(found);
        }
    };
    let claims = match Json::parse(&payload) {
        Ok(claims @ Json::Object(_)) => claims,
        Ok(_) => {
            found.refuse(Reason::Malformed.into());
            return Ok(found);
        }
        Err(fault) => {
            found.refuse(Reason::from(fault).into());
            return Ok(found);
        }
    };
    if known {
        found.judge(&ring, &jws, &claims, now);
    } else {
        found.open.push("whether its signature, issuer and audience are right: give --jwks or --jwt-secret-file, --issuer and --audience".to_owned());
        let rules = Rules {
            issuer: None,
            audience: &[],
            claims: &claims_of,
            speaks_for: &SpeaksFor::Any,
            leeway,
            longest_life: None,
        };
        found.add(rules.faults(&claims, now));
    }
    found.tell(&claims, &claims_of, now);
    Ok(found)
}

impl Inspection {
    fn refuse(&mut self, error: Error) {
        let code = match error {
            Error::TokenMissing => "401 token_missing",
            Error::TokenInvalid(_) => "401 token_invalid",
            Error::TokenExpired => "401 token_expired",
            Error::TenantMissing => "403 tenant_missing",
            Error::KeysUnavailable => "503 keys_unavailable",
        };
        self.refused.push(format!("{error} ({code})"));
    }

    fn add(&mut self, faults: Vec<Error>) {
        for fault in faults {
            self.refuse(fault);
        }
    }

    fn judge(&mut self, ring: &KeyRing, jws: &Jws<'_>, claims: &Json<'_>, now: u64) {
        let issuer = match ring.issuer_of(jws) {
            Ok(issuer) => issuer,
            Err(Stop::Refused(error)) => return self.refuse(error),
            Err(Stop::Wait(..)) => return self.refuse(Error::KeysUnavailable),
        };
        match issuer.key_for(jws) {
            Ok(key) if key.verifies(jws.signed, &jws.signature) => {
                self.says.push("its signature verifies".to_owned());
            }
            Ok(_) => self.refuse(Reason::Signature.into()),
            Err(Stop::Refused(error)) => self.refuse(error),
            Err(Stop::Wait(..)) => self.open.push("whether its signature is right: its issuer's keys are fetched, which is not done here".to_owned()),
        }
        self.add(ring.rules(issuer).faults(claims, now));
    }

    /// What the claims say, in words.
    fn tell(&mut self, claims: &Json<'_>, names: &ClaimNames, now: u64) {
        let text = |claim: Option<&Json<'_>>| claim.map(shown);
        let user = match &names.user {
            Some(path) => path.find(claims),
            None => claims.get("user_id").or_else(|| claims.get("sub")),
        };
        for (what, value) in [
            ("issued by", text(claims.get("iss"))),
            ("for the audience", text(claims.get("aud"))),
            ("speaks for the user", text(user)),
            ("of the company", text(names.tenant.find(claims))),
            ("with the role", text(names.role.find(claims))),
            (
                "with the scope",
                text(claims.get("scope").or_else(|| claims.get("scp"))),
            ),
            (
                "used by, on the user's behalf,",
                text(claims.get("act").and_then(|act| act.get("sub"))),
            ),
        ] {
            self.says
                .extend(value.map(|value| format!("{what} {value}")));
        }
        for (what, name) in [("issued", "iat"), ("good from", "nbf"), ("expires", "exp")] {
            if let Some(at) = claims.get(name).and_then(seconds) {
                let time = Rfc3339(UNIX_EPOCH + Duration::from_secs(at));
                self.says.push(format!("{what} {time}, {}", away(at, now)));
            }
        }
        if claims.get("cnf").is_some() {
            self.open.push("whether the caller holds the key it is bound to (cnf): only a connection can prove that".to_owned());
        }
    }
}

fn seconds(claim: &Json<'_>) -> Option<u64> {
    match claim {
        Json::Whole(at) if *at < 253_402_300_800 => Some(*at),
        _ => None,
    }
}

fn away(at: u64, now: u64) -> String {
    let (span, past) = (at.abs_diff(now), at <= now);
    let span = match span {
        0..=119 => format!("{span} seconds"),
        120..=7199 => format!("{} minutes", span / 60),
        7200..=172_799 => format!("{} hours", span / 3600),
        _ => format!("{} days", span / 86_400),
    };
    if past {
        format!("{span} ago")
    } else {
        format!("in {span}")
    }
}

/// A claim's value on one line, nothing in it that a terminal would obey.
fn shown(claim: &Json<'_>) -> String {
    match claim {
        Json::Null => "null".to_owned(),
        Json::Bool(value) => value.to_string(),
        Json::Whole(number) => number.to_string(),
        Json::Number(number) => number.to_string(),
        Json::Text(text) => format!("{:?}", text.chars().take(256).collect::<String>()),
        Json::List(entries) => {
            let entries: Vec<String> = entries.iter().take(32).map(shown).collect();
            format!("[{}]", entries.join(", "))
        }
        Json::Object(members) => format!("an object of {} members", members.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authenticate::mint::{NOW, SECRET, Signers, claims, with};
    use crate::authenticate::{HmacAlgorithm, IssuerSettings, KeySource};
    use serde_json::json;

    fn known() -> Settings {
        let source = KeySource::Secret {
            bytes: zeroize::Zeroizing::new(SECRET.to_vec()),
            algorithm: HmacAlgorithm::Hs256,
        };
        let issuer = IssuerSettings {
            issuer: Some("i".parse().unwrap()),
            audience: vec!["a".to_owned()],
            ..IssuerSettings::new(source)
        };
        Settings {
            issuers: vec![issuer],
            ..Settings::default()
        }
    }

    fn token(changes: &serde_json::Value) -> String {
        Signers::ours().token(&json!({"alg": "HS256"}), &with(claims(), changes))
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let bad = token(
            &json!({"iss": "x", "exp": NOW - 100, "company_id": "a b", "act": {}, "role": "a, b"}),
        );
        let found = inspect(&bad, known(), NOW).unwrap();
        for says in [
            "iss is not",
            "aud is not",
            "has expired (401 token_expired)",
            "tenant is not",
            "act has no sub",
            "a role",
        ] {
            assert!(
                found.refused.iter().any(|line| line.contains(says)),
                "{says}: {found:?}"
            );
        }
        assert!(
            found
                .says
                .iter()
                .any(|line| line == "its signature verifies")
        );
        assert!(
            found
                .says
                .iter()
                .any(|line| line.contains("1 minutes ago") || line.contains("100 seconds ago")),
            "{found:?}"
        );
        let good = inspect(&token(&json!({"iss": "i", "aud": "a"})), known(), NOW).unwrap();
        assert!(good.refused.is_empty() && good.open.is_empty(), "{good:?}");
    }

    #[test]
    fn without_keys_the_signature_stays_open() {
        let found = inspect(&token(&json!({})), Settings::default(), NOW).unwrap();
        assert!(
            found.refused.is_empty() && found.open.len() == 1,
            "{found:?}"
        );
        for (bad, says) in [
            ("x", "three parts"),
            ("a.b.c", "three parts"),
            (&"a".repeat(9000), "8 KiB"),
        ] {
            let found = inspect(bad, Settings::default(), NOW).unwrap();
            assert!(found.refused[0].contains(says), "{found:?}");
        }
    }

    #[test]
    fn neither_token_nor_signature_is_shown() {
        let token = token(&json!({"user_id": "7\u{1b}[2J"}));
        let found = format!("{:?}", inspect(&token, known(), NOW).unwrap());
        assert!(token.split('.').all(|part| !found.contains(part)));
        assert!(!found.contains('\u{1b}'));
    }
}

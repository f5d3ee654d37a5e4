//! The field `rate_limit`, of a plugin's file and of a company's.
//!
//! In: the fields of a file. Out: a [`RateLimit`], whose policy is written once as clients read it,
//! or faults. How it is kept to is decided in `crate::rate_limit`.

use std::fmt;
use std::sync::Arc;

use gapura_settings::json::{Fields, nearest};
use http::HeaderValue;

use super::fields::{PER_S_MAX, RATE_LIMIT, REQUESTS_MAX, names};
use crate::rate_limit::quota::Quota;

/// How much one caller may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RateLimit {
    requests: u64,
    per_s: u64,
    burst: u64,
    key: LimitKey,
    shadow: bool,
    quota: Quota,
    policy: &'static str,
    policy_item: HeaderValue,
}

/// Whom a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitKey {
    /// Each company.
    Tenant,
    /// Each user of each company.
    User,
    /// Each address.
    Ip,
}

/// Whose file it stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limited {
    /// A plugin's, whose callers have proven who they are if `known`.
    Plugin {
        /// Whether a token is verified.
        known: bool,
    },
    /// A company's: it counts the company where it says nothing else.
    Company,
}

const KEYS: [(&str, LimitKey); 3] = [
    ("tenant", LimitKey::Tenant),
    ("user", LimitKey::User),
    ("ip", LimitKey::Ip),
];

impl RateLimit {
    /// Reads the field `rate_limit`; `None` where it is not there or something is wrong.
    pub(crate) fn read(fields: &mut Fields<'_, '_>, limited: Limited) -> Option<Arc<Self>> {
        let node = fields.node("rate_limit")?;
        let mut fields = Fields::open(node, "rate_limit", &names(RATE_LIMIT), fields.faults())?;
        // Whether the key may be left out depends on whose file it is.
        let needed = RATE_LIMIT
            .iter()
            .filter(|field| field.required && field.name != "key");
        for field in needed {
            fields.require(field.name);
        }
        let key = read_key(&mut fields, limited);
        let requests = fields.whole("requests", 1..=REQUESTS_MAX);
        let per_s = fields.whole("per_s", 1..=PER_S_MAX);
        let burst = match fields.node("burst") {
            Some(_) => fields.whole("burst", 1..=REQUESTS_MAX),
            None => requests,
        };
        let shadow = fields.flag("shadow").unwrap_or(false);
        let (key, requests, per_s, burst) = (key?, requests?, per_s?, burst?);
        let policy = match limited {
            Limited::Plugin { .. } => key.as_str(),
            Limited::Company => "company",
        };
        let Some(limit) = Self::new((requests, per_s, burst), key, policy) else {
            fields.fault(
                "burst",
                "would take more than a year to refill; lower it, or let it refill faster",
            );
            return None;
        };
        Some(Arc::new(Self { shadow, ..limit }))
    }

    /// So many requests in so many seconds, so many at once, by this name; `None` where that makes
    /// no bucket.
    pub(crate) fn new(
        (requests, per_s, burst): (u64, u64, u64),
        key: LimitKey,
        policy: &'static str,
    ) -> Option<Self> {
        let more = if burst == requests {
            String::new()
        } else {
            format!(";gapura-burst={burst}")
        };
        let item = format!("\"{policy}\";q={requests};w={per_s}{more}");
        Some(Self {
            requests,
            per_s,
            burst,
            key,
            shadow: false,
            quota: Quota::new(requests, per_s, burst)?,
            policy,
            policy_item: HeaderValue::try_from(item).ok()?,
        })
    }

    /// Whom it counts.
    #[must_use]
    pub(crate) fn key(&self) -> LimitKey {
        self.key
    }

    /// Whether it only watches.
    #[must_use]
    pub(crate) fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// The bucket it gives to each whom it counts.
    pub(crate) fn quota(&self) -> Quota {
        self.quota
    }

    /// How many at once.
    #[must_use]
    pub(crate) fn burst(&self) -> u64 {
        self.burst
    }

    /// Its name among the limits of an answer.
    pub(crate) fn policy(&self) -> &'static str {
        self.policy
    }

    /// Its member of `RateLimit-Policy`.
    pub(crate) fn policy_item(&self) -> &HeaderValue {
        &self.policy_item
    }

    /// The same, as the operator's side shows it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "requests": self.requests,
            "per_s": self.per_s,
            "burst": self.burst,
            "key": self.key.as_str(),
            "shadow": self.shadow,
        })
    }
}

impl LimitKey {
    /// The word of the file.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        let found = KEYS.iter().find(|(_, key)| *key == self);
        found.map_or("", |(word, _)| word)
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = match (self.policy, self.key) {
            ("company", LimitKey::Tenant) => "the company",
            (_, LimitKey::Tenant) => "each company",
            ("company", LimitKey::User) => "each user of the company",
            (_, LimitKey::User) => "each user",
            (_, LimitKey::Ip) => "each address",
        };
        let (requests, per_s, burst) = (self.requests, self.per_s, self.burst);
        write!(
            f,
            "{requests} requests in {per_s} s for {whom}, {burst} at once"
        )
    }
}

fn read_key(fields: &mut Fields<'_, '_>, limited: Limited) -> Option<LimitKey> {
    if fields.node("key").is_none() {
        if limited == Limited::Company {
            return Some(LimitKey::Tenant);
        }
        fields.require("key");
        return None;
    }
    let text = fields.text("key")?;
    let Some((_, key)) = KEYS.iter().find(|(word, _)| *word == text) else {
        let nearest = nearest(text, KEYS.map(|(word, _)| word));
        let nearest = nearest.map_or(String::new(), |word| format!("; the nearest is {word}"));
        fields.fault("key", format_args!("must be tenant, user or ip{nearest}"));
        return None;
    };
    if *key != LimitKey::Ip && limited == (Limited::Plugin { known: false }) {
        fields.fault(
            "key",
            format_args!(
                "can't be {text} where no token is verified and nobody knows who calls; count by ip"
            ),
        );
        return None;
    }
    Some(*key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_settings::json::parse;
    use proptest::prelude::*;

    fn read(text: &str, limited: Limited) -> Result<Arc<RateLimit>, Vec<String>> {
        let mut faults = Vec::new();
        let node = parse(
            format!("{{\"rate_limit\": {text}}}").as_bytes(),
            &mut faults,
        )
        .unwrap();
        let mut fields = Fields::open(&node, "", &["rate_limit"], &mut faults).unwrap();
        let limit = RateLimit::read(&mut fields, limited);
        assert!(limit.is_some() || !faults.is_empty(), "{text}");
        let limit = limit.filter(|_| faults.is_empty());
        limit.ok_or_else(|| faults.iter().map(ToString::to_string).collect())
    }

    const KNOWN: Limited = Limited::Plugin { known: true };
    const PUBLIC: Limited = Limited::Plugin { known: false };

    #[test]
    fn a_limit_says_how_much_for_whom() {
        let limit = read(r#"{"requests": 100, "per_s": 60, "key": "tenant"}"#, KNOWN).unwrap();
        assert_eq!(
            limit.to_string(),
            "100 requests in 60 s for each company, 100 at once"
        );
        assert_eq!(limit.policy_item(), "\"tenant\";q=100;w=60");
        assert!(!limit.is_shadow());
        let text = r#"{"requests": 5, "per_s": 1, "burst": 20, "key": "user", "shadow": true}"#;
        let limit = read(text, KNOWN).unwrap();
        assert_eq!(limit.policy_item(), "\"user\";q=5;w=1;gapura-burst=20");
        assert!(limit.is_shadow() && limit.key() == LimitKey::User);
        assert_eq!(limit.to_json()["burst"], 20);
        let limit = read(r#"{"requests": 5, "per_s": 1}"#, Limited::Company).unwrap();
        assert_eq!((limit.policy(), limit.key()), ("company", LimitKey::Tenant));
        assert_eq!(
            limit.to_string(),
            "5 requests in 1 s for the company, 5 at once"
        );
        assert!(read(r#"{"requests": 5, "per_s": 1, "key": "ip"}"#, PUBLIC).is_ok());
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        for (text, limited, says) in [
            (
                "5",
                KNOWN,
                "1:16: \"rate_limit\" must be an object, found a number",
            ),
            (
                r#"{"per_s": 1, "key": "ip"}"#,
                KNOWN,
                "1:16: the field \"rate_limit.requests\" is missing",
            ),
            (
                r#"{"requests": 1, "key": "ip"}"#,
                KNOWN,
                "the field \"rate_limit.per_s\" is missing",
            ),
            (
                r#"{"requests": 1, "per_s": 1}"#,
                KNOWN,
                "the field \"rate_limit.key\" is missing",
            ),
            (
                r#"{"requests": 0, "per_s": 1, "key": "ip"}"#,
                KNOWN,
                "1:29: \"rate_limit.requests\" must be a whole number from 1 to 1000000000, found 0",
            ),
            (
                r#"{"requests": 1, "per_s": 0.5, "key": "ip"}"#,
                KNOWN,
                "\"rate_limit.per_s\" must be a whole number from 1",
            ),
            (
                r#"{"requests": 1, "per_s": 1, "burst": 0, "key": "ip"}"#,
                KNOWN,
                "\"rate_limit.burst\" must be a whole number from 1",
            ),
            (
                r#"{"requests": 1, "per_s": 86400, "burst": 368, "key": "ip"}"#,
                KNOWN,
                "\"rate_limit.burst\" would take more than a year to refill",
            ),
            (
                r#"{"requests": 1, "per_s": 1, "key": "users"}"#,
                KNOWN,
                "\"rate_limit.key\" must be tenant, user or ip; the nearest is user",
            ),
            (
                r#"{"requests": 1, "per_s": 1, "key": "tenant"}"#,
                PUBLIC,
                "\"rate_limit.key\" can't be tenant where no token is verified",
            ),
            (
                r#"{"requests": 1, "per_s": 1, "key": "ip", "bursts": 1}"#,
                KNOWN,
                "unknown field \"rate_limit.bursts\"; the nearest valid name is \"rate_limit.burst\"",
            ),
            (
                r#"{"requests": 1, "per_s": 1, "key": "ip", "shadow": "yes"}"#,
                KNOWN,
                "\"rate_limit.shadow\" must be true or false",
            ),
        ] {
            let faults = read(text, limited).unwrap_err();
            assert!(
                faults.len() == 1 && faults[0].contains(says),
                "{text}: {faults:?}"
            );
        }
        assert_eq!(read("{}", KNOWN).unwrap_err().len(), 3, "all at once");
    }

    proptest! {
        #[test]
        fn no_numbers_make_it_panic(requests in any::<u64>(), per_s in any::<u64>(), burst in any::<u64>()) {
            let text = format!("{{\"requests\": {requests}, \"per_s\": {per_s}, \"burst\": {burst}, \"key\": \"ip\"}}");
            let _ = read(&text, KNOWN);
            let text = format!("{{\"requests\": {}, \"per_s\": {}, \"key\": \"ip\"}}", requests % REQUESTS_MAX + 1, per_s % PER_S_MAX + 1);
            let _ = read(&text, KNOWN);
        }
    }
}

//! One file of the folder `--tenants`: what holds for one company.
//!
//! In: the file's text. Out: a [`Tenant`], or faults; and in either case the companies it names,
//! for which a file that can't be read must not mean that all is well.

use std::net::IpAddr;
use std::sync::Arc;

use gapura_protocol::context::TenantId;
use gapura_settings::json::{self, Fields, JsonFault};

use crate::cidr::Cidr;
use crate::registry::{Limited, OriginSet, RateLimit, read_company, read_origins};

/// What holds for a company.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenant {
    /// Its id.
    pub(super) company: Box<str>,
    /// Whether it is let in at all.
    pub(super) suspended: bool,
    /// Where its callers must come from; anywhere, if empty.
    cidrs: Box<[Cidr]>,
    /// How much its callers may send, over all plugins.
    pub(super) rate_limit: Option<Arc<RateLimit>>,
    /// Whose pages may read answers to its callers.
    pub(super) origins: OriginSet,
}

/// What a file says.
pub(super) struct Reading {
    pub(super) tenant: Option<Tenant>,
    /// The companies it names.
    pub(super) claims: Vec<Box<str>>,
    pub(super) faults: Vec<JsonFault>,
}

/// A broken text is not searched for more companies than this.
const CLAIMS_MAX: usize = 16;

impl Tenant {
    /// A company that is not let in.
    pub(super) fn suspended(company: &str) -> Self {
        Self {
            company: company.into(),
            suspended: true,
            ..Self::default()
        }
    }

    /// Whether its callers may come from an address.
    pub(super) fn takes(&self, client: IpAddr) -> bool {
        self.cidrs.is_empty() || self.cidrs.iter().any(|cidr| cidr.contains(client))
    }

    /// What it asks of the company's callers, in words, for a warning when it goes.
    pub(super) fn in_words(&self) -> String {
        let mut words = Vec::new();
        if self.suspended {
            words.push("suspended");
        }
        if !self.cidrs.is_empty() {
            words.push("cidrs");
        }
        if self.rate_limit.is_some() {
            words.push("rate_limit");
        }
        if self.origins != OriginSet::default() {
            words.push("cors_origins");
        }
        if words.is_empty() {
            "no limits".to_owned()
        } else {
            words.join(", ")
        }
    }
}

/// Reads a file's text.
pub(super) fn read(text: &[u8]) -> Reading {
    let mut faults = Vec::new();
    let tenant = json::parse(text, &mut faults).and_then(|root| {
        let known = [
            "company_id",
            "suspended",
            "cidrs",
            "rate_limit",
            "cors_origins",
            "$schema",
        ];
        let mut fields = Fields::open(&root, "", &known, &mut faults)?;
        read_fields(&mut fields)
    });
    let tenant = tenant.filter(|_| faults.is_empty());
    let claims = match &tenant {
        Some(tenant) => vec![tenant.company.clone()],
        None => claims_in(&String::from_utf8_lossy(text)),
    };
    faults.sort_by_key(|fault| fault.position);
    Reading {
        tenant,
        claims,
        faults,
    }
}

fn read_fields(fields: &mut Fields<'_, '_>) -> Option<Tenant> {
    fields.require("company_id");
    let company = fields.node("company_id").and_then(|node| {
        read_company(node)
            .map_err(|message| fields.fault("company_id", message))
            .ok()
    });
    let suspended = fields.flag("suspended").unwrap_or(false);
    let mut cidrs = Vec::new();
    if fields.list("cidrs").is_some_and(<[_]>::is_empty) {
        fields.fault(
            "cidrs",
            "is an empty list, which would shut the company out; fill it, leave it out, or set \"suspended\": true",
        );
    }
    for (text, position) in fields.texts("cidrs") {
        match Cidr::parse(text) {
            Ok(cidr) => cidrs.push(cidr),
            Err(message) => fields.fault_at(position, "cidrs", message),
        }
    }
    let rate_limit = RateLimit::read(fields, Limited::Company);
    let origins = fields
        .node("cors_origins")
        .and_then(|_| read_origins(fields, "cors_origins", false));
    Some(Tenant {
        company: company?.into(),
        suspended,
        cidrs: cidrs.into(),
        rate_limit,
        origins: origins.unwrap_or_default(),
    })
}

/// The values of everything that looks like `"company_id": …`.
fn claims_in(text: &str) -> Vec<Box<str>> {
    let mut claims: Vec<Box<str>> = Vec::new();
    for (at, key) in text.match_indices("\"company_id\"") {
        let after = text.get(at + key.len()..).unwrap_or_default().trim_start();
        let Some(value) = after.strip_prefix(':') else {
            continue;
        };
        let mut values = serde_json::Deserializer::from_str(value).into_iter();
        let company = match values.next() {
            Some(Ok(serde_json::Value::String(text))) => TenantId::parse(text.as_bytes()).ok(),
            Some(Ok(serde_json::Value::Number(number))) => number
                .as_u64()
                .and_then(|number| TenantId::from_number(number).ok()),
            _ => None,
        };
        if let Some(company) = company
            && !claims.iter().any(|claim| **claim == *company.as_str())
        {
            claims.push(company.as_str().into());
        }
        if claims.len() == CLAIMS_MAX {
            break;
        }
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(text: &str) -> String {
        let reading = read(text.as_bytes());
        assert_eq!(
            reading.tenant.is_none(),
            !reading.faults.is_empty(),
            "{text}"
        );
        let faults: Vec<String> = reading.faults.iter().map(ToString::to_string).collect();
        faults.join("; ")
    }

    #[test]
    fn a_company_is_its_id_and_what_it_says() {
        let tenant = |text: &str| read(text.as_bytes()).tenant.unwrap();
        let plain = tenant(r#"{"company_id": "42"}"#);
        assert_eq!((&*plain.company, plain.suspended), ("42", false));
        assert!(plain.takes("9.9.9.9".parse().unwrap()));
        let full = tenant(
            r#"{"$schema": "x", "company_id": 42, "suspended": true, "cidrs": ["10.0.0.0/8", "2001:db8::/32"], "cors_origins": ["https://*.a.test"], "rate_limit": {"requests": 5, "per_s": 1}}"#,
        );
        let limit = full.rate_limit.as_ref().unwrap();
        assert_eq!(
            limit.to_string(),
            "5 requests in 1 s for the company, 5 at once"
        );
        assert!(full.suspended && full.origins.has("https://b.a.test"));
        for (address, is_in) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("11.0.0.1", false),
        ] {
            assert_eq!(full.takes(address.parse().unwrap()), is_in, "{address}");
        }
        assert_eq!(
            full.in_words(),
            "suspended, cidrs, rate_limit, cors_origins"
        );
    }

    #[test]
    fn each_mistake_is_named_where_it_stands() {
        for (text, says) in [
            ("{}", "the field \"company_id\" is missing"),
            (
                r#"{"company_id": "a b"}"#,
                "1:16: \"company_id\" holds what is no company id",
            ),
            (r#"{"company_id": "0"}"#, "no company id"),
            (
                r#"{"company_id": "1", "suspend": true}"#,
                "the nearest valid name is \"suspended\"",
            ),
            (
                r#"{"company_id": "1", "suspended": "yes"}"#,
                "must be true or false",
            ),
            (
                r#"{"company_id": "1", "cidrs": []}"#,
                "\"cidrs\" is an empty list",
            ),
            (
                r#"{"company_id": "1", "cidrs": ["10.0.0.1/8"]}"#,
                "must be 10.0.0.0/8",
            ),
            (
                r#"{"company_id": "1", "cors_origins": []}"#,
                "\"cors_origins\" is an empty list",
            ),
            (
                r#"{"company_id": "1", "cors_origins": ["*"]}"#,
                "name the origins",
            ),
            (
                r#"{"company_id": "1", "rate_limit": {"per_s": 1}}"#,
                "the field \"rate_limit.requests\" is missing",
            ),
        ] {
            assert!(said(text).contains(says), "{text}: {}", said(text));
        }
    }

    #[test]
    fn a_faulty_file_still_names_its_companies() {
        let claims = |text: &str| read(text.as_bytes()).claims.join(" ");
        assert_eq!(claims(r#"{"company_id": "42", "x": 1}"#), "42");
        assert_eq!(claims(r#"{"company_id" : 42,"#), "42");
        assert_eq!(claims(r#"{"company_id": "a", "company_id": "b"}"#), "a b");
        assert_eq!(claims(r#"{"company_id": "#), "");
        assert_eq!(claims("nonsense"), "");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60), put in ".{0,4}", cut in 0_usize..20) {
            let _ = read(&bytes);
            let good = r#"{"company_id": "42"}"#;
            let _ = read(format!("{}{put}{}", &good[..cut], &good[cut..]).as_bytes());
        }
    }
}

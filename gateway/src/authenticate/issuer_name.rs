//! What `iss` must be: one text, or a template for providers that have an issuer a tenant.
//!
//! In: the name as the operator wrote it. Out: whether a token's `iss` is it, and which company a
//! template's segment names. Compared as it is, no URL is normalised (RFC 7519, section 4.1.1; RFC
//! 8725, section 3.8). A template never says where keys are: at such providers anybody can open a
//! tenant, and a token would choose who vouches for it.
//! Invariant: two names for which [`IssuerName::overlaps`] is false match no common `iss`.

use std::fmt;
use std::str::FromStr;

use gapura_protocol::context::TenantId;

/// The name of an issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerName {
    text: Box<str>,
    /// Where [`SLOT`] stands in a template.
    slot: Option<usize>,
}

/// The company's place in a template.
const SLOT: &str = "{company_id}";

impl IssuerName {
    /// The name as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it holds the place of a company.
    #[must_use]
    pub fn is_template(&self) -> bool {
        self.slot.is_some()
    }

    /// Whether `iss` is this issuer's.
    pub(super) fn matches(&self, iss: &str) -> bool {
        if self.is_template() {
            self.company_in(iss).is_some()
        } else {
            *self.text == *iss
        }
    }

    /// The company that `iss` names where the template has its place; `None` if it is not of this
    /// template.
    pub(super) fn company_in<'i>(&self, iss: &'i str) -> Option<&'i str> {
        let (before, after) = self.around()?;
        let company = iss.strip_prefix(before)?.strip_suffix(after)?;
        // A company's grammar has no `/`, so what fits is one whole segment.
        TenantId::parse(company.as_bytes())
            .is_ok()
            .then_some(company)
    }

    /// Whether some `iss` would be of both names.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.text.split('/'), other.text.split('/'));
        let is_company = |segment: &str| TenantId::parse(segment.as_bytes()).is_ok();
        ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|pair| match pair {
                (SLOT, SLOT) => true,
                (SLOT, segment) | (segment, SLOT) => is_company(segment),
                (ours, theirs) => ours == theirs,
            })
    }

    fn around(&self) -> Option<(&str, &str)> {
        let at = self.slot?;
        Some((self.text.get(..at)?, self.text.get(at + SLOT.len()..)?))
    }
}

impl FromStr for IssuerName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty: write what `iss` is, or leave it out".to_owned());
        }
        let slot = text.find(SLOT);
        let rest = text.replacen(SLOT, "", 1);
        if rest.contains(['{', '}']) {
            return Err(format!(
                "holds a brace that is not its one {SLOT}: a template names the company's path segment once, as in https://login.example.com/{SLOT}/v2.0"
            ));
        }
        if let Some(at) = slot {
            let (before, after) = (&text[..at], &text[at + SLOT.len()..]);
            let host_ends = before
                .find("://")
                .is_some_and(|scheme| before[scheme + 3..].find('/').is_some_and(|host| host > 0));
            let whole = before.ends_with('/') && (after.is_empty() || after.starts_with('/'));
            if !host_ends || !whole || before.contains(['?', '#']) {
                return Err(format!(
                    "has {SLOT} where no whole path segment is: it may stand for one alone, as in https://login.example.com/{SLOT}/v2.0"
                ));
            }
        }
        Ok(Self {
            text: text.into(),
            slot,
        })
    }
}

impl fmt::Display for IssuerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> IssuerName {
        text.parse().unwrap()
    }

    #[test]
    fn a_plain_name_is_compared_to_the_letter() {
        let plain = name("https://id/");
        assert!(plain.matches("https://id/") && !plain.is_template());
        for other in ["https://id", "HTTPS://id/", "https://id//", ""] {
            assert!(!plain.matches(other), "{other}");
        }
    }

    #[test]
    fn a_template_stands_for_one_whole_segment() {
        let template = name("https://login.test/{company_id}/v2.0");
        assert_eq!(
            template.company_in("https://login.test/acme-1/v2.0"),
            Some("acme-1")
        );
        for other in [
            "https://login.test//v2.0",
            "https://login.test/v2.0",
            "https://login.test/a/b/v2.0",
            "https://login.test/acme/v2.0/",
            "https://login.test/acme/v2.0#",
            "https://login.test.evil/acme/v2.0",
            "https://evil/https://login.test/acme/v2.0",
            "https://login.test/%61/v2.0",
            "https://login.test/{company_id}/v2.0",
            "https://login.test/a?/v2.0",
        ] {
            assert!(!template.matches(other), "{other}");
        }
        let last = name("https://login.test/{company_id}");
        assert_eq!(last.company_in("https://login.test/7"), Some("7"));
    }

    #[test]
    fn a_place_that_is_no_segment_is_refused() {
        for bad in [
            "",
            "{company_id}",
            "https://{company_id}/x",
            "https://{company_id}.login.test/",
            "https://login.test/t-{company_id}/x",
            "https://login.test/{company_id}x",
            "https://login.test/{company_id}/{company_id}",
            "https://login.test/{tenant}/x",
            "https://login.test/x?c={company_id}",
            "https://login.test/?/{company_id}",
            "https:///{company_id}",
            "https://login.test/{",
        ] {
            assert!(bad.parse::<IssuerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_may_match_one_iss_overlap() {
        for (a, b, both) in [
            ("a", "a", true),
            ("a", "b", false),
            ("https://l/{company_id}/v2", "https://l/acme/v2", true),
            ("https://l/{company_id}/v2", "https://l/acme/v1", false),
            ("https://l/{company_id}/v2", "https://l/-/v2", false),
            (
                "https://l/{company_id}/v2",
                "https://l/{company_id}/v2",
                true,
            ),
            (
                "https://l/{company_id}/v2",
                "https://l/v2/{company_id}",
                true,
            ),
            (
                "https://l/{company_id}/v2",
                "https://l/{company_id}/v1",
                false,
            ),
            ("https://l/{company_id}", "https://m/{company_id}", false),
            ("https://l/{company_id}", "https://l/{company_id}/x", false),
        ] {
            assert_eq!(name(a).overlaps(&name(b)), both, "{a} {b}");
            assert_eq!(name(b).overlaps(&name(a)), both, "{b} {a}");
        }
    }
}

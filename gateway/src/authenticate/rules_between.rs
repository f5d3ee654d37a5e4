//! What must hold of each issuer, and between them, before any token is judged.
//!
//! In: the settings of all issuers. Out: every fault, with the issuer it is of. With several
//! issuers the weakest decides what all are worth, unless each is told whom it may speak for: that
//! is why a list without `tenants` is refused and not warned of.

use super::settings::{IssuerSettings, KeySource};
use super::tenants::Tenants;

/// Every fault: which issuer, from 0, and a sentence.
#[must_use]
pub(crate) fn check(issuers: &[IssuerSettings]) -> Vec<(usize, String)> {
    let mut faults = Vec::new();
    let several = issuers.len() > 1;
    let mut rest: Option<usize> = None;
    for (at, entry) in issuers.iter().enumerate() {
        let mut fault = |message: String| faults.push((at, message));
        let label = entry.label();
        if several && entry.issuer.is_none() {
            fault(format!(
                "{label} has no issuer: with several entries a token's `iss` chooses among them, so each needs its `issuer`"
            ));
        }
        if let Some(name) = &entry.issuer {
            let twin = issuers
                .iter()
                .take(at)
                .filter_map(|other| other.issuer.as_ref());
            if let Some(other) = twin.into_iter().find(|other| other.overlaps(name)) {
                let message = if other == name {
                    format!(
                        "{label} is configured twice: put its keys into one JWK set, in one entry"
                    )
                } else {
                    format!(
                        "{label} and {:?} may both match one `iss`: a token's issuer must be one entry's alone",
                        other.as_str()
                    )
                };
                fault(message);
            }
        }
        if entry.audience.iter().any(String::is_empty) {
            fault(format!(
                "an audience of {label} is empty: write what `aud` is, or leave it out"
            ));
        }
        match entry.tenants {
            Tenants::Unsaid if several => fault(format!(
                "{label} has no \"tenants\": with more than one issuer each must say which companies it may speak for, a list or \"*\" for all that no other names, or whoever runs one could speak for the companies of all"
            )),
            Tenants::Rest => match rest {
                Some(_) => fault(format!(
                    "{label} is the second whose \"tenants\" are \"*\": that means all companies that no other names, so only one may say it"
                )),
                None => rest = Some(at),
            },
            Tenants::Unsaid | Tenants::Only(_) => {}
        }
        check_template(entry, &label, &mut fault);
        if entry.keys.is_fetched() && !entry.any_audience {
            let lack = match (&entry.issuer, entry.audience.is_empty()) {
                (None, true) => "an issuer and an audience",
                (None, false) => "an issuer",
                (Some(_), true) => "an audience",
                (Some(_), false) => continue,
            };
            fault(format!(
                "{label} needs {lack}: a provider on the network signs tokens for other services too, and those would be taken here; configure what `iss` and `aud` are, or say --any-audience"
            ));
        }
    }
    faults
}

fn check_template(entry: &IssuerSettings, label: &str, fault: &mut impl FnMut(String)) {
    let template = entry.issuer.as_ref().is_some_and(|name| name.is_template());
    if !template {
        if entry.any_tenant {
            fault(format!(
                "\"any_tenant\" of {label} says something only where `issuer` holds {{company_id}}"
            ));
        }
        return;
    }
    match (&entry.tenants, entry.any_tenant) {
        (Tenants::Only(_), false) | (Tenants::Rest, true) => {}
        (Tenants::Only(_), true) => fault(format!(
            "{label} has both a list of \"tenants\" and \"any_tenant\": keep one"
        )),
        (Tenants::Rest | Tenants::Unsaid, _) => fault(format!(
            "{label} needs a list of \"tenants\": at a provider with an issuer a tenant anybody can open one, and its tokens would be taken; list your companies, or say \"tenants\": \"*\" with \"any_tenant\": true"
        )),
    }
    if matches!(entry.keys, KeySource::Oidc(_)) {
        fault(format!(
            "{label} is a template, whose metadata would be looked for by each token's own `iss`; give \"jwks\" with the one address of the provider's keys instead of \"oidc-issuer\""
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_protocol::context::TenantId;

    fn entry(issuer: &str, tenants: Tenants) -> IssuerSettings {
        IssuerSettings {
            issuer: (!issuer.is_empty()).then(|| issuer.parse().unwrap()),
            audience: vec!["api".to_owned()],
            tenants,
            ..IssuerSettings::new(KeySource::JwksFile("k".into()))
        }
    }

    fn only(text: &str) -> Tenants {
        Tenants::Only(vec![TenantId::parse(text.as_bytes()).unwrap()])
    }

    #[track_caller]
    fn told(issuers: &[IssuerSettings], wanted: &[(usize, &str)]) {
        let found = check(issuers);
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for ((at, sentence), (wanted_at, says)) in found.iter().zip(wanted) {
            assert!(at == wanted_at && sentence.contains(says), "{found:?}");
        }
    }

    #[test]
    fn beside_others_each_says_whom_it_speaks_for() {
        told(&[entry("a", Tenants::Unsaid)], &[]);
        told(&[entry("", Tenants::Unsaid)], &[]);
        told(&[entry("a", only("1")), entry("b", Tenants::Rest)], &[]);
        told(&[entry("a", only("1")), entry("b", only("1"))], &[]);
        told(
            &[entry("a", only("1")), entry("b", Tenants::Unsaid)],
            &[(1, "has no \"tenants\"")],
        );
        told(
            &[entry("a", Tenants::Rest), entry("b", Tenants::Rest)],
            &[(1, "only one may say it")],
        );
        told(
            &[entry("a", only("1")), entry("", only("2"))],
            &[(1, "has no issuer")],
        );
    }

    #[test]
    fn one_iss_is_one_entrys() {
        told(
            &[entry("a", only("1")), entry("a", only("2"))],
            &[(1, "configured twice")],
        );
        told(
            &[
                entry("https://l/{company_id}/v2", only("1")),
                entry("https://l/acme/v2", only("2")),
            ],
            &[(1, "may both match one `iss`")],
        );
    }

    #[test]
    fn a_template_needs_a_list_or_an_explicit_word() {
        let template = "https://l/{company_id}/v2";
        told(&[entry(template, only("1"))], &[]);
        told(&[entry(template, Tenants::Unsaid)], &[(0, "needs a list")]);
        told(&[entry(template, Tenants::Rest)], &[(0, "needs a list")]);
        let any = |tenants| IssuerSettings {
            any_tenant: true,
            ..entry(template, tenants)
        };
        told(&[any(Tenants::Rest)], &[]);
        told(&[any(only("1"))], &[(0, "keep one")]);
        let plain = IssuerSettings {
            any_tenant: true,
            ..entry("a", Tenants::Rest)
        };
        told(&[plain], &[(0, "says something only where")]);
        let found_by_iss = IssuerSettings {
            keys: KeySource::Oidc("https://l".parse().unwrap()),
            ..entry(template, only("1"))
        };
        told(&[found_by_iss], &[(0, "is a template")]);
    }

    #[test]
    fn fetched_keys_need_an_issuer_and_an_audience() {
        let fetched = |issuer: &str, audience: &[&str], any_audience| IssuerSettings {
            audience: audience.iter().map(|text| (*text).to_owned()).collect(),
            any_audience,
            keys: KeySource::Url("https://k.test/jwks".parse().unwrap()),
            ..entry(issuer, Tenants::Unsaid)
        };
        told(&[fetched("i", &["a"], false)], &[]);
        told(&[fetched("", &[], true)], &[]);
        told(&[fetched("i", &[], false)], &[(0, "needs an audience")]);
        told(&[fetched("", &["a"], false)], &[(0, "needs an issuer:")]);
        told(
            &[fetched("", &[], false)],
            &[(0, "an issuer and an audience")],
        );
    }
}

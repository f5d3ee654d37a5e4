//! Whose tokens count: the list `issuers` of the file, or the flags, which are short for a list of
//! one.
//!
//! The sources of keys are alternatives, so the strongest layer that names one decides. Whether a
//! file holds good keys, and whether two entries get in each other's way, is for the token stage to
//! say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gapura_fetch::Url;
use gapura_settings::{Layers, Origin, switched};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::entry;
use crate::authenticate::{
    ClaimNames, ClaimPath, HmacAlgorithm, IssuerName, IssuerSettings, KeySource, Tenants, check,
};

/// The settings that name a source of keys, each an alternative to the others.
const SOURCES: [&str; 3] = ["jwt-secret-file", "jwks", "oidc-issuer"];

/// The settings that belong to the one issuer the flags are short for.
const REST: [&str; 3] = ["issuer", "audience", "jwt-secret-alg"];

/// `None` where a problem was noted.
pub(super) fn read(
    layers: &mut Layers,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Option<Vec<IssuerSettings>> {
    let source = source(layers, env)?;
    let listed = layers.structured("issuers").map(|(_, node)| node.clone());
    let Some(listed) = listed else {
        let Some((name, origin)) = source else {
            let lonely = REST.into_iter().find(|name| layers.one(name).is_some());
            if let Some(name) = lonely {
                let origin = layers.origin(name);
                layers.problem(name, &origin, "says nothing without keys: give --jwt-secret-file or --jwks, or set JWT_SECRET");
                return None;
            }
            return Some(Vec::new());
        };
        return single(layers, env, name, &origin, warnings).map(|issuer| vec![issuer]);
    };
    let given = SOURCES
        .into_iter()
        .chain(REST)
        .find(|name| matches!(layers.origin(name), Origin::File(..)));
    if let Some(name) = given {
        let origin = layers.origin(name);
        layers.problem(
            name,
            &origin,
            format!("\"{name}\" is short for a list of one issuer; write it into \"issuers\""),
        );
        return None;
    }
    if let Some((name, origin)) = source {
        warnings.push(format!(
            "{origin} replaces the whole list \"issuers\" of the file"
        ));
        return single(layers, env, name, &origin, warnings).map(|issuer| vec![issuer]);
    }
    if let Some(name) = REST.into_iter().find(|name| layers.one(name).is_some()) {
        let origin = layers.origin(name);
        layers.problem(
            name,
            &origin,
            "can't change the list \"issuers\" of the file; set it there",
        );
        return None;
    }
    let shared = entry::Shared {
        roots: layers.one("issuer-ca").map(|found| found.text.into()),
        any_audience: layers.switch("any-audience"),
        claims: read_claims(layers),
    };
    let mut faults = Vec::new();
    let issuers = entry::read_list(&listed, &shared, &mut faults);
    let is_good = faults.is_empty();
    layers.file_faults(faults);
    is_good.then_some(issuers)
}

/// The claims that hold the facts.
pub(super) fn read_claims(layers: &mut Layers) -> ClaimNames {
    let mut claims = ClaimNames::default();
    let claim = |text: &str| text.parse::<ClaimPath>();
    claims.user = layers.parse("user-claim", claim);
    if let Some(tenant) = layers.parse("tenant-claim", claim) {
        claims.tenant = tenant;
    }
    if let Some(role) = layers.parse("role-claim", claim) {
        claims.role = role;
    }
    claims
}

/// An issuer as it is shown: where its keys are, never the keys.
pub(super) fn show(issuer: &IssuerSettings) -> serde_json::Value {
    let keys = match &issuer.keys {
        KeySource::Secret { algorithm, .. } => {
            json!({ "jwt-secret": "set, not shown", "jwt-secret-alg": algorithm.as_str() })
        }
        KeySource::SecretFile { path, algorithm } => {
            json!({ "jwt-secret-file": path.display().to_string(), "jwt-secret-alg": algorithm.as_str() })
        }
        KeySource::JwksFile(path) => json!({ "jwks": path.display().to_string() }),
        KeySource::Url(url) => json!({ "jwks": url.as_str() }),
        KeySource::Oidc(url) => json!({ "oidc-issuer": url.as_str() }),
    };
    let tenants = match &issuer.tenants {
        Tenants::Unsaid => Value::Null,
        Tenants::Rest => json!("*"),
        Tenants::Only(list) => list.iter().map(|id| json!(id.as_str())).collect(),
    };
    let algorithms = issuer.algorithms.as_ref();
    let algorithms = algorithms.map(|listed| {
        listed
            .iter()
            .map(|known| known.as_str())
            .collect::<Vec<_>>()
    });
    json!({
        "issuer": issuer.issuer.as_ref().map(IssuerName::as_str),
        "audience": issuer.audience,
        "keys": keys,
        "tenants": tenants,
        "algorithms": algorithms,
        "issuer-ca": issuer.roots.as_ref().map(|roots| roots.display().to_string()),
    })
}

/// The one source of keys that flags, variables or top-level keys of the file name; the outer
/// `None` is a problem.
#[allow(clippy::option_option)]
fn source(
    layers: &mut Layers,
    env: &BTreeMap<String, String>,
) -> Option<Option<(&'static str, Origin)>> {
    let mut named: Vec<(&'static str, Origin)> = SOURCES
        .iter()
        .filter_map(|name| layers.one(name).map(|found| (*name, found.origin)))
        .collect();
    if env
        .get("JWT_SECRET")
        .is_some_and(|secret| !secret.is_empty())
    {
        named.push(("JWT_SECRET", Origin::Env("JWT_SECRET".to_owned())));
    }
    let rank = |origin: &Origin| match origin {
        Origin::Flag(_) | Origin::Argument(_) => 0,
        Origin::Env(_) => 1,
        Origin::File(..) | Origin::Default => 2,
    };
    named.sort_by_key(|(_, origin)| rank(origin));
    let strongest = named.first().map(|(_, origin)| rank(origin));
    named.retain(|(_, origin)| Some(rank(origin)) == strongest);
    if let [(_, first), (name, second), ..] = named.as_slice() {
        layers.problem(
            name,
            second,
            format!(
                "and {first} both name keys; keep one, or list both under \"issuers\" in --config"
            ),
        );
        return None;
    }
    Some(named.pop())
}

/// The one issuer that the flags are short for.
fn single(
    layers: &mut Layers,
    env: &BTreeMap<String, String>,
    name: &'static str,
    origin: &Origin,
    warnings: &mut Vec<String>,
) -> Option<IssuerSettings> {
    let algorithm = match layers.one("jwt-secret-alg") {
        None => HmacAlgorithm::default(),
        Some(_) => layers.parse("jwt-secret-alg", str::parse)?,
    };
    let text = layers.one(name).map(|found| found.text).unwrap_or_default();
    let keys = match name {
        "JWT_SECRET" => {
            let secret = env.get("JWT_SECRET").cloned().unwrap_or_default();
            Ok(KeySource::Secret {
                bytes: Zeroizing::new(secret.into_bytes()),
                algorithm,
            })
        }
        "jwt-secret-file" => Ok(KeySource::SecretFile {
            path: text.into(),
            algorithm,
        }),
        "oidc-issuer" => Url::parse(&text).map(KeySource::Oidc),
        _ => entry::jwks(&text),
    };
    let keys = match keys {
        Ok(keys) => keys,
        Err(message) => {
            layers.problem(name, origin, message);
            return None;
        }
    };
    let public = !matches!(
        keys,
        KeySource::Secret { .. } | KeySource::SecretFile { .. }
    );
    if public && layers.one("jwt-secret-alg").is_some() {
        warnings.push(
            "--jwt-secret-alg says nothing about a JWK set; each key has its own algorithm"
                .to_owned(),
        );
    }
    let fetched = matches!(keys, KeySource::Url(_) | KeySource::Oidc(_));
    for unused in ["issuer-ca", "any-audience"] {
        if !fetched
            && layers
                .one(unused)
                .is_some_and(|found| switched(&found.text) != Ok(false))
        {
            warnings.push(format!(
                "--{unused} says nothing about keys that are not fetched"
            ));
        }
    }
    let issuer = match (layers.one("issuer"), &keys) {
        (Some(_), _) => Some(layers.parse("issuer", str::parse::<IssuerName>)?),
        (None, KeySource::Oidc(url)) => url.as_str().parse().ok(),
        (None, _) => None,
    };
    if let (Some(name), KeySource::Oidc(url)) = (&issuer, &keys)
        && name.as_str() != url.as_str()
    {
        let origin = layers.origin("issuer");
        layers.problem("issuer", &origin, entry::NOT_THE_PROVIDER);
        return None;
    }
    let audience = layers.all("audience").iter();
    let issuer = IssuerSettings {
        issuer,
        audience: audience.map(|found| found.text.clone()).collect(),
        roots: layers
            .one("issuer-ca")
            .map(|found| PathBuf::from(found.text)),
        any_audience: layers.switch("any-audience"),
        ..IssuerSettings::new(keys)
    };
    let faults = check(std::slice::from_ref(&issuer));
    for (_, message) in &faults {
        layers.problem(name, origin, message.as_str());
    }
    faults.is_empty().then_some(issuer)
}

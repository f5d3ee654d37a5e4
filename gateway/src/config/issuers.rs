//! Whose tokens count: the list `issuers` of the file, or the flags, which are short for a list of one.
//!
//! The sources of keys are alternatives, so the strongest layer that names one decides. Whether a file holds good keys, and
//! whether two entries get in each other's way, is for the token stage to say.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gapura_mesh::config::{Layers, Origin};
use gapura_mesh::json::{Fault, Fields, Node, Value};
use serde_json::json;
use zeroize::Zeroizing;

use crate::authenticate::{ClaimNames, ClaimPath, HmacAlgorithm, IssuerSettings, KeySource};

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
    let mut faults = Vec::new();
    let issuers = read_list(&listed, &mut faults);
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
            json!({ "jwt-secret": "set, not shown", "jwt-secret-alg": word(*algorithm) })
        }
        KeySource::SecretFile { path, algorithm } => {
            json!({ "jwt-secret-file": path.display().to_string(), "jwt-secret-alg": word(*algorithm) })
        }
        KeySource::JwksFile(path) => json!({ "jwks": path.display().to_string() }),
    };
    json!({ "issuer": issuer.issuer, "audience": issuer.audience, "keys": keys })
}

/// The one source of keys that flags, variables or top-level keys of the file name; the outer `None` is a problem.
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

/// The one issuer the flags are short for.
fn single(
    layers: &mut Layers,
    env: &BTreeMap<String, String>,
    name: &'static str,
    origin: &Origin,
    warnings: &mut Vec<String>,
) -> Option<IssuerSettings> {
    let algorithm = match layers.one("jwt-secret-alg") {
        None => HmacAlgorithm::default(),
        Some(_) => layers.parse("jwt-secret-alg", algorithm)?,
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
        "jwks" => jwks(&text),
        _ => Err(NO_OIDC.to_owned()),
    };
    if matches!(keys, Ok(KeySource::JwksFile(_))) && layers.one("jwt-secret-alg").is_some() {
        warnings.push(
            "--jwt-secret-alg says nothing about a JWK set; each key has its own algorithm"
                .to_owned(),
        );
    }
    match keys {
        Ok(keys) => {
            let issuer = layers.one("issuer").map(|found| found.text);
            let audience = layers
                .all("audience")
                .iter()
                .map(|found| found.text.clone())
                .collect();
            Some(IssuerSettings {
                issuer,
                audience,
                keys,
            })
        }
        Err(message) => {
            layers.problem(name, origin, message);
            None
        }
    }
}

const NO_OIDC: &str = "not in this build yet: use --jwks FILE";

fn jwks(text: &str) -> Result<KeySource, String> {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return Err("a URL is not in this build yet: use --jwks FILE".to_owned());
    }
    Ok(KeySource::JwksFile(PathBuf::from(text)))
}

fn algorithm(text: &str) -> Result<HmacAlgorithm, String> {
    match text {
        "HS256" => Ok(HmacAlgorithm::Hs256),
        "HS384" => Ok(HmacAlgorithm::Hs384),
        "HS512" => Ok(HmacAlgorithm::Hs512),
        _ => Err("must be HS256, HS384 or HS512".to_owned()),
    }
}

fn word(algorithm: HmacAlgorithm) -> &'static str {
    match algorithm {
        HmacAlgorithm::Hs256 => "HS256",
        HmacAlgorithm::Hs384 => "HS384",
        HmacAlgorithm::Hs512 => "HS512",
    }
}

fn read_list(listed: &Node, faults: &mut Vec<Fault>) -> Vec<IssuerSettings> {
    let Value::List(nodes) = &listed.value else {
        faults.push(Fault {
            position: listed.position,
            message: format!("\"issuers\" must be a list, found {}", listed.kind()),
        });
        return Vec::new();
    };
    nodes
        .iter()
        .filter_map(|node| read_entry(node, faults))
        .collect()
}

fn read_entry(node: &Node, faults: &mut Vec<Fault>) -> Option<IssuerSettings> {
    // Both spellings, as everywhere in the file.
    let known = [
        "issuer",
        "audience",
        "jwks",
        "jwt-secret-file",
        "jwt_secret_file",
        "jwt-secret-alg",
        "jwt_secret_alg",
        "oidc-issuer",
        "oidc_issuer",
    ];
    let mut fields = Fields::open(node, "issuers", &known, faults)?;
    let spelled = |fields: &Fields<'_, '_>, kebab: &'static str, snake: &'static str| {
        if fields.node(kebab).is_some() {
            kebab
        } else {
            snake
        }
    };
    let (secret, alg, oidc) = (
        spelled(&fields, "jwt-secret-file", "jwt_secret_file"),
        spelled(&fields, "jwt-secret-alg", "jwt_secret_alg"),
        spelled(&fields, "oidc-issuer", "oidc_issuer"),
    );
    let issuer = fields.text("issuer").map(str::to_owned);
    let audience = match fields.node("audience").map(|node| &node.value) {
        Some(Value::Text(text)) => vec![text.clone()],
        Some(_) => fields
            .texts("audience")
            .into_iter()
            .map(|(text, _)| text.to_owned())
            .collect(),
        None => Vec::new(),
    };
    let mut hmac = HmacAlgorithm::default();
    if let Some(text) = fields.text(alg) {
        match algorithm(text) {
            Ok(algorithm) => hmac = algorithm,
            Err(message) => fields.fault(alg, message),
        }
    }
    if fields.node(oidc).is_some() {
        fields.fault(oidc, NO_OIDC);
        return None;
    }
    let keys = match (fields.text(secret), fields.text("jwks")) {
        (Some(path), None) => KeySource::SecretFile {
            path: path.into(),
            algorithm: hmac,
        },
        (None, Some(text)) => match jwks(text) {
            Ok(keys) => keys,
            Err(message) => {
                fields.fault("jwks", message);
                return None;
            }
        },
        (Some(_), Some(_)) => {
            fields.fault(
                "jwks",
                "and \"jwt-secret-file\" both name keys; make two entries of them",
            );
            return None;
        }
        (None, None) => {
            if fields.node(secret).is_none() && fields.node("jwks").is_none() {
                let message = "an entry of \"issuers\" names no keys; give it \"jwks\" or \"jwt-secret-file\"".to_owned();
                fields.faults().push(Fault {
                    position: node.position,
                    message,
                });
            }
            return None;
        }
    };
    Some(IssuerSettings {
        issuer,
        audience,
        keys,
    })
}

//! The settings that decide a request, which a start and `explain` read alike.
//!
//! In: the layers. Out: a value for each, with every mistake noted in the layers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gapura_protocol::host::is_name;
use gapura_settings::{Layers, duration};

use super::issuers;
use crate::authenticate;
use crate::registry::Signing;
use crate::sign::SignatureForm;
use crate::standing;

/// What signatures cover.
pub(super) fn signing(signed: bool, form: SignatureForm) -> Signing {
    match form {
        _ if !signed => Signing::Off,
        SignatureForm::V1 => Signing::WithoutActor,
        SignatureForm::V2 => Signing::WithActor,
    }
}

pub(super) fn read_auth(
    layers: &mut Layers,
    env: &BTreeMap<String, String>,
    warnings: &mut Vec<String>,
) -> Option<authenticate::Settings> {
    let issuers = issuers::read(layers, env, warnings);
    let claims = issuers::read_claims(layers);
    let leeway = layers
        .parse("leeway", duration)
        .unwrap_or(authenticate::LEEWAY);
    Some(authenticate::Settings {
        issuers: issuers?,
        leeway,
        claims,
    })
}

pub(super) fn read_standing(layers: &mut Layers) -> standing::Settings {
    let path = |name: &str| layers.one(name).map(|found| PathBuf::from(found.text));
    standing::Settings {
        deny: path("deny"),
        tenants: path("tenants"),
        last_good: path("last-good"),
    }
}

pub(super) fn whole(text: &str) -> Result<u64, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if digits { text.parse().ok() } else { None };
    number.ok_or_else(|| "must be a whole number of bytes".to_owned())
}

/// A name as clients say it in `Host`, without a port; an IPv6 address stands in brackets there.
pub(super) fn host(text: &str) -> Result<String, String> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    if let Ok(ip) = bare.parse::<std::net::Ipv6Addr>() {
        return Ok(format!("[{ip}]"));
    }
    if is_name(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("must be a host name without a port, such as api.example.com".to_owned())
    }
}

//! The settings that decide a request, which a start and `explain` read alike.
//!
//! In: the layers. Out: a value for each, with every mistake noted in the layers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use gapura_protocol::host::is_name;
use gapura_settings::{Layers, duration};

use super::issuers;
use crate::authenticate::{self, IssuerSettings, LogoutSettings};
use crate::registry::Signing;
use crate::sign::SignatureForm;
use crate::standing::{self, LogoutsKept};

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
    let logout = read_logout(layers, issuers.as_deref());
    Some(authenticate::Settings {
        issuers: issuers?,
        leeway,
        claims,
        logout,
    })
}

/// How logout tokens are taken; what is said of them without `--backchannel-logout` says nothing.
fn read_logout(layers: &mut Layers, issuers: Option<&[IssuerSettings]>) -> Option<LogoutSettings> {
    let audience: Vec<String> = layers
        .all("logout-audience")
        .iter()
        .map(|found| found.text.clone())
        .collect();
    let keep = layers.parse("logout-keep", |text| match duration(text) {
        Ok(keep) if keep.as_secs() == 0 => Err("must be 1s or longer".to_owned()),
        keep => keep,
    });
    if !layers.switch("backchannel-logout") {
        for name in ["logout-audience", "logout-keep"] {
            if let Some(found) = layers.one(name) {
                layers.problem(
                    name,
                    &found.origin,
                    "says nothing without --backchannel-logout",
                );
            }
        }
        return None;
    }
    let origin = layers.origin("backchannel-logout");
    if audience.is_empty() || audience.iter().any(String::is_empty) {
        layers.problem("backchannel-logout", &origin, "needs --logout-audience, our client's name at the provider: a logout that is meant for another service must not count here");
    }
    if issuers.is_some_and(|issuers| !issuers.iter().any(|issuer| issuer.issuer.is_some())) {
        layers.problem("backchannel-logout", &origin, "needs an issuer: give --issuer, or --oidc-issuer; a logout is taken from one that is configured");
    }
    Some(LogoutSettings {
        audience,
        keep: keep.unwrap_or(LOGOUT_KEEP),
    })
}

/// The usual time that a logout counts.
const LOGOUT_KEEP: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read_standing(
    layers: &mut Layers,
    auth: Option<&authenticate::Settings>,
) -> standing::Settings {
    let path = |name: &str| layers.one(name).map(|found| PathBuf::from(found.text));
    standing::Settings {
        deny: path("deny"),
        tenants: path("tenants"),
        logouts: auth.and_then(|auth| {
            Some(LogoutsKept {
                keep: auth.logout.as_ref()?.keep,
                leeway: auth.leeway,
                state_dir: path("state-dir"),
            })
        }),
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

//! How clients come in: TLS, their certificates, and what proxies in front say of them.
//!
//! In: the layers. Out: a value for each, with every mistake noted in the layers. A setting that
//! could not do what it says, because another is missing, is refused.

use std::path::PathBuf;
use std::time::Duration;

use gapura_http::pace::Rate;
use gapura_reload::clients::ClientAuth;
use gapura_settings::{Layers, duration};
use gapura_trust::public::TlsMin;
use http::HeaderValue;

use super::decides::whole;
use crate::openapi::Mode;

/// The certificate of the public side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

pub(super) fn read_tls(layers: &mut Layers) -> Option<TlsFiles> {
    match (layers.one("tls-cert"), layers.one("tls-key")) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert: cert.text.into(),
            key: key.text.into(),
        }),
        (Some(cert), None) => {
            layers.problem(
                "tls-cert",
                &cert.origin,
                "needs --tls-key, the key of that certificate",
            );
            None
        }
        (None, Some(key)) => {
            layers.problem(
                "tls-key",
                &key.origin,
                "needs --tls-cert, the certificate of that key",
            );
            None
        }
        (None, None) => None,
    }
}

/// Clients' certificates: with a CRL, or without one in so many words.
pub(super) fn read_clients(layers: &mut Layers) -> Option<ClientAuth> {
    let required = match layers.one("client-auth") {
        None => false,
        Some(_) => layers.parse("client-auth", |text| match text {
            "optional" => Ok(false),
            "required" => Ok(true),
            _ => Err("must be optional or required".to_owned()),
        })?,
    };
    let without = layers.switch("no-client-crl");
    let crl = layers.one("client-crl");
    let Some(ca) = layers.one("client-ca") else {
        for name in ["client-crl", "no-client-crl", "client-auth"] {
            let given = layers
                .one(name)
                .filter(|_| name != "no-client-crl" || without);
            if let Some(found) = given {
                let message = "says nothing without --client-ca, the CAs of clients' certificates";
                layers.problem(name, &found.origin, message);
            }
        }
        return None;
    };
    let fault = if layers.one("tls-cert").is_none() {
        "needs --tls-cert: only over TLS can a client show a certificate"
    } else if crl.is_some() && without {
        "has both --client-crl and --no-client-crl; keep one"
    } else if crl.is_none() && !without {
        "needs --client-crl, the CRLs of these CAs, or --no-client-crl: a stolen certificate would then be good until it expires"
    } else {
        return Some(ClientAuth {
            ca: ca.text.into(),
            crl: crl.map(|crl| crl.text.into()),
            required,
        });
    };
    layers.problem("client-ca", &ca.origin, fault);
    None
}

/// The oldest TLS.
pub(super) fn read_tls_min(layers: &mut Layers) -> TlsMin {
    if layers.one("tls-min").is_some() && layers.one("tls-cert").is_none() {
        let origin = layers.origin("tls-min");
        let message = "says nothing without --tls-cert: clients are served in plain HTTP";
        layers.problem("tls-min", &origin, message);
    }
    layers.parse("tls-min", TlsMin::parse).unwrap_or_default()
}

/// How many of something there may be.
pub(super) fn count(text: &str) -> Result<usize, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse().ok().filter(|count| digits && *count > 0);
    count.ok_or_else(|| "must be a whole number from 1 on".to_owned())
}

/// Bytes in a second, over half a minute, that a client may not fall below in a body; 0 asks for
/// none.
const BODY_RATE: u64 = 240;

/// The least that a client moves of a body.
pub(super) fn read_body_rate(layers: &mut Layers) -> Option<Rate> {
    let per_second = layers.parse("body-rate", |text| {
        whole(text)
            .map_err(|_| "must be a whole number of bytes in a second; 0 for none".to_owned())
    });
    let per_second = per_second.unwrap_or(BODY_RATE);
    (per_second > 0).then_some(Rate { per_second })
}

/// Whether trusted proxies introduce each connection.
pub(super) fn read_proxy_protocol(layers: &mut Layers) -> bool {
    let on = layers.switch("proxy-protocol");
    if on && layers.all("trusted-proxy").is_empty() {
        let origin = layers.origin("proxy-protocol");
        let message = "is read from nobody without --trusted-proxy, the addresses of the balancers that send it";
        layers.problem("proxy-protocol", &origin, message);
    }
    on
}

/// Who may read the plugins' contracts, and whether there is a page to read them on.
pub(super) fn read_portal(layers: &mut Layers) -> (Mode, bool) {
    let mode = layers.parse("openapi", str::parse).unwrap_or_default();
    let docs = layers.switch("docs");
    if docs && mode == Mode::Off {
        let origin = layers.origin("docs");
        let why = "shows what /openapi.json holds, which --openapi off keeps from everybody; leave one of them out";
        layers.problem("docs", &origin, why);
    }
    (mode, docs)
}

/// For how long browsers shall come by https alone.
pub(super) fn read_hsts(layers: &mut Layers) -> Option<Duration> {
    let age = layers.parse("hsts", |text| {
        duration(text).and_then(|age| match age.subsec_millis() {
            0 => Ok(age),
            _ => Err("must be whole seconds, such as 365d".to_owned()),
        })
    })?;
    if layers.one("tls-cert").is_none() && layers.all("trusted-proxy").is_empty() {
        let origin = layers.origin("hsts");
        let message = "is told to nobody: clients come by plain HTTP; give --tls-cert, or --trusted-proxy where a proxy ends TLS";
        layers.problem("hsts", &origin, message);
    }
    Some(age)
}

/// The header that says so (RFC 6797, section 6.1).
pub(crate) fn strict_transport(age: Duration) -> HeaderValue {
    let text = format!("max-age={}", age.as_secs());
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("max-age=0"))
}

/// Whether something is wanted.
pub(super) fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("must be on or off".to_owned()),
    }
}

//! The room as a whole, with real keys: tokens go in as headers, callers come out.

mod fetched;
mod figures;
mod hostile;
mod sets;
mod sources;
mod tokens;
mod wycheproof;

use std::path::PathBuf;

use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::mint::{NOW, PUBLIC, SECRET, Signers, claims, encode, jwks, thumb, token_by, with};
use super::*;

fn secret(bytes: &[u8], algorithm: HmacAlgorithm) -> KeySource {
    KeySource::Secret {
        bytes: Zeroizing::new(bytes.to_vec()),
        algorithm,
    }
}

fn issuer(keys: KeySource) -> IssuerSettings {
    IssuerSettings::new(keys)
}

fn only(companies: &[&str]) -> Tenants {
    let id = |text: &&str| gapura_protocol::context::TenantId::parse(text.as_bytes()).unwrap();
    Tenants::Only(companies.iter().map(id).collect())
}

fn settings(issuers: Vec<IssuerSettings>) -> Settings {
    Settings {
        issuers,
        ..Settings::default()
    }
}

fn load(issuers: Vec<IssuerSettings>) -> Result<Authenticator, Vec<String>> {
    Keys::load(settings(issuers)).map(Authenticator::new)
}

fn by_secret() -> Authenticator {
    load(vec![issuer(secret(SECRET, HmacAlgorithm::Hs256))]).unwrap()
}

/// A folder with files of keys in it.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, private).unwrap();
        path
    }
}

fn load_jwks(text: &str) -> Result<Authenticator, Vec<String>> {
    let folder = Folder::new();
    load(vec![issuer(KeySource::JwksFile(
        folder.write("jwks.json", text),
    ))])
}

fn by_jwks(keys: &[Value]) -> Authenticator {
    load_jwks(&jwks(keys)).unwrap()
}

fn warnings_of(text: &str) -> Vec<String> {
    load_jwks(text).unwrap().keys.ring().warnings()
}

fn headers(token: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(
        AUTHORIZATION,
        HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()).unwrap(),
    );
    headers
}

/// The user a token proves at `now`.
fn judged_at(gate: &Authenticator, token: &str, now: u64) -> Result<String, Error> {
    match gate.verify_offline(AuthMode::GatewayVerified, &headers(token), now)? {
        Caller::Verified(caller) => Ok(caller.user().as_str().to_owned()),
        other => panic!("{other:?}"),
    }
}

fn judged(gate: &Authenticator, token: &str) -> Result<String, Error> {
    judged_at(gate, token, NOW)
}

fn good() -> Result<String, Error> {
    Ok("7".to_owned())
}

fn refused(reason: Reason) -> Result<String, Error> {
    Err(reason.into())
}

//! The checked keys of all issuers, as one value that never changes.
//!
//! In: settings, and what the files they name hold. Out: a [`KeyRing`], or the fault as a sentence for the operator. A request takes a
//! ring once and is judged by it to the end. A ring's generation is greater than that of every ring before it, so that what
//! was remembered under one is not used under the next.

use std::collections::HashSet;
use std::sync::Arc;

use gapura_mesh::file::{self, FileError};
use zeroize::Zeroizing;

use super::algorithm::{HmacAlgorithm, Verifier};
use super::claims::Rules;
use super::error::{Error, Reason};
use super::json::Json;
use super::jwk::KeySet;
use super::jws::Jws;
use super::settings::{ClaimNames, IssuerSettings, KeySource, Settings};

/// The keys and rules by which tokens are judged.
pub struct KeyRing {
    generation: u64,
    issuers: Vec<Issuer>,
    claims: ClaimNames,
    /// In seconds.
    leeway: u64,
}

/// One issuer: what its tokens must say, and the keys they must be signed with.
pub(super) struct Issuer {
    name: Option<String>,
    audience: Vec<String>,
    keys: Arc<IssuerKeys>,
    label: String,
}

/// The keys of one issuer.
pub(super) enum IssuerKeys {
    /// A shared secret, used with this one algorithm.
    Shared(HmacAlgorithm, Verifier),
    /// Public keys.
    Public(KeySet),
}

/// The largest file of keys that is read. A set of fifty RSA keys is 40 KiB.
const FILE_MAX: u64 = 1 << 20;

impl KeyRing {
    /// A ring of checked keys, one for each issuer of the settings.
    pub(super) fn assemble(settings: &Settings, keys: &[Arc<IssuerKeys>], generation: u64) -> Self {
        let issuer = |(entry, keys): (&IssuerSettings, &Arc<IssuerKeys>)| Issuer {
            name: entry.issuer.clone(),
            audience: entry.audience.clone(),
            keys: keys.clone(),
            label: entry.keys.label(),
        };
        Self {
            generation,
            issuers: settings.issuers.iter().zip(keys).map(issuer).collect(),
            claims: settings.claims.clone(),
            leeway: settings.leeway.as_secs(),
        }
    }

    /// Greater than that of every ring this one replaced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// What is allowed but hardly meant, each a sentence.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.issuers.iter().flat_map(Issuer::warnings).collect()
    }

    /// The one issuer whose keys and rules judge this token. With one there is no choice; with several the token's `iss`, not yet
    /// proven, picks the entry, whose keys then prove it or not.
    pub(super) fn issuer_of(&self, jws: &Jws<'_>) -> Result<&Issuer, Error> {
        match self.issuers.as_slice() {
            [] => Err(Error::KeysUnavailable),
            [only] => Ok(only),
            several => {
                let payload = jws.payload()?;
                let claims = Json::parse(&payload).map_err(Reason::from)?;
                let iss = claims
                    .get("iss")
                    .and_then(Json::text)
                    .ok_or(Reason::Issuer)?;
                several
                    .iter()
                    .find(|issuer| issuer.name.as_deref() == Some(iss))
                    .ok_or(Reason::Issuer.into())
            }
        }
    }

    pub(super) fn rules<'a>(&'a self, issuer: &'a Issuer) -> Rules<'a> {
        Rules {
            issuer: issuer.name.as_deref(),
            audience: &issuer.audience,
            claims: &self.claims,
            leeway: self.leeway,
        }
    }
}

impl Issuer {
    /// The key that has to have made the signature. The token's `kid` and `alg` choose among what the keys allow and can never
    /// widen it (RFC 8725, sections 3.1 and 3.2).
    pub(super) fn key_for(&self, jws: &Jws<'_>) -> Result<&Verifier, Error> {
        let set = match &*self.keys {
            // A secret has no name; whatever `kid` an issuer writes there is one for its own use.
            IssuerKeys::Shared(algorithm, key) if algorithm.algorithm() == jws.algorithm => {
                return Ok(key);
            }
            IssuerKeys::Shared(..) => return Err(Reason::Algorithm.into()),
            IssuerKeys::Public(set) => set,
        };
        if let Some(kid) = &jws.kid {
            let mut named = set.keys.iter().filter(|key| key.is_named(kid)).peekable();
            named.peek().ok_or(Reason::UnknownKid)?;
            return named
                .find_map(|key| key.verifier(jws.algorithm))
                .ok_or(Reason::Algorithm.into());
        }
        let mut fitting = set
            .keys
            .iter()
            .filter_map(|key| key.verifier(jws.algorithm));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Ok(key),
            (None, _) => Err(Reason::Algorithm.into()),
            (Some(_), Some(_)) => Err(Reason::AmbiguousKey.into()),
        }
    }

    fn warnings(&self) -> Vec<String> {
        let label = &self.label;
        let mut warnings = Vec::new();
        if self.name.is_none() {
            warnings.push(format!("no issuer is configured for {label}: a token of any `iss` signed with its keys is taken; set --issuer"));
        }
        if self.audience.is_empty() {
            warnings.push(format!("no audience is configured for {label}: a token meant for another service is taken too; set --audience"));
        }
        if let IssuerKeys::Public(set) = &*self.keys {
            warnings.extend(
                set.warnings
                    .iter()
                    .map(|warning| format!("{label}: {warning}")),
            );
        }
        warnings
    }
}

impl IssuerKeys {
    /// Checks what a source holds.
    pub(super) fn build(source: &KeySource, bytes: &[u8]) -> Result<Self, String> {
        match source {
            KeySource::Secret { algorithm, .. } => Self::shared(source, *algorithm, bytes),
            KeySource::SecretFile { algorithm, .. } => {
                Self::shared(source, *algorithm, without_newline(bytes))
            }
            KeySource::JwksFile(_) => KeySet::parse(bytes)
                .map(Self::Public)
                .map_err(|why| format!("{} {why}", source.label())),
        }
    }

    fn shared(source: &KeySource, algorithm: HmacAlgorithm, secret: &[u8]) -> Result<Self, String> {
        let least = algorithm.shortest_secret();
        if secret.len() < least {
            let (label, name, has) = (source.label(), algorithm.as_str(), secret.len());
            // Base64 of 48 random bytes is 64 characters: long enough for all three.
            return Err(format!(
                "{label} has {has} bytes, {name} needs at least {least}; make a good one with: openssl rand -base64 48"
            ));
        }
        Ok(Self::Shared(algorithm, Verifier::shared(algorithm, secret)))
    }
}

/// The bytes of a source. A file is read whole, if it is a regular one: a pipe would give its bytes only once.
pub(super) fn read(source: &KeySource) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        KeySource::Secret { bytes, .. } => Ok(bytes.clone()),
        KeySource::SecretFile { path, .. } => file::read_secret(path, FILE_MAX)
            .map(|(bytes, _)| bytes)
            .map_err(|error| match (&error, file::read(path, FILE_MAX)) {
                // All that is wrong with it at once.
                (FileError::KeyOpen(..), Ok((bytes, _))) => {
                    match IssuerKeys::build(source, &Zeroizing::new(bytes)) {
                        Ok(_) => told(source, &error),
                        Err(also) => format!("{}; {also}", told(source, &error)),
                    }
                }
                _ => told(source, &error),
            }),
        KeySource::JwksFile(path) => file::read(path, FILE_MAX)
            .map(|(bytes, _)| Zeroizing::new(bytes))
            .map_err(|error| told(source, &error)),
    }
}

fn told(source: &KeySource, error: &FileError) -> String {
    let label = source.label();
    match error {
        FileError::Missing(_) => {
            format!(
                "{label} cannot be read: there is no such file; name one that this user can read"
            )
        }
        FileError::NotAFile(_) => format!("{label} cannot be read: it is not a regular file"),
        FileError::TooLarge(..) => format!("{label} cannot be read: it is larger than 1 MiB"),
        other => format!("{label} cannot be used: {other}"),
    }
}

/// One newline at the end, in either convention, is the editor's and not part of the secret.
fn without_newline(bytes: &[u8]) -> &[u8] {
    match bytes {
        [secret @ .., b'\r', b'\n'] | [secret @ .., b'\n'] => secret,
        secret => secret,
    }
}

/// What must hold between the issuers.
pub(super) fn check(settings: &Settings) -> Vec<String> {
    let mut problems = Vec::new();
    let mut known = HashSet::new();
    for entry in &settings.issuers {
        let label = entry.keys.label();
        match &entry.issuer {
            Some(name) if name.is_empty() => problems.push(format!("the issuer of {label} is empty: write what `iss` is, or leave it out")),
            Some(name) if !known.insert(name) => {
                problems.push(format!("the issuer {name:?} is configured twice: put its keys into one JWK set, in one entry"));
            }
            None if settings.issuers.len() > 1 => problems.push(format!(
                "{label} has no issuer: with several entries a token's `iss` chooses among them, so each needs its `issuer`"
            )),
            Some(_) | None => {}
        }
        if entry.audience.iter().any(String::is_empty) {
            problems.push(format!(
                "an audience of {label} is empty: write what `aud` is, or leave it out"
            ));
        }
    }
    problems
}

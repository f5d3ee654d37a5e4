//! The checked keys of all issuers, as one value that never changes.
//!
//! In: settings, and what the files they name hold. Out: a [`KeyRing`], or the fault as a sentence
//! for the operator. A request takes a ring once and is judged by it to the end. A ring's
//! generation is greater than that of every ring before it, so that what was remembered under one
//! is not used under the next.

use std::sync::Arc;

use gapura_files::file::{self, FileError};
use zeroize::Zeroizing;

use super::algorithm::{Algorithm, HmacAlgorithm, Verifier};
use super::claims::Rules;
use super::error::{Error, Reason};
use super::issuer_name::IssuerName;
use super::json::Json;
use super::jwk::KeySet;
use super::jws::Jws;
use super::pem_keys;
use super::provider::Provider;
use super::settings::{ClaimNames, KeySource, LogoutSettings, Settings};
use super::tenants::SpeaksFor;

/// The keys and rules by which tokens are judged.
pub(crate) struct KeyRing {
    generation: u64,
    issuers: Vec<Issuer>,
    /// In seconds.
    leeway: u64,
    /// How logout tokens are taken, if they are.
    logout: Option<LogoutSettings>,
}

/// One issuer: what its tokens must say, and the keys they must be signed with.
pub(super) struct Issuer {
    name: Option<IssuerName>,
    audience: Vec<String>,
    algorithms: Option<Vec<Algorithm>>,
    claims: ClaimNames,
    speaks_for: SpeaksFor,
    any_tenant: bool,
    keys: Arc<IssuerKeys>,
    /// Where its keys are fetched, if they are.
    provider: Option<Arc<Provider>>,
    label: String,
}

/// The keys of one issuer.
pub(super) enum IssuerKeys {
    /// A shared secret, used with this one algorithm.
    Shared(HmacAlgorithm, Verifier),
    /// Public keys.
    Public(KeySet),
    /// None that could be fetched, or none fresh enough.
    Absent,
}

/// Why a token has not been verified.
pub(super) enum Stop {
    /// It is refused.
    Refused(Error),
    /// The key it needs may be at the provider: its name, if it has one.
    Wait(Arc<Provider>, Option<String>),
}

/// The largest file of keys that is read. A set of fifty RSA keys is 40 KiB.
const FILE_MAX: u64 = 1 << 20;

impl KeyRing {
    /// A ring of checked keys, one for each issuer of the settings.
    pub(super) fn assemble<'k>(
        settings: &Settings,
        keys: impl Iterator<Item = (&'k Arc<IssuerKeys>, Option<&'k Arc<Provider>>)>,
        generation: u64,
    ) -> Self {
        let tenants = || settings.issuers.iter().map(|entry| &entry.tenants);
        let entries = settings.issuers.iter().zip(keys);
        let issuers = entries.map(|(entry, (keys, provider))| Issuer {
            name: entry.issuer.clone(),
            audience: entry.audience.clone(),
            algorithms: entry.algorithms.clone(),
            claims: entry
                .claims
                .clone()
                .unwrap_or_else(|| settings.claims.clone()),
            speaks_for: SpeaksFor::compile(&entry.tenants, tenants()),
            any_tenant: entry.any_tenant,
            keys: keys.clone(),
            provider: provider.cloned(),
            label: entry.keys.label(),
        });
        Self {
            generation,
            issuers: issuers.collect(),
            leeway: settings.leeway.as_secs(),
            logout: settings.logout.clone(),
        }
    }

    /// How logout tokens are taken, if they are.
    pub(super) fn logout(&self) -> Option<&LogoutSettings> {
        self.logout.as_ref()
    }

    /// Each issuer with its keys, as `--check` prints them.
    #[must_use]
    pub(crate) fn describe(&self) -> Vec<String> {
        self.issuers.iter().flat_map(Issuer::describe).collect()
    }

    /// Greater than that of every ring this one replaced.
    #[must_use]
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// What is allowed but hardly meant, each a sentence.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.issuers.iter().flat_map(Issuer::warnings).collect()
    }

    /// The one issuer whose keys and rules judge this token. With one there is no choice; with
    /// several the token's `iss`, not yet proven, picks the entry, whose keys then prove it or not.
    pub(super) fn issuer_of(&self, jws: &Jws<'_>) -> Result<&Issuer, Stop> {
        match self.issuers.as_slice() {
            [] => Err(Error::KeysUnavailable.into()),
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
                    .find(|issuer| issuer.name.as_ref().is_some_and(|name| name.matches(iss)))
                    .ok_or(Reason::Issuer.into())
            }
        }
    }

    /// Why the issuer of a verified token may speak for its company, in words, for `explain`.
    pub(super) fn why_it_speaks(&self, iss: Option<&str>) -> &'static str {
        let is_named = |issuer: &&Issuer| match (&issuer.name, iss) {
            (Some(name), Some(iss)) => name.matches(iss),
            (name, _) => name.is_none(),
        };
        let issuer = self.issuers.iter().find(is_named);
        issuer.map_or("its keys are no longer known", |issuer| {
            issuer.speaks_for.why()
        })
    }

    pub(super) fn rules<'a>(&'a self, issuer: &'a Issuer) -> Rules<'a> {
        Rules {
            issuer: issuer.name.as_ref(),
            audience: &issuer.audience,
            claims: &issuer.claims,
            speaks_for: &issuer.speaks_for,
            leeway: self.leeway,
            longest_life: self.logout.as_ref().map(|logout| logout.keep.as_secs()),
        }
    }
}

impl IssuerKeys {
    /// Each key's name and what it verifies.
    pub(super) fn describe(&self) -> Vec<String> {
        match self {
            Self::Shared(algorithm, _) => {
                vec![format!("a shared secret: {}", algorithm.as_str())]
            }
            Self::Public(set) => set.describe(),
            Self::Absent => vec!["no keys yet".to_owned()],
        }
    }
}

impl Issuer {
    /// The key that has to have made the signature. The token's `kid` and `alg` choose among what
    /// the keys allow and can never widen it (RFC 8725, sections 3.1 and 3.2).
    pub(super) fn key_for(&self, jws: &Jws<'_>) -> Result<&Verifier, Stop> {
        let narrowed = self.algorithms.as_deref();
        if narrowed.is_some_and(|listed| !listed.contains(&jws.algorithm)) {
            return Err(Reason::Algorithm.into());
        }
        // No set of public keys can ever hold a key for it: not worth a fetch.
        if self.provider.is_some() && jws.algorithm.is_shared() {
            return Err(Reason::Algorithm.into());
        }
        let set = match &*self.keys {
            // A secret has no name; whatever `kid` an issuer writes there is one for its own use.
            IssuerKeys::Shared(algorithm, key) if algorithm.algorithm() == jws.algorithm => {
                return Ok(key);
            }
            IssuerKeys::Shared(..) => return Err(Reason::Algorithm.into()),
            IssuerKeys::Absent => return Err(self.at_provider(jws, Error::KeysUnavailable)),
            IssuerKeys::Public(set) => set,
        };
        if let Some(kid) = &jws.kid {
            let mut named = set.keys.iter().filter(|key| key.is_named(kid)).peekable();
            if named.peek().is_none() {
                return Err(self.at_provider(jws, Reason::UnknownKid.into()));
            }
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

    /// A key that is not here may be at the provider, unless a fetch has just shown that it is not.
    fn at_provider(&self, jws: &Jws<'_>, otherwise: Error) -> Stop {
        let kid = jws.kid.as_deref();
        let here = matches!(*self.keys, IssuerKeys::Public(_));
        match &self.provider {
            Some(provider) if !(here && kid.is_some_and(|kid| provider.is_absent(kid))) => {
                Stop::Wait(provider.clone(), kid.map(str::to_owned))
            }
            _ => otherwise.into(),
        }
    }

    fn describe(&self) -> Vec<String> {
        let name = match &self.name {
            Some(name) => format!("issuer {name}"),
            None => "any issuer".to_owned(),
        };
        let keys = self.keys.describe();
        let narrowed = self.algorithms.as_ref().map(|listed| {
            let names: Vec<&str> = listed.iter().map(|algorithm| algorithm.as_str()).collect();
            format!(" (only {} are taken)", names.join(", "))
        });
        let narrowed = narrowed.unwrap_or_default();
        keys.into_iter()
            .map(|key| format!("{name}: {key}{narrowed}"))
            .collect()
    }

    fn warnings(&self) -> Vec<String> {
        let label = &self.label;
        let mut warnings = Vec::new();
        if self.name.is_none() {
            warnings.push(format!("no issuer is configured for {label}: a token of any `iss` signed with its keys is taken; set --issuer"));
        }
        if self.any_tenant {
            warnings.push(format!("{label} may speak for every company that no other issuer names, and at such a provider anybody can open a tenant; list the companies in its \"tenants\""));
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
            KeySource::JwksFile(_) if pem_keys::is_pem(bytes) => pem_keys::read(bytes)
                .and_then(KeySet::of_numbers)
                .map(Self::Public)
                .map_err(|why| format!("{} {why}", source.label())),
            KeySource::JwksFile(_) => KeySet::parse(bytes)
                .map(Self::Public)
                .map_err(|why| format!("{} {why}", source.label())),
            KeySource::Url(_) | KeySource::Oidc(_) => KeySet::parse_fetched(bytes)
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

/// The bytes of a source on this machine. A file is read whole, if it is a regular one: a pipe
/// would give its bytes only once.
pub(super) fn read(source: &KeySource) -> Result<Zeroizing<Vec<u8>>, String> {
    match source {
        KeySource::Secret { bytes, .. } => Ok(bytes.clone()),
        KeySource::SecretFile { path, .. } => file::read_secret(path, FILE_MAX)
            .map(|(bytes, _)| bytes)
            .map_err(|error| match (&error, file::read(path, FILE_MAX)) {
                // All that is wrong with it at once.
                (FileError::KeyOpen(..), Ok((bytes, _))) => {
                    match IssuerKeys::build(source, &Zeroizing::new(bytes)) {
                        Ok(_) => unreadable(source, &error),
                        Err(also) => format!("{}; {also}", unreadable(source, &error)),
                    }
                }
                _ => unreadable(source, &error),
            }),
        KeySource::JwksFile(path) => file::read(path, FILE_MAX)
            .map(|(bytes, _)| Zeroizing::new(bytes))
            .map_err(|error| unreadable(source, &error)),
        KeySource::Url(_) | KeySource::Oidc(_) => {
            Err(format!("{} is fetched, not read", source.label()))
        }
    }
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Refused(reason.into())
    }
}

fn unreadable(source: &KeySource, error: &FileError) -> String {
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

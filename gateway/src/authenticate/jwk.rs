//! Reads a JWK set (RFC 7517, RFC 7518 section 6, RFC 8037 section 2) into keys that are ready to
//! verify.
//!
//! In: the bytes of a set. Out: the keys that can verify a signature, each with the algorithms it
//! takes, and a sentence for each key that was passed over by mistake. What a set may well hold but
//! is of no use here (encryption keys, unknown types) is passed over silently (RFC 7517, section
//! 5). A certificate in `x5c` is not looked at: the numbers are what the operator vouches for.
//! Invariant: an `oct` key never verifies anything, so no public set can turn a shared secret, or a
//! public key taken for one, into a signing key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::{Algorithm, OF_RSA, Verifier};
use super::json::Json;
use super::pem_keys::Numbers;

/// The keys of a set that are fit for use.
pub(super) struct KeySet {
    pub(super) keys: Vec<Key>,
    /// A sentence for each key that was passed over by mistake.
    pub(super) warnings: Vec<String>,
}

/// One public key.
pub(super) struct Key {
    kid: Option<Box<str>>,
    verifiers: Vec<(Algorithm, Verifier)>,
    /// The numbers of the key, to tell a repeated key from another.
    numbers: Vec<u8>,
}

/// Why a key is not used.
enum PassedOver {
    /// It is meant for something else.
    Silently,
    /// It looks like a mistake: what is wrong, as the end of a sentence that begins with the key.
    Because(String),
}

/// The fewest and the most bits of an RSA modulus (RFC 7518, section 3.3; the upper end is the
/// library's).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// The most bytes of an RSA exponent. 65537 has three; a long one only makes verifying slow.
const RSA_EXPONENT_MAX: usize = 4;

/// The most keys of a set that was fetched.
const FETCHED_MAX: usize = 100;

impl KeySet {
    /// Reads a set that was fetched: one of a hundred keys at most.
    pub(super) fn parse_fetched(bytes: &[u8]) -> Result<Self, String> {
        Self::parse_at_most(bytes, FETCHED_MAX)
    }

    /// Reads a set; the error is a sentence without its subject, the file.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        Self::parse_at_most(bytes, usize::MAX)
    }

    /// The set of public keys that were no JWKs. They have no kid, so no two may be of one kind.
    pub(super) fn of_numbers(all: Vec<Numbers>) -> Result<Self, String> {
        let mut set = Self {
            keys: Vec::new(),
            warnings: Vec::new(),
        };
        for (at, numbers) in all.into_iter().enumerate() {
            let name = format!("key {}", at + 1);
            match Key::of_numbers(&numbers) {
                Ok(key) => set.add(key, &name)?,
                Err(PassedOver::Because(why)) => {
                    return Err(format!("cannot be used: {name}: {why}"));
                }
                Err(PassedOver::Silently) => {}
            }
        }
        Ok(set)
    }

    /// Each key's name and what it verifies.
    pub(super) fn describe(&self) -> Vec<String> {
        let key = |key: &Key| {
            let algorithms = key
                .verifiers
                .iter()
                .map(|(algorithm, _)| algorithm.as_str());
            let algorithms = algorithms.collect::<Vec<_>>().join(", ");
            match &key.kid {
                Some(kid) => format!("kid {kid:?}: {algorithms}"),
                None => format!("no kid: {algorithms}"),
            }
        };
        self.keys.iter().map(key).collect()
    }

    fn parse_at_most(bytes: &[u8], most: usize) -> Result<Self, String> {
        let json = Json::parse(bytes)
            .map_err(|fault| format!("is {fault}; write a JSON object with a list `keys`"))?;
        let Some(Json::List(entries)) = json.get("keys") else {
            let hint = if json.get("kty").is_some() {
                r#"; put the key into a set: {"keys": [ … ]}"#
            } else {
                "; write a JWK set"
            };
            return Err(format!("has no list `keys`{hint}"));
        };
        if entries.len() > most {
            return Err(format!(
                "holds {} keys, more than the {most} that are taken",
                entries.len()
            ));
        }
        let mut set = Self {
            keys: Vec::new(),
            warnings: Vec::new(),
        };
        for (at, entry) in entries.iter().enumerate() {
            let name = name(at, entry);
            match Key::read(entry) {
                Ok(key) => {
                    if entry.get("d").is_some() {
                        set.warnings.push(format!("{name} holds its private half, which only the issuer should have: remove `d`"));
                    }
                    set.add(key, &name)?;
                }
                Err(PassedOver::Silently) => {}
                Err(PassedOver::Because(why)) => {
                    set.warnings.push(format!("{name} is not used: {why}"))
                }
            }
        }
        if set.keys.is_empty() {
            let why = if set.warnings.is_empty() {
                String::new()
            } else {
                format!(" ({})", set.warnings.join("; "))
            };
            return Err(format!(
                "holds no key that can verify a token{why}; it needs an RSA, P-256, P-384 or Ed25519 public key"
            ));
        }
        Ok(set)
    }

    fn add(&mut self, key: Key, name: &str) -> Result<(), String> {
        let overlaps = |other: &&Key| {
            other.kid == key.kid
                && other
                    .verifiers
                    .iter()
                    .any(|(algorithm, _)| key.verifier(*algorithm).is_some())
        };
        match self.keys.iter().find(overlaps) {
            None => self.keys.push(key),
            Some(same) if same.numbers == key.numbers => {}
            Some(_) => {
                let what = if key.kid.is_some() {
                    "has the kid of another key"
                } else {
                    "and another key have no kid"
                };
                return Err(format!(
                    "is ambiguous: {name} {what} of the same kind; give each key a kid of its own"
                ));
            }
        }
        Ok(())
    }
}

impl Key {
    /// Whether the key goes by that `kid`.
    pub(super) fn is_named(&self, kid: &str) -> bool {
        self.kid.as_deref() == Some(kid)
    }

    /// The key made ready for `algorithm`, if it takes it.
    pub(super) fn verifier(&self, algorithm: Algorithm) -> Option<&Verifier> {
        self.verifiers
            .iter()
            .find(|(own, _)| *own == algorithm)
            .map(|(_, verifier)| verifier)
    }

    fn of_numbers(numbers: &Numbers) -> Result<Self, PassedOver> {
        let (verifiers, numbers) = match numbers {
            Numbers::Rsa { n, e } => rsa_key(n, e, &OF_RSA)?,
            Numbers::P256 { x, y } => elliptic_key(x, y, Algorithm::Es256)?,
            Numbers::P384 { x, y } => elliptic_key(x, y, Algorithm::Es384)?,
            Numbers::Ed25519(x) => edwards_key(x)?,
        };
        Ok(Self {
            kid: None,
            verifiers,
            numbers,
        })
    }

    fn read(jwk: &Json<'_>) -> Result<Self, PassedOver> {
        let Some(Json::Text(kty)) = jwk.get("kty") else {
            return because("it has no `kty`");
        };
        let kid = match jwk.get("kid") {
            None => None,
            Some(Json::Text(kid)) => Some(kid.as_ref().into()),
            Some(_) => return because("its `kid` is not a string"),
        };
        if !is_for_verifying(jwk)? {
            return Err(PassedOver::Silently);
        }
        let (verifiers, numbers) = match kty.as_ref() {
            "RSA" => rsa(jwk)?,
            "EC" => elliptic(jwk)?,
            "OKP" => edwards(jwk)?,
            "oct" => {
                return because(
                    "it is a shared secret (`oct`), which has no place in a set of public keys; use a secret file",
                );
            }
            _ => return Err(PassedOver::Silently),
        };
        Ok(Self {
            kid,
            verifiers,
            numbers,
        })
    }
}

type Ready = (Vec<(Algorithm, Verifier)>, Vec<u8>);

/// `use` and `key_ops` (RFC 7517, sections 4.2 and 4.3), where present, must both allow verifying.
fn is_for_verifying(jwk: &Json<'_>) -> Result<bool, PassedOver> {
    match jwk.get("use") {
        None => {}
        Some(Json::Text(text)) if text == "sig" => {}
        Some(Json::Text(_)) => return Ok(false),
        Some(_) => return because("its `use` is not a string"),
    }
    match jwk.get("key_ops") {
        None => Ok(true),
        Some(Json::List(operations)) => Ok(operations
            .iter()
            .any(|operation| operation.text() == Some("verify"))),
        Some(_) => because("its `key_ops` is not a list"),
    }
}

/// What the key takes by its kind, narrowed by its own `alg` (RFC 7517, section 4.4).
fn narrowed(jwk: &Json<'_>, by_kind: &[Algorithm]) -> Result<Vec<Algorithm>, PassedOver> {
    match jwk.get("alg") {
        None => Ok(by_kind.to_vec()),
        Some(Json::Text(name)) => match Algorithm::named(name) {
            Some(algorithm) if by_kind.contains(&algorithm) => Ok(vec![algorithm]),
            Some(_) => because("its `alg` does not go with its `kty` or `crv`"),
            // RSA-OAEP, ES512 and the like: a key for something we do not do.
            None => Err(PassedOver::Silently),
        },
        Some(_) => because("its `alg` is not a string"),
    }
}

fn rsa(jwk: &Json<'_>) -> Result<Ready, PassedOver> {
    let algorithms = narrowed(jwk, &OF_RSA)?;
    rsa_key(&number(jwk, "n")?, &number(jwk, "e")?, &algorithms)
}

fn rsa_key(n: &[u8], e: &[u8], algorithms: &[Algorithm]) -> Result<Ready, PassedOver> {
    // Some issuers write a leading zero octet (RFC 7518, section 6.3.1.1, warns of them); it must
    // not count as length.
    let (n, e) = (without_leading_zeros(n), without_leading_zeros(e));
    let bits = n
        .first()
        .map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    if !RSA_BITS.contains(&bits) {
        return because(&format!(
            "its RSA modulus has {bits} bits; {} to {} are taken",
            RSA_BITS.start(),
            RSA_BITS.end()
        ));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|last| last % 2 == 1);
    if !odd(n) {
        return because("its RSA modulus is even");
    }
    if !odd(e) || e == [1] || e.len() > RSA_EXPONENT_MAX {
        return because("its RSA exponent is not an odd number from 3 to 2^32");
    }
    let verifiers = algorithms
        .iter()
        .map(|algorithm| Some((*algorithm, Verifier::rsa(*algorithm, n, e)?)))
        .collect::<Option<_>>();
    match verifiers {
        Some(verifiers) => Ok((verifiers, [n, b"/", e].concat())),
        None => because("its numbers are not an RSA public key"),
    }
}

fn elliptic(jwk: &Json<'_>) -> Result<Ready, PassedOver> {
    // The curve fixes the algorithm (RFC 7518, section 3.4).
    let (algorithm, length) = match jwk.get("crv").and_then(Json::text) {
        Some("P-256") => (Algorithm::Es256, 32),
        Some("P-384") => (Algorithm::Es384, 48),
        Some(_) => return Err(PassedOver::Silently),
        None => return because("it has no `crv`"),
    };
    let algorithms = narrowed(jwk, &[algorithm])?;
    let (x, y) = (number(jwk, "x")?, number(jwk, "y")?);
    // RFC 7518, section 6.2.1.2: coordinates have the full length of the field.
    if x.len() != length || y.len() != length {
        return because(&format!("its `x` and `y` are not {length} bytes each"));
    }
    match algorithms.as_slice() {
        [algorithm] => elliptic_key(&x, &y, *algorithm),
        _ => Err(PassedOver::Silently),
    }
}

fn elliptic_key(x: &[u8], y: &[u8], algorithm: Algorithm) -> Result<Ready, PassedOver> {
    match Verifier::elliptic(algorithm, x, y) {
        Some(verifier) => Ok((vec![(algorithm, verifier)], [x, y].concat())),
        None => because("its `x` and `y` are not a point of its curve"),
    }
}

fn edwards(jwk: &Json<'_>) -> Result<Ready, PassedOver> {
    match jwk.get("crv").and_then(Json::text) {
        Some("Ed25519") => {}
        Some(_) => return Err(PassedOver::Silently),
        None => return because("it has no `crv`"),
    }
    narrowed(jwk, &[Algorithm::EdDsa])?;
    edwards_key(&number(jwk, "x")?)
}

fn edwards_key(x: &[u8]) -> Result<Ready, PassedOver> {
    if gapura_certificates::ed25519::is_small_order(x) {
        return because(
            "its `x` is a point of small order, for which anybody can sign: it is no key",
        );
    }
    let point: Option<&[u8; 32]> = x.try_into().ok();
    match point.and_then(Verifier::ed25519) {
        Some(verifier) => Ok((vec![(Algorithm::EdDsa, verifier)], x.to_vec())),
        None => because("its `x` is not the 32 bytes of an Ed25519 public key"),
    }
}

/// A member that holds bytes in base64url without padding (RFC 7518, section 2).
fn number(jwk: &Json<'_>, member: &str) -> Result<Vec<u8>, PassedOver> {
    match jwk
        .get(member)
        .and_then(Json::text)
        .map(|text| URL_SAFE_NO_PAD.decode(text))
    {
        Some(Ok(bytes)) if !bytes.is_empty() => Ok(bytes),
        _ => because(&format!(
            "its `{member}` is not a string of base64url without padding"
        )),
    }
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

fn because<T>(why: &str) -> Result<T, PassedOver> {
    Err(PassedOver::Because(why.to_owned()))
}

/// How a key is called in a sentence: by its place, and by its kid where it has one that is fit to
/// print.
fn name(at: usize, jwk: &Json<'_>) -> String {
    let number = at + 1;
    match jwk.get("kid").and_then(Json::text) {
        Some(kid) if kid.len() <= 64 => format!("key {number} (kid {kid:?})"),
        _ => format!("key {number}"),
    }
}

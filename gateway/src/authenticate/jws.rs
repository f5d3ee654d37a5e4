//! Takes a token apart: the compact form of RFC 7515, section 7.1.
//!
//! In: the bytes of a token. Out: a [`Jws`], whose header has been read and found acceptable, and
//! whose signature has not been looked at: nothing in it is true yet. Base64url is strict, without
//! padding and without stray bits, so that a token has one spelling only. `jwk`, `jku`, `x5u` and
//! `x5c` are ignored (RFC 8725, section 3.10): keys come from the configuration alone. An unencoded
//! payload (`b64`, RFC 7797) cannot be asked for, since it needs `crit`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::algorithm::Algorithm;
use super::error::Reason;
use super::json::{Json, Kind, SyntaxFault};

/// A token taken apart, not yet verified.
pub(super) struct Jws<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// Header and payload as sent, the dot between them included: what the signature covers.
    pub(super) signed: &'a [u8],
    /// The payload as sent.
    payload: &'a [u8],
    pub(super) signature: Vec<u8>,
}

/// The longest `kid` that is looked up. It is only ever compared, never a path, an address or a
/// query.
const KID_MAX: usize = 256;

impl<'a> Jws<'a> {
    /// Cuts the token, reads the header and decodes the signature. It must be an access token by
    /// its `typ`.
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, Reason> {
        Self::parse_typed(token, is_token_type)?.ok_or(Reason::Type)
    }

    /// The same for a logout token; `None` if its `typ` is of another kind.
    pub(super) fn parse_logout(token: &'a [u8]) -> Result<Option<Self>, Reason> {
        Self::parse_typed(token, is_logout_type)
    }

    fn parse_typed(
        token: &'a [u8],
        is_type: fn(&Json<'_>) -> bool,
    ) -> Result<Option<Self>, Reason> {
        let mut dots = token
            .iter()
            .enumerate()
            .filter(|(_, byte)| **byte == b'.')
            .map(|(at, _)| at);
        let (Some(first), Some(second), None) = (dots.next(), dots.next(), dots.next()) else {
            return Err(Reason::Malformed);
        };
        let header = decode(&token[..first])?;
        let header = Json::parse(&header)?;
        let Some((algorithm, kid)) = read_header(&header, is_type)? else {
            return Ok(None);
        };
        let signature = decode(&token[second + 1..])?;
        Ok(Some(Self {
            algorithm,
            kid,
            signed: &token[..second],
            payload: &token[first + 1..second],
            signature,
        }))
    }

    /// The payload's bytes.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Reason> {
        decode(self.payload)
    }
}

impl From<SyntaxFault> for Reason {
    fn from(fault: SyntaxFault) -> Self {
        match fault.kind {
            Kind::Malformed => Self::Malformed,
            Kind::DuplicateName => Self::DuplicateName,
        }
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::Malformed)
}

/// What the header says of the key; `None` if it says that this is another kind of token.
fn read_header(
    header: &Json<'_>,
    is_type: fn(&Json<'_>) -> bool,
) -> Result<Option<(Algorithm, Option<String>)>, Reason> {
    if !matches!(header, Json::Object(_)) {
        return Err(Reason::Malformed);
    }
    // RFC 7515, section 4.1.11: we understand no extension, so whatever it names is one we do not.
    if header.get("crit").is_some() {
        return Err(Reason::Critical);
    }
    // RFC 8725, section 3.11: another kind of signed object, say a logout token or a DPoP proof, is
    // not an access token.
    if !header.get("typ").is_none_or(is_type) {
        return Ok(None);
    }
    let algorithm = header
        .get("alg")
        .and_then(Json::text)
        .ok_or(Reason::Malformed)?;
    let algorithm = Algorithm::named(algorithm).ok_or(Reason::Algorithm)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Json::Text(kid)) if kid.len() <= KID_MAX => Some(kid.clone().into_owned()),
        Some(Json::Text(_)) => return Err(Reason::UnknownKid),
        Some(_) => return Err(Reason::Malformed),
    };
    Ok(Some((algorithm, kid)))
}

/// `JWT` or `at+jwt` (RFC 9068, section 2.1), in any case, with or without `application/` (RFC
/// 7515, section 4.1.9).
fn is_token_type(typ: &Json<'_>) -> bool {
    is_one_of(typ, "at+jwt")
}

/// `JWT` or `logout+jwt` (Back-Channel Logout 1.0, section 2.4), likewise.
fn is_logout_type(typ: &Json<'_>) -> bool {
    is_one_of(typ, "logout+jwt")
}

fn is_one_of(typ: &Json<'_>, special: &str) -> bool {
    let Some(typ) = typ.text() else { return false };
    let bare = match typ.split_at_checked(12) {
        Some((front, rest)) if front.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    };
    bare.eq_ignore_ascii_case("jwt") || bare.eq_ignore_ascii_case(special)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token_of(header: &str) -> Vec<u8> {
        format!("{}.e30.AAAA", URL_SAFE_NO_PAD.encode(header)).into_bytes()
    }

    fn header(text: &str) -> Result<Algorithm, Reason> {
        Jws::parse(&token_of(text)).map(|jws| jws.algorithm)
    }

    #[test]
    fn a_token_has_three_parts_of_strict_base64url() {
        let good = String::from_utf8(token_of(r#"{"alg":"HS256"}"#)).unwrap();
        assert!(Jws::parse(good.as_bytes()).is_ok());
        let head = good.split('.').next().unwrap().to_owned();
        let bad = [
            String::new(),
            "..".to_owned(),
            head.clone(),
            format!("{head}.e30"),
            format!("{good}."),
            format!("{good}.AAAA"),
            format!("{good}.AAAA.AAAA"),
            format!("{head}.e30.AAAA="),
            format!("{head}.e30.AAB"),
            format!("{head}.e30.A"),
            format!("{head}.e30.AA+A"),
            format!("{head}.e30.AA/A"),
            format!("{head}=.e30.AAAA"),
            format!(" {good}"),
            format!("{head}.e30.AA AA"),
            format!("{head}.e30.AAAA\n"),
        ];
        for token in bad {
            assert_eq!(
                Jws::parse(token.as_bytes()).map(|_| ()),
                Err(Reason::Malformed),
                "{token}"
            );
        }
    }

    #[test]
    fn the_header_is_an_object_with_a_known_alg() {
        assert_eq!(
            header(
                r#"{"alg":"RS256","jwk":{"kty":"RSA"},"jku":"https://a/","x5u":1,"x5c":["AA"]}"#
            ),
            Ok(Algorithm::Rs256)
        );
        for bad in [
            "",
            "[]",
            "1",
            "null",
            "{}",
            r#"{"alg":1}"#,
            r#"{"alg":null}"#,
            r#"{"alg":["HS256"]}"#,
            r#"{"alg":"HS256"}{}"#,
        ] {
            assert_eq!(header(bad), Err(Reason::Malformed), "{bad}");
        }
        for alg in ["none", "hs256", "HS256\u{0}"] {
            assert_eq!(
                header(&serde_json::json!({ "alg": alg }).to_string()),
                Err(Reason::Algorithm),
                "{alg}"
            );
        }
        assert_eq!(
            header(r#"{"alg":"none","alg":"HS256"}"#),
            Err(Reason::DuplicateName)
        );
        assert_eq!(
            header(r#"{"alg":"HS256","x":{"y":1,"y":2}}"#),
            Err(Reason::DuplicateName)
        );
    }

    #[test]
    fn crit_is_refused_whatever_it_holds() {
        for crit in [r#"["exp"]"#, "[]", "null", r#""b64""#] {
            assert_eq!(
                header(&format!(r#"{{"alg":"HS256","crit":{crit}}}"#)),
                Err(Reason::Critical),
                "{crit}"
            );
        }
    }

    #[test]
    fn typ_is_absent_or_one_of_two() {
        for typ in [
            "JWT",
            "jwt",
            "at+jwt",
            "AT+JWT",
            "application/at+jwt",
            "application/jwt",
        ] {
            assert!(
                header(&format!(r#"{{"alg":"HS256","typ":"{typ}"}}"#)).is_ok(),
                "{typ}"
            );
        }
        for typ in [
            r#""dpop+jwt""#,
            r#""logout+jwt""#,
            r#""JWE""#,
            r#""""#,
            "null",
            "1",
            r#"["JWT"]"#,
            r#""JWT ""#,
        ] {
            assert_eq!(
                header(&format!(r#"{{"alg":"HS256","typ":{typ}}}"#)),
                Err(Reason::Type),
                "{typ}"
            );
        }
    }

    #[test]
    fn kid_is_a_text_of_bounded_length() {
        let kid = |kid: &str| {
            Jws::parse(&token_of(
                &serde_json::json!({"alg": "HS256", "kid": kid}).to_string(),
            ))
            .map(|jws| jws.kid)
        };
        assert_eq!(
            kid("../../etc/passwd"),
            Ok(Some("../../etc/passwd".to_owned()))
        );
        assert_eq!(kid(&"k".repeat(KID_MAX)), Ok(Some("k".repeat(KID_MAX))));
        assert_eq!(kid(&"k".repeat(KID_MAX + 1)), Err(Reason::UnknownKid));
        for bad in ["1", "null", "[]", "{}"] {
            assert_eq!(
                header(&format!(r#"{{"alg":"HS256","kid":{bad}}}"#)),
                Err(Reason::Malformed),
                "{bad}"
            );
        }
    }
}

//! Whether a token is bound to a key, and whether this connection holds that key (RFC 7800; RFC
//! 8705, section 3).
//!
//! In: the claim `cnf`, once; the thumbprint of the certificate that the client's handshake proved,
//! on every request. Out: yes or no. A member that is not known here could be the one that matters,
//! so it refuses the token, and so does an empty `cnf`: an issuer that meant to bind a token must
//! not have it taken as one that anybody may bear. `jkt` (DPoP) is not built yet.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::error::Reason;
use super::json::Json;

/// SHA-256 over a client's leaf, DER: what RFC 8705 calls `x5t#S256`.
pub(crate) type Thumbprint = [u8; 32];

/// What a token is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Whoever bears it.
    Bearer,
    /// Whoever holds this certificate's key.
    Certificate(Thumbprint),
}

impl Binding {
    pub(super) fn read(cnf: Option<&Json<'_>>) -> Result<Self, Reason> {
        let Some(cnf) = cnf else {
            return Ok(Self::Bearer);
        };
        let Json::Object(members) = cnf else {
            return Err(Reason::BoundToken);
        };
        match members.as_slice() {
            [(name, Json::Text(text))] if name == "x5t#S256" => URL_SAFE_NO_PAD
                .decode(text.as_ref())
                .ok()
                .and_then(|bytes| Thumbprint::try_from(bytes).ok())
                .map(Self::Certificate)
                .ok_or(Reason::BoundToken),
            _ => Err(Reason::BoundToken),
        }
    }

    /// Asked on every use: a remembered token may come over another connection.
    pub(super) fn proven_by(self, certificate: Option<&Thumbprint>) -> Result<(), Reason> {
        match self {
            Self::Bearer => Ok(()),
            Self::Certificate(bound) if certificate == Some(&bound) => Ok(()),
            Self::Certificate(_) => Err(Reason::BoundToken),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Binding, Reason> {
        Binding::read(Some(&Json::parse(text.as_bytes()).unwrap()))
    }

    #[test]
    fn every_member_must_be_known_and_well_formed() {
        let good = URL_SAFE_NO_PAD.encode([7; 32]);
        assert_eq!(
            read(&format!(r#"{{"x5t#S256":"{good}"}}"#)),
            Ok(Binding::Certificate([7; 32]))
        );
        for bad in [
            "{}".to_owned(),
            "null".to_owned(),
            "[]".to_owned(),
            r#""x""#.to_owned(),
            r#"{"jkt":"x"}"#.to_owned(),
            format!(r#"{{"x5t#S256":"{good}","jkt":"x"}}"#),
            format!(r#"{{"x5t#S256":"{good}","kid":"x"}}"#),
            format!(r#"{{"x5t#s256":"{good}"}}"#),
            format!(r#"{{"x5t#S256":["{good}"]}}"#),
            format!(r#"{{"x5t#S256":"{good}="}}"#),
            r#"{"x5t#S256":"AAAA"}"#.to_owned(),
        ] {
            assert_eq!(read(&bad), Err(Reason::BoundToken), "{bad}");
        }
        assert_eq!(Binding::read(None), Ok(Binding::Bearer));
    }

    #[test]
    fn the_connection_must_hold_the_very_key() {
        let bound = Binding::Certificate([7; 32]);
        assert_eq!(bound.proven_by(Some(&[7; 32])), Ok(()));
        for other in [None, Some(&[8; 32])] {
            assert_eq!(bound.proven_by(other), Err(Reason::BoundToken));
            assert_eq!(Binding::Bearer.proven_by(other), Ok(()));
        }
    }
}

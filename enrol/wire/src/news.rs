//! Roots and CRLs as a CA server tells them: everything that decides whom an agent's programs
//! believe, of one moment.

use std::time::Duration;

use gapura_protocol::clock::{Rfc3339, from_unix, parse_rfc3339, unix};
use serde::{Deserialize, Serialize};

/// For so long after its revocation, and longer than any leaf lives, a certificate is named on its
/// issuer's CRL: a newer CRL that does not name it is of a CA that has forgotten it.
pub const NAMED_FOR: Duration = Duration::from_secs(90 * 86_400);

/// The answer of [`crate::paths::TRUST`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustNews {
    /// SHA-256 of what it says, in hexadecimal: another one is other news. For comparing only; CRL
    /// numbers say what is newer.
    pub generation: String,
    /// What becomes `ca.pem`, PEM: the roots to trust, then the issuing CAs whose CRLs are among
    /// [`Self::crls`], which vouch for nothing there and without which those CRLs can't be checked.
    pub roots: String,
    /// What becomes `crl.pem`, PEM: a CRL of each of these CAs.
    pub crls: String,
    /// When this was what the CA's record said, by the server's clock, Unix time.
    #[serde(with = "moment")]
    pub as_of: u64,
}

impl TrustNews {
    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the body of an answer. What it says is for the trust set to judge.
    ///
    /// # Errors
    /// A sentence, if it is none.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(body)
            .map_err(|_| "the answer is no news of roots and CRLs".to_owned())
    }
}

/// A moment as RFC 3339.
mod moment {
    use super::{Rfc3339, from_unix, parse_rfc3339, unix};
    use serde::{Deserialize, Deserializer, Serializer};

    // serde passes a reference.
    #[allow(clippy::trivially_copy_pass_by_ref)]
    pub(super) fn serialize<S: Serializer>(seconds: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&Rfc3339(from_unix(*seconds)))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        let text = String::deserialize(from)?;
        parse_rfc3339(&text)
            .map(unix)
            .ok_or_else(|| serde::de::Error::custom("no moment of RFC 3339 in UTC"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let news = TrustNews {
            generation: "ab".to_owned(),
            roots: "R\n".to_owned(),
            crls: "C\n".to_owned(),
            as_of: 1_709_208_000,
        };
        let body = news.to_json();
        let seen: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(seen["as_of"], "2024-02-29T12:00:00.000Z");
        assert_eq!(TrustNews::parse(&body).unwrap(), news);
        assert!(TrustNews::parse(b"{}").is_err());
    }
}

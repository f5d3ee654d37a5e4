//! What the two ends of a TLS connection agreed on, for the operator to see.
//!
//! In: a rustls connection whose handshake is over. Out: the words for it. Decides nothing.

use rustls::{CipherSuite, ConnectionCommon, NamedGroup, ProtocolVersion};

/// What both ends agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Session {
    version: Option<ProtocolVersion>,
    group: Option<NamedGroup>,
    cipher: Option<CipherSuite>,
    http2: bool,
}

impl Session {
    /// What `connection` agreed on.
    #[must_use]
    pub fn of<S>(connection: &ConnectionCommon<S>) -> Self {
        let group = connection.negotiated_key_exchange_group();
        let cipher = connection.negotiated_cipher_suite();
        Self {
            version: connection.protocol_version(),
            group: group.map(rustls::crypto::SupportedKxGroup::name),
            cipher: cipher.map(|suite| suite.suite()),
            http2: connection.alpn_protocol() == Some(b"h2"),
        }
    }

    /// The HTTP that is spoken inside: `h2` or `http/1.1`.
    #[must_use]
    pub fn http(&self) -> &'static str {
        if self.http2 { "h2" } else { "http/1.1" }
    }

    /// The protocol, as people write it.
    #[must_use]
    pub fn version(&self) -> String {
        match self.version {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLS 1.2".to_owned(),
            other => word(other),
        }
    }

    /// The group whose keys were exchanged, by its registered name.
    #[must_use]
    pub fn group(&self) -> String {
        word(self.group)
    }

    /// Whether who records the connection now cannot read it with a quantum computer later: its
    /// keys hang on ML-KEM too (FIPS 203).
    #[must_use]
    pub fn is_post_quantum(&self) -> bool {
        self.group().contains("MLKEM")
    }

    /// The cipher suite, by its registered name.
    #[must_use]
    pub fn cipher(&self) -> String {
        word(self.cipher).replacen("TLS13_", "TLS_", 1)
    }
}

fn word<T: std::fmt::Debug>(value: Option<T>) -> String {
    value.map_or_else(|| "unknown".to_owned(), |value| format!("{value:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_in_registered_names() {
        let session = |group| Session {
            version: Some(ProtocolVersion::TLSv1_3),
            group: Some(group),
            cipher: Some(CipherSuite::TLS13_AES_256_GCM_SHA384),
            http2: true,
        };
        let hybrid = session(NamedGroup::X25519MLKEM768);
        assert_eq!(hybrid.group(), "X25519MLKEM768");
        assert_eq!(hybrid.cipher(), "TLS_AES_256_GCM_SHA384");
        assert_eq!(
            (hybrid.version().as_str(), hybrid.http()),
            ("TLS 1.3", "h2")
        );
        assert!(hybrid.is_post_quantum());
        assert!(!session(NamedGroup::X25519).is_post_quantum());
        assert_eq!(Session::default().group(), "unknown");
    }
}

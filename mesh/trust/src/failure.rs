//! Why a handshake failed: from the error of an accept, a connect or a first read to a sentence for
//! the log and a label for metrics.
//!
//! In TLS 1.3 a client's connect succeeds before the server has judged its certificate: the refusal
//! arrives as an alert on the first read. [`handshake_refusal`] understands that error just as
//! well.

use std::error::Error as StdError;
use std::io;

use rustls::{
    AlertDescription, CertificateError, Error, ExtendedKeyPurpose, InvalidMessage, PeerIncompatible,
};

use super::carried;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::Refusal;

/// What to tell of a failed handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// A short fixed label.
    pub reason: &'static str,
    /// One sentence: never a key or a byte of the peer's, save names from its certificate.
    pub sentence: String,
    /// Whom the refused certificate claims to be, where [`super::set::TrustSet::explain`] could
    /// tell. Proven only as far as the reason allows: a certificate of an unknown issuer can claim
    /// anything.
    pub peer: Option<String>,
    /// The peer ended it with an alert: it refuses us, not we it.
    pub is_peer_alert: bool,
    /// One end refused the other's certificate, whichever it was.
    pub is_about_certificates: bool,
}

/// Digs the reason out of an I/O error.
#[must_use]
pub fn handshake_refusal(error: &io::Error) -> HandshakeFailure {
    let mut cause: Option<&(dyn StdError + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if let Some(err) = inner.downcast_ref::<Error>() {
            return of_rustls(err);
        }
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return of_refusal(refusal);
        }
        cause = match inner.downcast_ref::<io::Error>() {
            Some(io) => io.get_ref().map(|inner| inner as _),
            None => inner.source(),
        };
    }
    let (reason, sentence) = match error.kind() {
        io::ErrorKind::UnexpectedEof => (
            "closed",
            "the peer closed the connection before the handshake was done".to_owned(),
        ),
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => (
            "reset",
            "the peer broke the connection off before the handshake was done".to_owned(),
        ),
        io::ErrorKind::TimedOut => ("timeout", "the handshake took too long".to_owned()),
        io::ErrorKind::ConnectionRefused => {
            ("refused", "nothing listens at the address".to_owned())
        }
        kind => ("io", format!("the connection failed: {kind}")),
    };
    failure(reason, sentence)
}

fn failure(reason: &'static str, sentence: impl Into<String>) -> HandshakeFailure {
    HandshakeFailure {
        reason,
        sentence: sentence.into(),
        peer: None,
        is_peer_alert: false,
        is_about_certificates: false,
    }
}

fn of_refusal(refusal: &Refusal) -> HandshakeFailure {
    HandshakeFailure {
        is_about_certificates: true,
        ..failure(refusal.reason(), refusal.to_string())
    }
}

fn of_rustls(err: &Error) -> HandshakeFailure {
    match err {
        Error::InvalidCertificate(err) => of_certificate(err),
        Error::NoCertificatesPresented => of_refusal(&Refusal::NoCertificate),
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => failure(
            "not_tls",
            "the peer does not speak TLS: plain HTTP or another protocol on a TLS port",
        ),
        Error::InvalidMessage(what) => failure(
            "malformed_message",
            format!("a TLS message cannot be read: {what:?}"),
        ),
        Error::PeerIncompatible(
            PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled,
        ) => failure(
            "version",
            "the peer does not offer a TLS version that is wanted here",
        ),
        Error::PeerIncompatible(what) => failure(
            "incompatible",
            format!("the peer and we have no way in common: {what:?}"),
        ),
        Error::PeerMisbehaved(what) => failure(
            "misbehaved",
            format!("the peer broke a rule of TLS: {what:?}"),
        ),
        Error::NoApplicationProtocol => failure("alpn", "the peer offers neither h2 nor http/1.1"),
        Error::InappropriateMessage { .. } | Error::InappropriateHandshakeMessage { .. } => {
            failure("misbehaved", "the peer sent a TLS message out of turn")
        }
        Error::DecryptError | Error::PeerSentOversizedRecord => {
            failure("malformed_message", "a TLS record cannot be decrypted")
        }
        other => failure("tls", format!("the handshake failed: {other}")),
    }
}

fn of_certificate(err: &CertificateError) -> HandshakeFailure {
    if let CertificateError::Other(other) = err
        && let Some(refusal) = other.0.downcast_ref::<Refusal>()
    {
        return of_refusal(refusal);
    }
    let refusal = match err {
        CertificateError::ExpiredContext { time, not_after } => Refusal::Expired {
            not_after: not_after.as_secs(),
            now: time.as_secs(),
        },
        CertificateError::NotValidYetContext { time, not_before } => Refusal::NotYetValid {
            not_before: not_before.as_secs(),
            now: time.as_secs(),
        },
        CertificateError::ExpiredRevocationListContext { time, next_update } => {
            Refusal::CrlTooOld {
                next_update: next_update.as_secs(),
                now: time.as_secs(),
            }
        }
        CertificateError::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ClientAuth,
            presented,
        } => Refusal::Purpose {
            wanted: Purpose::Client,
            found: carried::purposes(presented),
        },
        CertificateError::InvalidPurposeContext {
            required: ExtendedKeyPurpose::ServerAuth,
            presented,
        } => Refusal::Purpose {
            wanted: Purpose::Server,
            found: carried::purposes(presented),
        },
        CertificateError::UnknownIssuer => Refusal::UnknownIssuer,
        CertificateError::BadSignature => Refusal::BadSignature,
        CertificateError::Revoked => {
            return certificate(
                "revoked",
                "the peer's certificate, or an issuing CA of it, is revoked",
            );
        }
        CertificateError::UnknownRevocationStatus => {
            return certificate(
                "no_crl",
                "crl.pem has no CRL of the issuer of the peer's certificate",
            );
        }
        CertificateError::BadEncoding => {
            return certificate("malformed", "the peer's certificate cannot be read");
        }
        other => {
            return certificate(
                "certificate",
                format!("the peer's certificate is refused: {other}"),
            );
        }
    };
    of_refusal(&refusal)
}

fn certificate(reason: &'static str, sentence: impl Into<String>) -> HandshakeFailure {
    HandshakeFailure {
        is_about_certificates: true,
        ..failure(reason, sentence)
    }
}

fn of_alert(alert: AlertDescription) -> HandshakeFailure {
    use AlertDescription as A;
    let (reason, about, sentence) = match alert {
        A::CertificateRevoked => (
            "alert_revoked",
            true,
            "the peer says that our certificate is revoked",
        ),
        A::CertificateExpired => (
            "alert_expired",
            true,
            "the peer says that our certificate has expired or is not valid yet",
        ),
        A::UnknownCA => (
            "alert_unknown_ca",
            true,
            "the peer does not know our issuer, or has no fresh CRL of it",
        ),
        A::CertificateRequired => (
            "alert_certificate_required",
            true,
            "the peer got no certificate of ours and wants one",
        ),
        A::UnsupportedCertificate => (
            "alert_purpose",
            true,
            "the peer says that our certificate is not good for this side (key usage)",
        ),
        A::AccessDenied | A::CertificateUnknown => (
            "alert_identity",
            true,
            "the peer does not take our identity; its log names the reason",
        ),
        A::BadCertificate | A::DecryptError => (
            "alert_bad_certificate",
            true,
            "the peer cannot read or verify our certificate",
        ),
        A::ProtocolVersion => (
            "alert_version",
            false,
            "the peer does not want a TLS version that we offer",
        ),
        A::HandshakeFailure => (
            "alert_handshake_failure",
            false,
            "the peer finds no way of speaking with us",
        ),
        A::NoApplicationProtocol => (
            "alert_alpn",
            false,
            "the peer wants neither h2 nor http/1.1",
        ),
        _ => {
            let sentence = format!("the peer broke the handshake off with the alert {alert:?}");
            return HandshakeFailure {
                is_peer_alert: true,
                ..failure("alert_other", sentence)
            };
        }
    };
    HandshakeFailure {
        is_peer_alert: true,
        is_about_certificates: about,
        ..failure(reason, sentence)
    }
}

//! webpki's reasons in our own words.

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::form::{self, Form, Whose};
use super::peer;
use super::purpose::Purpose;
use super::refusal::{Malformed, Purposes, Refusal, shown};

/// An issuer's name for people; webpki hands it out without its header.
pub(super) fn label_of(subject: &[u8]) -> String {
    let mut whole = vec![super::der::SEQUENCE];
    match u8::try_from(subject.len()) {
        Ok(length @ 0..=0x7f) => whole.push(length),
        Ok(length) => whole.extend([0x81, length]),
        Err(_) => {
            whole.push(0x82);
            whole.extend(
                u16::try_from(subject.len())
                    .unwrap_or(u16::MAX)
                    .to_be_bytes(),
            );
        }
    }
    whole.extend(subject);
    x509_parser::x509::X509Name::from_der(&whole).map_or_else(
        |_| "an unreadable name".to_owned(),
        |(_, name)| shown(&name.to_string()),
    )
}

/// webpki's reason as one of ours.
pub(super) fn refused(
    err: webpki::Error,
    chain: &[CertificateDer<'_>],
    purpose: Purpose,
    now: u64,
) -> Refusal {
    use webpki::Error as E;
    let no_leaf = CertificateDer::from(&[][..]);
    let leaf = chain.first().unwrap_or(&no_leaf);
    match err {
        E::BadDer | E::BadDerTime | E::TrailingData(_) | E::UnsupportedCertVersion => {
            Refusal::Malformed(Malformed::Certificate)
        }
        E::UnknownIssuer => Refusal::UnknownIssuer,
        E::InvalidSignatureForPublicKey => Refusal::BadSignature,
        E::CertExpired { not_after, .. } => Refusal::Expired {
            not_after: not_after.as_secs(),
            now,
        },
        E::CertNotValidYet { not_before, .. } => Refusal::NotYetValid {
            not_before: not_before.as_secs(),
            now,
        },
        E::RequiredEkuNotFoundContext(_) | E::EmptyEkuExtension => match peer::read(leaf) {
            Ok((_, found)) if found.allows(purpose) => Refusal::Constraint(format!(
                "an issuing CA's extended key usage does not allow {purpose}"
            )),
            Ok((_, found)) => Refusal::Purpose {
                wanted: purpose,
                found,
            },
            Err(_) => Refusal::Purpose {
                wanted: purpose,
                found: Purposes::default(),
            },
        },
        E::CaUsedAsEndEntity => {
            Refusal::Constraint("a CA's certificate stands where a leaf is due".to_owned())
        }
        E::EndEntityUsedAsCa => {
            Refusal::Constraint("a leaf stands where a CA's certificate is due".to_owned())
        }
        E::PathLenConstraintViolated => {
            Refusal::Constraint("a CA issued more levels than its path length allows".to_owned())
        }
        E::NameConstraintViolation => {
            Refusal::Constraint("a name is outside what a CA is allowed to name".to_owned())
        }
        E::UnsupportedCriticalExtension => {
            Refusal::Constraint("a critical extension is not known here".to_owned())
        }
        E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Refusal::Constraint(
            "a signature algorithm is not one we take (no SHA-1, no RSA under 2048 bits)"
                .to_owned(),
        ),
        other => repeated(chain).unwrap_or_else(|| Refusal::Constraint(other.to_string())),
    }
}

/// webpki refuses some extensions that appear twice, and does not say so.
fn repeated(chain: &[CertificateDer<'_>]) -> Option<Refusal> {
    chain.iter().enumerate().find_map(|(at, der)| {
        let extension = form::repeated(der)?;
        let of = match (at, X509Certificate::from_der(der)) {
            (0, _) => Whose::Leaf,
            (_, Ok((_, ca))) => Whose::Ca(shown(&ca.subject().to_string())),
            (_, Err(_)) => Whose::Ca(format!("at place {} of the chain", at + 1)),
        };
        Some(Refusal::Form(Form::Repeated { of, extension }))
    })
}

//! The one judgement on a certificate, for the gateway, the sidecar and `gapura-pki verify`.
//!
//! In: a chain, the side of the handshake it stands on, the time, and what is trusted. Out: a [`Peer`] or a [`Refusal`].
//! webpki builds and verifies the chain (signatures, dates, CA flags, path lengths, name constraints); what it leaves open is decided
//! here: an anchor's dates, a leaf without extended key usage, revocation, the identity. Which identity may do what is not.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::der::trim_zeros;
use super::peer::{self, Peer, hex};
use super::refusal::{Malformed, Purposes, Refusal};
use super::revocation::{RevocationSet, Status};
use super::roots::Roots;
use crate::clock::unix;
use crate::identity::{Role, TrustDomain};

/// Which side of a handshake a judged certificate stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// It dials: a gateway's, with clientAuth.
    Client,
    /// It answers: a plugin's, with serverAuth.
    Server,
}

/// What a chain is judged by.
#[derive(Clone, Debug)]
pub struct Judge {
    roots: Roots,
    revocation: Option<RevocationSet>,
    domain: TrustDomain,
    provider: Arc<CryptoProvider>,
}

/// No serial number of a certificate may be longer (RFC 5280, section 4.1.2.2).
const LONGEST_SERIAL: usize = 20;

impl Purpose {
    /// The role whose certificates stand on this side.
    #[must_use]
    pub fn role(self) -> Role {
        match self {
            Self::Client => Role::Gateway,
            Self::Server => Role::Plugin,
        }
    }

    /// The side on which the certificates of `role` stand.
    #[must_use]
    pub fn of(role: Role) -> Self {
        match role {
            Role::Gateway => Self::Client,
            Role::Plugin => Self::Server,
        }
    }

    fn key_usage(self) -> KeyUsage {
        match self {
            Self::Client => KeyUsage::client_auth(),
            Self::Server => KeyUsage::server_auth(),
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "dialling (clientAuth)",
            Self::Server => "answering (serverAuth)",
        })
    }
}

impl Judge {
    /// Judges by `roots`, for identities of `domain`; without a revocation set nothing is revoked.
    #[must_use]
    pub fn new(
        roots: Roots,
        revocation: Option<RevocationSet>,
        domain: TrustDomain,
        provider: Arc<CryptoProvider>,
    ) -> Self {
        Self {
            roots,
            revocation,
            domain,
            provider,
        }
    }

    /// The same with another revocation set.
    #[must_use]
    pub fn with_revocation(self, revocation: Option<RevocationSet>) -> Self {
        Self { revocation, ..self }
    }

    /// The roots.
    #[must_use]
    pub fn roots(&self) -> &Roots {
        &self.roots
    }

    /// The revocations, unless there is no `crl.pem` by choice.
    #[must_use]
    pub fn revocation(&self) -> Option<&RevocationSet> {
        self.revocation.as_ref()
    }

    /// Judges a leaf and the intermediates that came with it: chain, purpose, revocation, identity, in this order, so that the
    /// reason that is named is the most fundamental one.
    ///
    /// # Errors
    /// Why the certificate is refused.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Peer, Refusal> {
        self.judge_at(chain, purpose, unix(now))
    }

    /// The same with the time as Unix seconds.
    pub(super) fn judge_at(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: u64,
    ) -> Result<Peer, Refusal> {
        let (leaf, rest) = chain.split_first().ok_or(Refusal::NoCertificate)?;
        let with_helpers: Vec<CertificateDer<'_>>;
        let intermediates = if self.roots.helpers().is_empty() {
            rest
        } else {
            with_helpers = rest
                .iter()
                .cloned()
                .chain(self.roots.helpers().iter().cloned())
                .collect();
            &with_helpers
        };
        let end_entity =
            EndEntityCert::try_from(leaf).map_err(|err| refused(err, leaf, purpose, now))?;
        let in_date = self.roots.in_date(now);
        let anchors = in_date.as_deref().unwrap_or(self.roots.all());
        let path = match self.path(&end_entity, anchors, intermediates, purpose, now) {
            Ok(path) => path,
            Err(webpki::Error::UnknownIssuer) if in_date.is_some() => {
                return Err(self
                    .expired_root(&end_entity, intermediates, purpose, now)
                    .unwrap_or(Refusal::UnknownIssuer));
            }
            Err(err) => return Err(refused(err, leaf, purpose, now)),
        };
        let (peer, purposes) = peer::read(leaf)?;
        if !purposes.allows(purpose) {
            return Err(Refusal::Purpose {
                wanted: purpose,
                found: purposes,
            });
        }
        if peer.serial.len() > LONGEST_SERIAL {
            return Err(Refusal::Malformed(Malformed::Serial));
        }
        if let Some(revocation) = &self.revocation {
            self.check_revocation(revocation, &path, &peer, now)?;
        }
        if *peer.id.domain() != self.domain {
            return Err(Refusal::WrongTrustDomain {
                wanted: self.domain.clone(),
                found: peer.id,
            });
        }
        if peer.id.role() != purpose.role() {
            return Err(Refusal::WrongRole {
                wanted: purpose.role(),
                found: peer.id,
            });
        }
        Ok(peer)
    }

    fn path<'p>(
        &self,
        end_entity: &'p EndEntityCert<'p>,
        anchors: &'p [TrustAnchor<'_>],
        intermediates: &'p [CertificateDer<'p>],
        purpose: Purpose,
        now: u64,
    ) -> Result<VerifiedPath<'p>, webpki::Error> {
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        end_entity.verify_for_usage(
            self.algorithms(),
            anchors,
            intermediates,
            time,
            purpose.key_usage(),
            None,
            None,
        )
    }

    fn algorithms(&self) -> &[&dyn SignatureVerificationAlgorithm] {
        self.provider.signature_verification_algorithms.all
    }

    /// The clearer refusal where a chain ends in a root that was ours until it expired.
    fn expired_root(
        &self,
        end_entity: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        now: u64,
    ) -> Option<Refusal> {
        let path = self
            .path(end_entity, self.roots.all(), intermediates, purpose, now)
            .ok()?;
        let issuer = self.roots.issuer_of(path.anchor())?;
        Some(Refusal::RootExpired {
            not_after: issuer.not_after(),
            now,
        })
    }

    /// Every certificate of the path against its issuer's list. A missing list refuses leaves only: a set may well hold the lists of
    /// the CAs that issue leaves and none of the root's.
    fn check_revocation(
        &self,
        revocation: &RevocationSet,
        path: &VerifiedPath<'_>,
        peer: &Peer,
        now: u64,
    ) -> Result<(), Refusal> {
        let anchor = self.roots.issuer_of(path.anchor());
        let mut serial: &[u8] = &peer.serial;
        let mut is_leaf = true;
        for certificate in path.intermediate_certificates() {
            let key = certificate.subject_public_key_info();
            let status = revocation.status(certificate.subject(), &key, serial, now);
            refuse_unless_clear(status, serial, is_leaf, peer, now, || {
                label_of(certificate.subject())
            })?;
            serial = trim_zeros(certificate.serial());
            is_leaf = false;
        }
        let status = anchor.map_or(Status::NoList, |anchor| {
            revocation.status(&anchor.subject, &anchor.key, serial, now)
        });
        refuse_unless_clear(status, serial, is_leaf, peer, now, || {
            anchor.map_or_else(String::new, |anchor| anchor.label().to_owned())
        })
    }
}

fn refuse_unless_clear(
    status: Status,
    serial: &[u8],
    is_leaf: bool,
    peer: &Peer,
    now: u64,
    issuer: impl FnOnce() -> String,
) -> Result<(), Refusal> {
    match status {
        Status::Clear => Ok(()),
        Status::NoList if !is_leaf => Ok(()),
        Status::NoList => Err(Refusal::NoCrlForIssuer { issuer: issuer() }),
        Status::TooOld { next_update } => Err(Refusal::CrlTooOld { next_update, now }),
        Status::Revoked => {
            let whose = if is_leaf {
                peer.id.to_string()
            } else {
                format!("an issuing CA of {}", peer.id)
            };
            Err(Refusal::Revoked {
                serial: hex(serial),
                leaf: whose,
            })
        }
    }
}

/// An issuer's name for people; webpki hands it out without its header.
fn label_of(subject: &[u8]) -> String {
    use x509_parser::prelude::FromDer;
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
        |(_, name)| super::refusal::shown(&name.to_string()),
    )
}

/// webpki's reason as one of ours.
fn refused(err: webpki::Error, leaf: &CertificateDer<'_>, purpose: Purpose, now: u64) -> Refusal {
    use webpki::Error as E;
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
        other => Refusal::Constraint(other.to_string()),
    }
}

//! The one judgement on a certificate, for the gateway, the sidecar and `gapura-pki verify`.
//!
//! In: a chain, the side of the handshake it stands on, the time, and what is trusted. Out: a
//! [`Peer`] or a [`Refusal`]. webpki builds and verifies the chain (signatures, dates, CA flags,
//! path lengths, name constraints); what it leaves open is decided here: an anchor's dates and path
//! length, what each certificate must look like (`form`), a leaf without extended key usage,
//! revocation, the identity. Which identity may do what is not.

use std::cell::RefCell;
use std::time::{Duration, SystemTime};

use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

use super::der::trim_zeros;
use super::form::{self, Form};
use super::peer::{self, Peer};
use super::purpose::Purpose;
use super::reasons::{label_of, refused};
use super::refusal::{Malformed, Refusal};
use super::revocation::{RevocationSet, Status};
use super::roots::Roots;
use gapura_protocol::clock::unix;
use gapura_protocol::identity::TrustDomain;
use gapura_protocol::text::hex;

/// What a chain is judged by.
#[derive(Clone, Debug)]
pub struct Verifier {
    roots: Roots,
    revocation: Option<RevocationSet>,
    domain: TrustDomain,
    algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    /// Why nobody is let in at all.
    closed: Option<Refusal>,
}

/// No serial number of a certificate may be longer (RFC 5280, section 4.1.2.2).
const LONGEST_SERIAL: usize = 20;

impl Verifier {
    /// Judges by `roots` and signatures of `algorithms`, for identities of `domain`; without a
    /// revocation set nothing is revoked.
    #[must_use]
    pub fn new(
        roots: Roots,
        revocation: Option<RevocationSet>,
        domain: TrustDomain,
        algorithms: &'static [&'static dyn SignatureVerificationAlgorithm],
    ) -> Self {
        Self {
            roots,
            revocation,
            domain,
            algorithms,
            closed: None,
        }
    }

    /// The same with another revocation set.
    #[must_use]
    pub fn with_revocation(self, revocation: Option<RevocationSet>) -> Self {
        Self { revocation, ..self }
    }

    /// The same, letting nobody in, for this reason, if there is one.
    #[must_use]
    pub fn closed_for(self, closed: Option<Refusal>) -> Self {
        Self { closed, ..self }
    }

    /// Why nobody is let in at all.
    #[must_use]
    pub fn closed(&self) -> Option<&Refusal> {
        self.closed.as_ref()
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

    /// Judges a leaf and the intermediates that came with it: chain, form, purpose, revocation,
    /// identity, in this order, so that the reason that is named is the most fundamental one.
    ///
    /// # Errors
    /// Why the certificate is refused.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Peer, Refusal> {
        let now = unix(now);
        if let Some(closed) = &self.closed {
            return Err(closed.clone());
        }
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
            EndEntityCert::try_from(leaf).map_err(|err| refused(err, chain, purpose, now))?;
        let in_date = self.roots.in_date(now);
        let anchors = in_date.as_deref().unwrap_or(self.roots.all());
        let broken = RefCell::new(None);
        let path = match self.path(&end_entity, anchors, intermediates, purpose, now, &broken) {
            Ok(path) => path,
            Err(err) => {
                // A chain that leads to a root but for its form says more than what became of the
                // others.
                return Err(match (broken.into_inner(), err) {
                    (Some(form), _) => Refusal::Form(form),
                    (None, webpki::Error::UnknownIssuer) if in_date.is_some() => self
                        .root_out_of_date(&end_entity, intermediates, purpose, now)
                        .unwrap_or(Refusal::UnknownIssuer),
                    (None, err) => refused(err, chain, purpose, now),
                });
            }
        };
        form::leaf(leaf).map_err(Refusal::Form)?;
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
            self.check_revocation(revocation, leaf, &path, &peer, now)?;
        }
        if *peer.id.domain() != self.domain {
            return Err(Refusal::WrongTrustDomain {
                wanted: self.domain.clone(),
                found: peer.id,
            });
        }
        if !purpose.takes(peer.id.role()) {
            return Err(Refusal::WrongRole {
                wanted: purpose,
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
        broken: &RefCell<Option<Form>>,
    ) -> Result<VerifiedPath<'p>, webpki::Error> {
        let well_formed = |path: &VerifiedPath<'_>| {
            self.check_form(path).map_err(|form| {
                broken.borrow_mut().get_or_insert(form);
                webpki::Error::UnknownIssuer // another path may do
            })
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        end_entity.verify_for_usage(
            self.algorithms,
            anchors,
            intermediates,
            time,
            key_usage(purpose, end_entity),
            None,
            Some(&well_formed),
        )
    }

    /// What webpki leaves open about the CAs of a path.
    fn check_form(&self, path: &VerifiedPath<'_>) -> Result<(), Form> {
        let mut below = 0;
        for certificate in path.intermediate_certificates() {
            form::certifier(&certificate.der(), || label_of(certificate.subject()))?;
            // One that a CA made for itself, in changing its key, does not count (RFC 5280, section
            // 4.2.1.9).
            below += usize::from(certificate.issuer() != certificate.subject());
        }
        match self.roots.too_short(path.anchor(), below) {
            None => Ok(()),
            Some(root) => Err(Form::RootPathLength {
                root: root.label().to_owned(),
                allowed: root.path_length.unwrap_or(0),
                found: below,
            }),
        }
    }

    /// The clearer refusal where a chain ends in a root that was ours until it expired, or will be.
    fn root_out_of_date(
        &self,
        end_entity: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        purpose: Purpose,
        now: u64,
    ) -> Option<Refusal> {
        let path = self
            .path(
                end_entity,
                self.roots.all(),
                intermediates,
                purpose,
                now,
                &RefCell::new(None),
            )
            .ok()?;
        let issuer = self.roots.issuer_of(path.anchor())?;
        Some(if now < issuer.not_before {
            Refusal::NotYetValid {
                not_before: issuer.not_before,
                now,
            }
        } else {
            Refusal::RootExpired {
                not_after: issuer.not_after(),
                now,
            }
        })
    }

    /// Every certificate of the path against its issuer's list. A missing list refuses leaves only:
    /// a set may well hold the lists of the CAs that issue leaves and none of the root's.
    fn check_revocation(
        &self,
        revocation: &RevocationSet,
        leaf: &[u8],
        path: &VerifiedPath<'_>,
        peer: &Peer,
        now: u64,
    ) -> Result<(), Refusal> {
        let anchor = self.roots.issuer_of(path.anchor());
        let mut serial: &[u8] = &peer.serial;
        let mut subject = CertificateDer::from(leaf);
        let mut is_leaf = true;
        for certificate in path.intermediate_certificates() {
            let key = certificate.subject_public_key_info();
            let issuer = (certificate.subject(), &*key);
            let status = revocation.status(issuer, serial, &subject, now);
            refuse_unless_clear(status, serial, is_leaf, peer, now, || {
                label_of(certificate.subject())
            })?;
            serial = trim_zeros(certificate.serial());
            subject = certificate.der();
            is_leaf = false;
        }
        let status = anchor.map_or(Status::NoList, |anchor| {
            revocation.status((&anchor.subject, &anchor.key), serial, &subject, now)
        });
        refuse_unless_clear(status, serial, is_leaf, peer, now, || {
            anchor.map_or_else(String::new, |anchor| anchor.label().to_owned())
        })
    }
}

/// What a leaf must be good for. One that renews may be good for either side; one that is good for
/// neither is refused by either.
fn key_usage(purpose: Purpose, leaf: &EndEntityCert<'_>) -> KeyUsage {
    let dials = || peer::read(&leaf.der()).is_ok_and(|(_, found)| found.allows(Purpose::Client));
    match purpose {
        Purpose::Client => KeyUsage::client_auth(),
        Purpose::Renewal if dials() => KeyUsage::client_auth(),
        Purpose::Server | Purpose::Authority | Purpose::Renewal => KeyUsage::server_auth(),
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
        Status::OtherPoint => Err(Refusal::CrlOfOtherPoint { issuer: issuer() }),
        Status::NotBegun { this_update } => Err(Refusal::CrlNotBegun { this_update, now }),
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

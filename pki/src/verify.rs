//! `verify`: what gateway and sidecar would say to a certificate, asked without a connection.

use std::path::Path;

use gapura_certificates::purpose::Purpose;
use gapura_protocol::identity::{PeerId, TrustDomain};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::csr::identity_of;
use crate::error::Error;
use crate::given;
use crate::inspect::names;
use crate::judge::BundleVerifier;
use crate::mesh_dir;
use crate::pem;
use crate::pki::Pki;
use crate::timestamp::Timestamp;

/// A question.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// Leaf first; intermediates may follow.
    pub chain: Vec<CertificateDer<'static>>,
    /// Which side of the handshake it stands on.
    pub purpose: Purpose,
    /// Whom the peer insists on; `None`: anyone of the right role in `domain`.
    pub id: Option<PeerId>,
    /// The trust domain whose roots these are; `None` where neither they nor anybody says.
    pub domain: Option<TrustDomain>,
    /// The trusted roots.
    pub roots: Vec<CertificateDer<'static>>,
    /// The CRLs; `None`: revocation is not asked about.
    pub crls: Option<Vec<Vec<u8>>>,
    /// Further CA certificates, to check CRLs with.
    pub issuers: Vec<CertificateDer<'static>>,
    /// When.
    pub at: Timestamp,
}

/// The answer to a question that could be judged.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Whom it speaks for and its serial, if it is let through.
    pub peer: Option<(String, String)>,
    /// Why it is not.
    pub refusal: Option<String>,
    /// How many CRLs were of CAs that nobody here knows, and had no say.
    pub crls_unused: usize,
    /// Whether the trust domain was asked about. Where nobody says whose the roots are, it is the
    /// certificate's own.
    pub domain_asked: bool,
}

/// Judges.
///
/// # Errors
/// Roots or CRLs that nobody could judge by.
pub fn verify(request: &VerifyRequest) -> Result<Verdict, Error> {
    // The roots vouch for their own domain alone, whatever identity is insisted on.
    let domain = request
        .domain
        .clone()
        .or_else(|| request.id.as_ref().map(PeerId::domain).cloned());
    let domain_asked = domain.is_some();
    let own = || {
        request
            .chain
            .first()
            .and_then(|leaf| identity_of(leaf))
            .map(|id| id.domain().clone())
    };
    // A certificate that speaks for nobody is refused under any domain.
    let domain: TrustDomain = match domain.or_else(own) {
        Some(domain) => domain,
        None => "none.invalid"
            .parse()
            .map_err(|_| Error::Failed("no trust domain".to_owned()))?,
    };
    let issuers: Vec<_> = request
        .issuers
        .iter()
        .chain(request.chain.iter().skip(1))
        .cloned()
        .collect();
    // The certificate brings its issuing CA; a CRL of another one may be in the same file and can't
    // be checked here.
    let names: Vec<Vec<u8>> = request
        .roots
        .iter()
        .chain(&issuers)
        .filter_map(|ca| name_of(ca))
        .collect();
    let known = |crl: &&Vec<u8>| {
        CertificateRevocationList::from_der(crl).map_or(true, |(_, crl)| {
            names.contains(&crl.issuer().as_raw().to_vec())
        })
    };
    let crls: Option<Vec<Vec<u8>>> = request
        .crls
        .as_ref()
        .map(|crls| crls.iter().filter(known).cloned().collect());
    let crls_unused = request.crls.as_ref().map_or(0, Vec::len) - crls.as_ref().map_or(0, Vec::len);
    let court = BundleVerifier::new(&request.roots, crls.as_deref(), &issuers, &domain)
        .map_err(Error::Failed)?;
    Ok(
        match court.judge(
            &request.chain,
            request.purpose,
            request.id.as_ref(),
            request.at,
        ) {
            Ok(peer) => Verdict {
                peer: Some((peer.id.to_string(), peer.serial_hex())),
                refusal: None,
                crls_unused,
                domain_asked,
            },
            Err(why) => Verdict {
                peer: None,
                refusal: Some(why),
                crls_unused,
                domain_asked,
            },
        },
    )
}

/// The trust domain whose roots these are, by what they say themselves: a root that `gapura-pki`
/// made names it as its organisation, one that follows SPIFFE as its URI. `None` where none says
/// so, or two say different ones.
#[must_use]
pub fn domain_of(roots: &[CertificateDer<'_>]) -> Option<TrustDomain> {
    let mut said: Vec<TrustDomain> = roots
        .iter()
        .filter_map(|root| domain_of_one(root))
        .collect();
    said.dedup();
    match said.as_slice() {
        [domain] => Some(domain.clone()),
        _ => None,
    }
}

fn domain_of_one(root: &[u8]) -> Option<TrustDomain> {
    let (_, parsed) = X509Certificate::from_der(root).ok()?;
    let uri = names(parsed.extensions())
        .iter()
        .find_map(|name| name.strip_prefix("URI:spiffe://").map(str::to_owned));
    if let Some(uri) = uri {
        return uri.split('/').next()?.parse().ok();
    }
    let subject = parsed.subject();
    let common_name = subject.iter_common_name().next()?.as_str().ok()?;
    let (id, random) = common_name.split_once(' ')?;
    let ours = id.strip_prefix("root-g").is_some_and(is_digits) && is_hex(random);
    let organisation = subject.iter_organization().next()?.as_str().ok()?;
    // A longer domain stands there cut, see `profile`.
    (ours && organisation.len() < 64)
        .then(|| organisation.parse().ok())
        .flatten()
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_hex(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The trust domain of the program whose mesh directory `folder` is.
#[must_use]
pub fn domain_of_mesh_dir(folder: &Path) -> Option<TrustDomain> {
    let shown = mesh_dir::current(folder).ok().flatten()?;
    identity_of(shown.chain.first()?).map(|id| id.domain().clone())
}

fn name_of(certificate: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.subject().as_raw().to_vec())
}

/// The certificates of a file, or of a mesh directory's `cert.pem`.
///
/// # Errors
/// None can be read.
pub fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    if path.is_dir() {
        let none = || Error::Failed(format!("{} holds no certificate", path.display()));
        return Ok(mesh_dir::current(path)?.ok_or_else(none)?.chain);
    }
    let bytes = given::read(path)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![CertificateDer::from(bytes)]);
    }
    pem::certificates(&bytes).map_err(|why| Error::damaged(path, why))
}

/// The CRLs of a file.
///
/// # Errors
/// None can be read.
pub fn crls_in(path: &Path) -> Result<Vec<Vec<u8>>, Error> {
    let bytes = given::read(path)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes]);
    }
    let found = pem::crls(&bytes).map_err(|why| Error::damaged(path, why))?;
    if found.is_empty() {
        Err(Error::damaged(path, "no X509 CRL block found"))
    } else {
        Ok(found)
    }
}

/// Roots, CRLs and issuers of a set of files.
type Trust = (
    Vec<CertificateDer<'static>>,
    Option<Vec<Vec<u8>>>,
    Vec<CertificateDer<'static>>,
);

impl Pki {
    /// The roots, CRLs and issuing CAs that this installation publishes.
    ///
    /// # Errors
    /// One is missing or damaged.
    pub fn trust_material(&self) -> Result<Trust, Error> {
        let (ledger, now) = (self.ledger()?, self.now());
        let certificate = |authority| crate::ca::certificate(self.dir(), authority);
        let issuers = ledger
            .published_issuers(now)
            .map(certificate)
            .collect::<Result<Vec<_>, _>>()?;
        let crls = ledger
            .published_issuers(now)
            .chain(ledger.trusted_roots(now))
            .map(|authority| self.stored_crl(authority));
        Ok((
            self.roots()?,
            Some(crls.collect::<Result<_, _>>()?),
            issuers,
        ))
    }
}

/// The roots and CRLs that a mesh directory holds.
///
/// # Errors
/// It can't be read.
pub fn trust_in_mesh_dir(dir: &Path) -> Result<Trust, Error> {
    let none = || Error::Failed(format!("{} holds no certificate", dir.display()));
    let current = mesh_dir::current(dir)?.ok_or_else(none)?;
    let crls = Some(current.crls).filter(|crls| !crls.is_empty());
    Ok((
        current.roots,
        crls,
        current.chain.into_iter().skip(1).collect(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passphrase::KeyProtection;
    use gapura_protocol::clock::Clock;

    #[test]
    fn roots_of_ours_say_whose_they_are_and_two_domains_say_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let roots = |name: &str, domain: &str| {
            let dir = folder.path().join(name);
            let domain = domain.parse().unwrap();
            Pki::init(&dir, &domain, KeyProtection::Plaintext, &Clock::system())
                .unwrap()
                .roots()
                .unwrap()
        };
        let (one, other) = (roots("a", "mylab.internal"), roots("b", "other.internal"));
        let said = |roots: &[_]| domain_of(roots).map(|domain| domain.to_string());
        assert_eq!(said(&one), Some("mylab.internal".to_owned()));
        assert_eq!(said(&[one, other].concat()), None);
        assert_eq!(said(&[]), None);
    }
}

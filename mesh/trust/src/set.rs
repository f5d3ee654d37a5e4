//! One trust set: everything that decides a handshake, built whole, checked, and swapped as one.
//!
//! In: a mesh directory, the program's role, its clock, and the set before it. Out: a [`TrustSet`]
//! that fits, or a [`TrustError`] that says which file, what was found, what was wanted and what to
//! do. Invariant: a set never holds a key without its certificate, a certificate without its root,
//! or a CRL that nobody here signed; and rustls configurations of one set judge by that set alone.

mod build;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, Guard};
use gapura_certificates::der::trim_zeros;
use gapura_certificates::marks::Marks;
use gapura_certificates::peer::{Peer, seconds};
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::{Refusal, shown};
use gapura_certificates::revocation::{ListFacts, RevocationSet};
use gapura_certificates::verify::Verifier;
use gapura_files::directory::Stamp;
use gapura_protocol::clock::{Clock, Rfc3339, from_unix, unix};
use gapura_protocol::identity::{PeerId, Role};
use gapura_protocol::text::hex;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use serde_json::json;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::before::Before;
use super::failure::{HandshakeFailure, handshake_refusal};
use super::nobody::no_certificate;
pub use super::unfit::TrustError;
use super::verifier::{AnswerVerifier, RecentRefusals};

/// How a program wants its set.
#[derive(Clone, Debug)]
pub struct TrustOptions {
    /// What the program is: its certificate must say the same.
    pub own_role: Role,
    /// Do without `crl.pem`; where there is one it counts all the same.
    pub no_crl: bool,
    /// The clock that judges.
    pub clock: Clock,
}

/// A set that fits.
pub struct TrustSet {
    generation: u64,
    hash: [u8; 32],
    stamp: Stamp,
    own: Peer,
    own_chain: Vec<CertificateDer<'static>>,
    judge: Arc<Verifier>,
    recent: Arc<RecentRefusals>,
    provider: Arc<CryptoProvider>,
    /// When our own chain begins, Unix time.
    own_begins: u64,
    /// How far each issuer's CRLs had come before this set.
    marks: Marks,
    clock: Clock,
    server: Arc<ServerConfig>,
    /// Presents our leaf and refuses everybody until a verifier for one identity is put in.
    client: ClientConfig,
}

/// The set in force. Cheap to clone; all clones see a swap at once.
#[derive(Clone)]
pub struct TrustStore(Arc<ArcSwap<TrustSet>>);

impl TrustSet {
    /// Which set this is: one more than the set it was loaded to follow.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// SHA-256 of the files it was made of.
    #[must_use]
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// What the set after this one has to go on from.
    fn before_the_next(&self, now: SystemTime) -> Before {
        Before {
            generation: Some(self.generation),
            marks: self.marks(now),
            has_crls: self.judge.revocation().is_some(),
        }
    }

    /// What told its files apart from later ones.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    /// Our own identity and certificate.
    #[must_use]
    pub fn own(&self) -> &Peer {
        &self.own
    }

    /// Whether our own certificate is in date; while it is not, the program is not ready.
    #[must_use]
    pub fn is_in_date(&self, now: SystemTime) -> bool {
        let now = unix(now);
        !self.own.expired(now) && now >= self.own_begins
    }

    /// A sentence for the alarm, if something of the set has not begun: the certificate, or the
    /// list of an issuer.
    #[must_use]
    pub fn not_begun(&self, now: SystemTime) -> Option<String> {
        let now = unix(now);
        if let Some(closed @ Refusal::CrlNotBegun { .. }) = self.judge.closed() {
            return Some(format!(
                "crl.pem: {closed}; check the clock here and the CA's"
            ));
        }
        if now < self.own_begins {
            let begins = moment(self.own_begins);
            return Some(format!(
                "our own certificate, or a CA of its chain, begins at {begins}: every handshake is refused until then; check the clock here and the CA's"
            ));
        }
        let (issuer, begins) = self.judge.revocation()?.not_begun(now)?;
        Some(format!(
            "the CRL of {} begins at {}: every handshake under it is refused until then; check the clock here and the CA's",
            issuer.label(),
            moment(begins)
        ))
    }

    /// Why nobody is let in, if the set's CRLs are older than those that were in force before the
    /// program's start.
    #[must_use]
    pub fn went_back(&self) -> Option<String> {
        match self.judge.closed() {
            Some(closed @ Refusal::CrlWentBack { .. }) => Some(closed.to_string()),
            _ => None,
        }
    }

    /// When the same files have to be judged again, because something of them begins.
    #[must_use]
    pub fn again_at(&self) -> Option<u64> {
        match self.judge.closed() {
            Some(Refusal::CrlNotBegun { this_update, .. }) => Some(*this_update),
            _ => None,
        }
    }

    /// How far each issuer's CRLs have come.
    #[must_use]
    pub fn marks(&self, now: SystemTime) -> Marks {
        match self.judge.revocation() {
            Some(lists) if self.judge.closed().is_none() => {
                lists.marks(unix(now)).joined(&self.marks)
            }
            _ => self.marks.clone(),
        }
    }

    /// Why the other end would refuse us now, by what this set says: expired, revoked, no CRL of
    /// our issuer.
    #[must_use]
    pub fn own_refusal(&self, now: SystemTime) -> Option<Refusal> {
        self.judge(&self.own_chain, Purpose::of(self.own.id.role()), now)
            .err()
    }

    /// Judges a chain: the very judgement of the handshake.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn judge(
        &self,
        chain: &[CertificateDer<'_>],
        purpose: Purpose,
        now: SystemTime,
    ) -> Result<Peer, Refusal> {
        self.judge.judge(chain, purpose, now)
    }

    /// For whoever answers: TLS 1.3 only; a certificate of a gateway of our own trust domain is
    /// required; no resumption (a resumed session would skip the judgement) and no early data.
    /// Where we are a CA server: a gateway's or a plugin's certificate, or none, from those who are
    /// still to get one.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For dialling the plugin `wanted`, offering `alpn`: TLS 1.3 only, our leaf, no resumption, no
    /// server name.
    #[must_use]
    pub fn client_config(&self, wanted: &PeerId, alpn: &[&[u8]]) -> Arc<ClientConfig> {
        let mut config = self.client.clone();
        let judge = self.judge.clone();
        self.dial(&mut config, judge, Purpose::Server, Some(wanted.clone()));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    }

    /// For dialling a CA server of our own trust domain, whatever its name: no stolen key of
    /// another role can pose as one. CRLs that are out of date keep nobody from getting newer ones:
    /// what they name is refused here, and who gave the newer ones is to be judged by those. As
    /// [`Self::client_config`] in all else.
    #[must_use]
    pub fn authority_config(&self) -> Arc<ClientConfig> {
        Arc::new(self.for_authorities())
    }

    /// The same without showing our certificate: for what is public, once that counts no more.
    #[must_use]
    pub fn authority_config_of_nobody(&self) -> Arc<ClientConfig> {
        let mut config = self.for_authorities();
        config.client_auth_cert_resolver = no_certificate();
        Arc::new(config)
    }

    fn for_authorities(&self) -> ClientConfig {
        let lists = self.judge.revocation().map(RevocationSet::ageless);
        let judge = Verifier::clone(&self.judge).with_revocation(lists);
        let mut config = self.client.clone();
        self.dial(&mut config, Arc::new(judge), Purpose::Authority, None);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    fn dial(
        &self,
        config: &mut ClientConfig,
        judge: Arc<Verifier>,
        purpose: Purpose,
        wanted: Option<PeerId>,
    ) {
        let verifier = AnswerVerifier {
            judge,
            recent: self.recent.clone(),
            provider: self.provider.clone(),
            purpose,
            wanted,
        };
        config
            .dangerous()
            .set_certificate_verifier(Arc::new(verifier));
    }

    /// What [`handshake_refusal`] says, and whose certificate it was: several kinds of rustls's
    /// errors have no room for that. To be called where a handshake under this set's configuration
    /// has just failed, before the next await.
    #[must_use]
    pub fn explain(&self, error: &std::io::Error) -> HandshakeFailure {
        let failure = handshake_refusal(error);
        if !failure.is_about_certificates || failure.is_peer_alert {
            return failure;
        }
        match self.recent.take(failure.reason) {
            Some(recent) => HandshakeFailure {
                sentence: recent.refusal.to_string(),
                peer: recent.leaf,
                ..failure
            },
            None => failure,
        }
    }

    /// The earliest time at which a next CRL is due, Unix time.
    #[must_use]
    pub fn crl_next_update(&self) -> Option<u64> {
        self.judge
            .revocation()
            .and_then(|lists| lists.next_update(self.clock.unix()))
    }

    /// A sentence for the alarm, if a CRL is past its next update.
    #[must_use]
    pub fn crl_stale(&self, now: SystemTime) -> Option<String> {
        self.judge
            .revocation()
            .and_then(|revocation| revocation.stale(unix(now)))
    }

    /// Each issuer's list of revoked certificates; none without `crl.pem`.
    #[must_use]
    pub fn lists(&self) -> Vec<ListFacts> {
        let lists = self.judge.revocation();
        lists.map_or_else(Vec::new, |lists| lists.lists(self.clock.unix()))
    }

    /// Whether there are lists of revoked certificates at all.
    #[must_use]
    pub fn has_lists(&self) -> bool {
        self.judge.revocation().is_some()
    }

    /// The name of who issued our own certificate.
    #[must_use]
    pub fn issuer(&self) -> Option<String> {
        let (_, leaf) = X509Certificate::from_der(self.own_chain.first()?).ok()?;
        Some(shown(&leaf.issuer().to_string()))
    }

    /// Each root: its name, its last second.
    pub fn roots(&self) -> impl Iterator<Item = (&str, u64)> {
        let anchors = self.judge.roots().anchors();
        anchors.map(|(subject, not_after, _)| (subject, not_after))
    }

    /// The set for the admin side: names, numbers and dates, never a key.
    #[must_use]
    pub fn certificates(&self) -> serde_json::Value {
        let chain: Vec<_> = self
            .own_chain
            .iter()
            .filter_map(|der| described(der))
            .collect();
        let roots: Vec<_> = self
            .judge
            .roots()
            .anchors()
            .map(|(subject, not_after, sha256)| json!({"subject": subject, "not_after": moment(not_after), "sha256": sha256}))
            .collect();
        let crls: Option<Vec<_>> = self.judge.revocation().map(|revocation| {
            let lists = revocation.lists(self.clock.unix()).into_iter();
            lists
                .map(|list| {
                    json!({"issuer": list.issuer, "number": list.number, "this_update": moment(list.this_update),
                        "next_update": moment(list.next_update), "revoked": list.revoked})
                })
                .collect()
        });
        json!({
            "generation": self.generation,
            "own": {"id": self.own.id.to_string(), "serial": self.own.serial_hex(), "not_before": moment(self.own.not_before),
                "not_after": moment(self.own.not_after), "not_after_seconds": self.own.not_after},
            "chain": chain,
            "roots": roots,
            "crls": crls,
        })
    }
}

impl TrustStore {
    /// A store with its first set.
    #[must_use]
    pub fn new(first: TrustSet) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(first)))
    }

    /// The set in force.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<TrustSet>> {
        self.0.load()
    }

    /// The set in force, to keep.
    #[must_use]
    pub fn load_full(&self) -> Arc<TrustSet> {
        self.0.load_full()
    }

    /// Puts `next` in force. Whoever swaps sweeps the live connections next.
    pub fn swap(&self, next: Arc<TrustSet>) {
        self.0.store(next);
    }
}

fn described(der: &CertificateDer<'_>) -> Option<serde_json::Value> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    Some(json!({
        "subject": shown(&certificate.subject().to_string()),
        "issuer": shown(&certificate.issuer().to_string()),
        "serial": hex(trim_zeros(certificate.raw_serial())),
        "not_after": moment(seconds(certificate.validity().not_after.timestamp())),
    }))
}

fn moment(seconds: u64) -> String {
    Rfc3339(from_unix(seconds)).to_string()
}

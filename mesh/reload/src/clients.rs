//! Certificates of clients at the public side: `--client-ca` and its CRL, changed while running.
//!
//! In: a file of CAs, perhaps one of CRLs, and the certificate that a client shows. Out: a
//! handshake that proves the client's key or fails, and of each proven connection when it has to
//! end: with its certificate, or once a CRL names it. Who the client is, is not looked at: a token
//! bound to the certificate says that (RFC 8705). Nothing here vouches for anything on the hop.
//! Invariant: a leaf is judged by the newest files that fit, at the handshake and again whenever
//! they change; an issuer without a CRL, where CRLs are configured, clears nobody.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::digest;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use tokio::sync::watch;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use gapura_certificates::peer::seconds;
use gapura_files::directory::{Stamp, hash, stamp_of};
use gapura_files::file;
use gapura_files::pem;
use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::{Level, Log};
use gapura_trust::provider::public_provider;

use super::asked::Asked;
use super::misfit::Misfit;
use super::watch::{FileWatch, Follower, Pace, Reading, Why};

/// What the operator said of clients' certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// The CAs.
    pub ca: PathBuf,
    /// Their CRLs; `None` if revocation is left out on purpose.
    pub crl: Option<PathBuf>,
    /// Whether a client without a certificate is refused in the handshake.
    pub required: bool,
}

/// Judges clients' certificates. Cheap to clone; all clones see a change at once.
#[derive(Clone)]
pub struct ClientTrust(Arc<Shared>);

struct Shared {
    auth: ClientAuth,
    /// Sent to clients so that they can choose a certificate; those of the first load.
    hints: Vec<DistinguishedName>,
    current: ArcSwap<Current>,
    changes: watch::Sender<u64>,
    revoked_closed: AtomicU64,
}

struct Current {
    verifier: Arc<dyn ClientCertVerifier>,
    hash: [u8; 32],
}

/// The files, followed.
struct Following {
    trust: ClientTrust,
    misfit: Misfit<String>,
    alarms: Alarms,
    log: Log,
}

/// A certificate whose key a client has proven on a connection.
#[derive(Clone, Debug)]
pub struct ClientProof {
    chain: Vec<CertificateDer<'static>>,
    thumbprint: [u8; 32],
    not_after: u64,
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its certificate's last second has passed.
    Expired,
    /// The files in force no longer clear its certificate.
    Revoked,
}

/// A change is in force within two seconds.
const PACE: Pace = Pace {
    look: Duration::from_secs(1),
    read: Duration::from_secs(10),
};

/// The longest sleep of a connection that waits for its certificate's end.
const SLEEP_MOST: u64 = 30;

/// A CRL of 100,000 entries is 4 MiB.
const FILE_MAX: u64 = 16 << 20;

impl ClientTrust {
    /// What judges certificates in the public side's handshakes.
    #[must_use]
    pub fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(self.clone())
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that says which file does not do, and what to do.
    pub fn load(auth: ClientAuth) -> Result<Self, String> {
        let current = Current::read(&auth)?;
        let hints = current.verifier.root_hint_subjects().to_vec();
        Ok(Self(Arc::new(Shared {
            auth,
            hints,
            current: ArcSwap::from_pointee(current),
            changes: watch::channel(0).0,
            revoked_closed: AtomicU64::new(0),
        })))
    }

    /// What the handshake of a connection has proven; `None` without a certificate.
    #[must_use]
    pub fn proof(&self, chain: Option<&[CertificateDer<'_>]>) -> Option<ClientProof> {
        let chain = chain?;
        let leaf = chain.first()?;
        let (_, read) = X509Certificate::from_der(leaf).ok()?;
        Some(ClientProof {
            thumbprint: thumbprint(leaf)?,
            not_after: seconds(read.validity().not_after.timestamp()),
            chain: chain.iter().map(|der| der.clone().into_owned()).collect(),
        })
    }

    /// Waits until a connection with this proof has to end.
    pub async fn ended(&self, proof: &ClientProof, clock: &Clock) -> Ended {
        let mut changes = self.0.changes.subscribe();
        loop {
            let now = clock.unix();
            if now > proof.not_after {
                return Ended::Expired;
            }
            if !self.clears(proof, now) {
                self.0.revoked_closed.fetch_add(1, Ordering::Relaxed);
                return Ended::Revoked;
            }
            let left = (proof.not_after - now + 1).min(SLEEP_MOST);
            let until = tokio::time::sleep(Duration::from_secs(left));
            tokio::pin!(until);
            tokio::select! {
                () = &mut until => {}
                changed = changes.changed() => if changed.is_err() {
                    until.await;
                },
            }
        }
    }

    /// How many connections were closed because their certificate is no longer cleared.
    #[must_use]
    pub fn revoked_closed(&self) -> u64 {
        self.0.revoked_closed.load(Ordering::Relaxed)
    }

    /// Follows the files for ever: on the program's control runtime, once.
    pub async fn run(self, alarms: Alarms, log: Log, asked: Asked) {
        let known = self.0.current.load().hash;
        let auth = self.0.auth.clone();
        let files = [Some(auth.ca.clone()), auth.crl.clone()];
        let watch = FileWatch::new(
            PACE,
            (Stamp::default(), known),
            move || stamp_of(files.iter().flatten().cloned()),
            move || Current::reading(&auth),
        );
        let following = Following {
            trust: self,
            misfit: Misfit::none(),
            alarms,
            log,
        };
        watch.run(following, asked).await;
    }

    fn clears(&self, proof: &ClientProof, now: u64) -> bool {
        let Some((leaf, between)) = proof.chain.split_first() else {
            return false;
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let current = self.0.current.load();
        current
            .verifier
            .verify_client_cert(leaf, between, now)
            .is_ok()
    }
}

impl ClientProof {
    /// SHA-256 over the leaf, DER: `x5t#S256` (RFC 8705, section 3.1).
    #[must_use]
    pub fn thumbprint(&self) -> [u8; 32] {
        self.thumbprint
    }
}

impl Follower<Result<Current, String>> for Following {
    async fn take(&mut self, found: Result<Current, String>, _: Why) {
        let shared = &self.trust.0;
        match found {
            Ok(next) => {
                self.misfit.fits();
                if next.hash != shared.current.load().hash {
                    shared.current.store(Arc::new(next));
                    shared.changes.send_modify(|count| *count += 1);
                    let message = "new CAs or CRLs for clients' certificates are in force";
                    self.log
                        .event(Level::Info, "client_ca_swapped", message, &[]);
                }
            }
            Err(why) => {
                self.misfit.fails(why, Instant::now());
            }
        }
    }

    async fn looked(&mut self) {
        if let Some(why) = self.misfit.alarm(Instant::now()) {
            let sentence = format!("{why}; the files from before stay in force");
            self.alarms.raise(Alarm::ClientCa, &sentence);
        } else if self.misfit.is_well() {
            self.alarms.clear(Alarm::ClientCa);
        }
    }
}

impl Current {
    fn reading(auth: &ClientAuth) -> Reading<Result<Self, String>> {
        let content = Self::read(auth);
        let digest = match &content {
            Ok(current) => current.hash,
            Err(why) => hash([why.as_bytes()]),
        };
        Reading { content, digest }
    }

    fn read(auth: &ClientAuth) -> Result<Self, String> {
        let at = |flag: &str, file: &Path, why: String| format!("{flag} {}: {why}", file.display());
        let of_ca = |why| at("--client-ca", &auth.ca, why);
        let read = |file: &Path| {
            let read = file::read(file, FILE_MAX);
            read.map(|(text, _)| text)
                .map_err(|error| format!("cannot be read: {error}"))
        };
        let ca = read(&auth.ca).map_err(of_ca)?;
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates(&ca).map_err(|why| of_ca(why.to_string()))? {
            let added = roots.add(certificate);
            added
                .map_err(|error| of_ca(format!("holds what is no CA that can be used: {error}")))?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), public_provider());
        let (builder, crl) = match &auth.crl {
            None => (builder, Vec::new()),
            Some(file) => {
                let of_crl = |why| at("--client-crl", file, why);
                let text = read(file).map_err(of_crl)?;
                let lists = pem::crls(&text).map_err(|why| of_crl(why.to_string()))?;
                // The leaf's own issuer must have a list, and one that is not too old: what nobody
                // says is not cleared.
                let builder = builder
                    .with_crls(lists)
                    .only_check_end_entity_revocation()
                    .enforce_revocation_expiration();
                (builder, text)
            }
        };
        let builder = if auth.required {
            builder
        } else {
            builder.allow_unauthenticated()
        };
        let verifier = builder.build().map_err(|error| {
            let file = auth.crl.as_deref().unwrap_or(&auth.ca);
            format!(
                "{}: cannot be used to judge clients: {error}",
                file.display()
            )
        })?;
        Ok(Self {
            verifier,
            hash: hash([ca.as_slice(), crl.as_slice()]),
        })
    }
}

/// The plain digest of the leaf, as everybody computes it.
fn thumbprint(leaf: &[u8]) -> Option<[u8; 32]> {
    digest::digest(&digest::SHA256, leaf)
        .as_ref()
        .try_into()
        .ok()
}

impl ClientCertVerifier for ClientTrust {
    fn client_auth_mandatory(&self) -> bool {
        self.0.auth.required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.hints
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let current = self.0.current.load();
        current.verifier.verify_client_cert(leaf, between, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let current = self.0.current.load();
        current
            .verifier
            .verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let current = self.0.current.load();
        current
            .verifier
            .verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.current.load().verifier.supported_verify_schemes()
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTrust")
            .field("auth", &self.0.auth)
            .finish_non_exhaustive()
    }
}

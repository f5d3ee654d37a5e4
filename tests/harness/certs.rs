//! Certificates of every kind a mesh may meet, good and bad, and the mesh directories that hold
//! them.
//!
//! Made with `rcgen`, not with `gapura-pki`: the programs must take what any careful authority
//! writes.

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The trust domain of every test's mesh.
pub const DOMAIN: &str = "test.internal";

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A root, with or without an issuing authority under it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    /// The issuing authority's own certificate and those above it but for the root, as they follow
    /// the leaf in `cert.pem`.
    between: String,
    root: Option<Arc<Authority>>,
    crl_number: AtomicU64,
    serial: AtomicU64,
}

/// What a leaf is to say.
#[derive(Clone)]
pub struct Leaf {
    uris: Vec<String>,
    dns: Vec<String>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    not_before: SystemTime,
    not_after: SystemTime,
}

/// A leaf with its key.
#[derive(Clone)]
pub struct Certificate {
    /// The leaf, then the authorities between it and the root.
    pub chain: String,
    /// The key, PKCS#8.
    pub key: String,
    /// The leaf's serial number.
    pub serial: Vec<u8>,
    /// Its end.
    pub not_after: SystemTime,
}

/// The four files a program reads its identity and its trust from.
#[derive(Clone)]
pub struct TrustFiles {
    /// `cert.pem`.
    pub cert: String,
    /// `key.pem`.
    pub key: String,
    /// `ca.pem`.
    pub ca: String,
    /// `crl.pem`, which may be left out.
    pub crl: Option<String>,
}

/// A mesh directory that is published as `gapura-pki` does it: one generation behind one symlink.
pub struct MeshDir {
    path: PathBuf,
    generation: AtomicU32,
}

impl Authority {
    /// A root of ten years.
    #[must_use]
    pub fn root(common_name: &str) -> Arc<Self> {
        let params = authority_params(common_name, Duration::from_secs(3650 * 24 * 3600));
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Arc::new(Self {
            issuer,
            between: String::new(),
            root: None,
            crl_number: AtomicU64::new(1),
            serial: AtomicU64::new(0),
        })
    }

    /// An issuing authority under this root, as `gapura-pki init` makes one.
    #[must_use]
    pub fn issuing(self: &Arc<Self>, common_name: &str) -> Self {
        let params = authority_params(common_name, Duration::from_secs(730 * 24 * 3600));
        let issuer =
            CertifiedIssuer::signed_by(params, KeyPair::generate().unwrap(), &self.issuer).unwrap();
        let between = issuer.pem();
        Self {
            issuer,
            between,
            root: Some(self.clone()),
            crl_number: AtomicU64::new(1),
            serial: AtomicU64::new(0),
        }
    }

    /// A root with an issuing authority under it.
    #[must_use]
    pub fn two_tier(common_name: &str) -> Self {
        Self::root(&format!("{common_name} root")).issuing(&format!("{common_name} issuing"))
    }

    /// The root's certificate.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root
            .as_ref()
            .map_or_else(|| self.issuer.pem(), |root| root.issuer.pem())
    }

    /// Every authority's certificate: the root's, and the issuing one's, whose CRL is judged by it
    /// where no leaf brings it along.
    #[must_use]
    pub fn cas_pem(&self) -> String {
        self.root_pem() + &self.between
    }

    /// Signs `leaf`, with a new key.
    #[must_use]
    pub fn issue(&self, leaf: &Leaf) -> Certificate {
        let mut params = CertificateParams::new(leaf.dns.clone()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.extend(
            leaf.uris
                .iter()
                .map(|uri| SanType::URI(uri.as_str().try_into().unwrap())),
        );
        for ip in leaf
            .dns
            .iter()
            .filter(|name| *name == "localhost")
            .flat_map(|_| ["127.0.0.1", "::1"])
        {
            params
                .subject_alt_names
                .push(SanType::IpAddress(ip.parse().unwrap()));
        }
        params.not_before = leaf.not_before.into();
        params.not_after = leaf.not_after.into();
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.clone_from(&leaf.usages);
        params.use_authority_key_identifier_extension = true;
        let mut serial = vec![0x42; 12];
        serial.extend_from_slice(&self.serial.fetch_add(1, Ordering::SeqCst).to_be_bytes());
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        Certificate {
            chain: signed.pem() + &self.between,
            key: key.serialize_pem(),
            serial,
            not_after: leaf.not_after,
        }
    }

    /// The CRLs of this authority and of its root: `revoked` leaves, a higher number at each call,
    /// good for 30 days.
    #[must_use]
    pub fn crl(&self, revoked: &[&Certificate]) -> String {
        self.crl_until(revoked, SystemTime::now() + 30 * DAY)
    }

    /// The CRLs with an end of their own.
    #[must_use]
    pub fn crl_until(&self, revoked: &[&Certificate], next_update: SystemTime) -> String {
        let number = self.crl_number.fetch_add(1, Ordering::SeqCst);
        let mut pem = self.crl_numbered(number, revoked, next_update);
        if let Some(root) = &self.root {
            pem += &root.crl_numbered(number, &[], next_update);
        }
        pem
    }

    /// This authority's CRL alone, with any number.
    #[must_use]
    pub fn crl_numbered(
        &self,
        number: u64,
        revoked: &[&Certificate],
        next_update: SystemTime,
    ) -> String {
        let this_update = (SystemTime::now() - HOUR).min(next_update - HOUR);
        let revoked_certs = revoked
            .iter()
            .map(|leaf| RevokedCertParams {
                serial_number: SerialNumber::from_slice(&leaf.serial),
                revocation_time: this_update.into(),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: this_update.into(),
            next_update: next_update.into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// What a program with the identity `leaf` reads: no leaf revoked.
    #[must_use]
    pub fn files_for(&self, leaf: &Certificate) -> TrustFiles {
        TrustFiles {
            cert: leaf.chain.clone(),
            key: leaf.key.clone(),
            ca: self.root_pem(),
            crl: Some(self.crl(&[])),
        }
    }
}

impl Leaf {
    fn new(uri: Option<String>, dns: &[&str], usage: ExtendedKeyUsagePurpose) -> Self {
        let now = SystemTime::now();
        let dns = dns.iter().map(|name| (*name).to_owned()).collect();
        Self {
            uris: uri.into_iter().collect(),
            dns,
            usages: vec![usage],
            not_before: now - HOUR,
            not_after: now + 30 * DAY,
        }
    }

    /// A gateway's: `spiffe://test.internal/gateway/NAME`, for dialling.
    #[must_use]
    pub fn gateway(name: &str) -> Self {
        Self::new(
            Some(format!("spiffe://{DOMAIN}/gateway/{name}")),
            &[],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    /// A plugin's: `spiffe://test.internal/plugin/NAME`, for answering.
    #[must_use]
    pub fn plugin(name: &str) -> Self {
        let dns = format!("{name}.plugin.{DOMAIN}");
        Self::new(
            Some(format!("spiffe://{DOMAIN}/plugin/{name}")),
            &[&dns],
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// What clients see at the front door, for `localhost` and the loopback addresses.
    #[must_use]
    pub fn public() -> Self {
        Self::new(None, &["localhost"], ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Another URI in place of its own.
    #[must_use]
    pub fn uri(mut self, uri: &str) -> Self {
        self.uris = vec![uri.to_owned()];
        self
    }

    /// A further URI.
    #[must_use]
    pub fn also_uri(mut self, uri: &str) -> Self {
        self.uris.push(uri.to_owned());
        self
    }

    /// No URI at all.
    #[must_use]
    pub fn without_uri(mut self) -> Self {
        self.uris.clear();
        if self.dns.is_empty() {
            self.dns.push("nobody.test.internal".to_owned()); // an empty SAN is left out altogether
        }
        self
    }

    /// For dialling only.
    #[must_use]
    pub fn for_dialling(mut self) -> Self {
        self.usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self
    }

    /// For answering only.
    #[must_use]
    pub fn for_answering(mut self) -> Self {
        self.usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self
    }

    /// For both.
    #[must_use]
    pub fn for_both(mut self) -> Self {
        self.usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        self
    }

    /// Without any extended key usage.
    #[must_use]
    pub fn for_nothing(mut self) -> Self {
        self.usages.clear();
        self
    }

    /// Over since an hour.
    #[must_use]
    pub fn expired(self) -> Self {
        let now = SystemTime::now();
        self.valid(now - 2 * DAY, now - HOUR)
    }

    /// Not before tomorrow.
    #[must_use]
    pub fn of_tomorrow(self) -> Self {
        let now = SystemTime::now();
        self.valid(now + DAY, now + 2 * DAY)
    }

    /// Valid from `from` to `to`.
    #[must_use]
    pub fn valid(mut self, from: SystemTime, to: SystemTime) -> Self {
        (self.not_before, self.not_after) = (from, to);
        self
    }
}

impl Certificate {
    /// The chain as `rustls` takes it.
    #[must_use]
    pub fn chain_der(&self) -> Vec<CertificateDer<'static>> {
        CertificateDer::pem_slice_iter(self.chain.as_bytes())
            .map(Result::unwrap)
            .collect()
    }

    /// The key as `rustls` takes it.
    #[must_use]
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    /// Writes the pair to `NAME.crt` and `NAME.key` in `dir`.
    #[must_use]
    pub fn write(&self, dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (
            dir.join(format!("{name}.crt")),
            dir.join(format!("{name}.key")),
        );
        fs::write(&cert, &self.chain).unwrap();
        write_private(&key, &self.key);
        (cert, key)
    }
}

impl TrustFiles {
    /// With CRLs of the test's own choice, or none.
    #[must_use]
    pub fn with_crl(mut self, crl: Option<String>) -> Self {
        self.crl = crl;
        self
    }

    /// With other roots.
    #[must_use]
    pub fn with_ca(mut self, ca: String) -> Self {
        self.ca = ca;
        self
    }

    fn write(&self, dir: &Path) {
        fs::create_dir_all(dir).unwrap();
        fs::write(dir.join("cert.pem"), &self.cert).unwrap();
        write_private(&dir.join("key.pem"), &self.key);
        fs::write(dir.join("ca.pem"), &self.ca).unwrap();
        if let Some(crl) = &self.crl {
            fs::write(dir.join("crl.pem"), crl).unwrap();
        }
    }
}

impl MeshDir {
    /// A mesh directory at `path` with its first generation.
    #[must_use]
    pub fn create(path: &Path, files: &TrustFiles) -> Self {
        fs::create_dir_all(path).unwrap();
        let dir = Self {
            path: path.to_owned(),
            generation: AtomicU32::new(0),
        };
        dir.publish(files);
        dir
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The next generation, in force for readers from one instant to the next.
    pub fn publish(&self, files: &TrustFiles) {
        let number = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        let generation = format!("gen-{number:06}");
        files.write(&self.path.join(&generation));
        let next = self.path.join(".next");
        symlink(&generation, &next).unwrap();
        fs::rename(&next, self.path.join("current")).unwrap();
        for name in ["cert.pem", "key.pem", "ca.pem", "crl.pem"] {
            let stable = self.path.join(name);
            let present = self.path.join(&generation).join(name).exists();
            if present && fs::symlink_metadata(&stable).is_err() {
                symlink(Path::new("current").join(name), &stable).unwrap();
            } else if !present && fs::symlink_metadata(&stable).is_ok() {
                fs::remove_file(&stable).unwrap();
            }
        }
    }
}

/// A file that only its owner can read, as a key has to be.
pub fn write_private(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

fn authority_params(common_name: &str, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params.use_authority_key_identifier_extension = true;
    let now = SystemTime::now();
    params.not_before = (now - DAY).into();
    params.not_after = (now + life).into();
    params
}

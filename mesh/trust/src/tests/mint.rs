//! A CA for tests: every field of a certificate or CRL can be set, also to nonsense.
//!
//! The tests of other crates take this very file in, by its path; `trust` beside it is the crate as
//! they see it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::OffsetDateTime;

use super::trust::set::{TrustError, TrustOptions, TrustSet};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;

pub(super) const GATEWAY: &str = "spiffe://mesh.test/gateway/edge";
pub(super) const PLUGIN: &str = "spiffe://mesh.test/plugin/lab";
pub(super) const DAY: i64 = 86_400;

/// A CA with its key.
pub(super) struct Ca {
    pub(super) params: CertificateParams,
    key: KeyPair,
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
}

/// A leaf with its key; `chain` is what goes into `cert.pem`.
pub(super) struct Leaf {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) cert: String,
    pub(super) key: String,
}

pub(super) fn now() -> i64 {
    OffsetDateTime::now_utc().unix_timestamp()
}

pub(super) fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = at(now() - 30 * DAY);
    params.not_after = at(now() + 365 * DAY);
    params.use_authority_key_identifier_extension = true;
    params
}

impl Ca {
    pub(super) fn root(name: &str) -> Self {
        Self::root_with(name, |_| {})
    }

    pub(super) fn root_with(name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            params,
            key,
        }
    }

    /// A CA under this one.
    pub(super) fn issuing(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            params,
            key,
        }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    pub(super) fn gateway(&self) -> Leaf {
        self.leaf(GATEWAY, &[ExtendedKeyUsagePurpose::ClientAuth], |_| {})
    }

    pub(super) fn plugin(&self) -> Leaf {
        self.leaf(PLUGIN, &[ExtendedKeyUsagePurpose::ServerAuth], |_| {})
    }

    pub(super) fn leaf(
        &self,
        id: &str,
        purposes: &[ExtendedKeyUsagePurpose],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        self.leaf_of(&KeyPair::generate().unwrap(), id, purposes, change)
    }

    pub(super) fn leaf_for(
        &self,
        key: &KeyPair,
        id: &str,
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> Leaf {
        self.leaf_of(key, id, purposes, |_| {})
    }

    fn leaf_of(
        &self,
        key: &KeyPair,
        id: &str,
        purposes: &[ExtendedKeyUsagePurpose],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Leaf {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![uri(id)];
        params.extended_key_usages = purposes.to_vec();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = at(now() - DAY);
        params.not_after = at(now() + 30 * DAY);
        params.use_authority_key_identifier_extension = true;
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer()).unwrap();
        Leaf {
            chain: vec![certificate.der().clone()],
            cert: certificate.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A CRL with this number that names these serial numbers, due again in a week.
    pub(super) fn crl(&self, number: u64, revoked: &[u64]) -> String {
        self.crl_due(number, revoked, now() + 7 * DAY)
    }

    pub(super) fn crl_due(&self, number: u64, revoked: &[u64], next_update: i64) -> String {
        let serials: Vec<_> = revoked
            .iter()
            .map(|serial| SerialNumber::from(*serial))
            .collect();
        self.crl_params(number, serials, next_update)
            .signed_by(&self.crl_issuer())
            .unwrap()
            .pem()
            .unwrap()
    }

    pub(super) fn crl_params(
        &self,
        number: u64,
        revoked: Vec<SerialNumber>,
        next_update: i64,
    ) -> CertificateRevocationListParams {
        let entry = |serial_number| RevokedCertParams {
            serial_number,
            revocation_time: at(now() - 60),
            reason_code: Some(rcgen::RevocationReason::KeyCompromise),
            invalidity_date: None,
        };
        CertificateRevocationListParams {
            this_update: at(next_update - 14 * DAY),
            next_update: at(next_update),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.into_iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
    }

    /// Signs CRLs even where the CA's own certificate forbids it.
    pub(super) fn crl_issuer(&self) -> Issuer<'_, &KeyPair> {
        let mut params = self.params.clone();
        params.key_usages.push(KeyUsagePurpose::CrlSign);
        Issuer::new(params, &self.key)
    }

    /// The same name with another key: what a stranger can always make.
    pub(super) fn impostor(&self) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = self.params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            params: self.params.clone(),
            key,
        }
    }
}

impl Leaf {
    /// The leaf with its issuing CA behind it.
    pub(super) fn behind(mut self, ca: &Ca) -> Self {
        self.chain.push(ca.der.clone());
        self.cert.push_str(&ca.pem);
        self
    }

    #[allow(dead_code, reason = "the tests of live connections use it")]
    pub(super) fn peer(&self) -> gapura_certificates::peer::Peer {
        gapura_certificates::peer::Peer::of_judged_chain(&self.chain).unwrap()
    }
}

pub(super) fn uri(id: &str) -> SanType {
    SanType::URI(id.try_into().unwrap())
}

pub(super) fn serial(number: u64) -> impl FnOnce(&mut CertificateParams) {
    move |params| params.serial_number = Some(SerialNumber::from(number))
}

pub(super) fn valid(from: i64, to: i64) -> impl FnOnce(&mut CertificateParams) {
    move |params| (params.not_before, params.not_after) = (at(now() + from), at(now() + to))
}

/// A mesh directory.
pub(super) struct Dir(pub(super) tempfile::TempDir);

impl Dir {
    pub(super) fn of(leaf: &Leaf, ca: &str, crl: Option<&str>) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        dir.publish(leaf, ca, crl);
        dir
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn publish(&self, leaf: &Leaf, ca: &str, crl: Option<&str>) {
        self.write("cert.pem", &leaf.cert);
        self.write("key.pem", &leaf.key);
        self.write("ca.pem", ca);
        match crl {
            Some(crl) => self.write("crl.pem", crl),
            None => drop(std::fs::remove_file(self.path().join("crl.pem"))),
        }
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        write_secret(&self.path().join(name), text);
    }

    pub(super) fn load(
        &self,
        options: &TrustOptions,
        previous: Option<&TrustSet>,
    ) -> Result<TrustSet, TrustError> {
        TrustSet::load(self.path(), options, previous)
    }
}

pub(super) fn write_secret(path: &PathBuf, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&beside, path).unwrap();
}

pub(super) fn options(own_role: Role) -> TrustOptions {
    TrustOptions {
        own_role,
        no_crl: false,
        clock: Clock::system(),
    }
}

/// A gateway's and a sidecar's set under one root with a CRL that names nothing.
pub(super) struct Pair {
    pub(super) gateway: (Leaf, Dir, TrustOptions),
    pub(super) sidecar: (Leaf, Dir, TrustOptions),
}

impl Pair {
    pub(super) fn new() -> Self {
        let root = Ca::root("pair root");
        let (gateway, plugin) = (root.gateway(), root.plugin());
        Self::of(&root, gateway, plugin)
    }

    pub(super) fn of(root: &Ca, gateway: Leaf, plugin: Leaf) -> Self {
        let crl = root.crl(1, &[]);
        let gateway_dir = Dir::of(&gateway, &root.pem, Some(&crl));
        let sidecar_dir = Dir::of(&plugin, &root.pem, Some(&crl));
        Self {
            gateway: (gateway, gateway_dir, options(Role::Gateway)),
            sidecar: (plugin, sidecar_dir, options(Role::Plugin)),
        }
    }

    pub(super) fn sets(&self) -> (TrustSet, TrustSet) {
        let load = |(_, dir, options): &(Leaf, Dir, TrustOptions)| dir.load(options, None).unwrap();
        (load(&self.gateway), load(&self.sidecar))
    }
}

//! Certificates of clients at the public side: judged at the handshake, again on a change, and
//! until they end.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;

use gapura_protocol::clock::Clock;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;

use crate::asked::Reloads;
use crate::clients::{ClientAuth, ClientProof, ClientTrust, Ended};

struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: tempfile::TempDir,
}

const HOUR: Duration = Duration::from_secs(3600);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let ca = Self {
            issuer,
            dir: tempfile::tempdir().unwrap(),
        };
        std::fs::write(ca.file("ca.pem"), ca.issuer.pem()).unwrap();
        ca.publish(&[]);
        ca
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn leaf(&self, serial: u64) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        params.serial_number = Some(SerialNumber::from(serial));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (SystemTime::now() - HOUR).into();
        params.not_after = (SystemTime::now() + 24 * HOUR).into();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, &self.issuer).unwrap().der().clone()
    }

    fn publish(&self, revoked: &[u64]) {
        let now = SystemTime::now();
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: (now - HOUR).into(),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: (now - HOUR).into(),
            next_update: (now + 24 * 30 * HOUR).into(),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let crl = params.signed_by(&self.issuer).unwrap().pem().unwrap();
        std::fs::write(self.file("crl.pem"), crl).unwrap();
    }

    fn trust(&self, crl: bool) -> Result<ClientTrust, String> {
        ClientTrust::load(ClientAuth {
            ca: self.file("ca.pem"),
            crl: crl.then(|| self.file("crl.pem")),
            required: false,
        })
    }
}

fn proof(trust: &ClientTrust, leaf: &CertificateDer<'static>) -> ClientProof {
    trust.proof(Some(std::slice::from_ref(leaf))).unwrap()
}

fn is_open<T>(runtime: &tokio::runtime::Runtime, ended: impl Future<Output = T>) -> bool {
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_millis(50), ended)
            .await
            .is_err()
    })
}

#[test]
fn a_connection_lives_as_long_as_its_certificate_is_cleared() {
    let ca = Ca::new();
    let trust = ca.trust(true).unwrap();
    let clock = Clock::system();
    let (one, two) = (proof(&trust, &ca.leaf(1)), proof(&trust, &ca.leaf(2)));
    assert_ne!(one.thumbprint(), two.thumbprint());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(is_open(&runtime, trust.ended(&one, &clock)));
    let log = Log::to("gateway", clock.clone(), Box::new(std::io::sink())).unwrap();
    let reload = Reloads::default().subscribe();
    let ended = runtime.block_on(async {
        ca.publish(&[1]);
        tokio::select! {
            () = trust.clone().run(Alarms::new(log.clone()), log, reload) => panic!("keeping ended"),
            ended = trust.ended(&one, &clock) => ended,
        }
    });
    assert_eq!(ended, Ended::Revoked);
    assert_eq!(trust.revoked_closed(), 1);
    assert!(
        is_open(&runtime, trust.ended(&two, &clock)),
        "the other goes on"
    );
    clock.shift(25 * 3600);
    assert_eq!(runtime.block_on(trust.ended(&two, &clock)), Ended::Expired);
    assert_eq!(trust.revoked_closed(), 1);
}

#[test]
fn a_strangers_certificate_is_not_cleared() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let trust = ours.trust(false).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let clock = Clock::system();
    let stranger = proof(&trust, &theirs.leaf(1));
    assert_eq!(
        runtime.block_on(trust.ended(&stranger, &clock)),
        Ended::Revoked
    );
    assert!(is_open(
        &runtime,
        trust.ended(&proof(&trust, &ours.leaf(1)), &clock)
    ));
    assert!(trust.proof(None).is_none());
}

#[test]
fn files_that_do_not_do_are_named() {
    let ca = Ca::new();
    std::fs::write(ca.file("crl.pem"), "nothing").unwrap();
    let said = ca.trust(true).err().unwrap();
    assert!(
        said.contains("--client-crl") && said.contains("crl.pem"),
        "{said}"
    );
    assert!(ca.trust(false).is_ok());
    std::fs::remove_file(ca.file("ca.pem")).unwrap();
    let said = ca.trust(false).err().unwrap();
    assert!(
        said.contains("--client-ca") && said.contains("cannot be read"),
        "{said}"
    );
}

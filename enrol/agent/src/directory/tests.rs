//! A disk that fails, or a program that dies, at each step of a publication; and what is never
//! written.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use gapura_files::gate::{self, Gate, Operation};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber,
};

use super::*;

/// Fails from one step on.
#[derive(Debug)]
struct Dies {
    at: usize,
    step: AtomicUsize,
    full: bool,
}

impl Gate for Dies {
    fn before(&self, operation: Operation, _: &Path) -> io::Result<()> {
        let step = self.step.fetch_add(1, Ordering::SeqCst);
        let hits = !self.full || matches!(operation, Operation::Create | Operation::Write);
        if step >= self.at && hits {
            return Err(match self.full {
                true => io::ErrorKind::StorageFull.into(),
                false => io::Error::other("killed"),
            });
        }
        Ok(())
    }
}

fn gate_that_dies(at: usize, full: bool) -> &'static Dies {
    Box::leak(Box::new(Dies {
        at,
        step: AtomicUsize::new(0),
        full,
    }))
}

/// A root that signs leaves itself.
struct Ca {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "root");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    fn candidate(&self, number: u64) -> Candidate {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let uri = "spiffe://mesh.test/plugin/lab".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = params.signed_by(&key, &issuer).unwrap();
        Candidate {
            chain: vec![leaf.der().clone()],
            key: Zeroizing::new(key.serialize_pem().into_bytes()),
            ca: self.pem.clone(),
            crl: Some(self.crl(number, &[])),
        }
    }

    fn crl(&self, number: u64, revoked: &[u64]) -> String {
        let now = SystemTime::now();
        let day = std::time::Duration::from_secs(86_400);
        let entry = |serial: u64| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: (now - day).into(),
            next_update: (now + day).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(|serial| entry(*serial)).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &self.key);
        params.signed_by(&issuer).unwrap().pem().unwrap()
    }
}

fn directory(path: &Path, gate: GateRef) -> Directory {
    Directory::new(path, &Clock::system(), gate)
}

fn held(directory: &Directory) -> Held {
    match directory.look() {
        Found::Held(held) => held,
        Found::Nothing => panic!("it is empty"),
        Found::Unfit(why) => panic!("{why}"),
    }
}

#[test]
fn whatever_step_fails_the_directory_shows_a_whole_set_and_the_next_run_goes_on() {
    let ca = Ca::new();
    for full in [false, true] {
        let mut at = 0;
        loop {
            let scratch = tempfile::tempdir().unwrap();
            let path = scratch.path().join("lab");
            let sound = directory(&path, gate::OPEN);
            let first = sound.publish(ca.candidate(1), None).unwrap();
            let gate = gate_that_dies(at, full);
            let done = directory(&path, gate).publish(ca.candidate(2), Some(&first));
            let reached = gate.step.load(Ordering::SeqCst);
            let shown = held(&sound);
            match &done {
                Ok(new) => assert_eq!(shown.chain, new.chain),
                Err(Trouble::Disk(why)) => assert!(why.contains("--mesh-dir"), "{why}"),
                Err(other) => panic!("{other}"),
            }
            let third = sound.publish(ca.candidate(3), Some(&shown)).unwrap();
            assert_eq!(held(&sound).chain, third.chain, "step {at}");
            let names: Vec<_> = std::fs::read_dir(&path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            assert!(names.iter().all(|name| !name.starts_with('.')), "{names:?}");
            if reached <= at {
                assert!(done.is_ok() && at > 10, "{at} steps");
                break;
            }
            at += 1;
        }
    }
}

#[test]
fn what_goes_back_or_does_not_fit_is_never_written() {
    let (ca, other) = (Ca::new(), Ca::new());
    let scratch = tempfile::tempdir().unwrap();
    let directory = directory(&scratch.path().join("lab"), gate::OPEN);
    assert!(matches!(directory.look(), Found::Nothing));
    let first = directory.publish(ca.candidate(5), None).unwrap();
    let refused = |candidate: Candidate| {
        let why = directory.publish(candidate, Some(&first)).err().unwrap();
        assert!(matches!(why, Trouble::Misfit(_)), "{why}");
        why.to_string()
    };
    let back = first.with_news(ca.pem.clone(), ca.crl(4, &[]), &[]);
    let why = directory.publish(back, Some(&first)).err().unwrap();
    assert!(matches!(why, Trouble::RolledBack(_)), "{why}");
    let told = why.to_string();
    assert!(
        told.contains("older backup") && told.contains("go back"),
        "{told}"
    );
    refused(first.with_news(other.pem.clone(), other.crl(6, &[]), &[]));
    refused(first.with_news(ca.pem.clone(), other.crl(6, &[]), &[]));
    let mut wrong_key = ca.candidate(6);
    wrong_key.key = ca.candidate(6).key;
    refused(wrong_key);
    assert_eq!(held(&directory).generation, first.generation);
    // The twin: what goes on is taken, what is the same is not written again.
    let news = || first.with_news(ca.pem.clone(), ca.crl(6, &[]), &[]);
    let second = directory.publish(news(), Some(&first)).unwrap();
    assert_eq!(second.generation, first.generation + 1);
    let same = Candidate {
        chain: second.chain.clone(),
        key: second.key.clone(),
        ca: second.ca.clone(),
        crl: Some(second.crl.clone()),
    };
    let third = directory.publish(same, Some(&second)).unwrap();
    assert_eq!(third.generation, second.generation);
}

#[test]
fn whom_a_list_names_no_newer_list_forgets() {
    let ca = Ca::new();
    let scratch = tempfile::tempdir().unwrap();
    let directory = directory(&scratch.path().join("lab"), gate::OPEN);
    let first = directory.publish(ca.candidate(5), None).unwrap();
    let news =
        |number, revoked: &[u64]| first.with_news(ca.pem.clone(), ca.crl(number, revoked), &[]);
    let second = directory.publish(news(6, &[7, 8]), Some(&first)).unwrap();
    let why = directory.publish(news(7, &[8]), Some(&second)).err();
    let why = why.unwrap();
    assert!(matches!(why, Trouble::RolledBack(_)), "{why}");
    assert!(why.to_string().contains("serial 07"), "{why}");
    assert_eq!(held(&directory).crl, second.crl, "what is there stays");
    let third = directory.publish(news(8, &[7, 8, 9]), Some(&second));
    assert_eq!(third.unwrap().generation, second.generation + 1);
}

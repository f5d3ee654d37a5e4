//! The certificate of the front door on this machine, and the root that vouches for it.
//!
//! In: the state folder and the address the door listens on. Out: `ca.pem` for `curl --cacert`, and
//! a certificate with its key for `localhost`, `127.0.0.1`, `::1` and that address. The root is
//! apart from the mesh's: what vouches to a browser says nothing about a sidecar. It is constrained
//! to those very names, so that a stolen root key opens no other site to anybody who trusts it.
//! Whatever is missing, broken, too old or short of a name is made anew.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use gapura_files::pem;
use gapura_protocol::clock::unix;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::state::{self, State};

/// The front door's files, and when its certificate ends.
pub(crate) struct Public {
    pub(crate) root: PathBuf,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) ends: SystemTime,
}

const ROOT: &str = "ca.pem";
const ROOT_KEY: &str = "public/root-key.pem";
const CERT: &str = "public/cert.pem";
const KEY: &str = "public/key.pem";

const ROOT_LIFE: Duration = Duration::from_secs(365 * 86_400);
const LEAF_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// How far a certificate is dated back, for a client whose clock is behind.
const BACKDATE: Duration = Duration::from_secs(300);

/// What there is, or what is made now.
pub(crate) fn ensure(state: &State, door: IpAddr, now: SystemTime) -> Result<Public, Error> {
    state.folder("public")?;
    let names = names(door);
    let ends = match standing(state, &names, now)? {
        Some(ends) => ends,
        None => make(state, &names, now)?,
    };
    Ok(Public {
        root: state.path(ROOT),
        cert: state.path(CERT),
        key: state.path(KEY),
        ends,
    })
}

/// The addresses the door answers to. `0.0.0.0` stands for all of them, but nobody can be told to
/// come there.
fn names(door: IpAddr) -> Vec<IpAddr> {
    let mut names = vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    if !door.is_unspecified() && !names.contains(&door) {
        names.push(door);
    }
    names
}

/// When the certificate on disk ends, if it serves: its key, its names and its root fit, and a
/// third of its life is left.
fn standing(state: &State, names: &[IpAddr], now: SystemTime) -> Result<Option<SystemTime>, Error> {
    let (Some(root), Some(cert), Some(key)) =
        (state.read(ROOT)?, state.read(CERT)?, state.read(KEY)?)
    else {
        return Ok(None);
    };
    let (Some(root), Some(cert)) = (der(&root), der(&cert)) else {
        return Ok(None);
    };
    let (Ok((_, root)), Ok((_, cert)), Some(key)) = (
        X509Certificate::from_der(&root),
        X509Certificate::from_der(&cert),
        state::key_pair(&key),
    ) else {
        return Ok(None);
    };
    let serves = covers(&cert, names)
        && cert.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        && cert.verify_signature(Some(root.public_key())).is_ok()
        && lasts(&cert, now)
        && root.validity().not_after >= cert.validity().not_after;
    Ok(serves.then(|| {
        SystemTime::UNIX_EPOCH
            + Duration::from_secs(
                cert.validity()
                    .not_after
                    .timestamp()
                    .try_into()
                    .unwrap_or(0),
            )
    }))
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let mut found = pem::certificates(pem.as_bytes()).ok()?.into_iter();
    found.next().map(|first| first.to_vec())
}

fn covers(cert: &X509Certificate<'_>, names: &[IpAddr]) -> bool {
    let Ok(Some(san)) = cert.subject_alternative_name() else {
        return false;
    };
    names.iter().all(|name| {
        let bytes = match name {
            IpAddr::V4(v4) => v4.octets().to_vec(),
            IpAddr::V6(v6) => v6.octets().to_vec(),
        };
        san.value
            .general_names
            .iter()
            .any(|found| matches!(found, GeneralName::IPAddress(ip) if *ip == bytes.as_slice()))
    })
}

/// Whether a third of its life, or more, is left.
fn lasts(cert: &X509Certificate<'_>, now: SystemTime) -> bool {
    let (from, to) = (
        cert.validity().not_before.timestamp(),
        cert.validity().not_after.timestamp(),
    );
    let now = i64::try_from(unix(now)).unwrap_or(i64::MAX);
    from <= now && to.saturating_sub(now) >= (to - from) / 3
}

fn make(state: &State, names: &[IpAddr], now: SystemTime) -> Result<SystemTime, Error> {
    let failed = |err: rcgen::Error| {
        Error::Failed(format!("can't make the front door's certificate: {err}"))
    };
    let root_key = match state.read(ROOT_KEY)?.and_then(|pem| state::key_pair(&pem)) {
        Some(key) => key, // the same key: a browser that trusts the root need not be told again
        _ => {
            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
            state.write(ROOT_KEY, key.serialize_pem().as_bytes())?;
            key
        }
    };
    let root_params = root_params(&root_key, names, now)?;
    let root = root_params.self_signed(&root_key).map_err(failed)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let ends = now + LEAF_LIFE;
    let cert: Certificate = leaf_params(names, now, ends)?
        .signed_by(&key, &Issuer::from_params(&root_params, &root_key))
        .map_err(failed)?;
    // The key first: a gateway that meets the new one beside the old certificate waits for the
    // rest.
    state.write(ROOT, root.pem().as_bytes())?;
    state.write(KEY, key.serialize_pem().as_bytes())?;
    state.write(CERT, cert.pem().as_bytes())?;
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(unix(ends)))
}

fn root_params(
    key: &KeyPair,
    names: &[IpAddr],
    now: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = dated(now, now + ROOT_LIFE)?;
    let print = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key_raw());
    let print = gapura_protocol::text::hex(&print.as_ref()[..4]);
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Gapura development root {print}"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let whole =
        |ip: &IpAddr| CidrSubnet::from_addr_prefix(*ip, if ip.is_ipv4() { 32 } else { 128 });
    let mut permitted = vec![GeneralSubtree::DnsName("localhost".to_owned())];
    permitted.extend(names.iter().map(|ip| GeneralSubtree::IpAddress(whole(ip))));
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted,
        excluded_subtrees: Vec::new(),
    });
    Ok(params)
}

fn leaf_params(
    names: &[IpAddr],
    now: SystemTime,
    ends: SystemTime,
) -> Result<CertificateParams, Error> {
    let mut params = dated(now, ends)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    let localhost = "localhost"
        .try_into()
        .map_err(|_| Error::Failed("can't name the front door's certificate".to_owned()))?;
    params.subject_alt_names = vec![SanType::DnsName(localhost)];
    params
        .subject_alt_names
        .extend(names.iter().map(|ip| SanType::IpAddress(*ip)));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// An empty name, the dates, and a serial of its own: rcgen would repeat that of the key.
fn dated(from: SystemTime, to: SystemTime) -> Result<CertificateParams, Error> {
    let mut serial = [0_u8; 19];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| Error::Failed("this machine gives no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40; // positive, and always of the same length
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = OffsetDateTime::from(from - BACKDATE);
    params.not_after = OffsetDateTime::from(to);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const DAY: Duration = Duration::from_secs(86_400);

    fn cert(state: &State) -> String {
        state.read(CERT).unwrap().unwrap()
    }

    #[test]
    fn stands_until_a_third_of_its_life_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let now = SystemTime::now();
        let made = ensure(&state, LOOPBACK, now).unwrap();
        let first = cert(&state);
        let again = ensure(&state, LOOPBACK, now + 19 * DAY).unwrap();
        assert_eq!((cert(&state), again.ends), (first.clone(), made.ends));
        let renewed = ensure(&state, LOOPBACK, now + 21 * DAY).unwrap();
        assert_ne!(cert(&state), first);
        assert!(renewed.ends >= now + 50 * DAY);
    }

    #[test]
    fn another_address_a_foreign_key_or_a_broken_file_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let now = SystemTime::now();
        ensure(&state, LOOPBACK, now).unwrap();
        let first = cert(&state);
        ensure(&state, "192.0.2.7".parse().unwrap(), now).unwrap();
        let second = cert(&state);
        assert_ne!(first, second);
        ensure(&state, "0.0.0.0".parse().unwrap(), now).unwrap();
        assert_eq!(cert(&state), second, "one that covers more serves");
        for (name, content) in [
            (KEY, KeyPair::generate().unwrap().serialize_pem()),
            (KEY, "no key".to_owned()),
            (CERT, "no certificate".to_owned()),
            (ROOT, first),
        ] {
            let before = cert(&state);
            state.write(name, content.as_bytes()).unwrap();
            ensure(&state, LOOPBACK, now).unwrap();
            assert_ne!(cert(&state), before, "{name}");
        }
    }

    #[test]
    fn openssl_takes_it_for_its_names_only() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let public = ensure(&state, LOOPBACK, SystemTime::now()).unwrap();
        let verify = |flag: &str, name: &str| {
            let ran = std::process::Command::new("openssl")
                .args([
                    "verify",
                    "-x509_strict",
                    "-purpose",
                    "sslserver",
                    flag,
                    name,
                    "-CAfile",
                ])
                .args([&public.root, &public.cert])
                .output()
                .unwrap();
            ran.status.success()
        };
        assert!(verify("-verify_hostname", "localhost"));
        assert!(verify("-verify_ip", "127.0.0.1"));
        assert!(verify("-verify_ip", "::1"));
        assert!(!verify("-verify_ip", "192.0.2.7"));
        assert!(!verify("-verify_hostname", "example.com"));
    }
}

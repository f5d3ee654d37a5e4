//! Certificates and CRLs down to the byte: each field can be set, also to what no library would
//! write.
//!
//! A mint for judging the judge, so made with no code of the product, nor of the library the
//! product mints with.

use std::sync::OnceLock;
use std::time::{Duration, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use gapura_protocol::clock::Rfc3339;

pub(super) type Der = Vec<u8>;

/// A tag with its value.
pub(super) fn tlv(tag: u8, value: &[u8]) -> Der {
    let mut der = vec![tag];
    match u8::try_from(value.len()) {
        Ok(length @ 0..=0x7f) => der.push(length),
        Ok(length) => der.extend([0x81, length]),
        Err(_) => {
            der.push(0x82);
            der.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        }
    }
    der.extend(value);
    der
}

pub(super) fn seq(parts: &[&[u8]]) -> Der {
    tlv(0x30, &parts.concat())
}

pub(super) fn oid(id: &[u8]) -> Der {
    tlv(0x06, id)
}

fn bits(bytes: &[u8]) -> Der {
    tlv(0x03, &[&[0], bytes].concat())
}

/// A distinguished name of one common name; an empty text makes an empty name.
pub(super) fn name(cn: &str) -> Der {
    name_as(0x0c, cn)
}

/// The same in another kind of string.
pub(super) fn name_as(tag: u8, cn: &str) -> Der {
    if cn.is_empty() {
        return seq(&[]);
    }
    let attribute = seq(&[&oid(&[0x55, 0x04, 0x03]), &tlv(tag, cn.as_bytes())]);
    seq(&[&tlv(0x31, &attribute)])
}

/// Unix seconds as a `GeneralizedTime`, or as a `UTCTime` where RFC 5280 wants one.
pub(super) fn time(at: i64) -> Der {
    let moment = UNIX_EPOCH + Duration::from_secs(at.unsigned_abs());
    let digits: String = Rfc3339(moment)
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .take(14)
        .collect();
    if digits.as_str() < "20500101000000" {
        tlv(0x17, format!("{}Z", &digits[2..]).as_bytes())
    } else {
        tlv(0x18, format!("{digits}Z").as_bytes())
    }
}

/// A key of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum K {
    Root,
    Ca(usize),
    Leaf,
    Stranger,
    Home,
    HomeLeaf,
    P384,
    P521,
    Ed,
    Rsa,
    Rsa3072,
}

/// How something is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sig {
    /// As goes with the key.
    Usual,
    Rsa384,
    Rsa512,
    RsaPss,
    /// With a zero for each byte of the signature.
    Zeros,
    /// By an algorithm of this identifier, with bytes that nobody checks.
    Named(&'static [u8]),
}

enum Secret {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

pub(super) struct Key {
    secret: Secret,
    /// `SubjectPublicKeyInfo`.
    pub(super) info: Der,
    pub(super) pkcs8: Der,
    algorithm: Der,
}

pub(super) const CAS: usize = 8;

const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const RSA_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// Key infos of kinds that are not taken, or of no kind at all.
pub(super) fn ec_info(curve: &[u8], point: &[u8]) -> Der {
    seq(&[&seq(&[&oid(EC_KEY), &oid(curve)]), &bits(point)])
}

pub(super) fn plain_info(algorithm: &[u8], key: &[u8]) -> Der {
    seq(&[&seq(&[&oid(algorithm)]), &bits(key)])
}

pub(super) fn rsa_info(bytes: usize, first: u8, exponent: &[u8]) -> Der {
    let mut modulus = vec![0xb5; bytes];
    modulus[0] = first;
    if first >= 0x80 {
        modulus.insert(0, 0);
    }
    let key = seq(&[&tlv(0x02, &modulus), &tlv(0x02, exponent)]);
    seq(&[&seq(&[&oid(RSA_KEY), &[5, 0]]), &bits(&key)])
}

fn rsa_algorithm(last: u8) -> Der {
    let id = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last];
    seq(&[&oid(&id), &[5, 0]])
}

fn pss_algorithm() -> Der {
    const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    const PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    let hash = seq(&[&oid(SHA256), &[5, 0]]);
    let parameters = seq(&[
        &tlv(0xa0, &hash),
        &tlv(0xa1, &seq(&[&oid(MGF1), &hash])),
        &tlv(0xa2, &tlv(0x02, &[32])),
    ]);
    seq(&[&oid(PSS), &parameters])
}

impl Key {
    fn ec(which: usize) -> Self {
        const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let (algorithm, curve, sign): (_, &[u8], u8) = match which {
            256 => (&ECDSA_P256_SHA256_ASN1_SIGNING, P256, 2),
            384 => (
                &ECDSA_P384_SHA384_ASN1_SIGNING,
                &[0x2b, 0x81, 0x04, 0x00, 0x22],
                3,
            ),
            _ => (
                &ECDSA_P521_SHA512_ASN1_SIGNING,
                &[0x2b, 0x81, 0x04, 0x00, 0x23],
                4,
            ),
        };
        let secret = EcdsaKeyPair::generate(algorithm).unwrap();
        Self {
            info: ec_info(curve, secret.public_key().as_ref()),
            pkcs8: secret.to_pkcs8v1().unwrap().as_ref().to_vec(),
            algorithm: seq(&[&oid(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, sign])]),
            secret: Secret::Ec(secret),
        }
    }

    fn ed() -> Self {
        let secret = Ed25519KeyPair::generate().unwrap();
        let id = [0x2b, 0x65, 0x70];
        Self {
            info: plain_info(&id, secret.public_key().as_ref()),
            pkcs8: secret.to_pkcs8().unwrap().as_ref().to_vec(),
            algorithm: seq(&[&oid(&id)]),
            secret: Secret::Ed(secret),
        }
    }

    fn rsa(size: KeySize) -> Self {
        let secret = RsaKeyPair::generate(size).unwrap();
        let public = secret.public_key().as_ref().to_vec();
        let pkcs8: aws_lc_rs::encoding::Pkcs8V1Der<'_> = secret.as_der().unwrap();
        Self {
            info: seq(&[&seq(&[&oid(RSA_KEY), &[5, 0]]), &bits(&public)]),
            pkcs8: pkcs8.as_ref().to_vec(),
            algorithm: rsa_algorithm(0x0b),
            secret: Secret::Rsa(secret),
        }
    }

    /// The algorithm's identifier, and the signature.
    fn sign(&self, bytes: &[u8], sig: Sig) -> (Der, Der) {
        let rsa = |encoding: &'static dyn RsaEncoding, algorithm: Der| {
            let Secret::Rsa(pair) = &self.secret else {
                panic!("an RSA signature wants an RSA key");
            };
            let mut signature = vec![0; pair.public_modulus_len()];
            let rng = SystemRandom::new();
            pair.sign(encoding, &rng, bytes, &mut signature).unwrap();
            (algorithm, signature)
        };
        match (sig, &self.secret) {
            (Sig::Named(id), _) => (seq(&[&oid(id), &[5, 0]]), vec![7; 64]),
            (Sig::Zeros, _) => (self.algorithm.clone(), vec![0; 64]),
            (Sig::Rsa384, _) => rsa(&RSA_PKCS1_SHA384, rsa_algorithm(0x0c)),
            (Sig::Rsa512, _) => rsa(&RSA_PKCS1_SHA512, rsa_algorithm(0x0d)),
            (Sig::RsaPss, _) => rsa(&RSA_PSS_SHA256, pss_algorithm()),
            (Sig::Usual, Secret::Rsa(_)) => rsa(&RSA_PKCS1_SHA256, self.algorithm.clone()),
            (Sig::Usual, Secret::Ec(pair)) => {
                let signature = pair.sign(&SystemRandom::new(), bytes).unwrap();
                (self.algorithm.clone(), signature.as_ref().to_vec())
            }
            (Sig::Usual, Secret::Ed(pair)) => {
                (self.algorithm.clone(), pair.sign(bytes).as_ref().to_vec())
            }
        }
    }
}

/// The key itself: each is made once.
pub(super) fn key(which: K) -> &'static Key {
    static KEYS: OnceLock<Vec<Key>> = OnceLock::new();
    static LARGE: OnceLock<[Key; 2]> = OnceLock::new();
    let small = || {
        KEYS.get_or_init(|| {
            let plain = (0..5 + CAS).map(|_| Key::ec(256));
            plain
                .chain([Key::ec(384), Key::ec(521), Key::ed()])
                .collect()
        })
    };
    let large = || LARGE.get_or_init(|| [KeySize::Rsa2048, KeySize::Rsa3072].map(Key::rsa));
    match which {
        K::Root => &small()[0],
        K::Leaf => &small()[1],
        K::Stranger => &small()[2],
        K::Home => &small()[3],
        K::HomeLeaf => &small()[4],
        K::Ca(at) => &small()[5 + at],
        K::P384 => &small()[5 + CAS],
        K::P521 => &small()[6 + CAS],
        K::Ed => &small()[7 + CAS],
        K::Rsa => &large()[0],
        K::Rsa3072 => &large()[1],
    }
}

/// An extension.
#[derive(Clone)]
pub(super) struct Ext {
    pub(super) id: &'static [u8],
    pub(super) critical: bool,
    pub(super) value: Der,
}

impl Ext {
    fn new(id: &'static [u8], critical: bool, value: Der) -> Self {
        Self {
            id,
            critical,
            value,
        }
    }

    pub(super) fn critical(mut self, critical: bool) -> Self {
        self.critical = critical;
        self
    }

    fn der(&self) -> Der {
        let critical: &[u8] = if self.critical { &[1, 1, 0xff] } else { &[] };
        seq(&[&oid(self.id), critical, &tlv(0x04, &self.value)])
    }
}

pub(super) const BASIC: &[u8] = &[0x55, 0x1d, 0x13];
pub(super) const USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(super) const PURPOSES: &[u8] = &[0x55, 0x1d, 0x25];
pub(super) const NAMES: &[u8] = &[0x55, 0x1d, 0x11];
pub(super) const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
const POINTS: &[u8] = &[0x55, 0x1d, 0x1f];
const POLICIES: &[u8] = &[0x55, 0x1d, 0x20];
const NUMBER: &[u8] = &[0x55, 0x1d, 0x14];
const DELTA: &[u8] = &[0x55, 0x1d, 0x1b];
const ISSUING_POINT: &[u8] = &[0x55, 0x1d, 0x1c];
const ENTRY_ISSUER: &[u8] = &[0x55, 0x1d, 0x1d];
const REASON: &[u8] = &[0x55, 0x1d, 0x15];

pub(super) fn basic(ca: bool, path: Option<u8>) -> Ext {
    let ca: &[u8] = if ca { &[1, 1, 0xff] } else { &[] };
    let path = path.map_or_else(Vec::new, |path| tlv(0x02, &[path]));
    Ext::new(BASIC, true, seq(&[ca, &path]))
}

pub(super) const DIGITAL: u8 = 0x80;
pub(super) const ENCIPHER: u8 = 0x20;
pub(super) const AGREE: u8 = 0x08;
pub(super) const CERTS: u8 = 0x04;
pub(super) const CRLS: u8 = 0x02;

pub(super) fn usage(flags: u8) -> Ext {
    let unused = u8::try_from(flags.trailing_zeros().min(7)).unwrap();
    let value = if flags == 0 {
        vec![0]
    } else {
        vec![unused, flags]
    };
    Ext::new(USAGE, true, tlv(0x03, &value))
}

pub(super) fn raw(id: &'static [u8], critical: bool, value: &[u8]) -> Ext {
    Ext::new(id, critical, value.to_vec())
}

pub(super) const SERVER: u8 = 1;
pub(super) const CLIENT: u8 = 2;
pub(super) const CODE: u8 = 3;
pub(super) const ANY: u8 = 0;

pub(super) fn purposes(which: &[u8]) -> Ext {
    let ids = which.iter().map(|purpose| match *purpose {
        ANY => oid(&[0x55, 0x1d, 0x25, 0x00]),
        purpose => oid(&[0x2b, 6, 1, 5, 5, 7, 3, purpose]),
    });
    Ext::new(
        PURPOSES,
        false,
        tlv(0x30, &ids.collect::<Vec<_>>().concat()),
    )
}

pub(super) fn uri(text: &str) -> Der {
    tlv(0x86, text.as_bytes())
}

pub(super) fn dns(text: &str) -> Der {
    tlv(0x82, text.as_bytes())
}

pub(super) fn mail(text: &str) -> Der {
    tlv(0x81, text.as_bytes())
}

pub(super) fn ip(bytes: &[u8]) -> Der {
    tlv(0x87, bytes)
}

pub(super) fn directory(cn: &str) -> Der {
    tlv(0xa4, &name(cn))
}

pub(super) fn other_name() -> Der {
    let id = oid(&[0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x14, 2, 3]);
    tlv(0xa0, &[id, tlv(0xa0, &tlv(0x0c, b"who@lab.test"))].concat())
}

pub(super) fn names(all: &[Der]) -> Ext {
    Ext::new(NAMES, true, tlv(0x30, &all.concat()))
}

pub(super) fn constraints(permitted: &[Der], excluded: &[Der]) -> Ext {
    let trees = |tag, names: &[Der]| match names {
        [] => Vec::new(),
        names => {
            let trees: Vec<Der> = names.iter().map(|name| seq(&[name])).collect();
            tlv(tag, &trees.concat())
        }
    };
    let value = seq(&[&trees(0xa0, permitted), &trees(0xa1, excluded)]);
    Ext::new(CONSTRAINTS, true, value)
}

/// Where the certificate's list lies.
pub(super) fn points(urls: &[&str]) -> Ext {
    let point = |url: &&str| seq(&[&tlv(0xa0, &tlv(0xa0, &uri(url)))]);
    let all: Vec<Der> = urls.iter().map(point).collect();
    Ext::new(POINTS, false, tlv(0x30, &all.concat()))
}

/// The same, of lists of another issuer.
pub(super) fn points_of_another(url: &str) -> Ext {
    let issuer = tlv(0xa2, &directory("another"));
    let point = seq(&[&tlv(0xa0, &tlv(0xa0, &uri(url))), &issuer]);
    Ext::new(POINTS, false, seq(&[&point]))
}

pub(super) fn policies() -> Ext {
    Ext::new(POLICIES, false, seq(&[&seq(&[&oid(&[0x2a, 3, 4])])]))
}

pub(super) fn number(value: &[u8]) -> Ext {
    Ext::new(NUMBER, false, tlv(0x02, value))
}

pub(super) fn delta(base: u8) -> Ext {
    Ext::new(DELTA, true, tlv(0x02, &[base]))
}

/// An issuing distribution point of these raw fields.
pub(super) fn issuing_point(fields: &[Der]) -> Ext {
    Ext::new(ISSUING_POINT, true, tlv(0x30, &fields.concat()))
}

/// Its name: one URL or more.
pub(super) fn point_name(urls: &[&str]) -> Der {
    let names: Vec<Der> = urls.iter().map(|url| uri(url)).collect();
    tlv(0xa0, &tlv(0xa0, &names.concat()))
}

pub(super) fn entry_issuer(cn: &str) -> Ext {
    Ext::new(ENTRY_ISSUER, true, seq(&[&directory(cn)]))
}

pub(super) fn reason(code: u8) -> Ext {
    Ext::new(REASON, false, tlv(0x0a, &[code]))
}

/// A certificate to be.
#[derive(Clone)]
pub(super) struct Cert {
    /// The version field, whole.
    pub(super) version: Der,
    pub(super) serial: Der,
    pub(super) issuer: Der,
    pub(super) subject: Der,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) info: Der,
    pub(super) exts: Vec<Ext>,
    pub(super) by: K,
    pub(super) sig: Sig,
    /// The algorithm inside, where it is to differ from the one outside.
    pub(super) inner: Option<Der>,
    /// Changes the finished bytes.
    pub(super) spoil: Option<fn(&mut Der)>,
}

impl Cert {
    /// Puts the extension in the place of the one of its kind.
    pub(super) fn set(&mut self, ext: Ext) {
        self.unset(ext.id);
        self.exts.push(ext);
    }

    pub(super) fn unset(&mut self, id: &[u8]) {
        self.exts.retain(|known| known.id != id);
    }

    pub(super) fn der(&self) -> Der {
        let signer = key(self.by);
        let (algorithm, _) = signer.sign(b"", self.sig);
        let exts: Vec<Der> = self.exts.iter().map(Ext::der).collect();
        let exts = match exts.as_slice() {
            [] => Vec::new(),
            exts => tlv(0xa3, &tlv(0x30, &exts.concat())),
        };
        let tbs = seq(&[
            &self.version,
            &tlv(0x02, &self.serial),
            self.inner.as_ref().unwrap_or(&algorithm),
            &self.issuer,
            &seq(&[&time(self.from), &time(self.to)]),
            &self.subject,
            &self.info,
            &exts,
        ]);
        let (algorithm, signature) = signer.sign(&tbs, self.sig);
        let mut der = seq(&[&tbs, &algorithm, &bits(&signature)]);
        if let Some(spoil) = self.spoil {
            spoil(&mut der);
        }
        der
    }
}

/// A CRL to be.
#[derive(Clone)]
pub(super) struct Crl {
    pub(super) version: Option<u8>,
    pub(super) issuer: Der,
    pub(super) from: i64,
    pub(super) next: Option<i64>,
    /// Serial numbers, each with the extensions of its entry.
    pub(super) revoked: Vec<(Der, Vec<Ext>)>,
    pub(super) exts: Vec<Ext>,
    pub(super) by: K,
    pub(super) sig: Sig,
    pub(super) spoil: Option<fn(&mut Der)>,
}

impl Crl {
    pub(super) fn set(&mut self, ext: Ext) {
        self.exts.retain(|known| known.id != ext.id);
        self.exts.push(ext);
    }

    pub(super) fn revoke(&mut self, serial: &[u8]) {
        self.revoked.push((serial.to_vec(), Vec::new()));
    }

    pub(super) fn der(&self) -> Der {
        let signer = key(self.by);
        let (algorithm, _) = signer.sign(b"", self.sig);
        let list = |exts: &[Ext]| match exts {
            [] => Vec::new(),
            exts => tlv(
                0x30,
                &exts.iter().map(Ext::der).collect::<Vec<_>>().concat(),
            ),
        };
        let entries: Vec<Der> = self
            .revoked
            .iter()
            .map(|(serial, exts)| seq(&[&tlv(0x02, serial), &time(self.from), &list(exts)]))
            .collect();
        let entries = match entries.as_slice() {
            [] => Vec::new(),
            entries => tlv(0x30, &entries.concat()),
        };
        let exts = match self.exts.as_slice() {
            [] => Vec::new(),
            exts => tlv(0xa0, &list(exts)),
        };
        let tbs = seq(&[
            &self
                .version
                .map_or_else(Vec::new, |version| tlv(0x02, &[version])),
            &algorithm,
            &self.issuer,
            &time(self.from),
            &self.next.map_or_else(Vec::new, time),
            &entries,
            &exts,
        ]);
        let (algorithm, signature) = signer.sign(&tbs, self.sig);
        let mut der = seq(&[&tbs, &algorithm, &bits(&signature)]);
        if let Some(spoil) = self.spoil {
            spoil(&mut der);
        }
        der
    }
}

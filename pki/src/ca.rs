//! A CA that can sign: its certificate, its opened key, and what it signs with them.
//!
//! In: the folder of an authority and whatever opens its key. Out: certificates and CRLs, in
//! memory. Invariant: certificate and key belong together and the certificate is the one the
//! inventory knows, else no [`Signer`] comes to be.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    Certificate, CertificateParams, CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair,
    PublicKeyData, RevocationReason,
};
use rcgen::{RevokedCertParams, SerialNumber};
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::error::Error;
use crate::keys::{self, sha256_hex, unhex};
use crate::ledger::{Authority, Reason, Revoked};
use crate::passphrase::KeyProtection;
use crate::pem;
use crate::store::{self, Access};
use crate::timestamp::Timestamp;

/// An authority whose key is open.
pub(crate) struct Signer {
    id: String,
    certificate: CertificateDer<'static>,
    key_id: Vec<u8>,
    issuer: Issuer<'static, KeyPair>,
}

/// The folder an authority's certificate and key live in.
pub(crate) fn folder(dir: &Path, id: &str) -> PathBuf {
    dir.join("authorities").join(id)
}

/// An authority's certificate, checked against the inventory.
pub(crate) fn certificate(
    dir: &Path,
    authority: &Authority,
) -> Result<CertificateDer<'static>, Error> {
    let path = folder(dir, &authority.id).join("cert.pem");
    let mend = "put the file back, or run `gapura-pki restore` with the last backup";
    let found = pem::certificates(&store::read(&path)?)
        .map_err(|why| Error::damaged(&path, format!("{why}; {mend}")))?;
    let [certificate] = <[_; 1]>::try_from(found).map_err(|found| {
        Error::damaged(
            &path,
            format!(
                "{} certificates found, one was written; {mend}",
                found.len()
            ),
        )
    })?;
    let fingerprint = sha256_hex(&certificate);
    if fingerprint != authority.fingerprint {
        let why = format!(
            "the certificate has SHA-256 {fingerprint}, but {} was written; {mend}",
            authority.fingerprint
        );
        return Err(Error::damaged(&path, why));
    }
    Ok(certificate)
}

/// Stores a new authority's files; the inventory learns of it afterwards.
pub(crate) fn save(
    folder: &Path,
    key_folder: &Path,
    cert: &Certificate,
    key: &KeyPair,
    protection: &KeyProtection,
) -> Result<(), Error> {
    for own in [
        folder.parent(),
        Some(folder),
        key_folder.parent(),
        Some(key_folder),
    ]
    .into_iter()
    .flatten()
    {
        store::make_dir(own)?;
    }
    let pem = seal(key, protection)?;
    let (key_path, cert_path) = (key_folder.join("key.pem"), folder.join("cert.pem"));
    if is_left_over(&key_path, &cert_path, protection) {
        store::remove_if_there(&key_path)?;
    }
    // In our own folder: left by a run that died before the inventory knew of this authority, so no
    // one ever saw what is in there.
    for stale in [folder.join("key.pem"), folder.join("cert.pem")] {
        store::remove_if_there(&stale)?;
    }
    if key_path.exists() {
        // Elsewhere it may well be another installation's root.
        return Err(Error::Refused(format!(
            "{} is there already; give another --offline-root, or move it away",
            key_path.display()
        )));
    }
    // The certificate first: by it a run that finds the key elsewhere knows it for one that was
    // left over.
    store::create(&cert_path, cert.pem().as_bytes(), Access::Everyone)?;
    // Under its name it is whole, so that it can be told from another's.
    store::sweep(key_folder)?;
    store::replace(&key_path, pem.as_bytes(), Access::Owner)?;
    store::sync_dir(key_folder)?;
    store::sync_dir(folder)?;
    store::sync_parent(folder)
}

/// A key as it is kept.
pub(crate) fn seal(
    key: &KeyPair,
    protection: &KeyProtection,
) -> Result<zeroize::Zeroizing<String>, Error> {
    match protection.passphrase()? {
        Some(passphrase) => keys::to_encrypted_pem(key, &passphrase),
        None => Ok(keys::to_plain_pem(key)),
    }
}

/// Whether the key, which may be kept elsewhere, is that of the certificate beside it in our own
/// folder, which the inventory never learned of: a run died, and nobody ever saw either.
fn is_left_over(key: &Path, certificate: &Path, protection: &KeyProtection) -> bool {
    let read = |path| store::read_if_there(path).ok().flatten();
    let (Some(key), Some(certificate)) = (read(key), read(certificate)) else {
        return false;
    };
    let Ok(text) = String::from_utf8(key).map(zeroize::Zeroizing::new) else {
        return false;
    };
    let opened = if keys::is_encrypted(&text) {
        let passphrase = protection.passphrase().ok().flatten();
        passphrase.and_then(|passphrase| keys::from_encrypted_pem(&text, &passphrase).ok())
    } else {
        keys::from_plain_pem(&text).ok()
    };
    let certificates = pem::certificates(&certificate).unwrap_or_default();
    let parsed = certificates
        .first()
        .and_then(|der| X509Certificate::from_der(der).ok());
    opened.zip(parsed).is_some_and(|(key, (_, parsed))| {
        parsed.public_key().raw == key.subject_public_key_info().as_slice()
    })
}

impl Signer {
    /// Takes a new CA's certificate and key.
    pub(crate) fn new(
        id: &str,
        certificate: CertificateDer<'static>,
        key: KeyPair,
    ) -> Result<Self, Error> {
        let path = Path::new(id);
        let (_, parsed) = X509Certificate::from_der(&certificate)
            .map_err(|_| Error::damaged(path, "not a certificate"))?;
        if parsed.public_key().raw != key.subject_public_key_info().as_slice() {
            return Err(Error::damaged(
                path,
                "key.pem is not the key of cert.pem; run `gapura-pki restore` with the last backup",
            ));
        }
        let key_id = subject_key_id(&parsed).ok_or_else(|| {
            Error::damaged(path, "the CA certificate has no subject key identifier")
        })?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(Error::minting)?;
        Ok(Self {
            id: id.to_owned(),
            certificate,
            key_id,
            issuer,
        })
    }

    /// Opens the CA `authority` of the state directory `dir`; its key may be kept in another
    /// folder.
    pub(crate) fn open(
        dir: &Path,
        authority: &Authority,
        keys_in: Option<&Path>,
        protection: &KeyProtection,
    ) -> Result<Self, Error> {
        let certificate = certificate(dir, authority)?;
        let path = match keys_in {
            Some(elsewhere) => elsewhere.join(&authority.id).join("key.pem"),
            None => folder(dir, &authority.id).join("key.pem"),
        };
        let bytes = store::read_if_there(&path)?.ok_or_else(|| {
            let hint = "if it is kept offline, say where with --offline-root DIR";
            Error::Refused(format!(
                "the key of {} is needed, but {} is not there; {hint}",
                authority.id,
                path.display()
            ))
        })?;
        let text = zeroize::Zeroizing::new(
            String::from_utf8(bytes).map_err(|_| Error::damaged(&path, "not a PEM file"))?,
        );
        let key = if keys::is_encrypted(&text) {
            let passphrase = protection.passphrase()?.ok_or_else(|| {
                let ways = "--passphrase-file, --passphrase-fd or --passphrase-command";
                Error::Passphrase(format!(
                    "{} is encrypted; give its passphrase with {ways}",
                    path.display()
                ))
            })?;
            keys::from_encrypted_pem(&text, &passphrase).map_err(|why| match why {
                Error::Passphrase(why) => Error::Passphrase(format!(
                    "{}: {why}; run it again with the right one",
                    path.display()
                )),
                why => Error::damaged(
                    &path,
                    format!("{why}; run `gapura-pki restore` with the last backup"),
                ),
            })?
        } else {
            refuse_if_others_can_read(&path)?;
            let mend = "run `gapura-pki restore` with the last backup";
            keys::from_plain_pem(&text)
                .map_err(|why| Error::damaged(&path, format!("{why}; {mend}")))?
        };
        Self::new(&authority.id, certificate, key)
    }

    /// Which authority this is.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Its certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Signs a certificate for `public_key`.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
    ) -> Result<Certificate, Error> {
        params
            .signed_by(public_key, &self.issuer)
            .map_err(Error::minting)
    }

    /// Signs a CRL.
    pub(crate) fn sign_crl(
        &self,
        number: u64,
        life: (Timestamp, Timestamp),
        revoked: &[&Revoked],
    ) -> Result<Vec<u8>, Error> {
        let entry = |revoked: &&Revoked| {
            let serial = unhex(&revoked.serial)
                .ok_or_else(|| Error::Failed(format!("{} is not a serial", revoked.serial)))?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(&serial),
                revocation_time: revoked.revoked_at.to_time(),
                reason_code: code(revoked.reason),
                invalidity_date: None,
            })
        };
        let params = CertificateRevocationListParams {
            this_update: life.0.to_time(),
            next_update: life.1.to_time(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.iter().map(entry).collect::<Result<_, Error>>()?,
            // The CA's own key id, not one the library would make up.
            key_identifier_method: KeyIdMethod::PreSpecified(self.key_id.clone()),
        };
        let crl = params.signed_by(&self.issuer).map_err(Error::minting)?;
        Ok(crl.der().to_vec())
    }
}

/// A key in the clear that others can read is theirs as well; a CA that goes on signing with it
/// would only hide that.
fn refuse_if_others_can_read(path: &Path) -> Result<(), Error> {
    let mode = std::fs::metadata(path)
        .map_err(Error::io("read", path))?
        .permissions()
        .mode()
        & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let way = format!(
        "run `chmod 0600 {}`; if others may have read it: gapura-pki ca rotate, with --emergency --taint",
        path.display()
    );
    Err(Error::Refused(format!(
        "{} has mode {mode:04o}, wanted 0600; {way}",
        path.display()
    )))
}

/// RFC 5280 wants no reason at all where none is given.
fn code(reason: Reason) -> Option<RevocationReason> {
    match reason {
        Reason::Unspecified => None,
        Reason::KeyCompromise => Some(RevocationReason::KeyCompromise),
        Reason::CaCompromise => Some(RevocationReason::CaCompromise),
        Reason::Superseded => Some(RevocationReason::Superseded),
        Reason::Cessation => Some(RevocationReason::CessationOfOperation),
    }
}

fn subject_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .iter_extensions()
        .find_map(|extension| match extension.parsed_extension() {
            x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => {
                Some(id.0.to_vec())
            }
            _ => None,
        })
}

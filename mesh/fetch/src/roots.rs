//! Whom a fetch believes: the roots in a file, or those of the system.
//!
//! In: a file, or nothing. Out: roots, at least one, or a sentence. The system's are read where its
//! packages put them; no variable of the environment is looked at. Images from scratch have none:
//! then the operator is told to name a file.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use rustls::RootCertStore;

use gapura_files::pem;

/// Where distributions keep their bundle: Debian, Alpine and Arch; Fedora; the BSDs and macOS;
/// SUSE.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];

/// A bundle of every public root is 250 KiB.
const FILE_MAX: u64 = 4 << 20;

/// The roots in `file`, which the setting `setting` names.
pub(super) fn load(file: Option<&Path>, setting: &str) -> Result<RootCertStore, String> {
    if let Some(file) = file {
        let wrong = |why: String| format!("{setting} {}: {why}", file.display());
        let text = read(file).map_err(wrong)?;
        return store(&text, true).map_err(wrong);
    }
    load_system(&BUNDLES, setting)
}

fn load_system(bundles: &[&str], setting: &str) -> Result<RootCertStore, String> {
    for bundle in bundles {
        match File::open(bundle) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            _ => {}
        }
        let text = read(Path::new(bundle)).map_err(|why| format!("{bundle}: {why}"))?;
        // A system's bundle may hold a root that is too odd for us; one of ours that is, would be
        // missed.
        return store(&text, false).map_err(|why| format!("{bundle}: {why}"));
    }
    Err(format!(
        "this system has no file of root certificates to verify a server by; name the server's roots with {setting} FILE, or install the package ca-certificates"
    ))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let opened = File::open(file).and_then(|file| file.take(FILE_MAX + 1).read_to_end(&mut text));
    opened.map_err(|error| format!("cannot be read: {error}"))?;
    if text.len() as u64 > FILE_MAX {
        return Err("is larger than 4 MiB".to_owned());
    }
    Ok(text)
}

fn store(text: &[u8], all: bool) -> Result<RootCertStore, String> {
    let certificates = pem::certificates(text).map_err(|error| error.to_string())?;
    let mut store = RootCertStore::empty();
    for (at, certificate) in certificates.into_iter().enumerate() {
        if let (Err(error), true) = (store.add(certificate), all) {
            return Err(format!(
                "certificate {} is no root that can be used: {error}",
                at + 1
            ));
        }
    }
    if store.is_empty() {
        return Err("holds no certificate that can be used".to_owned());
    }
    Ok(store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_roots_is_told_so() {
        let said = load_system(&["/nowhere/a", "/nowhere/b"], "--issuer-ca").unwrap_err();
        assert!(said.contains("--issuer-ca"), "{said}");
    }

    #[test]
    fn a_named_file_must_hold_roots() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("ca.pem");
        let said = load(Some(&file), "--issuer-ca").unwrap_err();
        assert!(
            said.contains("--issuer-ca") && said.contains("cannot be read"),
            "{said}"
        );
        std::fs::write(&file, "nothing").unwrap();
        assert!(load(Some(&file), "--issuer-ca").is_err());
        let root = rcgen::generate_simple_self_signed(["id.test".to_owned()]).unwrap();
        std::fs::write(&file, root.cert.pem()).unwrap();
        assert_eq!(load(Some(&file), "--issuer-ca").unwrap().len(), 1);
        std::fs::write(&file, root.cert.pem().replace("MII", "MIJ")).unwrap();
        assert!(load(Some(&file), "--issuer-ca").is_err());
    }
}

//! Sets that OpenSSL made, as an operator with a script of their own would, and strange CRLs that
//! only OpenSSL makes.

use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use crate::set::{TrustError, TrustSet};
use gapura_certificates::crl::Crl;
use gapura_certificates::purpose::Purpose;
use gapura_files::pem;
use gapura_protocol::identity::Role;

use super::mint::options;

fn openssl(dir: &Path, line: &str) {
    let done = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "openssl {line}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// A root, a leaf under it with CN, DNS name, one URI and both usages, and a CRL made from a
/// database: each with OpenSSL's defaults.
fn installation(dir: &Path, role: &str, extensions: &str) {
    let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
    let new_key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    openssl(
        dir,
        &format!(
            "req -x509 {new_key} -keyout ca.key -out ca.pem -days 30 -subj /CN=mesh-ca -addext keyUsage=critical,keyCertSign,cRLSign"
        ),
    );
    openssl(
        dir,
        &format!("req {new_key} -keyout key.pem -out leaf.csr -subj /CN=one.mesh.test"),
    );
    write(
        "leaf.ext",
        &format!(
            "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\n\
             subjectAltName=DNS:one.mesh.test,URI:spiffe://mesh.test/{role}/one\n"
        ),
    );
    openssl(
        dir,
        "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 30 -extfile leaf.ext",
    );
    write(
        "crl.cnf",
        &format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase=index.txt\ndefault_md=sha256\ndefault_crl_days=7\n{extensions}\n\
             [e]\nauthorityKeyIdentifier=keyid:always\n"
        ),
    );
    write("index.txt", "");
    write("crlnumber", "01\n");
    crl(dir);
}

fn crl(dir: &Path) {
    openssl(
        dir,
        "ca -gencrl -config crl.cnf -keyfile ca.key -cert ca.pem -out crl.pem",
    );
}

fn load(dir: &Path, role: Role, previous: Option<&TrustSet>) -> Result<TrustSet, TrustError> {
    TrustSet::load(dir, &options(role), previous)
}

#[test]
fn a_set_made_by_openssl_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    installation(
        dir.path(),
        "gateway",
        "crlnumber=crlnumber\ncrl_extensions=e",
    );
    let set = load(dir.path(), Role::Gateway, None).unwrap();
    assert_eq!(set.own().id.to_string(), "spiffe://mesh.test/gateway/one");
    assert!(set.own_refusal(SystemTime::now()).is_none());
    assert_eq!(set.certificates()["crls"][0]["number"], "01");
    // What `openssl x509 -text` leaves around the block.
    openssl(dir.path(), "x509 -in cert.pem -text -out text.pem");
    std::fs::rename(dir.path().join("text.pem"), dir.path().join("cert.pem")).unwrap();
    assert!(load(dir.path(), Role::Gateway, None).is_ok());
    // An older format of the same key.
    openssl(dir.path(), "ec -in key.pem -out key.pem");
    assert!(load(dir.path(), Role::Gateway, None).is_ok());
    openssl(
        dir.path(),
        "ec -in key.pem -aes256 -passout pass:x -out key.pem",
    );
    assert!(
        load(dir.path(), Role::Gateway, None)
            .err()
            .unwrap()
            .to_string()
            .contains("encrypted")
    );
}

#[test]
fn a_crl_may_lack_its_authority_key_and_revokes_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    // Told of neither, OpenSSL makes version 1: no number, no key identifier.
    installation(dir.path(), "plugin", "");
    let first = load(dir.path(), Role::Plugin, None).unwrap();
    assert!(first.certificates()["crls"][0]["number"].is_null());
    let chain = pem::certificates(&std::fs::read(dir.path().join("cert.pem")).unwrap()).unwrap();
    assert!(
        first
            .judge(&chain, Purpose::Server, SystemTime::now())
            .is_ok()
    );
    openssl(
        dir.path(),
        "ca -config crl.cnf -keyfile ca.key -cert ca.pem -revoke cert.pem -crl_reason keyCompromise",
    );
    crl(dir.path());
    let second = load(dir.path(), Role::Plugin, Some(&first)).unwrap();
    assert_eq!(
        second
            .judge(&chain, Purpose::Server, SystemTime::now())
            .unwrap_err()
            .reason(),
        "revoked"
    );
    assert_eq!(
        second.own_refusal(SystemTime::now()).unwrap().reason(),
        "revoked"
    );
}

#[test]
fn a_numbered_crl_counts_up_under_openssl() {
    let dir = tempfile::tempdir().unwrap();
    installation(
        dir.path(),
        "plugin",
        "crlnumber=crlnumber\ncrl_extensions=e",
    );
    let old = std::fs::read(dir.path().join("crl.pem")).unwrap();
    let first = load(dir.path(), Role::Plugin, None).unwrap();
    crl(dir.path());
    let second = load(dir.path(), Role::Plugin, Some(&first)).unwrap();
    assert_eq!(second.certificates()["crls"][0]["number"], "02");
    std::fs::write(dir.path().join("crl.pem"), old).unwrap();
    assert!(matches!(
        load(dir.path(), Role::Plugin, Some(&second)),
        Err(TrustError::Crl(..))
    ));
}

#[test]
fn what_we_read_of_a_crl_is_what_openssl_reads() {
    let dir = tempfile::tempdir().unwrap();
    installation(
        dir.path(),
        "plugin",
        "crlnumber=crlnumber\ncrl_extensions=e",
    );
    openssl(
        dir.path(),
        "ca -config crl.cnf -keyfile ca.key -cert ca.pem -revoke cert.pem",
    );
    crl(dir.path());
    let der = pem::crls(&std::fs::read(dir.path().join("crl.pem")).unwrap())
        .unwrap()
        .remove(0);
    let crl = Crl::read(&der).unwrap();
    let mut serials = Vec::new();
    assert_eq!(
        crl.for_each_revoked(
            |entry| serials.push(gapura_protocol::text::hex(entry.serial).to_uppercase())
        )
        .unwrap(),
        1
    );
    let told = Command::new("openssl")
        .args(["x509", "-in", "cert.pem", "-noout", "-serial"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(told.stdout).unwrap().trim(),
        format!("serial={}", serials[0])
    );
    assert_eq!(crl.issuer_label(), "CN=mesh-ca");
    assert_eq!(crl.next_update - crl.this_update, 7 * 86_400);
}

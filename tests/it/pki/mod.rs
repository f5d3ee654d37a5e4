//! `gapura-pki` as an operator uses it: the built program, in a scratch directory, its work checked
//! by OpenSSL.

mod artefacts; // what OpenSSL says of everything that is written
mod deliver; // what happens beyond this host after a change
mod guide; // docs/pki.md does what it says
mod healing; // old backups, second copies, wrong clocks, what is gone and what was moved
mod judgement; // verify and lint
mod keys; // which keys are certified, for whom, and which a handshake takes
mod life; // years of it, by a clock that is moved
mod passphrase; // mistyped, changed, read by others
mod record; // the inventory, under concurrency, crashes, full disks and editors
mod refusals; // bad input, and what is said about it
mod rotation; // leaf, issuer and root under a running pair, and revocation
mod spellings; // CRLF, byte order marks, indents: one reader for verify and a start
mod two_users; // root's work in the directories of somebody else

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use gapura_tests::program::{Ended, Invocation};
use serde_json::Value;
use tempfile::TempDir;

/// A scratch directory with a state directory in it.
struct Scratch {
    dir: TempDir,
}

impl Scratch {
    /// An empty one.
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// One with a CA for `test.internal`, its keys in the clear so that the tests spend no time on
    /// deriving passphrases.
    fn with_ca() -> Self {
        let scratch = Self::new();
        scratch.ok(&["init", "--trust-domain", "test.internal"]);
        scratch
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn invocation(&self) -> Invocation {
        Invocation::new().env("GAPURA_PKI_DIR", &self.text("pki"))
    }

    /// Runs a command to its end.
    fn run(&self, args: &[&str]) -> Ended {
        self.invocation()
            .env("GAPURA_PKI_PLAINTEXT_KEYS", "true")
            .args(args)
            .run("gapura-pki")
    }

    /// Runs a command that has to succeed, and reads what it says with `--json`.
    fn ok(&self, args: &[&str]) -> Value {
        let ended = self.run(&[args, &["--json"]].concat());
        assert_eq!(
            ended.code,
            Some(0),
            "{args:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|_| panic!("{args:?} wrote no JSON: {}", ended.stdout))
    }

    /// Runs a command that has to fail with `code`, and gives the sentence it says.
    fn fails(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(
            ended.code,
            Some(code),
            "{args:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        ended.stderr
    }
}

/// Writes a file that only its owner may read.
fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Copies a folder with everything in it.
fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.unwrap().success());
}

/// Runs OpenSSL and gives what it says, and whether it was content.
fn openssl(args: &[&str]) -> (bool, String) {
    let output = Command::new("openssl")
        .args(args)
        .output()
        .expect("openssl is installed");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    (output.status.success(), said)
}

/// Lets OpenSSL judge a mesh directory as strictly as it can: chain, purpose, CRLs of the whole
/// path.
fn judged_by_openssl(dir: &Path, purpose: &str) -> (bool, String) {
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let (cert, ca, crl) = (file("cert.pem"), file("ca.pem"), file("crl.pem"));
    openssl(&[
        "verify",
        "-x509_strict",
        "-purpose",
        purpose,
        "-CAfile",
        &ca,
        "-untrusted",
        &cert,
        "-CRLfile",
        &crl,
        "-crl_check_all",
        &cert,
    ])
}

//! Certificates that reach hosts by themselves: the built `gapura-ca` and `gapura-agent`, beside
//! the gateway and sidecar that live on what they write.

mod ca_joins; // the first certificate, for a join token
mod ca_limits; // what it holds, and how fast it is
mod ca_news; // roots and CRLs, at once
mod ca_renewals; // the next certificate, for the one before
mod ca_starts; // good and bad beginnings, ends
mod ca_strangers; // keys of other roles, and what they are told
mod first; // a join token becomes a mesh directory, and nobody else's
mod host; // one host with a CA server, for all of `ca_`
mod impostor; // whoever answers at the CA server's address
mod next; // renewed, revoked, rotated, with no file copied by hand
mod refused; // what goes wrong, and what is said about it
mod spaces; // hosts apart, as network namespaces
mod thief; // what a stolen key of a plugin is good for
mod yardstick; // what a renewal can't do without, by itself

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gapura_tests::program::{Ended, Invocation, Program};
use gapura_tests::wire::Wire;
use serde_json::Value;
use tempfile::TempDir;

/// Ten times what is promised, on a machine that others use too.
const PATIENT: Duration = Duration::from_secs(50);

/// An authority with its CA server.
pub(crate) struct Installation {
    dir: TempDir,
    pub(crate) ca: Option<Program>,
    pub(crate) address: SocketAddr,
}

impl Installation {
    /// One whose leaves live for `ttl`.
    pub(crate) fn start(ttl: &str) -> Self {
        let mut installation = Self::bare();
        let ca = installation.server(ttl, "127.0.0.1:0").start("gapura-ca");
        installation.serve(ca);
        installation
    }

    /// An authority whose CA server does not run yet.
    fn bare() -> Self {
        let installation = Self {
            dir: tempfile::tempdir().unwrap(),
            ca: None,
            address: "127.0.0.1:1".parse().unwrap(),
        };
        installation.pki(&["init", "--trust-domain", "test.internal"]);
        installation.pki(&["issue", "pki", "ca1", "--out", &installation.text("ca1")]);
        installation
    }

    pub(crate) fn serve(&mut self, mut ca: Program) {
        ca.wait_until_started();
        self.address = ca.address("enrol");
        self.ca = Some(ca);
    }

    pub(crate) fn server(&self, ttl: &str, listen: &str) -> Invocation {
        Invocation::new()
            .flag("--dir", self.path("pki"))
            .flag("--mesh-dir", self.path("ca1"))
            .flag("--listen", listen)
            .flag("--admin", "127.0.0.1:0")
            .flag("--ttl", ttl)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn try_pki(&self, args: &[&str]) -> Ended {
        Invocation::new()
            .env("GAPURA_PKI_DIR", &self.text("pki"))
            .env("GAPURA_PKI_PLAINTEXT_KEYS", "true")
            .args(args)
            .run("gapura-pki")
    }

    /// Runs `gapura-pki` by hand, which has to succeed.
    pub(crate) fn pki(&self, args: &[&str]) -> Value {
        let ended = self.try_pki(&[args, &["--json"]].concat());
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(0), "{args:?}: {said}");
        serde_json::from_str(&ended.stdout).unwrap()
    }

    /// A join token in a file.
    pub(crate) fn token(&self, role: &str, name: &str, more: &[&str]) -> PathBuf {
        let made = self.pki(&[&["token", role, name], more].concat());
        let file = self.path(&format!("{name}.token"));
        secret(&file, made["token"].as_str().unwrap());
        file
    }

    fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// The agent of the mesh directory `name`.
    pub(crate) fn agent(&self, name: &str) -> Invocation {
        Invocation::new()
            .flag("--ca", self.url())
            .flag("--mesh-dir", self.path(name))
            .flag("--state-dir", self.path(&format!("{name}.state")))
            .flag("--admin", "127.0.0.1:0")
    }

    /// The agent of a new host, once its mesh directory is there.
    pub(crate) fn joined(&self, role: &str, name: &str) -> Program {
        let token = self.token(role, name, &[]);
        let mut agent = self
            .agent(name)
            .flag("--token-file", token)
            .start("gapura-agent");
        agent.wait_until_started();
        let _ = agent.wait_for_event("published");
        agent
    }
}

/// A page of a program's operator's side, as JSON.
fn page(program: &Program, path: &str) -> Value {
    serde_json::from_str(&text(program, path)).unwrap()
}

/// A page of a program's operator's side.
fn text(program: &Program, path: &str) -> String {
    let address = program.address("admin");
    let mut wire = Wire::plain(address);
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
    wire.response().text()
}

/// The alarm `name` of a program, with its sentence.
fn alarm(program: &Program, name: &str) -> Option<String> {
    let page = page(program, "/status");
    let alarms = page["alarms"].as_array().unwrap();
    let found = alarms.iter().find(|alarm| alarm["name"] == name)?;
    found["message"].as_str().map(str::to_owned)
}

/// Writes a file that only its owner may read.
pub(crate) fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// The serial of the leaf in a mesh directory, as `gapura-pki inspect` reads it.
fn serial(installation: &Installation, name: &str) -> String {
    let cert = installation.path(name).join("cert.pem");
    let seen = installation.pki(&["inspect", cert.to_str().unwrap()]);
    seen["items"][0]["serial"].as_str().unwrap().to_owned()
}

/// Asks the CA server to renew, as whoever has the key in `mesh_dir` would, for the identity `id`.
/// Out: the status, 0 where the handshake failed, and what was said.
pub(crate) fn reenrol(installation: &Installation, mesh_dir: &Path, id: &str) -> (u16, String) {
    let request = installation.path("thief.req");
    let made = Command::new("sh")
        .arg("-c")
        .arg(format!(
            "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {0}.key -subj / -addext subjectAltName=URI:{id} -outform DER 2>/dev/null | base64 -w64 > {0}",
            request.display()
        ))
        .status();
    assert!(made.unwrap().success());
    let at = |name: &str| mesh_dir.join(name).display().to_string();
    let done = Command::new("curl")
        .args(["-sk", "--max-time", "30", "-w", "\n%{http_code}"])
        .args(["--cert", &at("cert.pem"), "--key", &at("key.pem")])
        .args(["-H", "Content-Type: application/pkcs10"])
        .args(["--data-binary", &format!("@{}", request.display())])
        .arg(format!(
            "{}/.well-known/est/simplereenroll",
            installation.url()
        ))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
    (status.parse().unwrap_or(0), body.to_owned())
}

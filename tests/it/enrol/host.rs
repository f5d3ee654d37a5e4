//! A host with a CA and its server, asked by curl with keys and requests that OpenSSL makes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gapura_tests::program::{Ended, Invocation, Program};
use gapura_tests::wire::{Response, Wire};
use serde_json::Value;
use tempfile::TempDir;

/// A CA for `test.internal`, with the certificate of its server in `ca-1`.
pub(super) struct Host {
    dir: TempDir,
}

/// What curl got.
#[derive(Debug)]
pub(super) struct Answer {
    /// 0 where there was no answer.
    pub(super) status: u16,
    pub(super) body: String,
    /// What curl says of a failure.
    #[expect(dead_code, reason = "shown where an assertion fails")]
    pub(super) trouble: String,
}

/// A token as it was printed, and the two parts that are shown to the server.
pub(super) struct Token {
    pub(super) text: String,
    pub(super) facts: Value,
}

impl Host {
    pub(super) fn new() -> Self {
        let host = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        host.pki(&["init", "--trust-domain", "test.internal"]);
        let ca = host.text("ca-1");
        host.pki(&["issue", "pki", "ca-1", "--out", &ca]);
        host
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs `gapura-pki` to its end.
    pub(super) fn try_pki(&self, args: &[&str]) -> Ended {
        Invocation::new()
            .env("GAPURA_PKI_DIR", &self.text("pki"))
            .env("GAPURA_PKI_PLAINTEXT_KEYS", "true")
            .args(args)
            .run("gapura-pki")
    }

    /// Runs `gapura-pki`, which has to succeed, and reads what it says with `--json`.
    pub(super) fn pki(&self, args: &[&str]) -> Value {
        let ended = self.try_pki(&[args, &["--json"]].concat());
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(0), "{args:?}: {said}");
        serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{args:?}: {said}"))
    }

    /// How the server is started on this host.
    pub(super) fn invocation(&self) -> Invocation {
        Invocation::new()
            .flag("--dir", self.path("pki"))
            .flag("--mesh-dir", self.path("ca-1"))
            .flag("--listen", "127.0.0.1:0")
            .flag("--admin", "127.0.0.1:0")
    }

    /// The running server.
    pub(super) fn start(&self) -> Program {
        self.start_with(self.invocation())
    }

    pub(super) fn start_with(&self, invocation: Invocation) -> Program {
        let mut ca = invocation.start("gapura-ca");
        ca.wait_until_started();
        ca
    }

    /// A join token with these words of the command.
    pub(super) fn token(&self, words: &[&str]) -> Token {
        let facts = self.pki(&[&["token"], words].concat());
        Token {
            text: facts["token"].as_str().unwrap().to_owned(),
            facts,
        }
    }

    /// A new key in `NAME.key` and a request by it in `NAME.csr` (base64), with these words of
    /// `openssl req`.
    pub(super) fn request(&self, name: &str, words: &[&str]) {
        let (key, csr) = (
            self.text(&format!("{name}.key")),
            self.text(&format!("{name}.csr")),
        );
        let new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
        let new = if words.contains(&"-newkey") {
            &[][..]
        } else {
            &new
        };
        openssl(
            &[
                &["req", "-new", "-nodes", "-subj", "/"][..],
                new,
                &["-keyout", &key, "-outform", "DER", "-out", &csr],
                words,
            ]
            .concat(),
        );
        let der = std::fs::read(&csr).unwrap();
        std::fs::write(&csr, gapura_enrol::payload::encode(&der)).unwrap();
    }

    /// Asks the server behind `ca`, which has to prove itself by its DNS name, with these words of
    /// curl.
    pub(super) fn curl(&self, ca: &Program, path: &str, words: &[&str]) -> Answer {
        Answer::of(self.curling(ca, path, words))
    }

    /// The same, not waited for.
    pub(super) fn curling(&self, ca: &Program, path: &str, words: &[&str]) -> Child {
        let port = ca.address("enrol").port();
        let name = "ca-1.pki.test.internal";
        Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "50", "--tlsv1.3"])
            .args(["--write-out", "\n%{http_code}", "--cacert"])
            .arg(self.path("ca-1/ca.pem"))
            .arg("--resolve")
            .arg(format!("{name}:{port}:127.0.0.1"))
            .args(words)
            .arg(format!("https://{name}:{port}{path}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("curl is installed")
    }

    /// Enrols by the request in `NAME.csr`.
    pub(super) fn enrol(&self, ca: &Program, token: &Token, name: &str) -> Answer {
        let user = token.user();
        let body = format!("@{}", self.text(&format!("{name}.csr")));
        let kind = "Content-Type: application/pkcs10";
        let words = ["--user", &user, "--data-binary", &body, "--header", kind];
        self.curl(ca, "/.well-known/est/simpleenroll", &words)
    }

    /// The words by which curl shows the certificate in `NAME.pem` with the key in `KEY.key`.
    pub(super) fn shown(&self, name: &str) -> [String; 4] {
        let file = |ending: &str| self.text(&format!("{name}.{ending}"));
        ["--cert".into(), file("pem"), "--key".into(), file("key")]
    }

    /// Renews by the certificate `NAME` with the request in `NEXT.csr`.
    pub(super) fn renew(&self, ca: &Program, name: &str, next: &str) -> Answer {
        let shown = self.shown(name);
        let body = format!("@{}", self.text(&format!("{next}.csr")));
        let kind = "Content-Type: application/pkcs10";
        let mut words: Vec<&str> = shown.iter().map(String::as_str).collect();
        words.extend(["--data-binary", &body, "--header", kind]);
        self.curl(ca, "/.well-known/est/simplereenroll", &words)
    }

    /// Joins as `plugin/NAME` with a new key: the certificate is in `NAME.pem`, the key in
    /// `NAME.key`.
    pub(super) fn join(&self, ca: &Program, name: &str) {
        let token = self.token(&["plugin", name]);
        self.request(name, &[]);
        self.keep(&self.enrol(ca, &token, name), name);
    }

    /// Keeps the certificates of an answer in `NAME.pem`, by OpenSSL's reading of it.
    pub(super) fn keep(&self, answer: &Answer, name: &str) -> String {
        assert_eq!(answer.status, 200, "{answer:?}");
        let message = self.path(&format!("{name}.p7b"));
        let pem = format!(
            "-----BEGIN PKCS7-----\n{}-----END PKCS7-----\n",
            answer.body
        );
        std::fs::write(&message, pem).unwrap();
        let certificates = openssl(&["pkcs7", "-in", message.to_str().unwrap(), "-print_certs"]);
        std::fs::write(self.path(&format!("{name}.pem")), &certificates).unwrap();
        certificates
    }

    /// What OpenSSL says of the first certificate in `NAME.pem`.
    pub(super) fn described(&self, name: &str) -> String {
        let file = self.text(&format!("{name}.pem"));
        openssl(&["x509", "-in", &file, "-noout", "-text", "-serial"])
    }

    /// The serial of the first certificate in `NAME.pem`, as the inventory writes it.
    pub(super) fn serial(&self, name: &str) -> String {
        let file = self.text(&format!("{name}.pem"));
        let said = openssl(&["x509", "-in", &file, "-noout", "-serial"]);
        said.trim().strip_prefix("serial=").unwrap().to_lowercase()
    }

    /// The leaves of `plugin/NAME` in the inventory, whatever became of them.
    pub(super) fn listed(&self, name: &str) -> Vec<Value> {
        let listed = self.pki(&["list", "--all", "--name", name]);
        listed["certificates"].as_array().unwrap().clone()
    }
}

impl Answer {
    /// Waits for curl's end.
    pub(super) fn of(curl: Child) -> Self {
        let output = curl.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = said.rsplit_once('\n').unwrap();
        Self {
            status: status.parse().unwrap(),
            body: body.to_owned(),
            trouble: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The code and the sentence of a refusal with this status.
    pub(super) fn refused(&self, status: u16) -> (String, String) {
        assert_eq!(self.status, status, "{self:?}");
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(body["ok"], false);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        (text(&body["errors"]["code"]), text(&body["message"]))
    }

    /// The JSON of an answer that is one.
    pub(super) fn json(&self) -> Value {
        assert_eq!(self.status, 200, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Token {
    /// The user and the password that are shown for it.
    pub(super) fn user(&self) -> String {
        let read = gapura_enrol::token::JoinToken::parse(self.text.as_bytes()).unwrap();
        format!("{}/{}:{}", read.role, read.name, *read.secret.to_text())
    }
}

/// Runs OpenSSL, which has to be content.
pub(super) fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output();
    let output = output.expect("openssl is installed");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A page of the program's admin side.
pub(super) fn page(program: &Program, path: &str) -> Response {
    let mut admin = Wire::plain(program.address("admin"));
    admin.get(path, "");
    admin.response()
}

/// The alarms that stand, by name.
pub(super) fn alarms(program: &Program) -> Vec<String> {
    let page = page(program, "/readyz").json();
    let alarms = page["alarms"].as_array().unwrap().clone();
    let name = |alarm: &Value| alarm["name"].as_str().unwrap().to_owned();
    alarms.iter().map(name).collect()
}

/// The value of a series at the admin side.
pub(super) fn metric(program: &Program, series: &str) -> f64 {
    let text = page(program, "/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.unwrap_or_else(|| panic!("no {series} in {text}"))
        .trim()
        .parse()
        .unwrap()
}

/// Copies a folder with everything in it.
pub(super) fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").args([from, to]).status();
    assert!(done.unwrap().success());
}

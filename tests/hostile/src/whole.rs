//! Whatever a client sends, through both programs: what reaches the plugin is the token's caller
//! and nobody else, on a path of one form, and never more requests than were written; and neither
//! program stumbles.
//!
//! The input is what a client writes on one connection; `TOKEN` in it is a good token. Gateway,
//! sidecar and plugin run in this process, started anew after some thousand inputs, because the
//! plugin forgets nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use gapura_protocol::path::is_canonical;
use gapura_tests::certs::{Authority, Leaf, MeshDir};
use gapura_tests::inside::Inside;
use gapura_tests::plugin::{Plugin, Seen};
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, claims_with, jwks, unix_now};
use tempfile::TempDir;

/// Nothing that the door may wait for is longer than this, as the input ends at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// What runs, and what it takes to run.
struct Whole {
    public: SocketAddr,
    token: String,
    plugin: Plugin,
    /// Inputs so far, request lines in them, and requests at the plugin.
    inputs: usize,
    written: usize,
    known: usize,
    _running: [Inside; 2],
    _dir: TempDir,
}

/// Inputs until all of it starts anew.
const INPUTS: usize = 20_000;

static WHOLE: Mutex<Option<Whole>> = Mutex::new(None);

impl Whole {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::two_tier("hostile");
        let mesh = |name: &str, leaf: &Leaf| {
            let files = authority.files_for(&authority.issue(leaf));
            MeshDir::create(&dir.path().join(name), &files)
                .path()
                .display()
                .to_string()
        };
        let (gateway_dir, sidecar_dir) = (
            mesh("gateway", &Leaf::gateway("edge")),
            mesh("sidecar", &Leaf::plugin("echo")),
        );
        let plugin = Plugin::tcp();
        let sidecar = Inside::sidecar(&[
            ("--listen", "127.0.0.1:0"),
            ("--plugin", &plugin.url()),
            ("--mesh-dir", &sidecar_dir),
            ("--admin", "127.0.0.1:0"),
            ("--access-log", "off"),
            ("--workers", "1"),
        ]);
        let plugins = dir.path().join("plugins.d");
        std::fs::create_dir(&plugins).unwrap();
        let entry = format!(
            r#"{{"name":"echo","version":"1","mount":"/echo","upstream":"https://{}","auth_mode":"gateway_verified","health":false,"openapi":false}}"#,
            sidecar.address("hop")
        );
        std::fs::write(plugins.join("echo.json"), entry).unwrap();
        let signer = Signer::es256("k");
        let keys = dir.path().join("jwks.json");
        std::fs::write(&keys, jwks(&[&signer])).unwrap();
        let gateway = Inside::gateway(&[
            ("--listen", "127.0.0.1:0"),
            ("--plugin-dir", &plugins.display().to_string()),
            ("--mesh-dir", &gateway_dir),
            ("--admin", "127.0.0.1:0"),
            ("--jwks", &keys.display().to_string()),
            ("--issuer", ISSUER),
            ("--audience", AUDIENCE),
            ("--access-log", "off"),
            ("--workers", "1"),
        ]);
        let claims = claims_with(&serde_json::json!({"exp": unix_now() + 24 * 3600}));
        Self {
            public: gateway.address("public"),
            token: signer.token(&claims),
            plugin,
            inputs: 0,
            written: 0,
            known: 0,
            _running: [gateway, sidecar],
            _dir: dir,
        }
    }

    /// Sends all of it, says that no more comes, and reads what comes back.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.public).expect("the door takes connections");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(bytes); // a door may close on what it does not like
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            Err(err)
                if matches!(
                    err.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                ) =>
            {
                panic!("the door neither answers nor closes")
            }
            _ => answer,
        }
    }
}

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let mut kept = WHOLE.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.as_ref().is_some_and(|whole| whole.inputs >= INPUTS) {
        *kept = None;
    }
    let whole = kept.get_or_insert_with(Whole::start);
    let sent = replaced(bytes, b"TOKEN", whole.token.as_bytes());
    let answer = whole.exchange(&sent);
    assert!(
        !answer.windows(12).any(|window| window == b"HTTP/1.1 500"),
        "a panic was caught"
    );
    whole.inputs += 1;
    // Each request takes a line that names its version. What an earlier input left behind may
    // arrive late, so that sums are compared.
    whole.written += sent
        .windows(7)
        .filter(|window| *window == b"HTTP/1.")
        .count();
    let seen = whole.plugin.seen_since(whole.known);
    whole.known += seen.len();
    assert!(
        whole.known <= whole.written,
        "{} requests reached the plugin, {} were written",
        whole.known,
        whole.written
    );
    seen.iter().for_each(check_seen);
}

fn check_seen(seen: &Seen) {
    let path = seen.target.split('?').next().unwrap_or_default();
    assert!(is_canonical(path.as_bytes()), "{}", seen.target);
    for (name, value) in seen.headers.iter().chain(&seen.trailers) {
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{name}"
        );
        let expected = match name.to_ascii_lowercase().as_str() {
            "x-user-id" => "7",
            "x-company-id" => "42",
            "x-role" => "member",
            "x-actor-id" | "authorization" => panic!("{name}: {value}"),
            _ => continue,
        };
        assert_eq!(value, expected, "{name}");
    }
    for name in ["x-user-id", "x-company-id", "x-request-id"] {
        assert_eq!(seen.all(name).len(), 1, "{name}");
    }
}

fn replaced(bytes: &[u8], word: &[u8], with: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + with.len());
    let mut rest = bytes;
    while let Some(at) = rest.windows(word.len()).position(|window| window == word) {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(with);
        rest = &rest[at + word.len()..];
    }
    out.extend_from_slice(rest);
    out
}

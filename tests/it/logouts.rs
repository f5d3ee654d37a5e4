//! Logouts that an OpenID provider tells of: whose tokens they end, whose not, and what a provider
//! is answered.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use gapura_tests::eventually;
use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::Then;
use gapura_tests::program::Invocation;
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, claims_with, jwks, unix_now};
use gapura_tests::wire::{Response, Wire};
use serde_json::{Value, json};

const PATH: &str = "/.gapura/backchannel-logout";
const FORM: &str = "application/x-www-form-urlencoded";
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
const DOOR: &str = "door";

/// The promise is two seconds; the rest is the machine's.
const IN_FORCE: Duration = Duration::from_secs(10);

struct Room {
    dir: tempfile::TempDir,
    signer: Signer,
    other: Signer,
}

impl Room {
    fn new() -> Self {
        let room = Self {
            dir: tempfile::tempdir().unwrap(),
            signer: Signer::es256("ours"),
            other: Signer::es256("other"),
        };
        let file = |name: &str, signer: &Signer| {
            let path = room.dir.path().join(name);
            fs::write(&path, jwks(&[signer])).unwrap();
            path
        };
        let config = json!({"backchannel-logout": true, "issuers": [
            {"issuer": ISSUER, "audience": AUDIENCE, "tenants": "*", "jwks": file("a.json", &room.signer)},
            {"issuer": "https://other.test", "audience": AUDIENCE, "tenants": [43], "jwks": file("b.json", &room.other)},
        ]});
        fs::write(room.dir.path().join("gapura.json"), config.to_string()).unwrap();
        room
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn builder(&self) -> Builder {
        TestMesh::new()
            .without_keys()
            .gateway_flag("--config", &self.path("gapura.json"))
            .gateway_flag("--state-dir", &self.path("state"))
            .gateway_flag("--logout-audience", DOOR)
    }

    /// A good access token, changed.
    fn access(&self, changes: &Value) -> String {
        let now = unix_now();
        let mut claims = claims_with(&json!({"iat": now - 60, "sub": "ann", "sid": "s1"}));
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let signer = if claims["iss"] == ISSUER {
            &self.signer
        } else {
            &self.other
        };
        signer.token(&claims)
    }

    /// A good logout token, changed; `null` takes a claim away.
    fn logout(&self, changes: &Value) -> String {
        self.signer.sign(
            &json!({"alg": "ES256", "typ": "logout+jwt", "kid": "ours"}).to_string(),
            &logout_claims(changes).to_string(),
        )
    }
}

fn logout_claims(changes: &Value) -> Value {
    let id = format!("{:?}", Instant::now());
    let mut claims =
        json!({"iss": ISSUER, "aud": DOOR, "iat": unix_now(), "jti": id, "events": {EVENT: {}}});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn told(mesh: &TestMesh, token: &str) -> Response {
    posted(mesh, &format!("logout_token={token}"))
}

fn posted(mesh: &TestMesh, form: &str) -> Response {
    mesh.post(PATH, form).header("Content-Type", FORM).send()
}

fn status(mesh: &TestMesh, token: &str) -> u16 {
    mesh.get("/echo/x").token(token).send().status
}

#[test]
fn a_logout_ends_its_session_and_its_users_tokens_and_no_others() {
    let room = Room::new();
    let mesh = room.builder().start();
    let now = unix_now();
    let by_user = room.access(&json!({"sid": "s2"}));
    let by_session = room.access(&json!({"sub": "eve", "iat": now + 20}));
    let undated = room.access(&json!({"sid": "s2", "iat": null}));
    let others = [
        ("the next login", json!({"iat": now + 60, "sid": "s9"})),
        ("another user", json!({"sub": "bob", "sid": "s2"})),
        (
            "another issuer's user",
            json!({"iss": "https://other.test", "company_id": 43}),
        ),
        (
            "another issuer's session",
            json!({"iss": "https://other.test", "company_id": 43, "sub": "bob"}),
        ),
    ];
    for token in [&by_user, &by_session, &undated] {
        assert_eq!(status(&mesh, token), 200);
    }
    let answer = told(&mesh, &room.logout(&json!({"sub": "ann", "sid": "s1"})));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    for (what, token) in [
        ("user", &by_user),
        ("session", &by_session),
        ("undated", &undated),
    ] {
        let refused = mesh.get("/echo/x").token(token).send();
        assert_eq!(refused.status, 401, "{what}");
        refused.assert_refusal(401, "token_revoked", "gateway");
    }
    for (what, changes) in &others {
        assert_eq!(status(&mesh, &room.access(changes)), 200, "{what}");
    }
    // A session alone ends that session alone.
    let (one, two) = (
        json!({"sub": "cem", "sid": "c1"}),
        json!({"sub": "cem", "sid": "c2"}),
    );
    assert_eq!(told(&mesh, &room.logout(&json!({"sid": "c1"}))).status, 200);
    assert_eq!(status(&mesh, &room.access(&one)), 401);
    assert_eq!(status(&mesh, &room.access(&two)), 200);
    let line = mesh.gateway.wait_for_event("logout");
    assert!(!line.to_string().contains("ann"), "{line}");
}

#[test]
fn what_is_no_good_logout_is_400_and_ends_nothing() {
    let room = Room::new();
    let mesh = room.builder().start();
    let ann = || json!({"sub": "ann"});
    let with = |name: &str, value: Value| {
        let mut changes = ann();
        changes[name] = value;
        room.logout(&changes)
    };
    let now = unix_now();
    let signed = |header: Value, signer: &Signer| {
        signer.sign(&header.to_string(), &logout_claims(&ann()).to_string())
    };
    let header = |typ: Value| json!({"alg": "ES256", "kid": "ours", "typ": typ});
    let good = room.logout(&ann());
    let forged = format!("{}A", &good[..good.len() - 2]);
    for (what, token) in [
        ("no token", String::new()),
        ("nonsense", "a.b.c".to_owned()),
        ("a forged signature", forged),
        ("too long", with("x", json!("x".repeat(8192)))),
        ("no issuer", with("iss", Value::Null)),
        ("a stranger's", with("iss", json!("https://stranger.test"))),
        ("another's name", with("iss", json!("https://other.test"))),
        ("no audience", with("aud", Value::Null)),
        ("for the API", with("aud", json!(AUDIENCE))),
        ("no events", with("events", Value::Null)),
        ("other events", with("events", json!({"https://x": {}}))),
        ("an ID token", with("nonce", json!("n"))),
        ("no time", with("iat", Value::Null)),
        ("too old", with("iat", json!(now - 330))),
        ("too new", with("iat", json!(now + 330))),
        ("no id", with("jti", Value::Null)),
        ("of nobody", room.logout(&json!({}))),
        (
            "an access token's type",
            signed(header(json!("at+jwt")), &room.signer),
        ),
        (
            "another type",
            signed(header(json!("secevent+jwt")), &room.signer),
        ),
        (
            "another key",
            signed(header(json!("logout+jwt")), &room.other),
        ),
        ("unsigned", signed(json!({"alg": "none"}), &room.signer)),
        ("an access token", room.access(&json!({}))),
    ] {
        let answer = told(&mesh, &token);
        assert_eq!(answer.status, 400, "{what}: {answer:?}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
        answer.assert_refusal(400, "bad_request", "gateway");
    }
    assert_eq!(status(&mesh, &room.access(&json!({}))), 200);
    // The same once, and not twice.
    assert_eq!(told(&mesh, &good).status, 200);
    assert_eq!(told(&mesh, &good).status, 400);
    for header in [
        header(json!("JWT")),
        header(json!("application/logout+jwt")),
        json!({"alg": "ES256", "kid": "ours"}),
    ] {
        assert_eq!(told(&mesh, &signed(header, &room.signer)).status, 200);
    }
    // A logout token opens nothing, whatever else it says.
    let both = logout_claims(
        &json!({"sub": "bob", "aud": [DOOR, AUDIENCE], "user_id": "7",
        "company_id": "42", "exp": now + 60}),
    );
    assert_eq!(status(&mesh, &room.signer.token(&both)), 401);
}

#[test]
fn it_is_posted_as_a_form() {
    let room = Room::new();
    let mesh = room.builder().start();
    let token = || room.logout(&json!({"sub": "ann"}));
    let get = mesh.get(PATH).send();
    get.assert_refusal(405, "method_not_allowed", "gateway");
    assert_eq!(get.header("allow"), Some("POST"));
    let json = mesh.post(PATH, format!("logout_token={}", token()));
    let json = json.header("Content-Type", "application/json").send();
    json.assert_refusal(400, "bad_request", "gateway");
    let long = posted(
        &mesh,
        &format!("logout_token={}&x={}", token(), "x".repeat(40_000)),
    );
    long.assert_refusal(413, "body_too_large", "gateway");
    let twice = posted(
        &mesh,
        &format!("logout_token={0}&logout_token={0}", token()),
    );
    twice.assert_refusal(400, "bad_request", "gateway");
    assert_eq!(status(&mesh, &room.access(&json!({}))), 200);
    let more = posted(&mesh, &format!("state=1&logout_token={}&x", token()));
    assert_eq!(more.status, 200);
    // What lies beside it is reserved, and is no plugin's, the fallback's neither.
    for path in ["/.gapura", "/.gapura/", "/.gapura/x"] {
        mesh.get(path)
            .send()
            .assert_refusal(404, "no_route", "gateway");
    }
}

#[test]
fn where_it_is_not_asked_for_there_is_no_such_path() {
    let mesh = TestMesh::new().fields(json!({"mount": "/"})).start();
    posted(&mesh, "logout_token=a.b.c").assert_refusal(404, "no_route", "gateway");
    assert_eq!(mesh.get("/x").token_of("7", "42").send().status, 200);
    // And no mount there either.
    mesh.write_registry(
        "mine",
        &mesh.entry(&json!({"name": "mine", "mount": "/.gapura/mine"})),
    );
    let fault = mesh.gateway.wait_for_line("the fault", |line| {
        line.to_string()
            .contains("the gateway answers there itself")
    });
    assert!(fault.to_string().contains("mine"), "{fault}");
}

#[test]
fn an_open_stream_ends_with_its_session() {
    let room = Room::new();
    let mesh = room.builder().start();
    mesh.plugin.on("/events", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n6\r\nhello\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    let open = |changes: Value| -> Wire {
        let mut wire = mesh.connect();
        let token = room.access(&changes);
        wire.get(
            "/echo/events",
            &format!("Authorization: Bearer {token}\r\n"),
        );
        assert_eq!(wire.response_head().status, 200);
        assert!(String::from_utf8_lossy(&wire.read(11)).contains("hello"));
        wire
    };
    let mut theirs = open(json!({}));
    let mut others = open(json!({"sub": "bob", "sid": "s2"}));
    let begun = Instant::now();
    assert_eq!(told(&mesh, &room.logout(&json!({"sid": "s1"}))).status, 200);
    assert!(theirs.is_closed_within(IN_FORCE));
    println!("cut {:?} after the logout", begun.elapsed());
    assert!(others.is_silent_for(Duration::from_millis(300)));
    let closed = "gapura_revoked_connections_closed_total{side=\"client\"}";
    eventually("it is counted", || {
        (mesh.metric(&mesh.gateway, closed) == 1.0).then_some(())
    });
}

#[test]
fn a_restart_forgets_no_logout() {
    let room = Room::new();
    let token = room.access(&json!({}));
    let logout = room.logout(&json!({"sub": "ann"}));
    let mesh = room.builder().start();
    assert_eq!(status(&mesh, &token), 200);
    assert_eq!(told(&mesh, &logout).status, 200);
    drop(mesh);
    let mesh = room.builder().start();
    assert_eq!(status(&mesh, &token), 401);
    assert_eq!(told(&mesh, &logout).status, 400, "it has come before");
    assert_eq!(
        status(&mesh, &room.access(&json!({"sub": "bob", "sid": "s2"}))),
        200
    );
}

#[test]
fn a_token_that_would_outlive_the_memory_of_a_logout_is_refused() {
    let room = Room::new();
    let mesh = room.builder().gateway_flag("--logout-keep", "1h").start();
    let now = unix_now();
    for (claims, wanted) in [
        (json!({"iat": now - 1800, "exp": now + 1800}), 200),
        (json!({"iat": now - 1800, "exp": now + 1801}), 401),
        (json!({"iat": null, "exp": now + 3500}), 200),
        (json!({"iat": null, "exp": now + 3700}), 401),
    ] {
        assert_eq!(status(&mesh, &room.access(&claims)), wanted, "{claims}");
    }
    let refused = mesh.metric(
        &mesh.gateway,
        "gapura_tokens_rejected_total{reason=\"lifetime\"}",
    );
    assert_eq!(refused, 2.0);
}

#[test]
fn what_is_said_of_logouts_is_checked_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let said = |invocation: Invocation| {
        let ended = invocation
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin-dir", dir.path())
            .flag("--mesh-dir", dir.path())
            .run("gapura-gateway");
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        ended.stderr
    };
    let keys = || {
        Invocation::new()
            .env("JWT_SECRET", "a-secret-of-forty-bytes-for-tests-only-0")
            .flag("--audience", AUDIENCE)
    };
    for (invocation, words) in [
        (
            keys().flag("--issuer", ISSUER).arg("--backchannel-logout"),
            "needs --logout-audience",
        ),
        (
            keys()
                .arg("--backchannel-logout")
                .flag("--logout-audience", DOOR),
            "needs an issuer",
        ),
        (
            keys()
                .flag("--issuer", ISSUER)
                .flag("--logout-audience", DOOR),
            "says nothing without --backchannel-logout",
        ),
        (
            keys()
                .flag("--issuer", ISSUER)
                .arg("--backchannel-logout")
                .flag("--logout-keep", "0s"),
            "must be 1s or longer",
        ),
    ] {
        let stderr = said(invocation);
        assert!(stderr.contains(words), "{words}: {stderr}");
    }
    let state = dir.path().join("state");
    broken_state(&state);
    let good = keys()
        .flag("--issuer", ISSUER)
        .arg("--backchannel-logout")
        .flag("--logout-audience", DOOR);
    let stderr = said(good.flag("--state-dir", &state));
    assert!(stderr.contains("logouts.jsonl:1: is no logout"), "{stderr}");
}

fn broken_state(folder: &Path) {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(folder).unwrap();
    fs::write(folder.join("logouts.jsonl"), "nonsense\n").unwrap();
}

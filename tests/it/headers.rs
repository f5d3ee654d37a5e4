//! Who may say what: section 4 of the contract, from the client's side to the plugin and back.

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Seen, Then};
use gapura_tests::tokens::claims_with;
use serde_json::json;

/// Every name that only the programs may use, as a plugin would read it.
const RESERVED: [&str; 16] = [
    "X-User-Id",
    "X-Company-Id",
    "X-Role",
    "X-Plugin-Key",
    "X-Internal-Signature",
    "X-Forwarded-For",
    "X-Forwarded-Proto",
    "X-Forwarded-Host",
    "X-Forwarded-Prefix",
    "X-Forwarded-Client-Cert",
    "X-Real-Ip",
    "X-Gapura-Auth",
    "X-Gapura-Vouched",
    "X-Gapura-Probe",
    "X-Gapura-Made",
    "X-Original-Url",
];

fn spellings(name: &str) -> [String; 8] {
    let mixed = name
        .char_indices()
        .map(|(at, letter)| {
            if at % 3 == 0 {
                letter.to_ascii_uppercase()
            } else {
                letter.to_ascii_lowercase()
            }
        })
        .collect();
    let last = name.rfind('-').unwrap();
    let mut half = name.to_owned();
    half.replace_range(last..=last, "_");
    [
        name.to_ascii_lowercase(),
        name.to_ascii_uppercase(),
        mixed,
        name.replace('-', "_"),
        name.replace('-', "."),
        half,
        name.replace('-', "!"),
        name.replace('-', "~"),
    ]
}

/// The context is the token's, each value once, and nothing that a client made up came along.
#[track_caller]
fn assert_context_of(seen: &Seen, user: &str, company: &str, role: Option<&str>) {
    assert_eq!(seen.header("x-user-id"), Some(user));
    assert_eq!(seen.header("x-company-id"), Some(company));
    assert_eq!(seen.header("x-role"), role);
    for (name, value) in &seen.headers {
        assert!(
            !value.contains("spoof"),
            "{name}: {value} reached the plugin"
        );
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{name} reached the plugin"
        );
    }
    let folded: Vec<String> = seen
        .headers
        .iter()
        .map(|(name, _)| name.to_ascii_lowercase().replace(['_', '.', '!', '~'], "-"))
        .collect();
    for name in [
        "x-user-id",
        "x-company-id",
        "x-role",
        "x-request-id",
        "x-forwarded-for",
    ] {
        assert!(
            folded.iter().filter(|other| *other == name).count() <= 1,
            "{name} stands twice for somebody: {:?}",
            seen.headers
        );
    }
}

#[test]
fn no_spelling_of_a_reserved_header_reaches_the_plugin() {
    let mesh = TestMesh::new().start();
    for turn in 0..8 {
        let mut request = mesh.get("/echo/x").token_of("7", "42");
        for name in RESERVED {
            request = request.header(&spellings(name)[turn], "spoofed");
        }
        assert_context_of(&request.seen_by_plugin(), "7", "42", Some("member"));
    }
    assert!(!mesh.plugin.got_bytes("spoof"));
}

#[test]
fn an_ordinary_header_does_reach_it() {
    let mesh = TestMesh::new().start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("Accept-Language", "id")
        .header("If-None-Match", "\"a\"")
        .header("Cookie", "a=1")
        .seen_by_plugin();
    assert_eq!(seen.header("accept-language"), Some("id"));
    assert_eq!(seen.header("if-none-match"), Some("\"a\""));
    assert_eq!(seen.header("cookie"), Some("a=1"));
    assert_eq!(
        seen.header("host"),
        Some("localhost"),
        "the plugin sees the client's Host"
    );
}

#[test]
fn a_reserved_header_given_twice_and_beside_its_aliases_is_still_the_tokens_own() {
    let mesh = TestMesh::new().start();
    let mut request = mesh.get("/echo/x").token_of("7", "42");
    for spelling in spellings("X-Company-Id") {
        request = request
            .header(&spelling, "spoof-9")
            .header(&spelling, "spoof-8");
    }
    assert_context_of(&request.seen_by_plugin(), "7", "42", Some("member"));
}

#[test]
fn a_client_can_not_have_our_headers_taken_away_by_nominating_them() {
    let mesh = TestMesh::new().start();
    let request = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("Connection", "keep-alive, X-Company-Id, x-forwarded-for")
        .header("X-Company-Id", "spoof")
        .header("X-Own", "spoof")
        .header("Private", "spoof")
        .header(
            "Connection",
            "X-User-Id , x-role,X-Request-Id, traceparent, private",
        )
        .header("Connection", "host");
    let seen = request.seen_by_plugin();
    assert_context_of(&seen, "7", "42", Some("member"));
    for name in ["x-request-id", "x-forwarded-for", "traceparent", "host"] {
        assert!(seen.header(name).is_some(), "{name} was taken away");
    }
    assert!(
        seen.header("private").is_none(),
        "a nominated header is hop-by-hop"
    );
}

#[test]
fn a_client_can_not_have_its_token_taken_away_behind_the_door() {
    let mesh = TestMesh::new()
        .fields(json!({"auth_mode": "forward_jwt"}))
        .start();
    let token = mesh.signer.token_of("7", "42");
    let seen = mesh
        .get("/echo/x")
        .token(&token)
        .header("Connection", "authorization, private")
        .header("Private", "1")
        .seen_by_plugin();
    assert_context_of(&seen, "7", "42", Some("member"));
    let sent = format!("Bearer {token}");
    assert_eq!(seen.all("authorization"), [sent.as_str()]);
    assert!(seen.header("private").is_none());
}

#[test]
fn hop_by_hop_headers_end_at_the_gateway() {
    let mesh = TestMesh::new().start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("Keep-Alive", "timeout=spoof")
        .header("Proxy-Connection", "spoof")
        .header("Proxy-Authorization", "Basic spoof")
        .header("TE", "gzip;q=0.5")
        .header("Upgrade", "h2c")
        .header("HTTP2-Settings", "spoof")
        .header("Connection", "upgrade, http2-settings")
        .header("Forwarded", "for=spoof")
        .header("Proxy", "spoof")
        .seen_by_plugin();
    assert_context_of(&seen, "7", "42", Some("member"));
    for name in [
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "upgrade",
        "http2-settings",
        "forwarded",
        "proxy",
    ] {
        assert!(seen.header(name).is_none(), "{name}: {:?}", seen.headers);
    }
}

#[test]
fn trailers_name_nobody() {
    let mesh = TestMesh::new()
        .fields(json!({"forward_headers": ["X-Checksum"]}))
        .start();
    let mut wire = mesh.connect();
    let mut trailers = String::new();
    for name in RESERVED {
        for spelling in spellings(name) {
            trailers += &format!("{spelling}: spoof\r\n");
        }
    }
    // In portions: a block of all at once is refused for its size, which would prove nothing.
    let lines: Vec<&str> = trailers.lines().collect();
    for portion in lines.chunks(40) {
        let auth = mesh.authorization("7", "42");
        let trailers: String = portion.iter().map(|line| format!("{line}\r\n")).collect();
        wire.send(format!(
            "POST /echo/x HTTP/1.1\r\nHost: localhost\r\n{auth}Trailer: x-company-id, x-checksum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{trailers}X-Checksum: abc\r\nOther: spoof\r\n\r\n"
        ));
        let response = wire.response();
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let all = mesh.plugin.seen();
    assert_eq!(all.len(), lines.chunks(40).len());
    for seen in all {
        assert_context_of(&seen, "7", "42", Some("member"));
        assert_eq!(seen.text(), "hi");
        let names: Vec<String> = seen
            .trailers
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .collect();
        assert!(
            names.iter().all(|name| name == "x-checksum"),
            "trailers that nobody vouched for: {names:?}"
        );
    }
    assert!(!mesh.plugin.got_bytes("spoof"));
}

#[test]
fn a_token_without_a_role_gives_no_role_whatever_the_client_says() {
    let mesh = TestMesh::new().start();
    let token = mesh.signer.token(&claims_with(&json!({"role": null})));
    let seen = mesh
        .get("/echo/x")
        .token(&token)
        .header("X-Role", "spoof-admin")
        .seen_by_plugin();
    assert_context_of(&seen, "7", "42", None);
}

#[test]
fn each_mode_says_what_was_proven_and_no_more() {
    let mesh = TestMesh::new()
        .also("open", json!({"auth_mode": "public"}))
        .also("passed", json!({"auth_mode": "forward_jwt"}))
        .also(
            "foreign",
            json!({"auth_mode": "forward_jwt", "verify": false}),
        )
        .sidecar_args(&["--allow-no-tenant"])
        .start();
    let spoofed = |path: &str, token: &str| {
        let mut request = mesh.get(path).token(token);
        for name in RESERVED {
            request = request.header(name, "spoof");
        }
        request.seen_by_plugin()
    };
    let token = mesh.signer.token_of("7", "42");
    let bearer = format!("Bearer {token}");

    let verified = spoofed("/echo/x", &token);
    assert_context_of(&verified, "7", "42", Some("member"));
    assert_eq!(verified.header("authorization"), None);

    let passed = spoofed("/passed/x", &token);
    assert_context_of(&passed, "7", "42", Some("member"));
    assert_eq!(
        passed.header("authorization"),
        Some(bearer.as_str()),
        "byte for byte"
    );

    let open = spoofed("/open/x", &token);
    assert_eq!(open.header("authorization"), None);
    let foreign = spoofed("/foreign/x", "a.foreign.token");
    assert_eq!(
        foreign.header("authorization"),
        Some("Bearer a.foreign.token")
    );
    for seen in [open, foreign] {
        for name in ["x-user-id", "x-company-id", "x-role"] {
            assert_eq!(seen.header(name), None, "{name} without proof");
        }
        assert!(seen.header("x-request-id").is_some());
        assert!(
            seen.headers
                .iter()
                .all(|(_, value)| !value.contains("spoof")),
            "{:?}",
            seen.headers
        );
    }
}

#[test]
fn what_the_operator_lets_through_passes_and_what_he_sets_replaces_the_clients() {
    let mesh = TestMesh::new()
        .fields(json!({
            "forward_headers": ["X-Tenant-Theme", "X-App-*"],
            "inject_headers": {"X-Plugin-Key": "from-the-operator", "X-Mode": "strict", "Via-Gateway": "yes"}
        }))
        .start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("X-Tenant-Theme", "dark")
        .header("x-app-version", "3")
        .header("X-Apple", "spoof")
        .header("X-Plugin-Key", "spoof")
        .header("X-Mode", "spoof")
        .header("Via-Gateway", "spoof")
        .seen_by_plugin();
    assert_context_of(&seen, "7", "42", Some("member"));
    assert_eq!(seen.header("x-tenant-theme"), Some("dark"));
    assert_eq!(seen.header("x-app-version"), Some("3"));
    assert_eq!(seen.header("x-apple"), None);
    assert_eq!(seen.header("x-plugin-key"), Some("from-the-operator"));
    assert_eq!(seen.header("x-mode"), Some("strict"));
    assert_eq!(seen.header("via-gateway"), Some("yes"));
}

#[test]
fn the_forwarding_headers_are_ours() {
    let mesh = TestMesh::new().start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("baggage", "user=1")
        .header("traceparent", "nonsense")
        .seen_by_plugin();
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-host"), Some("localhost"));
    assert_eq!(seen.header("x-forwarded-prefix"), Some("/echo"));
    assert_eq!(seen.header("baggage"), None);
    let made = seen.header("traceparent").unwrap();
    assert_eq!(made.len(), 55, "{made}");
    assert!(made.starts_with("00-"));

    let trace = "0af7651916cd43dd8448eb211c80319c";
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"))
        .seen_by_plugin();
    assert!(
        seen.header("traceparent").unwrap().contains(trace),
        "a valid one is continued"
    );
}

#[test]
fn a_request_id_is_kept_if_it_is_one_and_made_if_it_is_not() {
    let mesh = TestMesh::new().start();
    let seen = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("X-Request-Id", "order-7.a_b")
        .seen_by_plugin();
    assert_eq!(seen.header("x-request-id"), Some("order-7.a_b"));

    for bad in ["", "two words", "a/b", "<script>", &"a".repeat(129)] {
        let seen = mesh
            .get("/echo/x")
            .token_of("7", "42")
            .header("X-Request-Id", bad)
            .seen_by_plugin();
        let id = seen.header("x-request-id").unwrap();
        assert_ne!(id, bad);
        assert_eq!(
            (id.len(), id.as_bytes()[14]),
            (36, b'7'),
            "a UUID of version 7: {id}"
        );
    }
    let twice = mesh
        .get("/echo/x")
        .token_of("7", "42")
        .header("X-Request-Id", "one")
        .header("X-Request-Id", "two")
        .seen_by_plugin();
    assert_eq!(twice.header("x-request-id").unwrap().len(), 36);
}

#[test]
fn nothing_internal_comes_back_to_the_client() {
    let mesh = TestMesh::new().start();
    mesh.plugin.answer_raw(
        "/talks",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\nX-Powered: kept\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\
         X-User-Id: leak\r\nX-Company-Id: leak\r\nX-Role: leak\r\nX-Internal-Signature: leak\r\nX-Plugin-Key: leak\r\nX-Gapura-Made: internal\r\n\
         X-Gapura-Auth: leak\r\nX-Request-Id: leak\r\nX-Forwarded-For: leak\r\nX-Real-Ip: leak\r\nKeep-Alive: leak\r\nProxy-Authenticate: leak\r\n\
         Connection: keep-alive, secret-one\r\nSecret-One: leak\r\nConnection: secret-two\r\nSecret-Two: leak\r\n\r\nok",
        Then::Keep,
    );
    let response = mesh
        .get("/echo/talks")
        .token_of("7", "42")
        .header("X-Request-Id", "mine")
        .send();
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(response.header("x-powered"), Some("kept"));
    assert_eq!(response.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.header("x-request-id"), Some("mine"));
    for (name, value) in &response.headers {
        assert!(!value.contains("leak"), "{name}: {value} came back");
        assert!(
            !name.to_ascii_lowercase().starts_with("x-gapura"),
            "{name} came back"
        );
    }
    let line = mesh.gateway.wait_for_line("the request", |line| {
        line["event"] == "request" && line["request_id"] == "mine"
    });
    assert_eq!(
        line["code"],
        json!(null),
        "a plugin can't pass its answer off as the sidecar's: {line}"
    );
}

#[test]
fn the_refusals_bear_no_trace_of_what_was_spoofed() {
    let mesh = TestMesh::new().start();
    for (path, status, code) in [
        ("/echo/x", 401, "token_missing"),
        ("/nowhere", 404, "no_route"),
        ("/echo/..", 400, "bad_request"),
    ] {
        let response = mesh
            .get(path)
            .header("X-Company-Id", "spoof")
            .header("X-Request-Id", "keep-me")
            .send();
        response.assert_refusal(status, code, "gateway");
        assert_eq!(response.header("x-request-id"), Some("keep-me"));
        assert!(!format!("{response:?}{}", response.text()).contains("spoof"));
    }
    assert!(mesh.plugin.seen().is_empty());
}

const WHO: [(&str, &str); 8] = [
    ("Remote-User", "admin"),
    ("Client-Cert", ":MIIB:"),
    ("Client-Cert-Chain", ":MIIB:"),
    ("True-Client-Ip", "10.0.0.1"),
    ("Cf-Access-Jwt-Assertion", "x.y.z"),
    ("Oidc-Claim-Sub", "admin"),
    ("Impersonate-User", "admin"),
    ("Proxy-User", "admin"),
];

#[test]
fn nobody_but_a_trusted_proxy_tells_who_somebody_is() {
    let asked = |mesh: &TestMesh, path: &str| {
        let mut request = mesh.get(path).token_of("7", "42").header("Accept", "a/b");
        for (name, value) in WHO {
            request = request.header(name, value);
        }
        let seen = request.seen_by_plugin();
        assert_eq!(seen.header("accept"), Some("a/b"));
        let mut names: Vec<String> = WHO
            .iter()
            .map(|(name, _)| name.to_ascii_lowercase())
            .filter(|name| seen.header(name).is_some())
            .collect();
        names.sort();
        names
    };
    let fields = json!({"forward_headers": ["Remote-User", "Cf-*", "Client-Cert*"]});
    let mesh = TestMesh::new().also("asks", fields.clone()).start();
    assert_eq!(asked(&mesh, "/echo/x"), [""; 0]);
    assert_eq!(asked(&mesh, "/asks/x"), [""; 0], "a client is no proxy");
    let mesh = TestMesh::new()
        .also("asks", fields)
        .gateway_flag("--trusted-proxy", "127.0.0.1")
        .start();
    assert_eq!(asked(&mesh, "/echo/x"), [""; 0], "the plugin does not ask");
    assert_eq!(
        asked(&mesh, "/asks/x"),
        [
            "cf-access-jwt-assertion",
            "client-cert",
            "client-cert-chain",
            "remote-user"
        ]
    );
    // Past the gateway the sidecar holds to the same list.
    let mut wire = mesh.connect_hop();
    wire.get(
        "/direct",
        "X-Request-Id: direct\r\nX-User-Id: 7\r\nX-Company-Id: 42\r\nX-Gapura-Auth: verified\r\nX-Gapura-Vouched: client-cert\r\nRemote-User: admin\r\nClient-Cert: :MIIB:\r\n",
    );
    assert_eq!(wire.response().status, 200);
    let seen = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/direct");
    assert!(seen.header("remote-user").is_none(), "{:?}", seen.names());
    assert_eq!(seen.header("client-cert"), Some(":MIIB:"));
}

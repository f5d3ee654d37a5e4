//! Who may speak to a sidecar, and what it believes of what the gateway says.

use std::time::Duration;

use gapura_tests::certs::{Authority, Certificate, DOMAIN, Leaf};
use gapura_tests::mesh::TestMesh;
use gapura_tests::wire::{Response, Wire};
use serde_json::json;

const CONTEXT: &str = "X-Request-Id: r-1\r\nX-User-Id: 7\r\nX-Company-Id: 42\r\nX-Role: member\r\nX-Gapura-Auth: verified\r\n";

/// Tries a request with this certificate: the answer, or why there is none.
fn knock(mesh: &TestMesh, own: Option<&Certificate>) -> Result<Response, String> {
    let mut wire =
        Wire::tls(mesh.hop(), &mesh.hop_tls(own, &["http/1.1"])).map_err(|err| err.to_string())?;
    wire.try_send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{CONTEXT}\r\n"))
        .map_err(|err| err.to_string())?;
    wire.try_response("GET")
}

/// The handshake fails, nothing reaches the plugin, and a line says why and who it was.
#[track_caller]
fn assert_turned_away(mesh: &TestMesh, what: &str, own: Option<&Certificate>, reason: &str) {
    let before = mesh.sidecar.log().len();
    let answer = knock(mesh, own);
    assert!(answer.is_err(), "{what}: {answer:?}");
    let line = gapura_tests::eventually(&format!("{what}: a line with the reason"), || {
        mesh.sidecar.log().into_iter().skip(before).find(|line| {
            line["event"]
                .as_str()
                .is_some_and(|event| event.contains("handshake"))
        })
    });
    assert!(
        line.to_string().to_lowercase().contains(reason),
        "{what}: {line}"
    );
    assert!(
        line.to_string().contains("127.0.0.1"),
        "{what}: who it was: {line}"
    );
}

#[test]
fn only_a_gateway_of_this_installation_gets_through_the_handshake() {
    let mesh = TestMesh::new().start();
    assert_eq!(
        knock(&mesh, Some(&mesh.gateway_cert)).unwrap().status,
        200,
        "the gateway's own certificate"
    );
    assert_eq!(
        knock(&mesh, Some(&mesh.authority.issue(&Leaf::gateway("second"))))
            .unwrap()
            .status,
        200,
        "any gateway without --allow"
    );
    assert_eq!(
        knock(
            &mesh,
            Some(&mesh.authority.issue(&Leaf::gateway("edge").for_both()))
        )
        .unwrap()
        .status,
        200,
        "usable for both"
    );
    let reached = mesh.plugin.seen().len();

    let issue = |leaf: &Leaf| mesh.authority.issue(leaf);
    let gateway = Leaf::gateway("edge");
    assert_turned_away(&mesh, "no certificate", None, "certificate");
    assert_turned_away(
        &mesh,
        "another authority's",
        Some(&Authority::two_tier("rogue").issue(&gateway)),
        "issuer",
    );
    assert_turned_away(
        &mesh,
        "the same name under another key",
        Some(&Authority::two_tier("test mesh").issue(&gateway)),
        "",
    );
    assert_turned_away(&mesh, "the plugin's own", Some(&mesh.sidecar_cert), "");
    assert_turned_away(
        &mesh,
        "a plugin's, good for dialling",
        Some(&issue(&Leaf::plugin("echo").for_dialling())),
        "role",
    );
    assert_turned_away(
        &mesh,
        "a gateway's, good for answering only",
        Some(&issue(&gateway.clone().for_answering())),
        "",
    );
    assert_turned_away(
        &mesh,
        "a gateway's without any use",
        Some(&issue(&gateway.clone().for_nothing())),
        "",
    );
    assert_turned_away(
        &mesh,
        "another trust domain's",
        Some(&issue(
            &gateway.clone().uri("spiffe://other.internal/gateway/edge"),
        )),
        "domain",
    );
    assert_turned_away(
        &mesh,
        "a subdomain's",
        Some(&issue(
            &gateway
                .clone()
                .uri(&format!("spiffe://a.{DOMAIN}/gateway/edge")),
        )),
        "domain",
    );
    assert_turned_away(
        &mesh,
        "two identities",
        Some(&issue(
            &gateway
                .clone()
                .also_uri(&format!("spiffe://{DOMAIN}/gateway/b")),
        )),
        "",
    );
    assert_turned_away(
        &mesh,
        "no identity",
        Some(&issue(&gateway.clone().without_uri())),
        "",
    );
    assert_turned_away(
        &mesh,
        "an identity that only looks like one",
        Some(&issue(
            &gateway
                .clone()
                .uri(&format!("spiffe://{DOMAIN}/gateway/edge/x")),
        )),
        "",
    );
    assert_turned_away(
        &mesh,
        "expired",
        Some(&issue(&gateway.clone().expired())),
        "expired",
    );
    assert_turned_away(
        &mesh,
        "not yet valid",
        Some(&issue(&gateway.of_tomorrow())),
        "valid",
    );
    assert_eq!(mesh.plugin.seen().len(), reached);
    assert!(
        mesh.metric(
            &mesh.sidecar,
            "gapura_handshake_failures_total{side=\"hop\",reason=\"expired\"}"
        ) >= 1.0,
        "{}",
        mesh.admin(&mesh.sidecar, "/metrics").text()
    );
}

#[test]
fn a_revoked_gateway_is_turned_away() {
    let mesh = TestMesh::new().start();
    let stolen = mesh.authority.issue(&Leaf::gateway("stolen"));
    assert_eq!(knock(&mesh, Some(&stolen)).unwrap().status, 200);
    let files = mesh
        .authority
        .files_for(&mesh.sidecar_cert)
        .with_crl(Some(mesh.authority.crl(&[&stolen])));
    mesh.sidecar_dir.publish(&files);
    gapura_tests::within(Duration::from_secs(5), "it is turned away", || {
        knock(&mesh, Some(&stolen)).is_err().then_some(())
    });
    assert_turned_away(&mesh, "revoked", Some(&stolen), "revoked");
    assert_eq!(
        knock(&mesh, Some(&mesh.gateway_cert)).unwrap().status,
        200,
        "its neighbour is not"
    );
}

#[test]
fn plain_http_and_old_tls_are_no_way_in() {
    let mesh = TestMesh::new().start();
    let mut wire = Wire::plain(mesh.hop());
    let _ = wire.try_send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{CONTEXT}\r\n"));
    assert!(wire.is_closed_within(Duration::from_secs(15)));
    let dir = mesh.dir();
    let (cert, key) = mesh.gateway_cert.write(dir, "edge");
    let output = std::process::Command::new("openssl")
        .args([
            "s_client",
            "-tls1_2",
            "-connect",
            &mesh.hop().to_string(),
            "-cert",
        ])
        .arg(&cert)
        .arg("-key")
        .arg(&key)
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("alert") || text.contains("no protocols"),
        "TLS 1.2 is refused: {text}"
    );
    assert!(text.contains("no peer certificate available"), "{text}");
    assert!(mesh.plugin.seen().is_empty());
}

/// Greets with the record cut in two and no server name, and asks: the first line of the answer, if
/// there is one.
fn greeted_in_two_records(
    mesh: &TestMesh,
    own: Option<&Certificate>,
    alpn: &[&str],
) -> Option<String> {
    use std::io::{Read, Write};
    let tls = mesh.hop_tls(own, alpn);
    let mut config = rustls::ClientConfig::clone(&tls.config());
    config.enable_sni = false;
    let mut session =
        rustls::ClientConnection::new(std::sync::Arc::new(config), tls.name()).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let mut socket = std::net::TcpStream::connect(mesh.hop()).unwrap();
    socket
        .set_read_timeout(Some(gapura_tests::PATIENCE))
        .unwrap();
    let body = &hello[5..];
    for part in body.chunks(body.len().div_ceil(2)) {
        let mut record = hello[..3].to_vec();
        record.extend((part.len() as u16).to_be_bytes());
        record.extend(part);
        socket.write_all(&record).unwrap();
    }
    let mut stream = rustls::StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).ok()?;
    }
    let request = format!("GET /x HTTP/1.1\r\nHost: a\r\n{CONTEXT}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn however_it_is_greeted_the_sidecar_asks_for_a_certificate() {
    let mesh = TestMesh::new().start();
    for alpn in [&[][..], &["http/1.1"]] {
        let known = greeted_in_two_records(&mesh, Some(&mesh.gateway_cert), alpn);
        assert_eq!(known.as_deref(), Some("HTTP/1.1 200"), "{alpn:?}");
        assert_eq!(greeted_in_two_records(&mesh, None, alpn), None, "{alpn:?}");
    }
    for alpn in [&[][..], &["http/1.1"], &["h2"], &["h2", "http/1.1"]] {
        let tls = mesh.hop_tls(None, alpn);
        let refused = Wire::tls(mesh.hop(), &tls).map_or(true, |mut wire| {
            let _ = wire.try_send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{CONTEXT}\r\n"));
            wire.try_read(1).is_err()
        });
        assert!(refused, "{alpn:?}");
    }
    assert_eq!(mesh.plugin.seen().len(), 2);
}

#[test]
fn nothing_is_remembered_from_one_handshake_to_the_next() {
    let mesh = TestMesh::new().start();
    let tls = mesh.hop_tls(Some(&mesh.gateway_cert), &["http/1.1"]);
    for _ in 0..3 {
        let mut wire = Wire::tls(mesh.hop(), &tls).unwrap();
        wire.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{CONTEXT}\r\n"));
        assert_eq!(wire.response().status, 200);
        assert!(
            !wire.was_resumed(),
            "a session that was resumed was not judged again"
        );
    }
}

#[test]
fn a_gateway_that_allow_does_not_name_gets_one_answer() {
    let allowed = format!("spiffe://{DOMAIN}/gateway/edge");
    let mesh = TestMesh::new().sidecar_args(&["--allow", &allowed]).start();
    assert_eq!(knock(&mesh, Some(&mesh.gateway_cert)).unwrap().status, 200);
    let other = mesh.authority.issue(&Leaf::gateway("other"));
    let mut wire = Wire::tls(mesh.hop(), &mesh.hop_tls(Some(&other), &["http/1.1"])).unwrap();
    wire.send(format!("GET /x HTTP/1.1\r\nHost: a\r\n{CONTEXT}\r\n"));
    wire.response()
        .assert_refusal(403, "peer_denied", "sidecar");
    assert!(
        wire.is_closed_within(Duration::from_secs(5)),
        "one answer, then close"
    );
    assert_eq!(mesh.plugin.seen().len(), 1);
}

/// A request straight to the sidecar with the gateway's certificate.
fn straight(mesh: &TestMesh, lines: &str) -> Response {
    let mut wire = mesh.connect_hop();
    wire.send(format!("GET /x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"));
    wire.response()
}

#[test]
fn the_context_stands_once_whole_and_valid_or_the_request_is_refused() {
    let mesh = TestMesh::new().sidecar_args(&["--allow-no-tenant"]).start();
    assert_eq!(straight(&mesh, CONTEXT).status, 200);
    let reached = mesh.plugin.seen().len();
    for (what, lines, status, code) in [
        (
            "two companies",
            format!("{CONTEXT}X-Company-Id: 43\r\n"),
            400,
            "bad_request",
        ),
        (
            "two equal companies",
            format!("{CONTEXT}X-Company-Id: 42\r\n"),
            400,
            "bad_request",
        ),
        (
            "two users",
            format!("{CONTEXT}x-user-id: 8\r\n"),
            400,
            "bad_request",
        ),
        (
            "two roles",
            format!("{CONTEXT}X-ROLE: admin\r\n"),
            400,
            "bad_request",
        ),
        (
            "two request ids",
            format!("{CONTEXT}X-Request-Id: r-2\r\n"),
            400,
            "bad_request",
        ),
        (
            "an impossible company",
            CONTEXT.replace("42", "4 2"),
            400,
            "bad_request",
        ),
        (
            "an empty company",
            CONTEXT.replace("42", ""),
            400,
            "bad_request",
        ),
        (
            "an impossible user",
            CONTEXT.replace("X-User-Id: 7", "X-User-Id: 7,8"),
            400,
            "bad_request",
        ),
        (
            "an impossible role",
            CONTEXT.replace("member", "a\tb"),
            400,
            "bad_request",
        ),
        (
            "a company without a user",
            CONTEXT.replace("X-User-Id: 7\r\n", ""),
            400,
            "bad_request",
        ),
        (
            "a role without a user",
            "X-Request-Id: r-1\r\nX-Role: member\r\nX-Gapura-Auth: verified\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "an actor without a user",
            "X-Request-Id: r-1\r\nX-Actor-Id: 8\r\nX-Gapura-Auth: verified\r\n".to_owned(),
            400,
            "bad_request",
        ),
        (
            "two actors",
            format!("{CONTEXT}X-Actor-Id: 8\r\nX-Actor-Id: 8\r\n"),
            400,
            "bad_request",
        ),
        (
            "an impossible actor",
            format!("{CONTEXT}X-Actor-Id: 8,9\r\n"),
            400,
            "bad_request",
        ),
        (
            "a user though public",
            CONTEXT.replace("verified", "public"),
            400,
            "bad_request",
        ),
        (
            "a user though unverified",
            CONTEXT.replace("verified", "unverified"),
            400,
            "bad_request",
        ),
        (
            "no request id",
            CONTEXT.replace("X-Request-Id: r-1\r\n", ""),
            400,
            "bad_request",
        ),
        (
            "no company though verified",
            CONTEXT.replace("X-Company-Id: 42\r\n", ""),
            403,
            "tenant_missing",
        ),
    ] {
        let response = straight(&mesh, &lines);
        assert_eq!(response.status, status, "{what}: {response:?}");
        assert_eq!(response.json()["errors"]["code"], code, "{what}");
        assert_eq!(response.json()["errors"]["by"], "sidecar", "{what}");
    }
    assert_eq!(
        mesh.plugin.seen().len(),
        reached,
        "nothing of it reached the plugin"
    );
    let open = "X-Request-Id: r-1\r\nX-Gapura-Auth: public\r\n";
    assert_eq!(
        straight(&mesh, open).status,
        200,
        "excused by --allow-no-tenant"
    );
    assert_eq!(
        straight(&mesh, &open.replace("public", "unverified")).status,
        200
    );
}

#[test]
fn without_leave_nobody_is_excused_from_a_company() {
    let mesh = TestMesh::new().start();
    for auth in ["public", "unverified", "verified", "anything"] {
        let response = straight(
            &mesh,
            &format!("X-Request-Id: r-1\r\nX-Gapura-Auth: {auth}\r\n"),
        );
        assert!(matches!(response.status, 400 | 403), "{auth}: {response:?}");
    }
    assert_eq!(straight(&mesh, "X-Request-Id: r-1\r\n").status, 403);
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn even_the_gateway_can_say_only_what_it_vouches_for() {
    let mesh = TestMesh::new().start();
    let lines = format!(
        "{CONTEXT}X-Forwarded-For: 1.2.3.4\r\nX-Gapura-Vouched: x-theme, x-plugin-key\r\nX-Theme: dark\r\nX-Plugin-Key: k\r\nX-Other: spoof\r\n\
         X-Plugin-Secret: spoof\r\nX_Company_Id: spoof\r\nX.User.Id: spoof\r\nX-Gapura-Whatever: spoof\r\nX-Real-Ip: spoof\r\n\
         Connection: keep-alive, private\r\nPrivate: spoof\r\nForwarded: for=spoof\r\nAccept: */*\r\n"
    );
    assert_eq!(straight(&mesh, &lines).status, 200);
    let seen = mesh
        .plugin
        .wait_for("the request", |seen| seen.target == "/x");
    for (name, value) in [
        ("x-user-id", "7"),
        ("x-company-id", "42"),
        ("x-role", "member"),
        ("x-request-id", "r-1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-theme", "dark"),
        ("x-plugin-key", "k"),
        ("accept", "*/*"),
    ] {
        assert_eq!(seen.header(name), Some(value), "{:?}", seen.headers);
    }
    for (name, value) in &seen.headers {
        assert!(!value.contains("spoof"), "{name}: {value}");
        assert!(
            !name.to_ascii_lowercase().starts_with("x-gapura"),
            "{name} is between the two programs"
        );
    }
}

/// Nobody but a broken gateway says this; the plugin must not get a request whose company was taken
/// away after the check.
#[test]
fn the_context_can_not_be_nominated_away_behind_the_check() {
    let mesh = TestMesh::new().start();
    for line in [
        "Connection: x-company-id",
        "Connection: close, X-User-Id, X-Request-Id, x-role",
    ] {
        let status = straight(&mesh, &format!("{CONTEXT}{line}\r\n")).status;
        assert!(matches!(status, 200 | 400 | 403), "{line}: {status}");
    }
    for seen in mesh.plugin.seen() {
        for (name, value) in [
            ("x-user-id", "7"),
            ("x-company-id", "42"),
            ("x-role", "member"),
            ("x-request-id", "r-1"),
        ] {
            assert_eq!(seen.header(name), Some(value), "{:?}", seen.headers);
        }
    }
}

#[test]
fn trailers_on_the_hop_name_nobody_either() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect_hop();
    wire.send(format!(
        "POST /x HTTP/1.1\r\nHost: localhost\r\n{CONTEXT}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Company-Id: spoof\r\nx_role: spoof\r\nX-Gapura-Auth: spoof\r\ngrpc-note: kept\r\n\r\n"
    ));
    assert_eq!(wire.response().status, 200);
    let seen = mesh.plugin.wait_for("the request", |seen| seen.complete);
    assert!(
        seen.trailers
            .iter()
            .all(|(name, _)| name.eq_ignore_ascii_case("grpc-note")),
        "{:?}",
        seen.trailers
    );
    assert!(!mesh.plugin.got_bytes("spoof"));
}

#[test]
fn a_probe_is_excused_only_as_a_bare_get_of_a_probe_path() {
    let mesh = TestMesh::new().start();
    let probe = |method: &str, path: &str, lines: &str| {
        let mut wire = mesh.connect_hop();
        wire.send(format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: p-1\r\nX-Gapura-Probe: 1\r\n{lines}\r\n"));
        wire.try_response(method).unwrap().status
    };
    for path in ["/healthz", "/version", "/openapi.json"] {
        assert_eq!(probe("GET", path, ""), 200, "{path}");
    }
    let reached = mesh.plugin.seen().len();
    for (what, method, path, lines) in [
        ("another path", "GET", "/reports", ""),
        ("below a probe path", "GET", "/healthz/x", ""),
        ("with a query", "GET", "/healthz?a=1", ""),
        ("a POST", "POST", "/healthz", "Content-Length: 0\r\n"),
        (
            "with a body",
            "GET",
            "/healthz",
            "Content-Length: 2\r\n\r\nhi",
        ),
        (
            "with a token",
            "GET",
            "/healthz",
            "Authorization: Bearer a\r\n",
        ),
        ("with a cookie", "GET", "/healthz", "Cookie: a=1\r\n"),
    ] {
        assert_eq!(probe(method, path, lines), 403, "{what}");
    }
    assert_eq!(mesh.plugin.seen().len(), reached);
}

#[test]
fn a_client_can_not_make_its_request_a_probe() {
    let mesh = TestMesh::new()
        .also("open", json!({"auth_mode": "public"}))
        .start();
    mesh.get("/open/healthz")
        .header("X-Gapura-Probe", "1")
        .header("x_gapura_probe", "1")
        .send()
        .assert_refusal(403, "tenant_missing", "sidecar");
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn the_sidecar_must_be_the_one_the_registry_names() {
    let mesh = TestMesh::new()
        .also("billing", json!({"identity": "plugin/billing"}))
        .also(
            "whole",
            json!({"identity": format!("spiffe://{DOMAIN}/plugin/echo")}),
        )
        .start();
    assert_eq!(mesh.get("/whole/x").token_of("7", "42").send().status, 200);
    mesh.get("/billing/x")
        .token_of("7", "42")
        .send()
        .assert_refusal(502, "upstream_identity", "gateway");
    assert_eq!(
        mesh.plugin.seen().len(),
        1,
        "not one byte went to the wrong sidecar"
    );
}

#[test]
fn a_sidecar_takes_no_head_that_can_be_read_in_two_ways() {
    let mesh = TestMesh::new().start();
    let context =
        "X-Request-Id: r-1\r\nX-User-Id: 7\r\nX-Company-Id: 42\r\nX-Gapura-Auth: verified\r\n";
    let status = |head: String| {
        let mut wire = mesh.connect_hop();
        wire.send(head);
        let response = wire.response();
        assert!(response.status == 200 || wire.is_closed_within(gapura_tests::PATIENCE));
        response.status
    };
    assert_eq!(
        status(format!("GET /good HTTP/1.1\r\nHost: a\r\n{context}\r\n")),
        200
    );
    assert_eq!(
        status(format!("GET /bare HTTP/1.1\nHost: a\r\n{context}\r\n")),
        400
    );
    let two = "Content-Length: 2\r\nContent-Length: 2\r\n";
    assert_eq!(
        status(format!(
            "POST /two HTTP/1.1\r\nHost: a\r\n{context}{two}\r\nhi"
        )),
        400
    );
    assert!(mesh.plugin.seen_at("/bare").is_empty() && mesh.plugin.seen_at("/two").is_empty());
}

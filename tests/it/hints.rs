//! Early hints: a 103 reaches the client, nothing else that comes before an answer does.

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use serde_json::json;

use crate::clients::{curl, url};

const HINTED: &str = "HTTP/1.1 102 Processing\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Company-Id: 9\r\nAccess-Control-Allow-Origin: *\r\n\r\n\
    HTTP/1.1 103 Early Hints\r\nLink: </b.css>; rel=preload\r\n\r\n\
    HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn mesh() -> TestMesh {
    let cors = json!({"cors": {"origins": ["https://app.example.com"]}});
    let mesh = TestMesh::new().fields(cors).start();
    mesh.plugin.answer_raw("/hinted", HINTED, Then::Keep);
    mesh
}

#[test]
fn a_103_reaches_clients_of_both_versions_and_other_interim_answers_do_not() {
    let mesh = mesh();
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    for version in ["--http1.1", "--http2"] {
        let target = url(&mesh, "/echo/hinted");
        let said = curl(&mesh, &[version, "-i", "-H", &token, &target]);
        let statuses: Vec<_> = said
            .lines()
            .filter(|line| line.starts_with("HTTP/"))
            .filter_map(|line| line.split(' ').nth(1))
            .collect();
        assert_eq!(statuses, ["103", "103", "200"], "{version}: {said}");
        let lower = said.to_ascii_lowercase();
        assert!(lower.contains("link: </a.css>; rel=preload"), "{said}");
        assert!(lower.contains("link: </b.css>; rel=preload"), "{said}");
        assert!(!lower.contains("x-company-id"), "nothing internal: {said}");
        let origin = "access-control-allow-origin";
        assert!(!lower.contains(origin), "the gateway has the say: {said}");
        assert!(said.ends_with("ok"), "{said}");
    }
    let seen = mesh.plugin.seen_at("/hinted");
    assert_eq!(seen.len(), 2, "each was asked for once");
}

#[test]
fn a_103_behind_an_upload_on_its_own_connection_passes_too() {
    let mesh = mesh();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "POST /echo/hinted HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    ));
    assert_eq!(wire.try_response("POST").unwrap().status, 103);
    assert_eq!(wire.try_response("POST").unwrap().status, 103);
    let last = wire.try_response("POST").unwrap();
    assert_eq!((last.status, last.text().as_str()), (200, "ok"));
    assert_eq!(mesh.plugin.seen_at("/hinted")[0].text(), "hello");
}

#[test]
fn a_client_of_http_1_0_sees_the_answer_alone() {
    let mesh = mesh();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    wire.send(format!(
        "GET /echo/hinted HTTP/1.0\r\nHost: localhost\r\n{auth}\r\n"
    ));
    let answer = String::from_utf8(wire.to_end().unwrap()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    assert!(!answer.contains("103"), "{answer}");
}

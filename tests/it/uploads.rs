//! Uploads that are refused while they still come: the answer arrives all the same, over both
//! versions of HTTP.

use std::process::{Command, Stdio};
use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::wire::Wire;
use serde_json::json;

use crate::clients::url;

/// Tries of each kind: an answer that is lost now and then is lost.
const TRIES: usize = 20;

/// The status that curl gets for an upload of this file; `000` if it got none.
pub(crate) fn status(root: &std::path::Path, version: &str, file: &str, target: &str) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--max-time", "30", "-o", "/dev/null"])
        .args([version, "-w", "%{http_code}", "-T", file, target])
        // It would wait for a 100, which is another case.
        .args(["-H", "Expect:", "--cacert"])
        .arg(root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_refusal_reaches_curl_however_much_it_uploads() {
    let mesh = TestMesh::new().start();
    let root = mesh.public_root_file();
    let target = url(&mesh, "/echo/up");
    for size in [3, 300_000, 5_000_000] {
        let file = mesh.dir().join(format!("upload-{size}"));
        std::fs::write(&file, vec![b'a'; size]).unwrap();
        for version in ["--http1.1", "--http2"] {
            let lost: Vec<_> = (0..TRIES)
                .map(|_| status(&root, version, file.to_str().unwrap(), &target))
                .filter(|status| status != "401")
                .collect();
            assert!(lost.is_empty(), "{size} bytes, {version}: {lost:?}");
        }
    }
    assert!(mesh.plugin.seen_at("/up").is_empty());
    // The twin: the same upload by who may.
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    let file = mesh.dir().join("upload-5000000");
    for version in ["--http1.1", "--http2"] {
        let args = [version, "-H", &token, "-T", file.to_str().unwrap(), &target];
        assert!(crate::clients::curl(&mesh, &args).contains("\"ok\":true"));
    }
    let seen = mesh.plugin.seen_at("/up");
    assert!(
        seen.len() == 2
            && seen
                .iter()
                .all(|seen| seen.complete && seen.body_length == 5_000_000),
        "{seen:?}"
    );
}

#[test]
fn who_waits_for_a_100_is_refused_without_being_read() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    wire.send("PUT /echo/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\nExpect: 100-continue\r\n\r\n");
    wire.response()
        .assert_refusal(401, "token_missing", "gateway");
    assert!(
        wire.is_closed_within(Duration::from_secs(2)),
        "and not drained"
    );
}

#[test]
fn while_requests_are_shed_the_rest_of_a_refused_upload_is_not_read() {
    let few = json!({"max_in_flight": 1});
    let mesh = TestMesh::new().one_worker().fields(few).start();
    let gate = Gate::new();
    let held = gate.clone();
    mesh.plugin.on("/held", move |exchange| {
        let _ = held.wait();
        exchange.answer("200 OK", "", b"");
        Then::Keep
    });
    let refused = |wire: &mut Wire| {
        wire.send(
            "POST /echo/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nsome",
        );
        wire.response()
            .assert_refusal(401, "token_missing", "gateway");
    };
    let (mut before, mut while_shed) = (mesh.connect(), mesh.connect());
    refused(&mut before);
    assert!(
        before.is_silent_for(Duration::from_secs(1)),
        "the rest is waited for"
    );
    let mut first = mesh.connect();
    first.get("/echo/held", &mesh.authorization("7", "42"));
    let _ = mesh.plugin.wait_for("it", |seen| seen.target == "/held");
    let shed = mesh.get("/echo/x").token_of("7", "42").send();
    shed.assert_refusal(503, "overloaded", "gateway");
    refused(&mut while_shed);
    assert!(
        while_shed.is_closed_within(Duration::from_secs(3)),
        "it is not read"
    );
    gate.open();
    assert_eq!(first.response().status, 200);
}

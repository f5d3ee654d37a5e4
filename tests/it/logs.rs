//! One line a request at each end, with what an operator needs and nothing that is nobody's
//! business.

use std::fs::OpenOptions;

use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::wire::Wire;
use serde_json::{Value, json};

fn line(program: &gapura_tests::program::Program, id: &str) -> Value {
    program.wait_for_line("the request", |line| {
        line["event"] == "request" && line["request_id"] == id
    })
}

#[test]
fn each_request_leaves_one_line_at_each_end() {
    let mesh = TestMesh::new().start();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let response = mesh
        .post("/echo//report%73?secret=1", "hello")
        .token_of("7", "42")
        .header("X-Request-Id", "one")
        .header("X-Spoofed", "1")
        .header("X-Company-Id", "1")
        .header("traceparent", &format!("00-{trace}-b7ad6b7169203331-01"))
        .send();
    assert_eq!(response.status, 200);
    let at_gateway = line(&mesh.gateway, "one");
    let at_sidecar = line(&mesh.sidecar, "one");
    for (line, service, path, plugin) in [
        (&at_gateway, "gateway", "/echo/reports", "echo"),
        (&at_sidecar, "sidecar", "/reports", "echo"),
    ] {
        assert_eq!(line["service"], service);
        assert_eq!(line["level"], "info", "{line}");
        assert_eq!(line["method"], "POST");
        assert_eq!(line["path"], path);
        assert_eq!(line["status"], 200);
        assert_eq!(line["company_id"], "42", "{line}");
        assert_eq!(line["plugin"], plugin, "{line}");
        assert_eq!(line["trace_id"], trace, "{line}");
        assert_eq!(line["bytes_in"], 5, "{line}");
        assert_eq!(line["bytes_out"], response.body.len(), "{line}");
        assert_eq!(line["code"], Value::Null, "{line}");
        assert!(
            line["latency_ms"].is_number() && line["upstream_ms"].is_number(),
            "{line}"
        );
        assert!(line["stripped"].is_u64(), "{line}");
        let ts = line["ts"].as_str().unwrap();
        assert!(
            ts.ends_with('Z') && ts.len() >= 20 && ts.as_bytes()[10] == b'T',
            "{line}"
        );
    }
    assert!(
        at_gateway["stripped"].as_u64().unwrap() >= 2,
        "{at_gateway}"
    );
    assert!(
        at_gateway["peer"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1"),
        "{at_gateway}"
    );
    assert_eq!(at_sidecar["peer"], "spiffe://test.internal/gateway/edge");
    for program in [&mesh.gateway, &mesh.sidecar] {
        let lines = program
            .log()
            .iter()
            .filter(|line| line["event"] == "request" && line["request_id"] == "one")
            .count();
        assert_eq!(lines, 1);
        assert!(!program.log_text().contains("secret=1"));
    }
}

#[test]
fn a_refusal_leaves_its_code() {
    let mesh = TestMesh::new().start();
    for (path, id, status, code) in [
        ("/echo/x", "r1", 401, "token_missing"),
        ("/nowhere", "r2", 404, "no_route"),
        ("/echo/%zz", "r3", 400, "bad_request"),
    ] {
        assert_eq!(
            mesh.get(path).header("X-Request-Id", id).send().status,
            status
        );
        let line = line(&mesh.gateway, id);
        assert_eq!(
            (&line["status"], &line["code"], &line["company_id"]),
            (&json!(status), &json!(code), &Value::Null),
            "{line}"
        );
    }
    assert!(
        mesh.sidecar
            .log()
            .iter()
            .all(|line| line["event"] != "request"),
        "nothing reached the sidecar"
    );
}

#[test]
fn a_line_is_one_line_whatever_a_client_sends() {
    let mesh = TestMesh::new().start();
    for path in [
        "/echo/%0a%22%7d",
        "/echo/%e2%80%a8",
        "/nowhere/%0d%0a{\"event\":\"fake\"}",
    ] {
        let _ = mesh.get(path).token_of("7", "42").send();
    }
    let _ = mesh
        .get("/echo/end")
        .token_of("7", "42")
        .header("X-Request-Id", "end")
        .send();
    let _ = line(&mesh.gateway, "end");
    assert!(
        mesh.gateway
            .log()
            .iter()
            .all(|line| line["event"] != "fake"),
        "each line is JSON of its own"
    );
}

#[test]
fn the_access_lines_can_be_kept_to_faults_or_left_out() {
    for (setting, good, bad) in [
        ("errors", false, true),
        ("off", false, false),
        ("on", true, true),
    ] {
        let mesh = TestMesh::new()
            .gateway_flag("--access-log", setting)
            .start();
        assert_eq!(
            mesh.get("/echo/x")
                .token_of("7", "42")
                .header("X-Request-Id", "good")
                .send()
                .status,
            200
        );
        // A fault as `errors` means it: an answer of 5xx.
        let closed = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        mesh.write_registry(
            "echo",
            &mesh.entry(&json!({"upstream": format!("https://{closed}")})),
        );
        gapura_tests::eventually("the upstream is another", || {
            (mesh
                .get("/echo/x")
                .token_of("7", "42")
                .header("X-Request-Id", "bad")
                .send()
                .status
                == 502)
                .then_some(())
        });
        assert_eq!(mesh.get("/healthz").send().status, 200);
        if bad {
            let _ = mesh.gateway.wait_for_line("the fault", |line| {
                line["event"] == "request" && line["status"] == 502
            });
        }
        let log = mesh.gateway.log();
        assert_eq!(
            log.iter()
                .any(|line| line["event"] == "request" && line["request_id"] == "good"),
            good,
            "{setting}"
        );
        assert_eq!(
            log.iter()
                .any(|line| line["event"] == "request" && line["status"] == 502),
            bad,
            "{setting}"
        );
    }
}

#[test]
fn a_log_that_can_not_be_written_stops_no_traffic() {
    let mesh = TestMesh::new().start();
    for output in ["/dev/full", "nobody reads"] {
        // Its address can't be read from a log that is not there, so it gets one that was free a
        // moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let invocation = gapura_tests::program::Invocation::new()
            .flag("--listen", port.to_string())
            .flag("--plugin-dir", &mesh.plugins)
            .flag("--mesh-dir", mesh.gateway_dir.path())
            .flag("--admin", "127.0.0.1:0")
            .flag("--jwks", mesh.dir().join("jwks.json"))
            .flag("--issuer", gapura_tests::tokens::ISSUER)
            .flag("--audience", gapura_tests::tokens::AUDIENCE)
            .flag("--workers", "1");
        let program = if output == "/dev/full" {
            invocation.start_into(
                "gapura-gateway",
                OpenOptions::new().write(true).open(output).unwrap(),
            )
        } else {
            let (reader, writer) = std::io::pipe().unwrap();
            let program = invocation.start_into("gapura-gateway", writer);
            std::mem::forget(reader); // open, and never read
            program
        };
        gapura_tests::eventually("it listens", || std::net::TcpStream::connect(port).ok());
        let mut wire = Wire::plain(port);
        let auth = mesh.authorization("7", "42");
        let long = "a".repeat(2000);
        for _ in 0..200 {
            wire.get(&format!("/echo/{long}"), &auth);
            assert_eq!(wire.response().status, 200, "{output}");
        }
        drop(program);
    }
}

#[test]
fn an_answer_whose_reader_leaves_midway_is_logged_as_a_client_that_is_gone() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/endless", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        while exchange.write(&[b'a'; 1 << 16]) {}
        Then::Close
    });
    let auth = mesh.authorization("7", "42");
    let mut wire = mesh.connect();
    wire.get("/echo/endless", &format!("{auth}X-Request-Id: over-h1\r\n"));
    assert_eq!(wire.response_head().status, 200);
    drop(wire);
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 16);
    let request = |id: &str, path: &str| {
        http::Request::get(format!("https://localhost{path}"))
            .header("authorization", auth.trim_end().split_once(' ').unwrap().1)
            .header("x-request-id", id)
            .body(())
            .unwrap()
    };
    let open = client.open(request("over-h2", "/echo/endless"), true);
    assert_eq!(open.answer().head.status, 200);
    drop(client);
    // The same before there is any answer.
    mesh.plugin.on("/silent", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let mut wire = mesh.connect();
    wire.get(
        "/echo/silent",
        &format!("{auth}X-Request-Id: unanswered\r\n"),
    );
    let _ = mesh.plugin.wait_for("it", |seen| seen.target == "/silent");
    drop(wire);
    for id in ["over-h1", "over-h2", "unanswered"] {
        for program in [&mesh.gateway, &mesh.sidecar] {
            let line = program.wait_for_line(id, |line| line["request_id"] == id);
            assert_eq!(line["status"], 499, "{line}");
            assert_eq!(line["code"], "client_gone", "{line}");
        }
    }
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 16);
    let whole = client.exchange(request("whole", "/echo/x"), None);
    assert_eq!(whole.status, 200);
    let line = mesh
        .gateway
        .wait_for_line("whole", |line| line["request_id"] == "whole");
    assert_eq!(
        (&line["status"], &line["code"]),
        (&200.into(), &Value::Null),
        "{line}"
    );
}

//! A stalled stream never delays another request, whoever sent it.

use std::time::{Duration, Instant};

use gapura_tests::eventually;
use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Gate, Then};

/// What one small request may take at the worst while others stall, on a busy machine and in a
/// debug build.
const PROMPT: Duration = Duration::from_millis(900);

fn mesh() -> TestMesh {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/endless", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"10000\r\n".to_vec(), vec![b'a'; 0x10000], b"\r\n".to_vec()].concat();
        while exchange.write(&chunk) {}
        Then::Close
    });
    mesh
}

/// Thirty small requests, one after another, each on a connection of its own.
#[track_caller]
fn assert_prompt(mesh: &TestMesh, what: &str) {
    for turn in 0..30 {
        let begun = Instant::now();
        let response = mesh.get("/echo/small").token_of("8", "43").send();
        assert_eq!(response.status, 200, "{what}, request {turn}");
        assert!(
            begun.elapsed() < PROMPT,
            "{what}, request {turn} took {:?}",
            begun.elapsed()
        );
    }
}

#[test]
fn twenty_clients_that_stop_reading_delay_nobody() {
    let mesh = mesh();
    assert_prompt(&mesh, "with nobody else");
    let auth = mesh.authorization("7", "42");
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            let mut wire = mesh.connect();
            wire.get("/echo/endless", &auth);
            assert_eq!(wire.response_head().status, 200);
            wire
        })
        .collect();
    assert_prompt(&mesh, "beside twenty clients that read nothing");
    drop(stalled);
    assert_prompt(&mesh, "after they have gone");
}

#[test]
fn twenty_clients_that_stop_sending_delay_nobody() {
    let mesh = mesh();
    let auth = mesh.authorization("7", "42");
    let stalled: Vec<_> = (0..20)
        .map(|n| {
            let mut wire = mesh.connect();
            let framing = if n % 2 == 0 { "Content-Length: 5000000" } else { "Transfer-Encoding: chunked" };
            wire.send(format!("POST /echo/upload HTTP/1.1\r\nHost: localhost\r\n{auth}{framing}\r\n\r\n4\r\nsome\r\n"));
            wire
        })
        .collect();
    eventually("all twenty have begun", || {
        (mesh.plugin.seen_at("/upload").len() == 20).then_some(())
    });
    assert_prompt(&mesh, "beside twenty uploads that stand still");
    drop(stalled);
}

#[test]
fn a_plugin_that_stops_reading_delays_only_its_senders() {
    let mesh = mesh();
    let over = Gate::new();
    let until = over.clone();
    mesh.plugin.on("/deaf", move |_| {
        let _ = until.wait(); // reads nothing all the while
        Then::Close
    });
    let auth = mesh.authorization("7", "42");
    let address = mesh.public();
    let tls = mesh.client_tls(&["http/1.1"]);
    for _ in 0..20 {
        let (auth, tls) = (auth.clone(), tls.clone());
        std::thread::spawn(move || {
            let mut wire = gapura_tests::wire::Wire::tls(address, &tls).unwrap();
            wire.send(format!("POST /echo/deaf HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Length: 50000000\r\n\r\n"));
            let part = vec![b'a'; 1 << 16];
            while wire.try_send(&part).is_ok() {}
        });
    }
    eventually("all twenty have begun", || {
        (mesh.plugin.seen_at("/deaf").len() == 20).then_some(())
    });
    assert_prompt(&mesh, "beside twenty uploads into a deaf plugin");
    over.open();
}

#[test]
fn streams_of_one_http2_client_that_stop_reading_delay_neither_its_other_streams_nor_other_clients()
{
    let mesh = mesh();
    let token = mesh.signer.token_of("7", "42");
    let request = |path: &str| {
        let uri = format!("https://localhost{path}");
        http::Request::get(uri)
            .header("authorization", format!("Bearer {token}"))
            .body(())
            .unwrap()
    };
    // The client's own window over the whole connection has room for all that the stalled streams
    // may hold.
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 32 * 1024);
    let stalled: Vec<_> = (0..20)
        .map(|_| {
            client
                .open(request("/echo/endless"), true)
                .answer()
                .read_then_stall(1000)
        })
        .collect();
    for turn in 0..10 {
        let begun = Instant::now();
        assert_eq!(client.exchange(request("/echo/small"), None).status, 200);
        assert!(
            begun.elapsed() < PROMPT,
            "stream {turn} took {:?}",
            begun.elapsed()
        );
    }
    assert_prompt(&mesh, "beside twenty stalled streams");
    drop(stalled);
}

//! A page of another origin in a real browser.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Exchange, Then};
use serde_json::json;

use super::chromium::Browser;

/// Answers a browser's WebSocket and sends back what it says (RFC 6455).
fn echo(exchange: &mut Exchange<'_>) -> Then {
    let key = exchange
        .head
        .header("sec-websocket-key")
        .unwrap()
        .to_owned();
    let text = key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let hash = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let accept = STANDARD.encode(hash);
    exchange.write(format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").as_bytes());
    let frame = exchange.read_some();
    if let [0x81, length, rest @ ..] = frame.as_slice()
        && let Some((mask, data)) = rest.split_at_checked(4)
    {
        let plain = data
            .iter()
            .zip(mask.iter().cycle())
            .map(|(byte, mask)| byte ^ mask);
        let answer: Vec<u8> = [0x81, length & 0x7f].into_iter().chain(plain).collect();
        exchange.write(&answer);
    }
    exchange.wait_for_close();
    Then::Close
}

#[test]
fn a_page_of_another_origin_fetches_reads_refusals_streams_and_opens_a_websocket() {
    let Some(mut browser) = Browser::start(include_str!("browser.py")) else {
        return;
    };
    let origin = browser.read()["origin"].as_str().unwrap().to_owned();
    let mesh = TestMesh::new()
        .fields(json!({
            "cors": {"origins": [origin]}, "ws_token": true,
            "allow": [{"methods": ["GET"], "path": "/**"}],
        }))
        .start();
    mesh.plugin.on("/ws", echo);
    mesh.plugin.on("/events", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\nb\r\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n");
        exchange.wait_for_close();
        Then::Close
    });
    let port = mesh.public().port();
    let seen = browser.wish(&json!({
        "gateway": format!("https://localhost:{port}"),
        "token": mesh.signer.token_of("7", "42"),
    }));
    assert_eq!(
        seen,
        json!({
            "ok": [200, true],
            "no_token": [401, "token_missing"],
            "bad_token": [401, "token_invalid"],
            "forbidden": [403, "forbidden"],
            "events": ["data: one", "data: two"],
            "websocket": ["app.v1", "hi"],
            "without_token": "closed",
        })
    );
    let opened = mesh.plugin.seen_at("/ws");
    assert_eq!(opened.len(), 1, "{opened:?}");
    assert_eq!(opened[0].header("x-user-id"), Some("7"));
    assert_eq!(opened[0].header("sec-websocket-protocol"), Some("app.v1"));
    assert_eq!(opened[0].header("authorization"), None);
}

//! The way to a plugin: which connection, for how long, and what is sent twice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gapura_tests::certs::{Certificate, Leaf};
use gapura_tests::h2::Http2;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use http::Request;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Behind an answer: the server says that it keeps the connection, and closes it all the same.
const CLOSES: &[u8] = b"CLOSES";

trait Both: Read + Write + Send {}
impl<T: Read + Write + Send> Both for T {}

/// A server by hand, which writes down what came on each of its connections.
struct ByHand {
    address: SocketAddr,
    came: Arc<Mutex<Vec<Vec<String>>>>,
}

impl ByHand {
    /// Answers each request as `answer` says for the connection and the request on it; nothing is a
    /// close.
    fn new(
        tls: Option<Arc<ServerConfig>>,
        answer: impl Fn(usize, usize) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let came: Arc<Mutex<Vec<Vec<String>>>> = Arc::default();
        let (known, answer) = (came.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for tcp in listener.incoming() {
                let Ok(tcp) = tcp else { return };
                let connection = {
                    let mut known = known.lock().unwrap();
                    known.push(Vec::new());
                    known.len() - 1
                };
                let (known, answer, tls) = (known.clone(), answer.clone(), tls.clone());
                std::thread::spawn(move || serve(tcp, tls, connection, &known, &*answer));
            }
        });
        Self { address, came }
    }

    fn came(&self) -> Vec<Vec<String>> {
        self.came.lock().unwrap().clone()
    }

    /// How many requests came whose head begins like this.
    fn count(&self, begins: &str) -> usize {
        let came = self.came();
        let heads = came.iter().flatten();
        heads.filter(|head| head.starts_with(begins)).count()
    }
}

fn serve(
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    connection: usize,
    came: &Mutex<Vec<Vec<String>>>,
    answer: &dyn Fn(usize, usize) -> Option<Vec<u8>>,
) {
    let mut io: Box<dyn Both> = match tls {
        None => Box::new(tcp),
        Some(config) => Box::new(StreamOwned::new(
            ServerConnection::new(config).unwrap(),
            tcp,
        )),
    };
    for request in 0.. {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            match io.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |value| value.parse().unwrap());
        let mut body = vec![0; length];
        if io.read_exact(&mut body).is_err() {
            return;
        }
        came.lock().unwrap()[connection].push(head);
        match answer(connection, request) {
            Some(bytes) => {
                let kept = bytes.strip_suffix(CLOSES);
                let sent = io.write_all(kept.unwrap_or(&bytes));
                if sent.and_then(|()| io.flush()).is_err() {
                    return;
                }
                if kept.is_some() {
                    drop(io);
                    came.lock().unwrap()[connection].push("closed".to_owned());
                    return;
                }
            }
            None => return,
        }
    }
}

/// TLS as a sidecar of an earlier day has it: no HTTP/2.
fn only_http1(own: &Certificate) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(own.chain_der(), own.key_der())
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// A mesh with one worker, and the plugin `name` beside its own, reached as `upstream` says.
fn mesh_with(name: &str, upstream: String, more: serde_json::Value) -> TestMesh {
    let mut fields = json!({"upstream": upstream, "auth_mode": "public"});
    if upstream.starts_with("http://") {
        fields["identity"] = serde_json::Value::Null; // it would be refused
    }
    for (key, value) in more.as_object().unwrap() {
        fields[key] = value.clone();
    }
    let mesh = TestMesh::new().one_worker();
    mesh.also(name, fields).start()
}

/// What was promised for a request that a silent upstream gets.
#[track_caller]
fn assert_in_time(mesh: &TestMesh, method: &str, body: Option<&str>) {
    let begun = Instant::now();
    let request = match body {
        Some(body) => mesh.post("/silent/x", body),
        None => mesh.request(method, "/silent/x"),
    };
    let refusal = request.token_of("7", "42").send();
    refusal.assert_refusal(504, "upstream_timeout", "gateway");
    let took = begun.elapsed();
    let promised = Duration::from_millis(500)..Duration::from_secs(5);
    assert!(promised.contains(&took), "{method}: {took:?}");
}

#[test]
fn an_upstream_that_accepts_and_stays_silent_is_504_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    for upstream in [format!("https://{at}"), format!("http://{at}")] {
        let mesh = mesh_with("silent", upstream, json!({"timeout_ms": 500}));
        assert_in_time(&mesh, "GET", None);
        assert_in_time(&mesh, "POST", Some("body"));
        // Bulk goes on a connection of its own.
        assert_in_time(&mesh, "POST", Some(&"a".repeat(1_100_000)));
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    }
}

#[test]
fn a_sidecar_that_offers_http1_alone_is_spoken_to_in_that() {
    let mesh = TestMesh::new().one_worker().start();
    let old = mesh.authority.issue(&Leaf::plugin("old"));
    let server = ByHand::new(Some(only_http1(&old)), |_, _| Some(OK.to_vec()));
    let upstream = format!("https://{}", server.address);
    let entry =
        json!({"name": "old", "mount": "/old", "upstream": upstream, "identity": "plugin/old"});
    mesh.write_registry("old", &mesh.entry(&entry));
    gapura_tests::eventually("it is routed to", || {
        let answer = mesh.get("/old/first").token_of("7", "42").send();
        (answer.status == 200).then_some(())
    });
    for _ in 0..3 {
        let answer = mesh.get("/old/x").token_of("7", "42").send();
        assert_eq!((answer.status, answer.text()), (200, "ok".to_owned()));
        let answer = mesh.post("/old/y", "body").token_of("7", "42").send();
        assert_eq!(answer.status, 200);
    }
    let came = server.came();
    assert_eq!(came.len(), 1, "one connection carries them: {came:#?}");
    let head = &came[0][1];
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("\r\nhost: localhost\r\n"), "{head}");
    assert!(head.contains("\r\nx-company-id: 42\r\n"), "{head}");
    // Who offers HTTP/1.1 alone still has to be who is wanted.
    let other =
        json!({"name": "old", "mount": "/old", "upstream": upstream, "identity": "plugin/other"});
    mesh.write_registry("old", &mesh.entry(&other));
    gapura_tests::eventually("it is refused", || {
        let answer = mesh.get("/old/x").token_of("7", "42").send();
        (answer.status == 502 && answer.json()["errors"]["code"] == "upstream_identity")
            .then_some(())
    });
}

#[test]
fn a_kept_connection_that_closes_in_the_moment_of_reuse_costs_no_get_and_repeats_no_post() {
    // Every connection serves one request and closes at the second, unanswered.
    let server = ByHand::new(None, |_, request| (request == 0).then(|| OK.to_vec()));
    let mesh = mesh_with("flaky", format!("http://{}", server.address), json!({}));
    let ask = |method: &str, path: &str| {
        let request = match method {
            "POST" => mesh.post(path, "body"),
            _ => mesh.request(method, path),
        };
        request.send()
    };
    assert_eq!(ask("GET", "/flaky/warm").status, 200);
    assert_eq!(ask("GET", "/flaky/again").status, 200);
    assert_eq!(
        server.count("GET /again "),
        2,
        "once in vain: {:#?}",
        server.came()
    );
    // The connection that served the last one is kept, and closes at this.
    ask("POST", "/flaky/once").assert_refusal(502, "upstream_unreachable", "gateway");
    assert_eq!(server.count("POST /once "), 1, "{:#?}", server.came());
    // A POST on a connection that is fresh goes through, and so does one after a connection that
    // had closed before.
    assert_eq!(ask("POST", "/flaky/fresh").status, 200);
    assert_eq!(server.count("POST /fresh "), 1);
}

/// What was asked for, and on which connection.
type Asked = Arc<Mutex<Vec<(usize, String)>>>;

/// A sidecar by hand over HTTP/2. On its first connection it answers one request, lets two more
/// come and goes without a word; on each later one it answers all. Out: where it is, and what it
/// was asked for, by connection.
fn sidecar_that_goes_once(own: &Certificate) -> (SocketAddr, Asked) {
    let mut config = Arc::into_inner(only_http1(own)).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let asked = Asked::default();
    let known = asked.clone();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            for connection in 0.. {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, known) = (acceptor.clone(), known.clone());
                tokio::spawn(async move {
                    let tls = acceptor.accept(tcp).await.unwrap();
                    let mut http2 = h2::server::handshake(tls).await.unwrap();
                    let (mut count, mut unanswered) = (0, Vec::new());
                    while let Some(Ok((request, mut respond))) = http2.accept().await {
                        let what = format!("{} {}", request.method(), request.uri().path());
                        known.lock().unwrap().push((connection, what));
                        count += 1;
                        if connection > 0 || count == 1 {
                            let _ = respond.send_response(http::Response::new(()), true);
                        } else if count == 4 {
                            return;
                        } else {
                            unanswered.push(respond); // dropped, it would reset its stream
                        }
                    }
                });
            }
        });
    });
    (address, asked)
}

#[test]
fn what_a_shared_connection_loses_goes_again_once_if_it_may_be_done_twice() {
    let mesh = TestMesh::new().one_worker().start();
    let (address, asked) = sidecar_that_goes_once(&mesh.authority.issue(&Leaf::plugin("goes")));
    let upstream = format!("https://{address}");
    let entry =
        json!({"name": "goes", "mount": "/goes", "upstream": upstream, "identity": "plugin/goes"});
    mesh.write_registry("goes", &mesh.entry(&entry));
    gapura_tests::eventually("it is routed to", || {
        let first = mesh.get("/goes/first").token_of("7", "42").send();
        (first.status == 200).then_some(())
    });
    let (mesh, asked) = (&mesh, &asked);
    std::thread::scope(|scope| {
        let ask = |method: &'static str, path: &'static str| {
            scope.spawn(move || mesh.request(method, path).token_of("7", "42").send())
        };
        let lost = [
            ask("GET", "/goes/a"),
            ask("DELETE", "/goes/b"),
            ask("POST", "/goes/c"),
        ];
        let [get, delete, post] = lost.map(|asked| asked.join().unwrap());
        assert_eq!((get.status, delete.status), (200, 200));
        post.assert_refusal(502, "upstream_unreachable", "gateway");
    });
    let asked = asked.lock().unwrap().clone();
    for (what, times) in [("GET /a", 2), ("DELETE /b", 2), ("POST /c", 1)] {
        let came = asked.iter().filter(|(_, asked)| asked == what).count();
        assert_eq!(came, times, "{what}: {asked:?}");
    }
    assert!(
        asked.iter().all(|(connection, _)| *connection < 2),
        "{asked:?}"
    );
}

#[test]
fn a_get_that_is_lost_twice_is_not_tried_for_ever() {
    let server = ByHand::new(None, |connection, request| {
        (connection == 0 && request == 0).then(|| OK.to_vec())
    });
    let mesh = mesh_with("gone", format!("http://{}", server.address), json!({}));
    assert_eq!(mesh.get("/gone/warm").send().status, 200);
    let refusal = mesh.get("/gone/x").send();
    refusal.assert_refusal(502, "upstream_unreachable", "gateway");
    assert_eq!(server.count("GET /x "), 2, "{:#?}", server.came());
}

#[test]
fn a_connection_that_was_closed_while_it_idled_costs_nobody_a_request() {
    let server = ByHand::new(None, |_, _| Some([OK, CLOSES].concat()));
    let mesh = mesh_with("kept", format!("http://{}", server.address), json!({}));
    for turn in 1..=5 {
        assert_eq!(mesh.post("/kept/x", "body").send().status, 200);
        gapura_tests::eventually("it has closed", || {
            (server.count("closed") == turn).then_some(())
        });
    }
    assert_eq!(server.count("POST /x "), 5, "none twice");
}

#[test]
fn nonsense_is_upstream_protocol() {
    for nonsense in [
        &b"HTTP/1.1 2x0 OK\r\n\r\n"[..],
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ] {
        let server = ByHand::new(None, move |_, _| Some(nonsense.to_vec()));
        let mesh = mesh_with("odd", format!("http://{}", server.address), json!({}));
        let refusal = mesh.get("/odd/x").send();
        refusal.assert_refusal(502, "upstream_protocol", "gateway");
        let seen = server.count("GET /x ");
        assert_eq!(seen, 1, "{}", String::from_utf8_lossy(nonsense));
    }
}

#[test]
fn the_length_of_an_answer_goes_on_in_our_own_writing() {
    let mesh = TestMesh::new().start();
    let padded = b"HTTP/1.1 200 OK\r\nContent-Length: 0002\r\n\r\nok";
    mesh.plugin.answer_raw("/padded", padded, Then::Keep);
    let list = b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok";
    mesh.plugin.answer_raw("/list", list, Then::Close);
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let token = mesh.signer.token_of("7", "42");
    let mut get = |path: &str| {
        let request = Request::get(format!("https://localhost/echo{path}"))
            .header("authorization", format!("Bearer {token}"));
        client.exchange(request.body(()).unwrap(), None)
    };
    let answer = get("/padded");
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(answer.all("content-length"), ["2"]);
    get("/list").assert_refusal(502, "upstream_protocol", "sidecar");
}

#[test]
fn a_client_that_breaks_off_its_upload_is_never_a_502() {
    let server = ByHand::new(None, |_, _| Some(OK.to_vec()));
    let plain = format!("http://{}", server.address);
    let mesh = mesh_with("plain", plain, json!({}));
    let auth = mesh.authorization("7", "42");
    let mut paths = Vec::new();
    for mount in ["echo", "plain"] {
        for (at, (framing, part)) in [
            ("Content-Length: 10", "12345"),
            ("Content-Length: 2000000", "12345"),
            ("Transfer-Encoding: chunked", "5\r\n12345\r\n"),
            ("Transfer-Encoding: chunked", "5\r\n12345\r\nxyz\r\n"),
        ]
        .into_iter()
        .enumerate()
        {
            let path = format!("/{mount}/{at}");
            let mut wire = mesh.connect();
            wire.send(format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{auth}{framing}\r\n\r\n{part}"
            ));
            drop(wire);
            paths.push(path);
        }
    }
    for path in paths {
        let line = mesh.gateway.wait_for_line(&path, |line| {
            line["event"] == "request" && line["path"] == path.as_str()
        });
        let status = line["status"].as_u64().unwrap();
        assert!((400..500).contains(&status), "{line}");
    }
}

#[test]
fn a_reload_that_reaches_the_plugin_as_before_keeps_its_connections() {
    let server = ByHand::new(None, |_, _| Some(OK.to_vec()));
    let plain = format!("http://{}", server.address);
    let mesh = mesh_with("plain", plain.clone(), json!({}));
    assert_eq!(mesh.get("/plain/x").send().status, 200);
    let mut entry = mesh.entry(&json!({
        "name": "plain", "mount": "/plain", "upstream": plain, "auth_mode": "public",
        "inject_headers": {"x-plugin-turn": "second"},
    }));
    entry.as_object_mut().unwrap().remove("identity");
    mesh.write_registry("plain", &entry);
    gapura_tests::eventually("the new file is in force", || {
        assert_eq!(mesh.get("/plain/x").send().status, 200);
        (server
            .came()
            .iter()
            .flatten()
            .any(|head| head.contains("x-plugin-turn: second")))
        .then_some(())
    });
    assert_eq!(server.came().len(), 1, "on one connection");
    // Elsewhere is another cluster, and the old connection goes.
    let elsewhere = ByHand::new(None, |_, _| Some(OK.to_vec()));
    entry["upstream"] = json!(format!("http://{}", elsewhere.address));
    mesh.write_registry("plain", &entry);
    gapura_tests::eventually("it is asked elsewhere", || {
        assert_eq!(mesh.get("/plain/x").send().status, 200);
        (elsewhere.count("GET /x ") > 0).then_some(())
    });
}

#[test]
fn a_sidecar_that_refuses_the_gateway_is_a_matter_of_identity_for_bulk_too() {
    let mesh = TestMesh::new().one_worker().start();
    let bulk = || mesh.post("/echo/upload", vec![b'a'; 1_100_000]);
    assert_eq!(bulk().token_of("7", "42").send().status, 200);
    let refusing = mesh
        .authority
        .files_for(&mesh.sidecar_cert)
        .with_crl(Some(mesh.authority.crl(&[&mesh.gateway_cert])));
    mesh.sidecar_dir.publish(&refusing);
    gapura_tests::within(Duration::from_secs(10), "the sidecar refuses", || {
        let answer = bulk().token_of("7", "42").send();
        (answer.status != 200 && answer.json()["errors"]["code"] == "upstream_identity")
            .then_some(())
    });
    let answer = mesh.get("/echo/x").token_of("7", "42").send();
    answer.assert_refusal(502, "upstream_identity", "gateway");
}

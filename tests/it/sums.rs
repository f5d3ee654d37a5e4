//! What is held for clients is bounded in all, and the limits of the containers follow from that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gapura_tests::h2::{Answer, Frames, Http2};
use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::{Gate, Then};
use gapura_tests::wire::Wire;
use http::Request;
use serde_json::json;

pub(crate) const MIB: usize = 1 << 20;
/// Ten times what somebody else's answer may take.
const SOON: Duration = Duration::from_secs(5);
const EVERYTHING: u32 = (1 << 31) - 1;

/// With a second plugin behind the same programs.
fn mesh() -> Builder {
    TestMesh::new().also("other", json!({}))
}

/// A plugin that answers `/mib` with a mebibyte.
fn with_mebibytes(mesh: TestMesh) -> TestMesh {
    mesh.plugin.on("/mib", |exchange| {
        exchange.answer("200 OK", "", &vec![0x55; MIB]);
        Then::Keep
    });
    for _ in 0..20 {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    }
    mesh
}

/// A client that asks for a hundred mebibytes at a time and reads none of them.
pub(crate) struct Stalled {
    _client: Http2,
    _answers: Vec<Answer>,
}

pub(crate) fn stalled(mesh: &TestMesh) -> Stalled {
    let tls = mesh.client_tls(&["h2"]);
    // As little of each as there may be, and as many as there may be.
    let mut client = Http2::connect(mesh.public(), &tls, 1);
    let token = mesh.signer.token_of("7", "42");
    let open: Vec<_> = (0..100)
        .map(|_| {
            let request = Request::get("https://localhost/echo/mib")
                .header("authorization", format!("Bearer {token}"));
            client.open(request.body(()).unwrap(), true)
        })
        .collect();
    // Some are refused, once it holds more than its share.
    let answers = open.into_iter().filter_map(|open| open.try_answer().ok());
    Stalled {
        _answers: answers.collect(),
        _client: client,
    }
}

#[track_caller]
fn assert_prompt(mesh: &TestMesh, what: &str) {
    for _ in 0..10 {
        let begun = Instant::now();
        // Another plugin: the places of the first are all taken, which is told apart from what is
        // held.
        assert_eq!(
            mesh.get("/other/x").token_of("7", "42").send().status,
            200,
            "{what}"
        );
        assert!(begun.elapsed() < SOON, "{what}: {:?}", begun.elapsed());
    }
}

/// In KiB: the gateway's and the sidecar's growth since `before`.
fn grown(mesh: &TestMesh, before: [u64; 2]) -> [u64; 2] {
    let now = [&mesh.gateway, &mesh.sidecar].map(|program| program.peak_kib());
    [
        now[0].saturating_sub(before[0]),
        now[1].saturating_sub(before[1]),
    ]
}

#[test]
fn clients_that_read_nothing_cost_one_sum_and_not_one_each() {
    let mesh = with_mebibytes(mesh().start());
    let before = [&mesh.gateway, &mesh.sidecar].map(|program| {
        program.forget_peak();
        program.resident_kib()
    });
    let all: Vec<Stalled> = (0..8).map(|_| stalled(&mesh)).collect();
    assert_prompt(&mesh, "beside eight clients that read nothing");
    let grown = grown(&mesh, before);
    // 32 MiB of streams, what the allocator takes beside them, and a piece under way of each.
    for grown in grown {
        assert!(
            grown < 96 * 1024,
            "{grown:?} KiB for eight hundred mebibytes"
        );
    }
    drop(all);
    assert_prompt(&mesh, "after them");
}

/// A client that asks over HTTP/2 for all it can get, and never reads a byte from its socket again.
pub(crate) fn deaf(mesh: &TestMesh) -> Frames {
    let mut frames = Frames::silent(mesh.public(), &mesh.client_tls(&["h2"]));
    frames.keep_little();
    let token = format!("Bearer {}", mesh.signer.token_of("7", "42"));
    frames.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    // Windows without a limit: SETTINGS_INITIAL_WINDOW_SIZE, and the connection's.
    frames.send(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]);
    frames.send(8, 0, 0, &[0x7f, 0xf0, 0, 0]);
    for stream in 0..40_u32 {
        let head = [
            (":method", "GET"),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", "/echo/mib"),
            ("authorization", token.as_str()),
        ];
        frames.head(stream * 2 + 1, &head, true);
    }
    frames
}

#[test]
fn what_clients_do_not_take_is_in_the_sum_over_either_http_and_the_heaviest_end() {
    // The budget of a container of 8 MiB a worker: a mebibyte is soon too much.
    let Some(group) = Group::new("untaken", 96 * MIB) else {
        println!("skipped: no control group can be made here");
        return;
    };
    let many = json!({"max_in_flight": 4000});
    let mesh = mesh()
        .fields(many)
        .one_worker()
        .invocations(|program, name| {
            if name == "gateway" {
                program.group(&group.0)
            } else {
                program
            }
        });
    let mut mesh = with_mebibytes(mesh.start());
    let auth = mesh.authorization("7", "42");
    let mut over_http2: Vec<Frames> = (0..60).map(|_| deaf(&mesh)).collect();
    let mut over_http1: Vec<Wire> = (0..60).map(|_| mesh.connect()).collect();
    for wire in &mut over_http1 {
        wire.keep_little();
        for _ in 0..40 {
            let _ = wire.try_send(format!(
                "GET /echo/mib HTTP/1.1\r\nHost: localhost\r\n{auth}\r\n"
            ));
        }
    }
    assert_prompt(&mesh, "beside clients that take nothing");
    let line = gapura_tests::within(
        Duration::from_secs(60),
        "who holds most is told to go",
        || {
            let log = mesh.gateway.log();
            log.into_iter().find(|line| line["event"] == "untaken")
        },
    );
    assert_eq!(line["peer"], "127.0.0.1", "{line}");
    assert!(mesh.gateway.runs(), "it lives within its limit");
    println!("peak: {:?} of 96 MiB", group.peak_mib());
    drop((over_http2.drain(..), over_http1.drain(..)));
    assert_prompt(&mesh, "after them");
    drop(mesh);
}

/// A control group with this much memory, gone with the value; none where this machine has no such
/// thing for us.
pub(crate) struct Group(pub(crate) PathBuf);

impl Group {
    pub(crate) fn new(name: &str, bytes: usize) -> Option<Self> {
        let name = format!("gapura-test-{}-{name}", std::process::id());
        let found = [
            ("/sys/fs/cgroup", "memory.max"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ];
        found.iter().find_map(|(root, limit)| {
            let group = Self(Path::new(root).join(&name));
            fs::create_dir(&group.0).ok()?;
            fs::write(group.0.join(limit), bytes.to_string()).ok()?;
            // With swap the limit would be none.
            let _ = fs::write(group.0.join("memory.swap.max"), "0");
            let _ = fs::write(
                group.0.join("memory.memsw.limit_in_bytes"),
                bytes.to_string(),
            );
            group.0.join("cgroup.procs").exists().then_some(group)
        })
    }

    /// The most that was ever used, in MiB, where the kernel says it.
    pub(crate) fn peak_mib(&self) -> Option<u64> {
        let files = ["memory.peak", "memory.max_usage_in_bytes"];
        let text = files
            .iter()
            .find_map(|file| fs::read_to_string(self.0.join(file)).ok())?;
        Some(text.trim().parse::<u64>().ok()? >> 20)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let until = Instant::now() + Duration::from_secs(10);
        while fs::remove_dir(&self.0).is_err() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20)); // until the last process has left it
        }
    }
}

#[test]
fn both_programs_live_within_the_memory_of_their_containers() {
    // As compose/.env has it.
    let groups = (
        Group::new("gateway", 256 * MIB),
        Group::new("sidecar", 64 * MIB),
    );
    let (Some(gateway), Some(sidecar)) = groups else {
        println!("skipped: no control group can be made here");
        return;
    };
    let mesh = mesh().invocations(|program, name| {
        program.group(if name == "gateway" {
            &gateway.0
        } else {
            &sidecar.0
        })
    });
    let mut mesh = with_mebibytes(mesh.start());
    let idle: Vec<Wire> = (0..500).map(|_| Wire::plain(mesh.public())).collect();
    let mut all = Vec::new();
    for turn in 0..10 {
        all.push(stalled(&mesh));
        assert_prompt(
            &mesh,
            &format!("beside {} clients that read nothing", turn + 1),
        );
    }
    let auth = mesh.authorization("7", "42");
    let mut uploads: Vec<Wire> = (0..60).map(|_| mesh.connect()).collect();
    for wire in &mut uploads {
        wire.send(format!(
            "POST /echo/up HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n"
        ));
    }
    assert_prompt(&mesh, "beside uploads without an end");
    assert!(mesh.gateway.runs() && mesh.sidecar.runs());
    println!(
        "peak: gateway {:?} of 256 MiB, sidecar {:?} of 64 MiB",
        gateway.peak_mib(),
        sidecar.peak_mib()
    );
    drop((idle, all, uploads));
    assert_prompt(&mesh, "after all of them");
    drop(mesh);
}

#[test]
fn uploads_without_a_length_share_a_connection_until_they_prove_large() {
    let mesh = TestMesh::new().one_worker().start();
    let gate = Gate::new();
    let held = gate.clone();
    mesh.plugin.on("/up", move |exchange| {
        let _ = held.wait();
        exchange.read_body();
        exchange.answer("200 OK", "", b"up");
        Then::Keep
    });
    let tls = mesh.client_tls(&["h2"]);
    let token = mesh.signer.token_of("7", "42");
    let mut clients: Vec<Http2> = (0..2)
        .map(|_| Http2::connect(mesh.public(), &tls, 1 << 20))
        .collect();
    let mut open = Vec::new();
    for client in &mut clients {
        for _ in 0..40 {
            let request = Request::post("https://localhost/echo/up")
                .header("authorization", format!("Bearer {token}"));
            let mut upload = client.open(request.body(()).unwrap(), false);
            upload.data(b"small", false);
            open.push(upload);
        }
    }
    gapura_tests::eventually("all are under way", || {
        (mesh.plugin.seen_at("/up").len() == 80).then_some(())
    });
    let hops = mesh.metric(&mesh.sidecar, "gapura_connections{side=\"hop\"}");
    assert!(hops <= 2.0, "{hops} connections for eighty small uploads");
    gate.open();
    for mut upload in open {
        upload.data(b" end", true);
        assert_eq!(upload.answer().whole().text(), "up");
    }
    // A large one has a connection to itself, and comes whole.
    let request = Request::post("https://localhost/echo/up")
        .header("authorization", format!("Bearer {token}"));
    let mut upload = clients[0].open(request.body(()).unwrap(), false);
    upload.data(&vec![0x41; 2 * MIB], true);
    assert_eq!(upload.answer().whole().text(), "up");
    let large = mesh
        .plugin
        .wait_for("the large one", |seen| seen.body_length == 2 * MIB as u64);
    assert!(large.complete);
}

#[test]
fn an_upload_that_proves_large_on_its_way_has_its_connection_to_itself_from_then_on() {
    let mesh = TestMesh::new().one_worker().start();
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let token = mesh.signer.token_of("7", "42");
    let request = Request::post("https://localhost/echo/up")
        .header("authorization", format!("Bearer {token}"));
    let mut upload = client.open(request.body(()).unwrap(), false);
    upload.data(b"small", false);
    gapura_tests::eventually("it is under way", || {
        (!mesh.plugin.seen_at("/up").is_empty()).then_some(())
    });
    let hops = || mesh.metric(&mesh.sidecar, "gapura_connections{side=\"hop\"}");
    let ask = || assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    ask();
    let before = hops();
    upload.data(&vec![0x41; 3 * MIB], false);
    gapura_tests::eventually("what comes next has another connection", || {
        ask();
        (hops() > before).then_some(())
    });
    upload.data(b" end", true);
    assert_eq!(upload.answer().whole().status, 200);
    let length = 3 * MIB as u64 + 9;
    let whole = mesh
        .plugin
        .wait_for("all of it", |seen| seen.body_length == length);
    assert!(whole.complete);
    gapura_tests::eventually("it is one connection again", || {
        ask();
        (hops() <= before).then_some(())
    });
}

#[test]
fn connections_for_bulk_are_bounded_for_each_plugin() {
    let many = json!({"max_in_flight": 1000});
    let mesh = mesh().fields(many).start();
    mesh.plugin.on("/bulk", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let tls = mesh.client_tls(&["h2"]);
    let token = mesh.signer.token_of("7", "42");
    let mut clients: Vec<Http2> = (0..4)
        .map(|_| Http2::connect(mesh.public(), &tls, EVERYTHING))
        .collect();
    let mut open = Vec::new();
    for client in &mut clients {
        for _ in 0..80 {
            let request = Request::post("https://localhost/echo/bulk")
                .header("authorization", format!("Bearer {token}"))
                .header("content-length", "10000000");
            open.push(client.open(request.body(()).unwrap(), false));
        }
    }
    gapura_tests::eventually("what is too much is refused", || {
        let refused = mesh.metric(
            &mesh.gateway,
            "gapura_rejections_total{code=\"overloaded\"}",
        );
        (refused >= 64.0).then_some(())
    });
    let hops = mesh.metric(&mesh.sidecar, "gapura_connections{side=\"hop\"}");
    assert!(hops <= 260.0, "{hops}");
    assert_prompt(&mesh, "beside them");
}

#[test]
fn a_body_that_comes_or_goes_too_slowly_ends_and_a_stream_of_events_does_not() {
    let mesh = TestMesh::new().gateway_flag("--body-rate", "240").start();
    let auth = mesh.authorization("7", "42");
    let upload = |kind: &str| {
        let mut wire = mesh.connect();
        wire.send(format!(
            "POST /echo/slow HTTP/1.1\r\nHost: localhost\r\n{auth}Content-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
        ));
        wire
    };
    let (mut slow, mut grpc) = (upload("text/plain"), upload("application/grpc"));
    let begun = Instant::now();
    let ended = loop {
        std::thread::sleep(Duration::from_millis(500)); // so slow is what is tested
        let _ = grpc.try_send("1\r\na\r\n");
        if slow.try_send("1\r\na\r\n").is_err() || !slow.is_silent_for(Duration::from_millis(1)) {
            break begun.elapsed();
        }
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "it is never too slow"
        );
    };
    assert!(ended > Duration::from_secs(25), "{ended:?}");
    slow.response()
        .assert_refusal(408, "request_timeout", "gateway");
    grpc.send("0\r\n\r\n");
    assert_eq!(grpc.response().status, 200);
}

#[test]
fn over_http2_a_fast_stream_excuses_no_slow_one_beside_it() {
    let mesh = TestMesh::new().gateway_flag("--body-rate", "240").start();
    let token = mesh.signer.token_of("7", "42");
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let mut upload = |path: &str| {
        let request = Request::post(format!("https://localhost{path}"))
            .header("authorization", format!("Bearer {token}"));
        client.open(request.body(()).unwrap(), false)
    };
    let (mut slow, mut fast) = (upload("/echo/slow"), upload("/echo/fast"));
    let code = || {
        let log = mesh.gateway.log();
        let line = log.into_iter().find(|line| line["path"] == "/echo/slow");
        line.map(|line| line["code"].clone())
    };
    let begun = Instant::now();
    let code = loop {
        std::thread::sleep(Duration::from_millis(500)); // so slow is what is tested
        fast.data(&[b'a'; 4096], false);
        if let Some(code) = code() {
            break code;
        }
        slow.data(b"a", false);
        assert!(
            begun.elapsed() < Duration::from_secs(300),
            "it is never too slow"
        );
    };
    assert!(
        begun.elapsed() > Duration::from_secs(25),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(code, "request_timeout");
    slow.answer()
        .whole()
        .assert_refusal(408, "request_timeout", "gateway");
    fast.data(b"end", true);
    assert_eq!(fast.answer().whole().status, 200);
}

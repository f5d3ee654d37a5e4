//! Several instances of one plugin: who gets the next request, who gets none, and what goes again
//! elsewhere.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::{Plugin, Then};
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::Response;
use gapura_tests::{eventually, within};
use serde_json::{Value, json};

/// A further instance: a sidecar, and a plugin of its own behind it.
struct Another {
    sidecar: Program,
    plugin: Plugin,
}

impl Another {
    fn start(mesh: &TestMesh) -> Self {
        let plugin = Plugin::tcp();
        let mut sidecar = Invocation::new()
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin", plugin.url())
            .flag("--mesh-dir", mesh.sidecar_dir.path())
            .flag("--admin", "127.0.0.1:0")
            .flag("--workers", "1")
            .start("gapura-sidecar");
        sidecar.wait_until_started();
        Self { sidecar, plugin }
    }

    fn hop(&self) -> SocketAddr {
        self.sidecar.address("hop")
    }
}

/// Puts these instances in the place of the mesh's one, and waits until they are in force.
fn spread(mesh: &TestMesh, upstream: &Value, more: &Value) {
    let mut changes = more.clone();
    changes["upstream"] = upstream.clone();
    mesh.write_registry("echo", &mesh.entry(&changes));
    let wanted = upstream.as_array().unwrap().len();
    eventually("the instances are in force", || {
        (instances(mesh).len() == wanted).then_some(())
    });
}

/// The mesh's own instance and another.
fn two(mesh: &TestMesh, more: &Value) -> Another {
    let another = Another::start(mesh);
    let upstream = json!([url(mesh.hop()), url(another.hop())]);
    spread(mesh, &upstream, more);
    another
}

fn url(at: SocketAddr) -> String {
    format!("https://{at}")
}

/// What the operator's side tells of the plugin's instances.
fn instances(mesh: &TestMesh) -> Vec<Value> {
    let page = mesh.admin(&mesh.gateway, "/plugins").json();
    page["plugins"][0]["instances"].as_array().unwrap().clone()
}

fn is_healthy(mesh: &TestMesh, at: SocketAddr) -> bool {
    let series = format!("gapura_upstream_healthy{{plugin=\"echo\",instance=\"{at}\"}}");
    mesh.metric(&mesh.gateway, &series) > 0.5
}

fn get(mesh: &TestMesh, path: &str) -> Response {
    mesh.get(path).token_of("7", "42").send()
}

/// How many of `count` GETs came to each of the two plugins; all of them have to be answered.
#[track_caller]
fn shares(mesh: &TestMesh, other: &Plugin, path: &str, count: usize) -> (usize, usize) {
    let before = (mesh.plugin.seen_at(path).len(), other.seen_at(path).len());
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    for _ in 0..count {
        wire.get(&format!("/echo{path}"), &auth);
        assert_eq!(wire.response().status, 200);
    }
    let after = (mesh.plugin.seen_at(path).len(), other.seen_at(path).len());
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_killed_sidecar_costs_no_get_and_runs_no_post_twice() {
    let mesh = TestMesh::new().start();
    let mut another = two(&mesh, &json!({}));
    let (stop, posts, gets) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    let refused = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let mut wire = mesh.connect();
                let auth = mesh.authorization("7", "42");
                while !stop.load(Ordering::SeqCst) {
                    wire.get("/echo/read", &auth);
                    let answer = wire.response();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    gets.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let id = posts.fetch_add(1, Ordering::SeqCst);
                    let answer = mesh
                        .post(&format!("/echo/write/{id}/"), "x")
                        .token_of("7", "42");
                    if answer.send().status != 200 {
                        refused.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
        let count = || gets.load(Ordering::SeqCst);
        eventually("there is load", || (count() > 200).then_some(()));
        another.sidecar.signal("KILL");
        let _ = another.sidecar.wait_for_end(Duration::from_secs(10));
        let killed = count();
        eventually("it goes on", || (count() > killed + 200).then_some(()));
        stop.store(true, Ordering::SeqCst);
    });
    let mut runs: BTreeMap<String, usize> = BTreeMap::new();
    for seen in [
        mesh.plugin.seen_at("/write/"),
        another.plugin.seen_at("/write/"),
    ]
    .concat()
    {
        *runs.entry(seen.target).or_default() += 1;
    }
    let twice: Vec<_> = runs.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(runs.len() > 10, "{} ran", runs.len());
    assert!(
        !another.plugin.seen_at("/read").is_empty(),
        "it had a share"
    );
    // Three clients were posting: no more than that can have been lost with it.
    let refused = refused.load(Ordering::SeqCst);
    assert!(refused <= 3, "{refused} POSTs were lost");
}

#[test]
fn a_hanging_instance_gets_nothing_more_once_nobody_is_heard_of_it() {
    // Each worker learns of it by what it has sent there itself.
    let mesh = TestMesh::new().one_worker().start();
    let another = two(&mesh, &json!({"timeout_ms": 4000}));
    eventually("both have a share, where one begins slowly", || {
        let (own, other) = shares(&mesh, &another.plugin, "/before", 100);
        (own > 20 && other > 20).then_some(())
    });
    another.sidecar.signal("STOP");
    let begun = Instant::now();
    // Whoever was sent there waits; with each of them it becomes clearer that nobody answers.
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| get(&mesh, "/echo/while"));
        }
        while begun.elapsed() < Duration::from_secs(2) {
            let _ = is_healthy(&mesh, another.hop());
        }
        for _ in 0..50 {
            let begun = Instant::now();
            assert_eq!(get(&mesh, "/echo/then").status, 200);
            assert!(
                begun.elapsed() < Duration::from_secs(2),
                "{:?}",
                begun.elapsed()
            );
        }
    });
    another.sidecar.signal("CONT");
}

#[test]
fn a_resetting_instance_costs_no_request_and_is_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let tried = Arc::new(AtomicUsize::new(0));
    let counted = tried.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let mesh = TestMesh::new().start();
    // Who balances leaves it alone soon, so that it is the probes that tell.
    let health = json!({"health": {"interval_ms": 100}});
    spread(&mesh, &json!([url(mesh.hop()), url(at)]), &health);
    eventually("it is out", || {
        assert_eq!(get(&mesh, "/echo/x").status, 200);
        let posted = mesh.post("/echo/y", "x").token_of("7", "42").send();
        assert_eq!(posted.status, 200, "nothing of it was sent there");
        (!is_healthy(&mesh, at)).then_some(())
    });
    assert!(is_healthy(&mesh, mesh.hop()));
    let line = mesh.gateway.wait_for_event("instance_out");
    assert_eq!(line["instance"], at.to_string().as_str());
    assert!(tried.load(Ordering::SeqCst) > 0, "it was tried");
    for _ in 0..100 {
        assert_eq!(get(&mesh, "/echo/x").status, 200);
    }
}

/// A listener that takes each connection as `take` says, with the count of them.
fn taking(mut take: impl FnMut(TcpStream) + Send + 'static) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = taken.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counted.fetch_add(1, Ordering::SeqCst);
            take(stream);
        }
    });
    (at, taken)
}

/// Carries bytes both ways until either end has no more.
fn carry(stream: TcpStream, to: SocketAddr) {
    let Ok(other) = TcpStream::connect(to) else {
        return;
    };
    for (mut from, mut to) in [
        (stream.try_clone().unwrap(), other.try_clone().unwrap()),
        (other, stream),
    ] {
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
        });
    }
}

#[test]
fn five_failures_in_a_row_take_an_instance_out_four_do_not_and_one_good_answer_brings_it_back() {
    let mesh = TestMesh::new().one_worker().start();
    let hop = mesh.hop();
    let is_well = Arc::new(AtomicBool::new(false));
    let instance = || {
        let is_well = is_well.clone();
        taking(move |stream| {
            if is_well.load(Ordering::SeqCst) {
                carry(stream, hop);
            }
        })
    };
    let ((one, at_one), (other, at_other)) = (instance(), instance());
    let tried = || [&at_one, &at_other].map(|count| count.load(Ordering::SeqCst));
    // Nobody asks them how they are: requests alone tell.
    let entry = json!({
        "health": false, "retry": {"attempts": 1}, "upstream": [url(one), url(other)],
    });
    mesh.write_registry("echo", &mesh.entry(&entry));
    eventually("both are known", || {
        (instances(&mesh).len() == 2).then_some(())
    });
    let out = |mesh: &TestMesh| {
        let out = instances(mesh)
            .into_iter()
            .map(|one| one["out_for"].clone());
        out.collect::<Vec<_>>()
    };
    for turn in 1..=4 {
        let refused = get(&mesh, "/echo/x");
        refused.assert_refusal(502, "upstream_unreachable", "gateway");
        assert_eq!(tried(), [turn, turn], "each was tried once");
    }
    assert_eq!(out(&mesh), [json!([]), json!([])], "four are not enough");
    get(&mesh, "/echo/x").assert_refusal(502, "upstream_unreachable", "gateway");
    assert_eq!(tried(), [5, 5]);
    assert_eq!(out(&mesh), [json!(["failures"]), json!(["failures"])]);
    assert!(!is_healthy(&mesh, one) && !is_healthy(&mesh, other));
    let line = mesh.gateway.wait_for_event("instance_out");
    assert_eq!(line["reason"], "failures");
    get(&mesh, "/echo/x").assert_refusal(503, "upstream_unavailable", "gateway");
    // One request at a time finds out whether one is back.
    is_well.store(true, Ordering::SeqCst);
    eventually("one is back", || {
        (get(&mesh, "/echo/x").status == 200).then_some(())
    });
    eventually("so is the other", || {
        assert_eq!(get(&mesh, "/echo/x").status, 200);
        (is_healthy(&mesh, one) && is_healthy(&mesh, other)).then_some(())
    });
}

#[test]
fn an_instance_that_takes_connections_and_shakes_no_hands_holds_a_request_for_a_moment_only() {
    let mesh = TestMesh::new().one_worker().start();
    let mut kept = Vec::new();
    let (at, taken) = taking(move |stream| kept.push(stream));
    let fields = json!({"health": false});
    spread(&mesh, &json!([url(mesh.hop()), url(at)]), &fields);
    let begun = Instant::now();
    eventually("it was tried", || {
        let asked = Instant::now();
        assert_eq!(get(&mesh, "/echo/x").status, 200);
        // Even what may not be done twice: nothing of it was sent.
        let posted = mesh.post("/echo/y", "x").token_of("7", "42").send();
        assert_eq!(posted.status, 200);
        // The promise is a second for each; a handshake may take ten.
        assert!(
            asked.elapsed() < Duration::from_secs(8),
            "{:?}",
            asked.elapsed()
        );
        (taken.load(Ordering::SeqCst) > 0).then_some(())
    });
    // It is left alone from then on.
    for _ in 0..100 {
        assert_eq!(get(&mesh, "/echo/x").status, 200);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    // The twin: one that is slow to shake hands, and the only one, is waited for.
    let hop = mesh.hop();
    let slow = taking(move |stream| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2500)); // slower than connecting may be
            carry(stream, hop);
        });
    });
    spread(&mesh, &json!([url(slow.0)]), &fields);
    assert_eq!(get(&mesh, "/echo/slow").status, 200);
}

#[test]
fn a_half_answering_instance_loses_its_share_though_its_heads_are_good() {
    let mesh = TestMesh::new().start();
    let another = two(&mesh, &json!({}));
    another.plugin.on("/half", |exchange| {
        exchange.read_body();
        exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        Then::Close
    });
    let broken = |path: &str| {
        let mut wire = mesh.connect();
        wire.get(path, &mesh.authorization("7", "42"));
        wire.try_response("GET").is_err()
    };
    eventually("both have a share, where one begins slowly", || {
        let (own, other) = shares(&mesh, &another.plugin, "/before", 100);
        (own > 20 && other > 20).then_some(())
    });
    within(
        Duration::from_secs(20),
        "its share goes to the other",
        || {
            let failed = (0..20).filter(|_| broken("/echo/half")).count();
            (failed <= 4).then_some(())
        },
    );
}

#[test]
fn with_all_of_several_out_it_is_503_and_a_sole_one_is_tried_again_and_again() {
    let dead = || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let mesh = TestMesh::new().start();
    let (one, other) = (dead(), dead());
    spread(&mesh, &json!([url(one), url(other)]), &json!({}));
    let refused = eventually("both are out", || {
        let answer = get(&mesh, "/echo/x");
        (answer.status == 503).then_some(answer)
    });
    refused.assert_refusal(503, "upstream_unavailable", "gateway");
    assert!(refused.header("retry-after").is_some());
    assert!(!is_healthy(&mesh, one) && !is_healthy(&mesh, other));
    spread(&mesh, &json!([url(one)]), &json!({}));
    for _ in 0..20 {
        get(&mesh, "/echo/x").assert_refusal(502, "upstream_unreachable", "gateway");
    }
}

#[test]
fn a_sidecar_without_its_plugin_is_out_and_comes_back_by_itself() {
    let mesh = TestMesh::new().start();
    let gone = {
        let plugin = Plugin::tcp();
        plugin.url()
    };
    let mut sidecar = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--plugin", &gone)
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .flag("--admin", "127.0.0.1:0")
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    let at = sidecar.address("hop");
    let health = json!({"health": {"interval_ms": 100}});
    spread(&mesh, &json!([url(mesh.hop()), url(at)]), &health);
    eventually("it is out", || (!is_healthy(&mesh, at)).then_some(()));
    for _ in 0..20 {
        assert_eq!(get(&mesh, "/echo/x").status, 200);
    }
    let address: SocketAddr = gone.strip_prefix("http://").unwrap().parse().unwrap();
    let listener = TcpListener::bind(address).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    eventually("it is back", || is_healthy(&mesh, at).then_some(()));
}

#[test]
fn a_plugin_that_says_it_is_not_well_gets_no_requests_until_it_is_and_its_other_errors_change_nothing()
 {
    let mesh = TestMesh::new().start();
    let another = two(
        &mesh,
        &json!({"health": {"path": "/healthz", "interval_ms": 100}}),
    );
    let at = another.hop();
    for plugin in [&mesh.plugin, &another.plugin] {
        plugin.on("/fails", |exchange| {
            exchange.read_body();
            exchange.answer("500 Internal Server Error", "", b"");
            Then::Keep
        });
    }
    for _ in 0..40 {
        assert_eq!(get(&mesh, "/echo/fails").status, 500);
    }
    assert!(is_healthy(&mesh, at) && is_healthy(&mesh, mesh.hop()));
    let probe = another
        .plugin
        .wait_for("a probe", |seen| seen.target == "/healthz");
    assert!(probe.all("x-company-id").is_empty() && probe.all("x-gapura-probe").is_empty());
    let ill = Arc::new(AtomicBool::new(true));
    let is_ill = ill.clone();
    another.plugin.on("/healthz", move |exchange| {
        exchange.read_body();
        let status = if is_ill.load(Ordering::SeqCst) {
            "503 No"
        } else {
            "200 OK"
        };
        exchange.answer(status, "", b"");
        Then::Keep
    });
    eventually("it is out", || (!is_healthy(&mesh, at)).then_some(()));
    assert_eq!(shares(&mesh, &another.plugin, "/out", 30), (30, 0));
    ill.store(false, Ordering::SeqCst);
    eventually("it is back", || is_healthy(&mesh, at).then_some(()));
    let out = instances(&mesh);
    assert!(out.iter().all(|one| one["healthy"] == true), "{out:?}");
}

#[test]
fn weights_are_shares_and_one_with_none_gets_nothing() {
    let mesh = TestMesh::new().one_worker().start();
    let another = Another::start(&mesh);
    let weighed = |own: u32, other: u32| json!([{"url": url(mesh.hop()), "weight": own}, {"url": url(another.hop()), "weight": other}]);
    spread(&mesh, &weighed(1, 3), &json!({}));
    eventually("each has its share, where one begins slowly", || {
        let (own, _) = shares(&mesh, &another.plugin, "/a", 400);
        (40..=180).contains(&own).then_some(())
    });
    spread(&mesh, &weighed(1, 0), &json!({}));
    eventually("the new weights are in force", || {
        (shares(&mesh, &another.plugin, "/b", 20) == (20, 0)).then_some(())
    });
    assert_eq!(shares(&mesh, &another.plugin, "/c", 100), (100, 0));
}

#[test]
fn an_instance_that_asks_to_be_spared_gets_less_and_is_not_out() {
    let mesh = TestMesh::new().one_worker().start();
    let another = two(&mesh, &json!({}));
    another.plugin.on("/busy", |exchange| {
        exchange.read_body();
        exchange.answer("503 Busy", "Retry-After: 30\r\n", b"");
        Then::Keep
    });
    eventually("it has said so", || {
        (get(&mesh, "/echo/busy").status == 503).then_some(())
    });
    let (own, other) = shares(&mesh, &another.plugin, "/x", 200);
    assert!(other < own / 3, "{own} and {other}");
    assert!(is_healthy(&mesh, another.hop()));
}

#[test]
fn an_instance_that_is_too_old_gets_nothing_until_it_is_new_enough() {
    let mesh = TestMesh::new().start();
    let version = |plugin: &Plugin, version: &'static str| {
        plugin.on("/version", move |exchange| {
            exchange.read_body();
            let body = json!({"version": version}).to_string();
            exchange.answer("200 OK", "", body.as_bytes());
            Then::Keep
        });
    };
    version(&mesh.plugin, "1.9.9");
    let health = json!({"interval_ms": 100});
    let entry = mesh.entry(&json!({"version": "2.0.0", "min_version": "2.0.0", "health": health}));
    mesh.write_registry("echo", &entry);
    let refused = eventually("it is refused", || {
        let answer = get(&mesh, "/echo/x");
        (answer.status == 503).then_some(answer)
    });
    refused.assert_refusal(503, "upstream_unavailable", "gateway");
    eventually("the operator sees why", || {
        let one = &instances(&mesh)[0];
        let told = (one["out_for"] == json!(["version"])) && one["version"] == "1.9.9";
        (told && one["version_differs"] == true).then_some(())
    });
    let line = mesh.gateway.wait_for_event("version_mismatch");
    assert_eq!(
        (&line["version"], &line["believed"]),
        (&json!("1.9.9"), &json!("2.0.0"))
    );
    let series = format!(
        "gapura_upstream_version_differs{{plugin=\"echo\",instance=\"{}\"}}",
        mesh.hop()
    );
    assert!(mesh.metric(&mesh.gateway, &series) > 0.5);
    version(&mesh.plugin, "2.0.0");
    eventually("it is let in", || {
        (get(&mesh, "/echo/x").status == 200).then_some(())
    });
    assert!(mesh.metric(&mesh.gateway, &series) < 0.5);
}

#[test]
fn retries_have_a_budget() {
    let mesh = TestMesh::new().one_worker().start();
    let another = two(
        &mesh,
        &json!({"retry": {"attempts": 2, "budget_percent": 20}}),
    );
    for plugin in [&mesh.plugin, &another.plugin] {
        plugin.on("/breaks", |exchange| {
            exchange.read_body();
            Then::Close
        });
    }
    for _ in 0..200 {
        let answer = get(&mesh, "/echo/breaks");
        assert!([502, 503].contains(&answer.status), "{}", answer.status);
    }
    let posts = (0..20).map(|_| {
        mesh.post("/echo/breaks/post", "x")
            .token_of("7", "42")
            .send()
    });
    assert!(posts.into_iter().all(|answer| answer.status != 200));
    let came = |path: &str| mesh.plugin.seen_at(path).len() + another.plugin.seen_at(path).len();
    // Each is tried again once by the sidecar where its own connection to the plugin was an old
    // one.
    let gets = came("/breaks") - came("/breaks/post");
    assert!(gets <= 2 * 245, "{gets} for 200");
    assert!(came("/breaks/post") <= 20);
}

#[test]
fn a_sidecar_at_a_socket_is_spoken_to_by_mutual_tls_and_judged_like_any_other() {
    let mesh = TestMesh::new().start();
    let socket = mesh.dir().join("lab.sock");
    let plugin = Plugin::tcp();
    let mut sidecar = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--listen", format!("unix:{}", socket.display()))
        .flag("--plugin", plugin.url())
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .flag("--admin", "127.0.0.1:0")
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    let upstream = format!("https+unix:{}", socket.display());
    let at_socket = |more: &Value| {
        let mut changes = more.clone();
        changes["upstream"] = json!(upstream);
        mesh.write_registry("echo", &mesh.entry(&changes));
    };
    at_socket(&json!({}));
    eventually("it is asked there", || {
        assert_eq!(get(&mesh, "/echo/x").status, 200);
        (!plugin.seen_at("/x").is_empty()).then_some(())
    });
    let seen = plugin.seen_at("/x");
    assert_eq!(seen[0].header("x-company-id"), Some("42"));
    let bulk = mesh.post("/echo/bulk", vec![b'a'; 2_000_000]);
    assert_eq!(bulk.token_of("7", "42").send().status, 200);
    assert_eq!(
        instances(&mesh)[0]["address"],
        format!("unix:{}", socket.display())
    );
    // At its port it is the same as ever.
    let port = json!([url(sidecar.address("hop"))]);
    spread(&mesh, &port, &json!({}));
    assert_eq!(get(&mesh, "/echo/x").status, 200);
    // Who stands there has to prove it.
    at_socket(&json!({"identity": "plugin/other"}));
    eventually("another is not believed", || {
        let answer = get(&mesh, "/echo/x");
        (answer.status == 502 && answer.json()["errors"]["code"] == "upstream_identity")
            .then_some(())
    });
    // In a folder that others can write to anybody could be behind the socket.
    let mode = |mode| std::os::unix::fs::PermissionsExt::from_mode(mode);
    std::fs::set_permissions(mesh.dir(), mode(0o777)).unwrap();
    at_socket(&json!({"identity": "plugin/echo"}));
    let before = plugin.seen_at("/x").len();
    eventually("the folder is refused", || {
        let answer = get(&mesh, "/echo/x");
        (answer.status == 502 && answer.json()["errors"]["code"] == "upstream_unreachable")
            .then_some(())
    });
    assert_eq!(plugin.seen_at("/x").len(), before);
    std::fs::set_permissions(mesh.dir(), mode(0o700)).unwrap();
}

#[test]
fn a_sidecar_has_one_port_and_any_number_of_sockets() {
    let mesh = TestMesh::new().start();
    let check = |listen: &[&str]| {
        let mut sidecar = Invocation::new()
            .flag("--plugin", mesh.plugin.url())
            .flag("--mesh-dir", mesh.sidecar_dir.path())
            .arg("--check");
        for at in listen {
            sidecar = sidecar.flag("--listen", *at);
        }
        let ended = sidecar.run("gapura-sidecar");
        (ended.code, ended.stdout + &ended.stderr)
    };
    let (code, said) = check(&["127.0.0.1:0", "unix:/run/a.sock", "unix:/run/b.sock"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("unix:/run/b.sock"), "{said}");
    for (listen, why) in [
        (&["127.0.0.1:0", "127.0.0.1:1"][..], "second address"),
        (&["unix:lab.sock"], "absolute path"),
        (&["unix:/run/a.sock", "unix:/run/a.sock"], "twice"),
    ] {
        let (code, said) = check(listen);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

//! The operator's page: what it is made of, what it says, to whom, and that it costs nothing while
//! nobody looks.

use std::time::Duration;

use gapura_tests::certs::Leaf;
use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::{Response, Wire};
use serde_json::{Value, json};

/// Ten times what a document may take to come.
const SOON: Duration = Duration::from_secs(20);

fn ask(program: &Program, path: &str, lines: &str) -> Response {
    let address = program.address("admin");
    let mut wire = Wire::plain(address);
    wire.send(format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{lines}\r\n"
    ));
    wire.try_response("GET").unwrap()
}

fn document(program: &Program) -> Value {
    let answer = ask(program, "/page.json", "");
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// Waits until the document says what is wanted.
fn sees(program: &Program, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    eventually(what, || {
        let document = document(program);
        wanted(&document).then_some(document)
    })
}

/// Events as a viewer gets them.
struct Viewer(Wire);

impl Viewer {
    fn open(program: &Program) -> Result<Self, Response> {
        let address = program.address("admin");
        let mut wire = Wire::plain(address);
        wire.send(format!("GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        let head = wire.response_head();
        if head.status != 200 {
            return Err(head);
        }
        assert_eq!(head.header("content-type"), Some("text/event-stream"));
        Ok(Self(wire))
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            line.extend(self.0.try_read_within(SOON, 1).unwrap());
        }
        String::from_utf8(line).unwrap().trim_end().to_owned()
    }

    /// The next event of this name.
    fn next(&mut self, wanted: &str) -> Value {
        loop {
            let length = usize::from_str_radix(&self.line(), 16).unwrap();
            let chunk = self.0.try_read_within(SOON, length).unwrap();
            let _ = self.line();
            let text = String::from_utf8(chunk).unwrap();
            let mut lines = text.lines();
            let name = lines.next().and_then(|line| line.strip_prefix("event: "));
            if name == Some(wanted) {
                let data = lines.next().and_then(|line| line.strip_prefix("data: "));
                return serde_json::from_str(data.unwrap()).unwrap();
            }
        }
    }
}

fn plugin<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["own"]["plugins"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).unwrap()
}

fn file<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["own"]["files"]["files"].as_array().unwrap();
    let found = all.iter().find(|one| one["file"] == name);
    found.unwrap_or(&Value::Null)
}

#[test]
fn the_page_is_one_file_one_script_and_one_sheet_under_a_strict_policy() {
    let mesh = TestMesh::new().start();
    for program in [&mesh.gateway, &mesh.sidecar] {
        for (path, kind) in [
            ("/", "text/html"),
            ("/page.js", "text/javascript"),
            ("/page.css", "text/css"),
        ] {
            let answer = ask(program, path, "");
            assert_eq!(answer.status, 200, "{path}");
            let of = |name: &str| answer.header(name).unwrap_or_default().to_owned();
            assert!(of("content-type").starts_with(kind), "{path}");
            let policy = of("content-security-policy");
            assert!(policy.starts_with("default-src 'self';"), "{policy}");
            assert!(policy.contains("frame-ancestors 'none'"), "{policy}");
            assert_eq!(of("x-content-type-options"), "nosniff");
            assert_eq!(of("cache-control"), "no-store");
        }
        let address = program.address("admin");
        let mut lured = Wire::plain(address);
        lured.send("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n");
        assert_eq!(lured.response().status, 403);
    }
    assert_eq!(mesh.get("/page.json").send().status, 404, "the public side");
}

#[test]
fn it_comes_without_the_token_that_its_facts_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (folder.path().join("token"), "t".repeat(40));
    gapura_tests::certs::write_private(&file, &token);
    let flag = file.to_str().unwrap();
    let mesh = TestMesh::new()
        .gateway_flag("--admin-token-file", flag)
        .start();
    let status = |path: &str, lines: &str| ask(&mesh.gateway, path, lines).status;
    for path in ["/", "/page.js", "/page.css"] {
        assert_eq!(status(path, ""), 200, "{path}");
    }
    let proven = format!("Authorization: Bearer {token}\r\n");
    for path in ["/page.json", "/events", "/plugins"] {
        assert_eq!(status(path, ""), 401, "{path}");
        assert_eq!(
            status(path, "Authorization: Bearer wrong\r\n"),
            401,
            "{path}"
        );
    }
    assert_eq!(status("/page.json", &proven), 200);
    assert_eq!(status("/plugins", &proven), 200);
}

#[test]
fn eight_look_at_a_time_and_who_leaves_makes_room() {
    let mesh = TestMesh::new().start();
    let mut viewers: Vec<Viewer> = (0..8)
        .map(|_| Viewer::open(&mesh.gateway).unwrap())
        .collect();
    for viewer in &mut viewers {
        assert_eq!(viewer.next("state")["service"], "gateway");
    }
    assert_eq!(Viewer::open(&mesh.gateway).err().unwrap().status, 503);
    let refusal = ask(&mesh.gateway, "/events", "");
    assert_eq!(refusal.status, 503);
    let sentence = refusal.json()["message"].as_str().unwrap().to_owned();
    assert!(sentence.starts_with("Eight look"), "{sentence}");
    assert_eq!(document(&mesh.gateway)["service"], "gateway");
    viewers.pop();
    eventually("a place is free again", || Viewer::open(&mesh.gateway).ok());
    // Those who looked all the while still see.
    assert_eq!(viewers[0].next("state")["service"], "gateway");
}

#[test]
fn viewers_see_what_is_so_now_and_all_of_them_the_same_document() {
    let mesh = TestMesh::new().start();
    let mut viewers = [
        Viewer::open(&mesh.gateway).unwrap(),
        Viewer::open(&mesh.gateway).unwrap(),
    ];
    for _ in 0..5 {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    }
    assert_eq!(mesh.get("/echo/x").send().status, 401);
    for viewer in &mut viewers {
        eventually("the requests are seen", || {
            let state = viewer.next("state");
            let lately = &plugin(&state, "echo")["lately"];
            (lately["requests_per_s"].as_f64()? > 0.0 && lately["p99_us"].is_u64()).then_some(())
        });
        eventually("the lines show them", || {
            let past = viewer.next("past");
            assert_eq!(past["step_s"], 5);
            let lines = past["lines"].as_array()?;
            let echo = lines.iter().find(|one| one["plugin"] == "echo")?;
            let sum: u64 = echo["requests"]
                .as_array()?
                .iter()
                .filter_map(Value::as_u64)
                .sum();
            (sum >= 6).then_some(())
        });
    }
    let state = sees(&mesh.gateway, "the refusal is told", |state| {
        state["rejections"]
            .as_array()
            .is_some_and(|all| !all.is_empty())
    });
    assert_eq!(state["rejections"][0]["name"], "token_missing");
    assert_eq!(state["rejections"][0]["lately"], 1);
    let sidecar = document(&mesh.sidecar);
    assert_eq!(sidecar["own"]["plugin"], "echo");
}

#[test]
fn a_plugin_is_shown_with_its_instances_and_one_that_is_gone_with_the_reason() {
    let mut mesh = TestMesh::new()
        .fields(json!({"version": "2.0.0", "health": {"interval_ms": 100, "unhealthy_after": 2}}))
        .start();
    mesh.plugin.on("/version", |exchange| {
        exchange.read_body();
        let json = "Content-Type: application/json\r\n";
        exchange.answer("200 OK", json, br#"{"version": "1.9.9"}"#);
        Then::Keep
    });
    let state = sees(&mesh.gateway, "it is probed", |state| {
        plugin(state, "echo")["instances"][0]["version"].is_string()
    });
    let echo = plugin(&state, "echo");
    assert_eq!(echo["mount"], "/echo");
    assert_eq!(echo["version"], "2.0.0");
    assert_eq!(echo["state"], "well");
    let instance = &echo["instances"][0];
    assert_eq!(instance["address"], mesh.hop().to_string());
    assert_eq!(
        (&instance["healthy"], &instance["share"]),
        (&json!(true), &json!(1000))
    );
    assert_eq!(instance["version_differs"], true);
    mesh.sidecar.signal("KILL");
    let status = mesh.sidecar.wait_for_end(SOON);
    assert!(!status.success());
    let state = sees(&mesh.gateway, "it is out", |state| {
        plugin(state, "echo")["state"] == "down"
    });
    let instance = &plugin(&state, "echo")["instances"][0];
    assert_eq!(instance["healthy"], false);
    assert!(!instance["out_for"].as_array().unwrap().is_empty());
}

#[test]
fn a_broken_file_is_shown_with_its_line_and_a_caret_and_without_what_it_injects() {
    let mesh = TestMesh::new().start();
    let state = sees(&mesh.gateway, "the file is there", |state| {
        file(state, "echo.json")["state"] == "in_force"
    });
    assert!(file(&state, "echo.json")["since"].as_u64().unwrap() > 0);
    let folder = &mesh.plugins;
    let text = "{\n  \"name\": \"broken\",\n  \"inject_headers\": {\"X-Plugin-Key\": \"hush-hush\"},\n  \"mont\": \"/b\"\n}\n";
    std::fs::write(folder.join("broken.json"), text).unwrap();
    mesh.write_registry(
        "inner",
        &mesh.entry(&json!({"name": "inner", "mount": "/echo/in"})),
    );
    let state = sees(&mesh.gateway, "the fault is shown", |state| {
        file(state, "broken.json")["faults"].is_array() && !file(state, "inner.json").is_null()
    });
    let broken = file(&state, "broken.json");
    assert_eq!(broken["state"], "faulty");
    let faults = broken["faults"].as_array().unwrap();
    let misspelt = faults.iter().find(|one| one["line"] == 4).unwrap();
    let caret = usize::try_from(misspelt["caret"].as_u64().unwrap()).unwrap();
    let line = misspelt["text"].as_str().unwrap();
    assert_eq!(line.chars().nth(caret), Some('"'), "{misspelt}");
    assert!(misspelt["message"].as_str().unwrap().contains("mount"));
    assert!(!state.to_string().contains("hush"), "an injected value");
    let files = &state["own"]["files"];
    assert_eq!(files["shadowed"][0]["inner"], "/echo/in");
    assert_eq!(files["shadowed"][0]["outer_plugin"], "echo");
    let changes = files["changes"].to_string();
    assert!(changes.contains("inner"), "{changes}");
    assert_eq!(state["alarms"][0]["name"], "registry");
    assert_eq!(state["alarms"][0]["docs"], "docs/alarms.md#registry");
    // A good version that becomes faulty stays in force, and the page says so.
    let good = file(&state, "echo.json")["since"].clone();
    std::fs::write(folder.join("echo.json"), "{").unwrap();
    let state = sees(&mesh.gateway, "the last good is told", |state| {
        file(state, "echo.json")["state"] == "last_good"
    });
    assert_eq!(file(&state, "echo.json")["since"], good);
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

#[test]
fn hops_are_shown_with_what_they_agreed_on_and_a_revocation_with_what_it_cut() {
    let mesh = TestMesh::new().start();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let state = sees(&mesh.gateway, "the hop is shown", |state| {
        !state["trust"]["hops"].as_array().unwrap().is_empty()
    });
    let hop = &state["trust"]["hops"][0];
    assert_eq!(hop["peer"], "spiffe://test.internal/plugin/echo");
    assert_eq!(
        (&hop["tls"], &hop["http"]),
        (&json!("TLS 1.3"), &json!("h2"))
    );
    assert_eq!(hop["post_quantum"], true, "{hop}");
    assert!(hop["cipher"].as_str().unwrap().starts_with("TLS_"), "{hop}");
    assert_eq!(state["trust"]["life"], "well");
    assert_eq!(state["trust"]["crls"][0]["revoked"], 0);
    assert_eq!(state["trust"]["last_revocation"], Value::Null);
    let there = &document(&mesh.sidecar)["trust"]["hops"];
    assert_eq!(there[0]["peer"], "spiffe://test.internal/gateway/edge");
    let revoked = mesh.authority.files_for(&mesh.gateway_cert);
    let revoked = revoked.with_crl(Some(mesh.authority.crl(&[&mesh.sidecar_cert])));
    mesh.gateway_dir.publish(&revoked);
    let state = sees(&mesh.gateway, "the revocation is told", |state| {
        state["trust"]["last_revocation"]["cut"]
            .as_u64()
            .is_some_and(|cut| cut > 0)
    });
    let last = &state["trust"]["last_revocation"];
    assert_eq!(
        (&last["added"], &last["peers"][0]),
        (&json!(1), &hop["peer"])
    );
    assert!(state["trust"]["revoked_closed"].as_u64().unwrap() > 0);
}

#[test]
fn a_certificate_that_ends_soon_is_red_long_before() {
    let mesh = TestMesh::new().start();
    let life = |state: &Value| state["trust"]["life"].clone();
    assert_eq!(life(&document(&mesh.gateway)), "well");
    let now = std::time::SystemTime::now();
    let (day, hour) = (Duration::from_secs(86_400), Duration::from_secs(3600));
    for (left, word) in [(day * 8, "due"), (day * 2, "urgent")] {
        let leaf = Leaf::gateway("edge").valid(now - (day * 30 - left), now + left + hour);
        let leaf = mesh.authority.issue(&leaf);
        mesh.gateway_dir.publish(&mesh.authority.files_for(&leaf));
        sees(&mesh.gateway, word, |state| life(state) == word);
    }
}

#[test]
fn companies_are_named_only_where_the_operator_wants_it() {
    for (named, flag) in [(true, "on"), (false, "off")] {
        let mesh = TestMesh::new()
            .gateway_flag("--page-tenants", flag)
            .fields(json!({"rate_limit": {"requests": 100, "per_s": 3600, "key": "tenant"}, "allow": [{"methods": ["GET"]}]}))
            .start();
        for _ in 0..3 {
            assert_eq!(
                mesh.get("/echo/x").token_of("7", "acme-lab").send().status,
                200
            );
        }
        let refused = mesh.request("DELETE", "/echo/x").token_of("7", "acme-lab");
        assert_eq!(refused.send().status, 403);
        let state = sees(&mesh.gateway, "the company is counted", |state| {
            let busiest = &state["own"]["callers"]["companies"];
            busiest["requests"][0]["count"] == 4 && busiest["refusals"][0]["count"] == 1
        });
        let callers = &state["own"]["callers"];
        assert_eq!(callers["companies"]["named"], named);
        assert_eq!(state.to_string().contains("acme-lab"), named, "{flag}");
        assert_eq!(callers["limits"][0]["plugin"], "echo");
        if named {
            assert_eq!(callers["limits"][0]["left"][0]["left"], 97);
        }
        let config = mesh.admin(&mesh.gateway, "/config").json();
        assert_eq!(config["page-tenants"]["value"], flag, "{config}");
    }
    let off = TestMesh::new().start();
    let state = document(&off.gateway);
    assert_eq!(state["own"]["callers"]["companies"]["named"], false);
    let refused = off.gateway_invocation();
    let refused = refused.flag("--page-tenants", "yes").arg("--check");
    let ended = refused.run("gapura-gateway");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("must be on or off"),
        "{}",
        ended.stderr
    );
}

#[test]
fn a_sidecar_shows_whether_its_plugin_takes_connections() {
    let mesh = TestMesh::new().start();
    let mut viewer = Viewer::open(&mesh.sidecar).unwrap();
    eventually("it is reachable", || {
        (viewer.next("state")["own"]["reachable"] == true).then_some(())
    });
    let gone = TestMesh::new().before("http://127.0.0.1:1").start();
    let mut viewer = Viewer::open(&gone.sidecar).unwrap();
    let state = eventually("it is not reachable", || {
        let state = viewer.next("state");
        (state["own"]["reachable"] == false).then_some(state)
    });
    let why = state["own"]["why"].as_str().unwrap();
    assert!(why.contains("refused"), "{why}");
}

#[test]
fn status_tells_the_essence_of_the_page() {
    let mesh = TestMesh::new()
        .fields(json!({"health": {"interval_ms": 100, "unhealthy_after": 2}}))
        .start();
    let admin = mesh.gateway.address("admin").to_string();
    let status = || {
        Invocation::new()
            .arg("status")
            .flag("--admin", &admin)
            .run("gapura")
    };
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let ended = eventually("it is well and has counted", || {
        let ended = status();
        (ended.code == Some(0) && ended.stdout.contains("requests/s")).then_some(ended)
    });
    for word in ["1 of 1 instances in", "renewal", "hop", "X25519MLKEM768"] {
        assert!(ended.stdout.contains(word), "{word}: {}", ended.stdout);
    }
    mesh.sidecar.signal("KILL");
    let ended = eventually("nobody is left to ask", || {
        let ended = status();
        (ended.code == Some(4)).then_some(ended)
    });
    assert!(
        ended.stdout.contains("0 of 1 instances in"),
        "{}",
        ended.stdout
    );
}

#[test]
fn a_viewer_that_takes_nothing_delays_nobody() {
    let mesh = TestMesh::new().start();
    let silent: Vec<Viewer> = (0..4)
        .map(|_| Viewer::open(&mesh.gateway).unwrap())
        .collect();
    let mut awake = Viewer::open(&mesh.gateway).unwrap();
    for _ in 0..3 {
        let _ = awake.next("state");
    }
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    drop(silent);
}

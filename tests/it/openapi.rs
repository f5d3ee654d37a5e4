//! The plugins' contracts: fetched from the plugins, merged for callers, compared with the ones
//! before.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gapura_tests::mesh::{RequestBuilder, TestMesh};
use gapura_tests::plugin::{Plugin, Then};
use gapura_tests::program::{Invocation, Program};
use gapura_tests::tokens::claims_with;
use gapura_tests::wire::Response;
use gapura_tests::{PATIENCE, eventually, within};
use serde_json::{Value, json};

const JSON: &str = "Content-Type: application/json\r\n";

/// A contract of things, with further members of its one operation.
fn things(version: &str, more: &Value) -> Value {
    let mut get = json!({
        "operationId": "read", "tags": ["things"],
        "responses": {"200": {"description": "One", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}}
    });
    for (name, value) in more.as_object().unwrap() {
        get[name] = value.clone();
    }
    json!({
        "openapi": version, "info": {"title": "Things", "version": "1"},
        "paths": {
            "/things/{id}": {"parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}], "get": get},
            "/admin": {"post": {"responses": {"204": {"description": "Done"}}}},
            "/hidden": {"x-internal": true, "get": {"responses": {"200": {"description": "x"}}}}
        },
        "components": {"schemas": {"Thing": {"type": "object", "properties": {"note": {"type": "string"}}}}}
    })
}

/// What a plugin serves as its contract, to be changed by a test.
#[derive(Clone)]
struct Served(Arc<Mutex<(String, String)>>);

impl Served {
    fn by(plugin: &Plugin, document: &Value) -> Self {
        let served = Self(Arc::new(Mutex::new((
            "1.0.0".to_owned(),
            document.to_string(),
        ))));
        let (at, its) = (served.clone(), served.clone());
        plugin.on("/openapi.json", move |exchange| {
            exchange.read_body();
            let document = at.0.lock().unwrap().1.clone();
            exchange.answer("200 OK", JSON, document.as_bytes());
            Then::Keep
        });
        plugin.on("/version", move |exchange| {
            exchange.read_body();
            let version = json!({"version": its.0.lock().unwrap().0}).to_string();
            exchange.answer("200 OK", JSON, version.as_bytes());
            Then::Keep
        });
        served
    }

    fn set(&self, version: &str, document: &Value) {
        *self.0.lock().unwrap() = (version.to_owned(), document.to_string());
    }
}

fn document(mesh: &TestMesh) -> Response {
    unhurried(|| mesh.get("/openapi.json").token_of("7", "42"))
}

/// What a request is answered once its caller has not asked too often: who waits for a condition
/// may.
fn unhurried<'m>(ask: impl Fn() -> RequestBuilder<'m>) -> Response {
    eventually("it may be asked for", || {
        let answer = ask().send();
        (answer.status != 429).then_some(answer)
    })
}

/// The document once it has this path.
fn document_with(mesh: &TestMesh, path: &str) -> Value {
    within(PATIENCE * 2, &format!("{path} is told of"), || {
        let document = document(mesh).json();
        document["paths"].get(path).is_some().then_some(document)
    })
}

/// Names the contract of a plugin, now that it is served: the gateway asks at once. The plugin is
/// the mesh's own, or a further one at its sidecar.
fn show(mesh: &TestMesh, name: &str, fields: &Value) {
    let mut entry = json!({"name": name, "mount": format!("/{name}"), "identity": "plugin/echo", "openapi": null});
    for (name, value) in fields.as_object().unwrap() {
        entry[name] = value.clone();
    }
    mesh.write_registry(name, &mesh.entry(&entry));
}

fn told(mesh: &TestMesh, plugin: &str) -> Value {
    let page = mesh.admin(&mesh.gateway, "/plugins").json();
    let plugins = page["plugins"].as_array().unwrap();
    let found = plugins.iter().find(|one| one["name"] == plugin);
    found.map_or(Value::Null, |one| one["openapi"].clone())
}

#[test]
fn contracts_of_both_versions_are_merged_at_their_mounts_for_who_has_a_token() {
    let mesh = TestMesh::new()
        .sidecar_args(&[
            "--allow-no-tenant",
            "--probe-path",
            "/openapi.json",
            "--probe-path",
            "/old.json",
        ])
        .start();
    Served::by(&mesh.plugin, &things("3.1.0", &json!({"x-vendor": 1})));
    let old = json!({"openapi": "3.0.3", "info": {"title": "Old", "version": "1"}, "servers": [{"url": "http://localhost:5000/api"}],
        "paths": {"/x": {"get": {"operationId": "read", "responses": {"200": {"description": "d", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}}}}},
        "components": {"schemas": {"Thing": {"type": "string", "nullable": true}}}});
    mesh.plugin.answer_raw(
        "/old.json",
        format!(
            "HTTP/1.1 200 OK\r\n{JSON}Content-Length: {}\r\n\r\n{old}",
            old.to_string().len()
        ),
        Then::Keep,
    );
    show(&mesh, "echo", &json!({}));
    show(
        &mesh,
        "old",
        &json!({"openapi": "/old.json", "mount": "/deep/old", "auth_mode": "public"}),
    );
    document_with(&mesh, "/echo/things/{id}");
    let whole = document_with(&mesh, "/deep/old/api/x");
    assert_eq!(whole["openapi"], "3.1.0");
    let get = &whole["paths"]["/echo/things/{id}"]["get"];
    assert_eq!(
        (&get["operationId"], &get["x-vendor"]),
        (&json!("echo_read"), &json!(1))
    );
    assert_eq!(get["tags"], json!(["echo_things"]));
    assert_eq!(get["security"], json!([{"bearer": []}]));
    let other = &whole["paths"]["/deep/old/api/x"]["get"];
    assert_eq!(
        (&other["operationId"], &other["security"]),
        (&json!("old_read"), &json!([]))
    );
    assert_eq!(
        whole["components"]["schemas"]["old_Thing"]["type"],
        json!(["string", "null"])
    );
    assert_eq!(
        whole["components"]["schemas"]["echo_Thing"]["type"],
        "object"
    );
    assert!(whole["paths"].get("/echo/hidden").is_none());
    assert_eq!(told(&mesh, "echo")["in_force"]["title"], "Things");

    // It was asked for as a probe is: by nobody, with nothing.
    let asked = &mesh.plugin.seen_at("/openapi.json")[0];
    assert!(asked.header("authorization").is_none() && asked.header("x-user-id").is_none());

    let answer = document(&mesh);
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let etag = answer.header("etag").unwrap().to_owned();
    let again = mesh.get("/openapi.json").token_of("7", "42");
    let again = again
        .header("If-None-Match", &format!("\"x\", W/{etag}"))
        .send();
    assert_eq!((again.status, again.body.len()), (304, 0));
    let head = mesh
        .request("HEAD", "/openapi.json")
        .token_of("7", "42")
        .send();
    assert_eq!((head.status, head.body.len()), (200, 0));
    mesh.get("/openapi.json")
        .send()
        .assert_refusal(401, "token_missing", "gateway");
    let nonsense = mesh.get("/openapi.json").token("nonsense").send();
    nonsense.assert_refusal(401, "token_invalid", "gateway");
    let posted = mesh.post("/openapi.json", "x").token_of("7", "42").send();
    posted.assert_refusal(405, "method_not_allowed", "gateway");
}

#[test]
fn a_caller_sees_what_the_rules_let_them_do_and_nothing_of_the_rest() {
    let mesh = TestMesh::new().start();
    Served::by(&mesh.plugin, &things("3.0.0", &json!({})));
    let rules = json!({"allow": [{"methods": ["GET"], "path": "/things/{company_id}"},
        {"methods": ["POST"], "path": "/admin", "roles": ["admin"]}]});
    show(&mesh, "echo", &rules);
    let tenants = json!({"only": ["1"]});
    show(&mesh, "closed", &json!({"tenants": tenants}));
    show(
        &mesh,
        "watched",
        &json!({"tenants": tenants, "shadow": true}),
    );
    let seen = |changes: Value| {
        let token = mesh.signer.token(&claims_with(&changes));
        let document = unhurried(|| mesh.get("/openapi.json").token(&token)).json();
        let paths = document["paths"].as_object().unwrap();
        (paths.keys().cloned().collect::<Vec<_>>(), document)
    };
    let all = [
        "/closed/admin",
        "/closed/things/{id}",
        "/echo/admin",
        "/echo/things/{id}",
        "/watched/admin",
        "/watched/things/{id}",
    ];
    eventually("all three are merged", || {
        let (paths, _) = seen(json!({"company_id": "1", "role": "member,admin"}));
        (paths == all).then_some(())
    });
    let (paths, document) = seen(json!({"company_id": "42", "role": "member"}));
    assert_eq!(
        paths,
        [
            "/echo/things/{id}",
            "/watched/admin",
            "/watched/things/{id}"
        ]
    );
    assert!(!document.to_string().contains("closed"), "{document}");
    assert_eq!(
        seen(json!({"company_id": "42", "role": "admin"})).0.len(),
        4
    );
    // What is shown is what passes.
    let may = |path: &str| mesh.get(path).token_of("7", "42").send().status;
    assert_eq!(
        (
            may("/echo/things/42"),
            may("/echo/things/41"),
            may("/closed/admin")
        ),
        (200, 403, 403)
    );
}

#[test]
fn anybody_or_nobody_may_read_it_where_the_operator_says_so() {
    let open = TestMesh::new().gateway_flag("--openapi", "public").start();
    Served::by(&open.plugin, &things("3.1.0", &json!({})));
    show(&open, "echo", &json!({"tenants": {"only": ["1"]}}));
    eventually("it is there for anybody", || {
        let answer = unhurried(|| open.get("/openapi.json"));
        let paths = answer.json()["paths"].as_object()?.len();
        assert_eq!(answer.header("cache-control"), Some("no-cache"));
        (answer.status == 200 && paths == 2).then_some(())
    });
    let closed = TestMesh::new().gateway_flag("--openapi", "off").start();
    let answer = closed.get("/openapi.json").token_of("7", "42").send();
    answer.assert_refusal(404, "no_route", "gateway");
}

#[test]
fn a_document_that_cannot_be_used_is_left_out_alone_with_the_reason() {
    let mesh = TestMesh::new()
        .sidecar_args(&["--probe-path", "/openapi.json", "--probe-path", "/bad"])
        .start();
    Served::by(&mesh.plugin, &things("3.1.0", &json!({})));
    show(&mesh, "echo", &json!({}));
    document_with(&mesh, "/echo/things/{id}");
    let whole = |body: &str| {
        format!(
            "HTTP/1.1 200 OK\r\n{JSON}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let round = json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "components": {"schemas": {"A": {"allOf": [{"$ref": "#/components/schemas/A"}]}}}});
    let mut wait = 0;
    for (answer, says) in [
        (
            whole("<html><script>alert(1)</script>"),
            "can't be read as JSON",
        ),
        (whole(&deep), "nested deeper"),
        (whole(&round.to_string()), "is made of itself"),
        (whole(r#"{"swagger": "2.0"}"#), "3.0 and 3.1 are read"),
        (
            whole(&format!("\"{}\"", "a".repeat(50 << 20))),
            "longer than 4 MiB",
        ),
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "it answers 404 at /bad",
        ),
    ] {
        mesh.plugin.answer_raw("/bad", answer, Then::Keep);
        // A file that has changed is a reason to ask again.
        wait += 1;
        let version = format!("1.0.{wait}");
        show(
            &mesh,
            "bad",
            &json!({"openapi": "/bad", "version": version}),
        );
        let reason = within(PATIENCE * 3, says, || {
            let told = told(&mesh, "bad");
            told["left_out"]
                .as_str()
                .filter(|why| why.contains(says))
                .map(str::to_owned)
        });
        assert!(reason.len() < 500, "{reason}");
        let document = document(&mesh).json();
        assert_eq!(document["paths"].as_object().unwrap().len(), 2, "{says}");
    }
    // One that never ends is let go of.
    mesh.plugin.on("/bad", |exchange| {
        exchange.read_body();
        exchange.write(
            format!("HTTP/1.1 200 OK\r\n{JSON}Transfer-Encoding: chunked\r\n\r\n").as_bytes(),
        );
        let chunk = format!("10000\r\n{}\r\n", "[".repeat(0x10000));
        while exchange.write(chunk.as_bytes()) {}
        Then::Close
    });
    show(&mesh, "bad", &json!({"openapi": "/bad", "version": "2"}));
    within(PATIENCE * 3, "an endless one is too long", || {
        let told = told(&mesh, "bad");
        told["left_out"]
            .as_str()?
            .contains("longer than")
            .then_some(())
    });
    // One that says nothing more is not waited for.
    mesh.plugin.on("/bad", |exchange| {
        exchange.read_body();
        exchange.write(format!("HTTP/1.1 200 OK\r\n{JSON}Content-Length: 9\r\n\r\n{{").as_bytes());
        exchange.wait_for_close();
        Then::Close
    });
    show(&mesh, "bad", &json!({"openapi": "/bad", "version": "3"}));
    within(PATIENCE * 5, "a silent one is let go of", || {
        let told = told(&mesh, "bad");
        told["left_out"]
            .as_str()?
            .contains("within 10 s")
            .then_some(())
    });
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let line = mesh.gateway.wait_for_event("contract_left_out");
    assert_eq!(line["plugin"], "bad");
}

#[test]
fn a_custom_path_that_the_sidecar_does_not_know_is_told_of() {
    let mesh = TestMesh::new()
        .fields(json!({"openapi": "/api.json"}))
        .start();
    eventually("the reason names the way out", || {
        let told = told(&mesh, "echo");
        told["left_out"]
            .as_str()?
            .contains("--probe-path")
            .then_some(())
    });
}

#[test]
fn a_breaking_contract_of_a_new_version_is_told_of_and_takes_effect() {
    let mesh = TestMesh::new().start();
    let served = Served::by(&mesh.plugin, &things("3.1.0", &json!({})));
    show(&mesh, "echo", &json!({"health": null}));
    document_with(&mesh, "/echo/things/{id}");
    // More than there was breaks nobody.
    let mut more = things("3.1.0", &json!({}));
    more["paths"]["/more"] = json!({"get": {"responses": {"200": {"description": "d"}}}});
    served.set("1.1.0", &more);
    document_with(&mesh, "/echo/more");
    let series = "gapura_openapi_breaking_total{plugin=\"echo\"}";
    assert!(mesh.metric(&mesh.gateway, series) < 0.5);
    served.set(
        "2.0.0",
        &things(
            "3.1.0",
            &json!({"parameters": [{"name": "q", "in": "query", "required": true, "schema": {}}]}),
        ),
    );
    let line = mesh.gateway.wait_for_event("contract_breaks");
    let message = line["message"].as_str().unwrap();
    assert!(
        message.contains("the path /more is gone") && message.contains("in force now"),
        "{message}"
    );
    assert!((mesh.metric(&mesh.gateway, series) - 2.0).abs() < 0.5);
    let breaking = told(&mesh, "echo")["breaking"].clone();
    assert_eq!(breaking[0]["kind"], "path_removed");
    assert_eq!(breaking[1]["kind"], "parameter_required");
    assert_eq!(
        breaking[1]["pointer"],
        "#/paths/~1things~1%7Bid%7D/get/parameters/0"
    );
    eventually("it is what callers see", || {
        let document = document(&mesh).json();
        document["paths"].get("/echo/more").is_none().then_some(())
    });
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

/// A further instance: a sidecar, and a plugin of its own behind it.
fn another(mesh: &TestMesh) -> (Program, Plugin) {
    let plugin = Plugin::tcp();
    let mut sidecar = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--plugin", plugin.url())
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .flag("--admin", "127.0.0.1:0")
        .flag("--workers", "1")
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    (sidecar, plugin)
}

#[test]
fn an_instance_whose_contract_breaks_the_one_in_force_gets_no_request() {
    let fields =
        json!({"openapi": null, "openapi_breaking": "refuse", "health": {"interval_ms": 200}});
    let mesh = TestMesh::new().start();
    Served::by(&mesh.plugin, &things("3.1.0", &json!({})));
    show(&mesh, "echo", &fields);
    document_with(&mesh, "/echo/things/{id}");
    let (sidecar, plugin) = another(&mesh);
    let mut less = things("3.1.0", &json!({}));
    less["paths"].as_object_mut().unwrap().remove("/admin");
    let served = Served::by(&plugin, &less);
    served.set("2.0.0", &less);
    let mut changes = fields;
    changes["upstream"] = json!([
        format!("https://{}", mesh.hop()),
        format!("https://{}", sidecar.address("hop"))
    ]);
    mesh.write_registry("echo", &mesh.entry(&changes));
    let line = mesh.gateway.wait_for_event("contract_breaks");
    assert!(
        line["message"].as_str().unwrap().contains("kept out"),
        "{line}"
    );
    let out = |at: &str| {
        let page = mesh.admin(&mesh.gateway, "/plugins").json();
        let instances = page["plugins"][0]["instances"].as_array().unwrap().clone();
        let one = instances.into_iter().find(|one| one["address"] == at);
        one.unwrap()["out_for"].clone()
    };
    let at = sidecar.address("hop").to_string();
    assert_eq!(out(&at), json!(["contract"]));
    for _ in 0..50 {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    }
    assert!(plugin.seen_at("/x").is_empty());
    // With what it lacked it comes in.
    served.set("2.0.1", &things("3.1.0", &json!({"deprecated": true})));
    within(PATIENCE * 2, "it is in", || {
        (out(&at) == json!([])).then_some(())
    });
    eventually("it gets its share", || {
        let _ = mesh.get("/echo/x").token_of("7", "42").send();
        (!plugin.seen_at("/x").is_empty()).then_some(())
    });
    // And out again, until the operator takes what breaks.
    served.set("3.0.0", &less);
    within(PATIENCE * 2, "it is out", || {
        (out(&at) == json!(["contract"])).then_some(())
    });
    changes["openapi_breaking"] = json!("warn");
    mesh.write_registry("echo", &mesh.entry(&changes));
    within(PATIENCE * 2, "it is taken", || {
        (out(&at) == json!([])).then_some(())
    });
}

#[test]
fn a_sole_instance_whose_contract_breaks_the_one_in_force_is_not_tried_either() {
    let mesh = TestMesh::new().start();
    let served = Served::by(&mesh.plugin, &things("3.1.0", &json!({})));
    let fields = json!({"openapi_breaking": "refuse", "health": {"interval_ms": 200}});
    show(&mesh, "echo", &fields);
    document_with(&mesh, "/echo/things/{id}");
    let status = || mesh.get("/echo/x").token_of("7", "42").send().status;
    within(PATIENCE * 2, "it serves", || {
        (status() == 200).then_some(())
    });
    // What the file's own version serves is believed, and how far the last look at it has come
    // nobody can tell.
    served.set("2.0.0", &things("3.1.0", &json!({})));
    let _ = mesh.gateway.wait_for_event("version_mismatch");
    let mut less = things("3.1.0", &json!({}));
    less["paths"].as_object_mut().unwrap().remove("/admin");
    served.set("2.0.1", &less);
    within(PATIENCE * 2, "it is out", || {
        (status() == 503).then_some(())
    });
    served.set("2.0.2", &things("3.1.0", &json!({})));
    within(PATIENCE * 2, "it is in again", || {
        (status() == 200).then_some(())
    });
}

/// A gateway that keeps contracts in `state`, in the place of the one before.
fn start_keeping(mesh: &mut TestMesh, state: &Path) {
    let invocation = mesh.gateway_invocation().flag("--state-dir", state);
    let mut next = invocation.start("gapura-gateway");
    next.wait_until_started();
    mesh.gateway = next;
}

/// A mesh whose gateway has kept that its plugin runs what its file says, the folder where it is
/// kept, and what the plugin serves.
fn kept() -> (TestMesh, PathBuf, Served) {
    let mut mesh = TestMesh::new().start();
    let served = Served::by(&mesh.plugin, &things("3.1.0", &json!({})));
    let fields = json!({"openapi_breaking": "refuse", "health": {"interval_ms": 200}});
    show(&mesh, "echo", &fields);
    let state = mesh.dir().join("state");
    start_keeping(&mut mesh, &state);
    document_with(&mesh, "/echo/things/{id}");
    within(PATIENCE * 2, "what runs is what the file says", || {
        let text = std::fs::read_to_string(state.join("contracts/echo.contract")).ok()?;
        text.contains("\"settled\":true").then_some(())
    });
    (mesh, state, served)
}

#[test]
fn a_restart_of_the_gateway_forgets_no_contract() {
    let (mut mesh, state, served) = kept();
    let kept = state.join("contracts/echo.contract");
    let status = |mesh: &TestMesh| mesh.get("/echo/x").token_of("7", "42").send().status;
    within(PATIENCE * 2, "it serves", || {
        (status(&mesh) == 200).then_some(())
    });
    // While the gateway is down the plugin becomes one that breaks its callers.
    mesh.gateway.signal("TERM");
    assert!(mesh.gateway.wait_for_end(PATIENCE).success());
    let mut less = things("3.1.0", &json!({}));
    less["paths"].as_object_mut().unwrap().remove("/admin");
    served.set("1.0.0", &less);
    start_keeping(&mut mesh, &state);
    let line = mesh.gateway.wait_for_event("contract_breaks");
    assert!(
        line["message"].as_str().unwrap().contains("kept out"),
        "{line}"
    );
    assert_eq!(status(&mesh), 503);
    let whole = document(&mesh).json();
    assert!(whole["paths"].get("/echo/admin").is_some(), "{whole}");
    served.set("1.0.1", &things("3.1.0", &json!({})));
    within(PATIENCE * 2, "with what it lacked it is in", || {
        (status(&mesh) == 200).then_some(())
    });

    // What was kept and can't be read is no reason to take anything: it says what to do.
    mesh.gateway.signal("TERM");
    assert!(mesh.gateway.wait_for_end(PATIENCE).success());
    std::fs::write(&kept, "broken").unwrap();
    let invocation = mesh.gateway_invocation().flag("--state-dir", &state);
    let ended = invocation.clone().run("gapura-gateway");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("echo.contract") && ended.stderr.contains("remove it"),
        "{}",
        ended.stderr
    );
    // Without it, and without a place for it, the next one is taken, and the latter is told of.
    std::fs::remove_file(&kept).unwrap();
    served.set("1.0.0", &less);
    start_keeping(&mut mesh, &state);
    within(PATIENCE * 2, "it is taken", || {
        (status(&mesh) == 200).then_some(())
    });
    let checked = mesh
        .gateway_invocation()
        .arg("--check")
        .run("gapura-gateway");
    let said = checked.stdout + &checked.stderr;
    assert!(
        said.contains("of plugin echo without --state-dir"),
        "{said}"
    );
}

#[test]
fn a_restart_before_its_files_are_there_forgets_no_contract_and_one_that_comes_back_is_asked() {
    let (mut mesh, state, served) = kept();
    mesh.gateway.signal("TERM");
    assert!(mesh.gateway.wait_for_end(PATIENCE).success());
    let file = mesh.plugins.join("echo.json");
    let aside = mesh.dir().join("aside.json");
    std::fs::rename(&file, &aside).unwrap();
    start_keeping(&mut mesh, &state);
    // Nothing shows that the folder was looked at and found empty, again and again.
    let begun = Instant::now();
    let long = Duration::from_millis(500);
    eventually("some looks", || (begun.elapsed() > long).then_some(()));
    let mut less = things("3.1.0", &json!({}));
    less["paths"].as_object_mut().unwrap().remove("/admin");
    served.set("1.0.0", &less);
    std::fs::rename(&aside, &file).unwrap();
    let line = mesh.gateway.wait_for_event("contract_breaks");
    assert!(
        line["message"].as_str().unwrap().contains("kept out"),
        "{line}"
    );
    // A plugin that is gone is forgotten, and asked at once when it comes back.
    std::fs::rename(&file, &aside).unwrap();
    show(&mesh, "other", &json!({}));
    within(PATIENCE, "it is forgotten", || {
        told(&mesh, "echo").is_null().then_some(())
    });
    std::fs::rename(&aside, &file).unwrap();
    let status = || mesh.get("/echo/x").token_of("7", "42").send().status;
    within(PATIENCE * 2, "it is taken as it is now", || {
        (status() == 200).then_some(())
    });
}

#[test]
fn a_contract_that_cannot_be_kept_is_an_alarm_until_it_can() {
    let mut mesh = TestMesh::new().start();
    Served::by(&mesh.plugin, &things("3.1.0", &json!({})));
    let state = mesh.dir().join("state");
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&state)
        .unwrap();
    // A file where the folder should be fails for root too, as a full disk does.
    std::fs::write(state.join("contracts"), "in the way").unwrap();
    let invocation = mesh.gateway_invocation().flag("--state-dir", &state);
    let ended = invocation.clone().run("gapura-gateway");
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    std::fs::remove_file(state.join("contracts")).unwrap();
    let mut next = invocation.start("gapura-gateway");
    next.wait_until_started();
    mesh.gateway = next;
    std::fs::write(state.join("contracts"), "in the way").unwrap();
    show(&mesh, "echo", &json!({}));
    let alarm = mesh.gateway.wait_for_line("the alarm", |line| {
        line["event"] == "alarm" && line["name"] == "contracts"
    });
    let message = alarm["message"].as_str().unwrap();
    assert!(message.contains("state/contracts"), "{message}");
    document_with(&mesh, "/echo/things/{id}");
    std::fs::remove_file(state.join("contracts")).unwrap();
    // A file that has changed is a reason to ask again.
    show(&mesh, "echo", &json!({"version": "1.0.1"}));
    mesh.gateway
        .wait_for_line("it is called off", |line| line["event"] == "alarm_cleared");
    assert!(state.join("contracts/echo.contract").exists());
}

/// Asks for the document on one connection until the answer is another than the document.
fn until_refused(mesh: &TestMesh, company: Option<&str>) -> Response {
    let line = company.map_or(String::new(), |company| mesh.authorization("7", company));
    let mut wire = mesh.connect();
    within(PATIENCE * 2, "it is too often", || {
        wire.send(format!(
            "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n{line}\r\n"
        ));
        let answer = wire.response();
        (answer.status != 200).then_some(answer)
    })
}

#[test]
fn who_asks_for_the_document_too_often_is_told_when_to_come_again_and_nobody_else_is() {
    let tenants = tempfile::tempdir().unwrap();
    let file = json!({"company_id": "43", "rate_limit": {"requests": 3, "per_s": 600}});
    std::fs::write(tenants.path().join("43.json"), file.to_string()).unwrap();
    let mesh = TestMesh::new()
        .gateway_flag("--tenants", tenants.path().to_str().unwrap())
        .start();
    let ask = |company: &str| mesh.get("/openapi.json").token_of("7", company).send();
    // The limit of the document itself: a company has 120 at once.
    let limited = until_refused(&mesh, Some("42"));
    limited.assert_refusal(429, "rate_limited", "gateway");
    assert_eq!(limited.header("retry-after"), Some("1"));
    let policy = limited.header("ratelimit-policy").unwrap();
    assert_eq!(policy, "\"openapi\";q=600;w=60;gapura-burst=120");
    assert_eq!(ask("44").status, 200, "another company");
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    // And the company's own, which is over all that the company asks for.
    assert_eq!(mesh.get("/echo/x").token_of("7", "43").send().status, 200);
    assert_eq!((ask("43").status, ask("43").status), (200, 200));
    ask("43").assert_refusal(429, "rate_limited", "gateway");
    let refused = mesh.get("/echo/x").token_of("7", "43").send();
    refused.assert_refusal(429, "rate_limited", "gateway");

    // Where nobody is known it is each address.
    let open = TestMesh::new().gateway_flag("--openapi", "public").start();
    let limited = until_refused(&open, None);
    limited.assert_refusal(429, "rate_limited", "gateway");
    assert_eq!(open.get("/readyz").send().status, 200);
}

#[test]
fn webhooks_are_told_of_under_the_plugins_name() {
    let mesh = TestMesh::new().start();
    let mut document = things("3.1.0", &json!({}));
    let schema = json!({"$ref": "#/components/schemas/Thing"});
    document["webhooks"] = json!({"changed": {"post": {
        "operationId": "changed", "security": [{"inside": []}],
        "requestBody": {"content": {"application/json": {"schema": schema}}},
        "responses": {"204": {"description": "Taken"}}}}});
    Served::by(&mesh.plugin, &document);
    show(&mesh, "echo", &json!({}));
    let whole = document_with(&mesh, "/echo/things/{id}");
    let post = &whole["webhooks"]["echo_changed"]["post"];
    assert_eq!(post["operationId"], "echo_changed");
    assert!(post.get("security").is_none(), "{post}");
    let schema = &post["requestBody"]["content"]["application/json"]["schema"]["$ref"];
    assert_eq!(schema, "#/components/schemas/echo_Thing");
    // Who may not see all of the plugin sees none of them.
    let rules = json!({"allow": [{"methods": ["GET"], "path": "/things/**"}]});
    show(&mesh, "echo", &rules);
    within(PATIENCE * 2, "it is gone", || {
        let whole = self::document(&mesh).json();
        let has = |name: &str| whole.get(name).is_some_and(|all| all != &json!({}));
        (has("paths") && !has("webhooks")).then_some(())
    });
}

#[test]
fn the_page_at_docs_comes_from_the_program_alone() {
    let mesh = TestMesh::new()
        .also("root", json!({"mount": "/"}))
        .gateway_arg("--docs")
        .start();
    let page = mesh.get("/docs").send();
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap().to_owned();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    let text = page.text();
    assert!(
        !text.contains("http:") && !text.contains("https:") && !text.contains("<script>"),
        "{text}"
    );
    for asset in text.split(['"']).filter(|word| word.starts_with("/docs/")) {
        let answer = mesh.get(asset).send();
        assert_eq!(answer.status, 200, "{asset}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        let etag = answer.header("etag").unwrap();
        let again = mesh.get(asset).header("If-None-Match", etag).send();
        assert_eq!((again.status, again.body.len()), (304, 0), "{asset}");
        if answer.header("content-encoding").is_some() {
            assert!(answer.body.starts_with(&[0x1f, 0x8b]), "{asset}");
        }
    }
    mesh.post("/docs", "x")
        .send()
        .assert_refusal(405, "method_not_allowed", "gateway");
    assert!(mesh.plugin.seen().is_empty());
    // Without the flag the path is a plugin's.
    let without = TestMesh::new().also("root", json!({"mount": "/"})).start();
    let seen = without.get("/docs").token_of("7", "42").seen_by_plugin();
    assert_eq!(seen.target, "/docs");
    for (flags, says) in [
        (&["--openapi", "all"][..], "must be public, token or off"),
        (&["--openapi", "off", "--docs"], "leave one of them out"),
    ] {
        let invocation = without.gateway_invocation().args(flags).arg("--check");
        let ended = invocation.run("gapura-gateway");
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains(says), "{}", ended.stderr);
    }
}

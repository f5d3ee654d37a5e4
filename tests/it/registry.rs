//! The folder of plugins while it changes: each file stands alone, and nobody ever meets half a
//! table.

use std::fs;
use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::{eventually, within};
use serde_json::json;

/// The promise is two seconds; the rest is the machine's.
const IN_FORCE: Duration = Duration::from_secs(5);

fn status(mesh: &TestMesh, path: &str) -> u16 {
    mesh.get(path).token_of("7", "42").send().status
}

#[test]
fn a_new_file_is_a_new_plugin_and_a_removed_one_is_held_for_a_moment() {
    let mesh = TestMesh::new().also("root", json!({"mount": "/"})).start();
    let entry = |name: &str, changes| {
        mesh.entry(&gapura_merge(
            json!({"name": name, "mount": format!("/{name}"), "identity": "plugin/echo"}),
            changes,
        ))
    };
    assert_eq!(
        mesh.get("/second/x")
            .token_of("7", "42")
            .seen_by_plugin()
            .target,
        "/second/x",
        "the fallback has it"
    );
    mesh.write_registry("second", &entry("second", json!({})));
    within(IN_FORCE, "the new mount is in force", || {
        (mesh
            .get("/second/x")
            .token_of("7", "42")
            .seen_by_plugin()
            .target
            == "/x")
            .then_some(())
    });
    fs::remove_file(mesh.plugins.join("second.json")).unwrap();
    let held = within(IN_FORCE, "its mount is held", || {
        let response = mesh.get("/second/x").token_of("7", "42").send();
        (response.status != 200).then_some(response)
    });
    held.assert_refusal(503, "upstream_unavailable", "gateway");
    assert!(held.header("retry-after").is_some());
    within(
        Duration::from_secs(12),
        "its paths fall to the shorter mount",
        || (status(&mesh, "/second/x") == 200).then_some(()),
    );
}

fn gapura_merge(mut base: serde_json::Value, changes: serde_json::Value) -> serde_json::Value {
    for (name, value) in changes.as_object().unwrap() {
        base[name] = value.clone();
    }
    base
}

#[test]
fn a_faulty_file_keeps_its_last_good_version_and_stops_no_other() {
    let mesh = TestMesh::new().also("other", json!({})).start();
    let faulty = mesh.plugins.join("echo.json");
    for text in [
        "{",
        "",
        "{\"name\": \"echo\"}",
        "[]",
        "{\"name\":\"echo\",\"version\":\"1\",\"mount\":\"/echo\",\"upstream\":\"https://127.0.0.1:1\",\"auth_mode\":\"gateway_verifid\"}",
    ] {
        fs::write(&faulty, text).unwrap();
        within(IN_FORCE, "the fault is noticed", || {
            (mesh.metric(&mesh.gateway, "gapura_registry_faulty_files") == 1.0).then_some(())
        });
        assert_eq!(status(&mesh, "/echo/x"), 200, "{text:?}");
        mesh.write_registry(
            "other",
            &mesh.entry(&json!({"name": "other", "mount": "/moved", "identity": "plugin/echo"})),
        );
        within(IN_FORCE, "the other file's change is in force", || {
            (status(&mesh, "/moved/x") == 200).then_some(())
        });
        mesh.write_registry(
            "other",
            &mesh.entry(&json!({"name": "other", "mount": "/other", "identity": "plugin/echo"})),
        );
        within(IN_FORCE, "and back", || {
            (status(&mesh, "/other/x") == 200).then_some(())
        });
        mesh.write_registry("echo", &mesh.entry(&json!({})));
        within(IN_FORCE, "mended", || {
            (mesh.metric(&mesh.gateway, "gapura_registry_faulty_files") == 0.0).then_some(())
        });
    }
    let log = mesh.gateway.log_text();
    assert!(log.contains("echo.json:1:"), "file, line and column: {log}");
    assert!(log.contains("gateway_verified"), "the nearest valid name");
}

#[test]
fn the_mount_of_a_faulty_new_file_is_reserved() {
    let mesh = TestMesh::new().also("root", json!({"mount": "/"})).start();
    assert_eq!(status(&mesh, "/billing/x"), 200, "the fallback has it");
    mesh.write_registry(
        "billing",
        &mesh.entry(&json!({"name": "billing", "mount": "/billing", "auth_mod": "public"})),
    );
    let held = within(IN_FORCE, "nobody else answers for it", || {
        let response = mesh.get("/billing/x").token_of("7", "42").send();
        (response.status != 200).then_some(response)
    });
    held.assert_refusal(503, "upstream_unavailable", "gateway");
    assert_eq!(status(&mesh, "/billings"), 200);
}

#[test]
fn of_two_that_want_one_mount_the_one_in_force_keeps_it() {
    let mesh = TestMesh::new().start();
    mesh.write_registry(
        "thief",
        &mesh.entry(&json!({"name": "thief", "mount": "/echo/", "identity": "plugin/thief"})),
    );
    within(IN_FORCE, "the fault is noticed", || {
        (mesh.metric(&mesh.gateway, "gapura_registry_faulty_files") == 1.0).then_some(())
    });
    for _ in 0..5 {
        assert_eq!(status(&mesh, "/echo/x"), 200);
    }
}

#[test]
fn an_empty_or_unreadable_folder_changes_nothing_and_raises_an_alarm() {
    let mesh = TestMesh::new().start();
    let kept = fs::read_to_string(mesh.plugins.join("echo.json")).unwrap();
    fs::remove_file(mesh.plugins.join("echo.json")).unwrap();
    let _ = within(IN_FORCE * 2, "an alarm", || {
        mesh.gateway
            .log()
            .into_iter()
            .find(|line| line["event"] == "alarm")
    });
    assert_eq!(status(&mesh, "/echo/x"), 200);
    fs::write(mesh.plugins.join("echo.json"), kept).unwrap();
    let _ = within(IN_FORCE * 2, "the alarm is over", || {
        mesh.gateway
            .log()
            .into_iter()
            .find(|line| line["event"] == "alarm_cleared")
    });

    let aside = mesh.plugins.with_extension("aside");
    fs::rename(&mesh.plugins, &aside).unwrap();
    within(IN_FORCE * 2, "an alarm", || {
        (mesh
            .gateway
            .log()
            .iter()
            .filter(|line| line["event"] == "alarm")
            .count()
            == 2)
            .then_some(())
    });
    assert_eq!(status(&mesh, "/echo/x"), 200);
    fs::rename(&aside, &mesh.plugins).unwrap();
}

#[test]
fn a_hangup_signal_rereads_at_once_and_no_stream_notices() {
    let mesh = TestMesh::new().start();
    mesh.plugin.on("/stream", |exchange| {
        exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n");
        loop {
            if !exchange.write(b"5\r\ntick\n\r\n") {
                return gapura_tests::plugin::Then::Close;
            }
            std::thread::sleep(Duration::from_millis(20)); // the beat of the stream
        }
    });
    let mut wire = mesh.connect();
    wire.get("/echo/stream", &mesh.authorization("7", "42"));
    assert_eq!(wire.response_head().status, 200);
    for n in 0..5 {
        mesh.write_registry(
            "other",
            &mesh.entry(
                &json!({"name": "other", "mount": format!("/other{n}"), "identity": "plugin/echo"}),
            ),
        );
        mesh.gateway.signal("HUP");
        eventually("the change is in force", || {
            (status(&mesh, &format!("/other{n}/x")) == 200).then_some(())
        });
        assert!(!wire.read(200).is_empty());
    }
}

#[test]
fn a_mode_that_becomes_weaker_is_said_aloud() {
    let mesh = TestMesh::new().sidecar_args(&["--allow-no-tenant"]).start();
    mesh.write_registry("echo", &mesh.entry(&json!({"auth_mode": "public"})));
    within(IN_FORCE, "no token is needed", || {
        (mesh.get("/echo/x").send().status == 200).then_some(())
    });
    let line = mesh.gateway.wait_for_line("the warning", |line| {
        line["level"] == "warn"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("public"))
    });
    assert!(line["message"].as_str().unwrap().contains("echo"), "{line}");
}

#[test]
fn a_sidecar_that_its_plugin_moved_away_from_is_let_go_of() {
    let mesh = TestMesh::new().start();
    let mut wire = mesh.connect();
    let auth = mesh.authorization("7", "42");
    // A body without a length goes on a connection of its own, which is kept for half a minute; so
    // is the shared one of a GET.
    wire.send(format!("POST /echo/x HTTP/1.1\r\nHost: localhost\r\n{auth}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"));
    assert_eq!(wire.response().status, 200);
    assert_eq!(status(&mesh, "/echo/x"), 200);
    let kept = || mesh.metric(&mesh.sidecar, "gapura_connections{side=\"hop\"}");
    assert!(kept() >= 2.0, "{}", kept());
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"upstream": "https://127.0.0.1:9"})),
    );
    within(
        Duration::from_secs(15),
        "its connections are closed",
        || (kept() == 0.0).then_some(()),
    );
}

#[test]
fn plugins_behind_one_sidecar_share_its_connections_and_nobody_gets_another_identitys() {
    let mesh = TestMesh::new().start();
    let entry = |name: &str, identity: &str| {
        mesh.entry(&json!({
            "name": name, "mount": format!("/{name}"), "identity": identity,
            "health": false, "openapi": false,
        }))
    };
    let names: Vec<String> = (0..20).map(|at| format!("many-{at}")).collect();
    for name in &names {
        mesh.write_registry(name, &entry(name, "plugin/echo"));
    }
    mesh.write_registry("wrong", &entry("wrong", "plugin/wrong"));
    let path = |name: &str| format!("/{name}/x");
    within(IN_FORCE, "all are in force", || {
        let all = names.iter().all(|name| status(&mesh, &path(name)) == 200);
        all.then_some(())
    });
    let kept = || mesh.metric(&mesh.sidecar, "gapura_connections{side=\"hop\"}");
    // One for each of the gateway's workers, and what asked for the versions.
    let few = kept();
    assert!((1.0..=8.0).contains(&few), "{few}");
    // One to the same address stands, and is not to whom this one's file names.
    assert_eq!(status(&mesh, "/wrong/x"), 502);
    // Who goes leaves the others theirs.
    for name in &names[1..] {
        fs::remove_file(mesh.plugins.join(format!("{name}.json"))).unwrap();
    }
    within(IN_FORCE, "the others are gone", || {
        (status(&mesh, &path(&names[19])) != 200).then_some(())
    });
    assert_eq!(status(&mesh, &path(&names[0])), 200);
    assert!(kept() >= 1.0, "{}", kept());
}

#[test]
fn a_mount_whose_requests_hang_keeps_no_other_behind_its_sidecar_waiting() {
    const MANY: usize = 300; // more than one connection of the hop has streams
    let mesh = TestMesh::new().one_worker().start();
    let gate = mesh.plugin.hold("/hold");
    mesh.write_registry("echo", &mesh.entry(&json!({"max_in_flight": 2 * MANY})));
    let other = json!({"name": "other", "mount": "/other", "identity": "plugin/echo"});
    mesh.write_registry("other", &mesh.entry(&other));
    within(IN_FORCE, "both are in force", || {
        let both = ["/echo/x", "/other/x"].map(|path| status(&mesh, path));
        (both == [200, 200]).then_some(())
    });
    let auth = mesh.authorization("7", "42");
    let mut hanging: Vec<_> = (0..MANY)
        .map(|_| {
            let mut wire = mesh.connect();
            wire.get("/echo/hold", &auth);
            wire
        })
        .collect();
    eventually("all of them hang at the plugin", || {
        (mesh.plugin.seen_at("/hold").len() == MANY).then_some(())
    });
    for _ in 0..20 {
        assert_eq!(status(&mesh, "/other/x"), 200);
    }
    gate.open();
    for wire in &mut hanging {
        assert_eq!(wire.response().status, 200);
    }
}

//! One canonical form of every path, used alike for routing, logs and forwarding.

use gapura_tests::mesh::TestMesh;
use serde_json::json;

#[test]
fn a_path_is_brought_into_its_form_before_anything_looks_at_it() {
    let mesh = TestMesh::new()
        .also("whole", json!({"keep_mount_prefix": true}))
        .start();
    for (sent, plugin, logged) in [
        ("/echo", "/", "/echo"),
        ("/echo/", "/", "/echo/"),
        ("/echo/a/b", "/a/b", "/echo/a/b"),
        ("/%65cho/a", "/a", "/echo/a"),
        ("//echo//a///b", "/a/b", "/echo/a/b"),
        ("/echo/%7euser/%41", "/~user/A", "/echo/~user/A"),
        ("/echo/caf%c3%a9", "/caf%C3%A9", "/echo/caf%C3%A9"),
        ("/echo/a%2bb%3a%20c", "/a%2Bb%3A%20c", "/echo/a%2Bb%3A%20c"),
        (
            "/echo/a+b:@!$&'()*,=",
            "/a+b:@!$&'()*,=",
            "/echo/a+b:@!$&'()*,=",
        ),
        ("/echo/...", "/...", "/echo/..."),
        ("/echo/.hidden/..a", "/.hidden/..a", "/echo/.hidden/..a"),
        ("/echo/100%25", "/100%25", "/echo/100%25"),
        ("/echo/a..%3fb/c%23", "/a..%3Fb/c%23", "/echo/a..%3Fb/c%23"),
        ("/echo/%20a", "/%20a", "/echo/%20a"),
        ("/whole/a", "/whole/a", "/whole/a"),
        ("/whole", "/whole", "/whole"),
    ] {
        let seen = mesh.get(sent).token_of("7", "42").seen_by_plugin();
        assert_eq!(seen.target, plugin, "{sent}");
        let id = seen.header("x-request-id").unwrap();
        for program in [&mesh.gateway, &mesh.sidecar] {
            let line = program.wait_for_line("the request", |line| {
                line["event"] == "request" && line["request_id"] == id
            });
            let path = if std::ptr::eq(program, &raw const mesh.gateway) {
                logged
            } else {
                plugin
            };
            assert_eq!(line["path"], path, "{sent}: {line}");
        }
    }
}

#[test]
fn the_query_passes_untouched() {
    let mesh = TestMesh::new().start();
    for query in ["?", "?a=1&b=%2f..%2F;x=//", "?q=%c3%a9+%zz&&=", "?a?b/../c"] {
        let seen = mesh
            .get(&format!("/echo/a{query}"))
            .token_of("7", "42")
            .seen_by_plugin();
        assert!(
            seen.target == format!("/a{query}") || (query == "?" && seen.target == "/a"),
            "{query}: {}",
            seen.target
        );
    }
}

#[test]
fn a_path_that_two_readers_could_read_differently_is_refused() {
    let mesh = TestMesh::new().also("root", json!({"mount": "/"})).start();
    for path in [
        "/echo/..",
        "/echo/../x",
        "/../echo",
        "/echo/./x",
        "/echo/.",
        "/echo/%2e%2e/x",
        "/echo/%2E/x",
        "/echo/.%2e/x",
        "/echo/..;/x",
        "/echo/..;a=1/x",
        "/echo/%2e%2e;/x",
        "/echo/..%3B/x",
        "/echo/..%3F/x",
        "/echo/..%23/x",
        "/echo/%2e%2e%3fa/x",
        "/echo/..%20/x",
        "/echo/%09../x",
        "/echo/a%ff",
        "/echo/%c0%ae%c0%ae/x",
        "/echo/caf%e9",
        "/echo/a#b",
        "/echo/a?b#c",
        "/echo/a;b/x",
        "/echo;v=1/x",
        "/echo/x;",
        "/echo%2fadmin",
        "/echo%2Fadmin",
        "/echo/a%5cb",
        "/echo/a%5Cb",
        "/echo/a\\b",
        "/echo/..\\x",
        "/echo/a%00",
        "/echo/%",
        "/echo/%2",
        "/echo/%zz",
        "/echo/%u002e",
        "/echo/é",
    ] {
        let response = mesh.get(path).token_of("7", "42").send();
        assert_eq!(response.status, 400, "{path}: {response:?}");
        response.assert_refusal(400, "bad_request", "gateway");
    }
    assert!(mesh.plugin.seen().is_empty());
}

#[test]
fn a_mount_takes_whole_segments_only() {
    let mesh = TestMesh::new()
        .plugin("lab")
        .fields(json!({"mount": "/v1/lab"}))
        .also("deeper", json!({"mount": "/v1/lab/reports"}))
        .start();
    for (path, prefix, target) in [
        ("/v1/lab", Some("/v1/lab"), "/"),
        ("/v1/lab/", Some("/v1/lab"), "/"),
        ("/v1/lab/report", Some("/v1/lab"), "/report"),
        ("/v1/lab/reports", Some("/v1/lab/reports"), "/"),
        ("/v1/lab/reports/9", Some("/v1/lab/reports"), "/9"),
        ("/v1/lab/reportsx", Some("/v1/lab"), "/reportsx"),
        ("/v1/labs", None, ""),
        ("/v1/lab%73", None, ""),
        ("/v1", None, ""),
        ("/V1/lab", None, ""),
        ("/", None, ""),
    ] {
        match prefix {
            Some(prefix) => {
                let seen = mesh.get(path).token_of("7", "42").seen_by_plugin();
                assert_eq!(
                    (seen.header("x-forwarded-prefix"), seen.target.as_str()),
                    (Some(prefix), target),
                    "{path}"
                );
            }
            None => mesh
                .get(path)
                .token_of("7", "42")
                .send()
                .assert_refusal(404, "no_route", "gateway"),
        }
    }
}

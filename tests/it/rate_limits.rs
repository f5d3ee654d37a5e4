//! How much one company, user or address may send: `rate_limit` of a plugin's file and of a
//! company's.

use std::fs;
use std::time::Duration;

use gapura_tests::mesh::{RequestBuilder, TestMesh};
use gapura_tests::program::Invocation;
use gapura_tests::tokens::{Signer, claims_with, jwks};
use gapura_tests::wire::Response;
use gapura_tests::within;
use serde_json::{Value, json};

/// A change takes effect within two seconds; the rest is the machine's.
const IN_FORCE: Duration = Duration::from_secs(20);

/// A limit whose bucket does not refill by a whole request while a test lasts.
fn limit(requests: u64, key: &str) -> Value {
    json!({"rate_limit": {"requests": requests, "per_s": 86_400, "key": key}})
}

/// Where an answer says that its caller stands: the name of each limit, what is left, and when
/// there is more.
fn stands(answer: &Response) -> Vec<(String, u64, u64)> {
    let read = |item: &str| {
        let mut parts = item.split(';');
        let name = parts.next().unwrap().trim_matches('"').to_owned();
        let mut number = |name: &str| -> u64 {
            let part = parts.next().unwrap();
            part.strip_prefix(name).unwrap().parse().unwrap()
        };
        (name, number("r="), number("t="))
    };
    answer.all("ratelimit").into_iter().map(read).collect()
}

/// Holds an answer to these limits; a refill that takes most of a day may be under way for a
/// minute.
#[track_caller]
fn assert_stands(answer: &Response, wanted: &[(&str, u64, u64)]) {
    let found = stands(answer);
    assert_eq!(found.len(), wanted.len(), "{found:?}");
    for ((name, left, seconds), (wanted, requests, most)) in found.iter().zip(wanted) {
        assert_eq!((name.as_str(), left), (*wanted, requests), "{found:?}");
        assert!((most - 60..=*most).contains(seconds), "{found:?}");
    }
}

fn statuses(count: usize, ask: impl Fn() -> Response) -> Vec<u16> {
    (0..count).map(|_| ask().status).collect()
}

fn shadowed(mesh: &TestMesh) -> f64 {
    mesh.metric(
        &mesh.gateway,
        "gapura_shadow_refusals_total{plugin=\"echo\"}",
    )
}

#[test]
fn a_company_that_sends_more_than_it_may_is_told_when_to_come_again_and_no_other_is_touched() {
    let mesh = TestMesh::new().fields(limit(3, "tenant")).start();
    for left in [2, 1, 0] {
        let passed = mesh.get("/echo/x").token_of("7", "42").send();
        assert_eq!(passed.status, 200);
        assert_stands(&passed, &[("tenant", left, 28_800)]);
        assert_eq!(
            passed.header("ratelimit-policy"),
            Some("\"tenant\";q=3;w=86400")
        );
        assert_eq!(passed.header("retry-after"), None);
    }
    // Another user of the company, and another path of the plugin: the allowance is the company's.
    let refused = mesh.post("/echo/y", "body").token_of("8", "42").send();
    refused.assert_refusal(429, "rate_limited", "gateway");
    assert_stands(&refused, &[("tenant", 0, 28_800)]);
    let more_in = stands(&refused)[0].2.to_string();
    assert_eq!(refused.header("retry-after"), Some(more_in.as_str()));
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"tenant\";q=3;w=86400")
    );
    assert_eq!(mesh.get("/echo/x").token_of("7", "43").send().status, 200);
    assert_eq!(
        mesh.plugin.seen().len(),
        4,
        "what is refused reaches no plugin"
    );
    let line = mesh.gateway.wait_for_line("the refusal", |line| {
        line["event"] == "request" && line["status"] == 429
    });
    assert_eq!(
        (&line["code"], &line["company_id"]),
        (&json!("rate_limited"), &json!("42"))
    );
    assert!(
        line["reason"].as_str().unwrap().contains("each company"),
        "{line}"
    );
    let count = |series: &str| mesh.metric(&mesh.gateway, series);
    assert_eq!(count("gapura_rejections_total{code=\"rate_limited\"}"), 1.0);
    assert_eq!(
        count("gapura_requests_total{plugin=\"echo\",status=\"429\"}"),
        1.0
    );
}

#[test]
fn what_is_refused_for_another_reason_draws_on_no_allowance() {
    let rules = json!({"allow": [{"methods": ["GET"]}], "rate_limit": {"requests": 1, "per_s": 86_400, "key": "tenant"}});
    let mesh = TestMesh::new().fields(rules).start();
    for _ in 0..3 {
        assert_eq!(mesh.get("/echo/x").send().status, 401);
        let forbidden = mesh.post("/echo/x", "a").token_of("7", "42").send();
        assert_eq!(
            (forbidden.status, forbidden.header("ratelimit")),
            (403, None)
        );
    }
    let ask = || mesh.get("/echo/x").token_of("7", "42").send();
    assert_eq!(statuses(2, ask), [200, 429]);
}

#[test]
fn a_user_counts_within_the_company() {
    let mesh = TestMesh::new().fields(limit(2, "user")).start();
    let of = |user: &'static str, company: &'static str| {
        statuses(3, || mesh.get("/echo/x").token_of(user, company).send())
    };
    assert_eq!(of("7", "42"), [200, 200, 429]);
    assert_eq!(of("8", "42"), [200, 200, 429], "another user");
    assert_eq!(
        of("7", "43"),
        [200, 200, 429],
        "the same id at another company is another user"
    );
}

#[test]
fn an_address_is_the_one_that_is_believed_and_one_client_of_ipv6_has_a_network() {
    let public =
        json!({"auth_mode": "public", "rate_limit": {"requests": 2, "per_s": 86_400, "key": "ip"}});
    let mesh = TestMesh::new()
        .fields(limit(2, "ip"))
        .also("open", public)
        .sidecar_args(&["--allow-no-tenant"])
        .gateway_flag("--trusted-proxy", "127.0.0.0/8")
        .start();
    let from = |path: &str, address: &str, user: &str| {
        let request: RequestBuilder<'_> = mesh.get(path).header("X-Forwarded-For", address);
        request.token_of(user, "42").send().status
    };
    assert_eq!(
        [
            from("/echo/x", "192.0.2.1", "7"),
            from("/echo/x", "192.0.2.1", "8")
        ],
        [200; 2]
    );
    assert_eq!(from("/echo/x", "192.0.2.1", "9"), 429);
    assert_eq!(from("/echo/x", "192.0.2.2", "7"), 200);
    assert_eq!(
        [
            from("/open/x", "2001:db8::1", "7"),
            from("/open/x", "2001:db8::2", "7")
        ],
        [200; 2]
    );
    assert_eq!(from("/open/x", "2001:db8::3", "7"), 429);
    assert_eq!(from("/open/x", "2001:db8:0:1::1", "7"), 200);
    assert_eq!(
        from("/open/x", "192.0.2.1", "7"),
        200,
        "each plugin has its own"
    );
}

#[test]
fn a_bucket_is_one_for_all_workers_and_refills_as_it_says() {
    let quick = json!({"rate_limit": {"requests": 1, "per_s": 2, "key": "tenant"}});
    let mesh = TestMesh::new()
        .fields(limit(40, "tenant"))
        .also("quick", quick)
        .start();
    let asked: Vec<_> = std::thread::scope(|scope| {
        let ask = || statuses(20, || mesh.get("/echo/x").token_of("7", "42").send());
        let all: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
        all.into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect()
    });
    let passed = asked.iter().filter(|status| **status == 200).count();
    assert_eq!((asked.len(), passed), (80, 40));
    let ask = || mesh.get("/quick/x").token_of("7", "42").send().status;
    within(IN_FORCE, "it is empty", || (ask() == 429).then_some(()));
    within(IN_FORCE, "it refills", || (ask() == 200).then_some(()));
}

#[test]
fn a_reload_refills_nothing_and_a_new_limit_takes_effect() {
    let mesh = TestMesh::new().fields(limit(2, "tenant")).start();
    let ask = || mesh.get("/echo/x").token_of("7", "42").send();
    assert_eq!(statuses(3, ask), [200, 200, 429]);
    let version = |version: &str, limit: &Value| {
        let mut entry = mesh.entry(limit);
        entry["version"] = json!(version);
        mesh.write_registry("echo", &entry);
        mesh.gateway.wait_for_line("the reload", |line| {
            line["event"] == "registry_change"
                && line["message"].as_str().unwrap().contains(version)
        });
    };
    version("2.0.0", &limit(2, "tenant"));
    assert_eq!(ask().status, 429, "the bucket is where it was");
    version("3.0.0", &limit(4, "tenant"));
    assert_eq!(
        ask().header("ratelimit-policy"),
        Some("\"tenant\";q=4;w=86400")
    );
    version(
        "4.0.0",
        &json!({"rate_limit": {"requests": 1000, "per_s": 1, "key": "tenant"}}),
    );
    within(IN_FORCE, "a day's debt is forgotten", || {
        (ask().status == 200).then_some(())
    });
    version("5.0.0", &json!({"rate_limit": null}));
    let free = ask();
    assert_eq!((free.status, free.header("ratelimit")), (200, None));
}

#[test]
fn a_shadow_counts_and_lets_pass() {
    let shadow =
        json!({"rate_limit": {"requests": 1, "per_s": 86_400, "key": "tenant", "shadow": true}});
    let mesh = TestMesh::new().fields(shadow).start();
    let ask = || mesh.get("/echo/x").token_of("7", "42").send();
    for _ in 0..3 {
        let passed = ask();
        assert_eq!((passed.status, passed.header("ratelimit")), (200, None));
    }
    assert_eq!(shadowed(&mesh), 2.0);
    let line = mesh.gateway.wait_for_event("shadow_refusal");
    assert!(
        line["message"].as_str().unwrap().contains("limit"),
        "{line}"
    );
    mesh.write_registry("echo", &mesh.entry(&limit(1, "tenant")));
    within(IN_FORCE, "what was counted counts", || {
        (ask().status == 429).then_some(())
    });
}

#[test]
fn a_companys_own_limit_holds_over_all_plugins() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, value: &Value| {
        let next = dir.path().join(format!(".{name}.next"));
        fs::write(&next, value.to_string()).unwrap();
        fs::rename(next, dir.path().join(name)).unwrap();
    };
    put(
        "acme.json",
        &json!({"company_id": "42", "rate_limit": {"requests": 3, "per_s": 86_400}}),
    );
    let mesh = TestMesh::new()
        .fields(limit(2, "user"))
        .also("other", json!({}))
        .gateway_flag("--tenants", dir.path().to_str().unwrap())
        .start();
    let ask = |path: &str, user: &str, company: &str| mesh.get(path).token_of(user, company).send();
    let first = ask("/echo/x", "7", "42");
    assert_stands(&first, &[("user", 1, 43_200), ("company", 2, 28_800)]);
    assert_eq!(first.all("ratelimit-policy").len(), 2);
    assert_eq!(ask("/echo/x", "7", "42").status, 200);
    // The plugin's limit refuses, and what it refuses is not the company's.
    let refused = ask("/echo/x", "7", "42");
    assert_stands(&refused, &[("user", 0, 43_200)]);
    assert_eq!(ask("/other/x", "8", "42").status, 200);
    let refused = ask("/other/x", "9", "42");
    refused.assert_refusal(429, "rate_limited", "gateway");
    assert_stands(&refused, &[("company", 0, 28_800)]);
    assert_eq!(ask("/echo/x", "8", "42").status, 429);
    assert_eq!(
        ask("/other/x", "7", "43").status,
        200,
        "without a file there are no limits"
    );
    put("acme.json", &json!({"company_id": "42"}));
    within(IN_FORCE, "its limit is gone", || {
        (ask("/other/x", "7", "42").status == 200).then_some(())
    });
    // What the company's limit refused was given back to the plugin's.
    let again = ask("/echo/x", "8", "42");
    assert_stands(&again, &[("user", 1, 43_200)]);
}

#[test]
fn pages_of_other_origins_read_what_is_left_and_a_preflight_draws_on_nothing() {
    let mut fields = limit(1, "tenant");
    fields["cors"] = json!({"origins": ["https://app.test"]});
    let mesh = TestMesh::new().fields(fields).start();
    for _ in 0..3 {
        let asked = mesh
            .request("OPTIONS", "/echo/x")
            .header("Origin", "https://app.test")
            .header("Access-Control-Request-Method", "GET")
            .send();
        assert_eq!(asked.status, 204);
    }
    for status in [200, 429] {
        let page = mesh.get("/echo/x").header("Origin", "https://app.test");
        let answer = page.token_of("7", "42").send();
        assert_eq!(answer.status, status);
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(
            exposed.contains("RateLimit,") && exposed.contains("RateLimit-Policy"),
            "{exposed}"
        );
        assert!(answer.header("ratelimit").is_some());
    }
}

#[test]
fn explain_and_the_operators_side_show_the_limits() {
    let mesh = TestMesh::new().fields(limit(5, "user")).start();
    let page = mesh.admin(&mesh.gateway, "/plugins").json();
    let shown = &page["plugins"][0];
    let wanted =
        json!({"requests": 5, "per_s": 86_400, "burst": 5, "key": "user", "shadow": false});
    assert_eq!(shown["rate_limit"], wanted);
    assert_eq!(shown["max_in_flight"], 256);
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::es256("test-key");
    let (keys, token) = (dir.path().join("jwks.json"), dir.path().join("token"));
    fs::write(&keys, jwks(&[&signer])).unwrap();
    fs::write(&token, signer.token(&claims_with(&json!({})))).unwrap();
    let ended = Invocation::new()
        .args(&["explain", "GET", "/echo/x"])
        .flag("--token-file", &token)
        .flag("--plugin-dir", &mesh.plugins)
        .flag("--jwks", &keys)
        .run("gapura-gateway");
    let said = "5 requests in 86400 s for each user, 5 at once: 5 left";
    assert!(
        ended.stdout.contains(said),
        "{} {}",
        ended.stdout,
        ended.stderr
    );
}

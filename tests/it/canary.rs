//! A canary: whose requests go there, that they stay there, and what a mirror finds out.

use std::collections::BTreeSet;

use gapura_tests::eventually;
use gapura_tests::h2::Http2;
use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::{Plugin, Then};
use gapura_tests::program::{Invocation, Program};
use serde_json::{Value, json};

/// A mesh whose plugin has a canary that is reached in plain HTTP by a `public` route, or by mTLS
/// behind the mesh's own identity.
pub(crate) struct Canaried {
    pub(crate) mesh: TestMesh,
    pub(crate) canary: Plugin,
    sidecar: Program,
    fields: Value,
}

impl Canaried {
    pub(crate) fn start(canary: &Value) -> Self {
        Self::with(TestMesh::new(), &json!({}), canary)
    }

    /// The same with these fields of the plugin's beside.
    fn with(mesh: Builder, fields: &Value, canary: &Value) -> Self {
        let mesh = mesh.start();
        let plugin = Plugin::tcp();
        let mut sidecar = Invocation::new()
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin", plugin.url())
            .flag("--mesh-dir", mesh.sidecar_dir.path())
            .flag("--admin", "127.0.0.1:0")
            .flag("--workers", "1")
            .start("gapura-sidecar");
        sidecar.wait_until_started();
        let this = Self {
            mesh,
            canary: plugin,
            sidecar,
            fields: fields.clone(),
        };
        this.set(canary);
        this
    }

    /// Writes these fields of `canary`, and waits until they are in force.
    pub(crate) fn set(&self, canary: &Value) {
        let mut fields = canary.clone();
        fields["upstream"] = json!(format!("https://{}", self.sidecar.address("hop")));
        let mut entry = self.fields.clone();
        entry["canary"] = fields.clone();
        let entry = self.mesh.entry(&entry);
        self.mesh.write_registry("echo", &entry);
        let wanted = (&fields["percent"], &fields["mirror"]);
        eventually("the canary is in force", || {
            let page = self.mesh.admin(&self.mesh.gateway, "/plugins").json();
            let shown = &page["plugins"][0]["canary"];
            let is = |wanted: &Value, shown: &Value| wanted.is_null() || wanted == shown;
            let tenants = fields["tenants"].as_array().map_or(0, Vec::len);
            (is(wanted.0, &shown["percent"])
                && is(wanted.1, &shown["mirror"])
                && shown["tenants"] == tenants)
                .then_some(())
        });
    }

    /// Which of these companies are served by the canary.
    fn there(&self, companies: std::ops::Range<u32>) -> BTreeSet<u32> {
        let mut there = BTreeSet::new();
        for company in companies {
            let before = self.canary.seen_at("/x").len();
            let asked = self.mesh.get("/echo/x").token_of("7", &company.to_string());
            assert_eq!(asked.send().status, 200);
            if self.canary.seen_at("/x").len() > before {
                there.insert(company);
            }
        }
        there
    }
}

#[test]
fn the_named_companies_go_there_and_nobody_else() {
    let canaried = Canaried::start(&json!({"tenants": ["43", 45]}));
    assert_eq!(canaried.there(40..50), BTreeSet::from([43, 45]));
    let seen = canaried.canary.seen_at("/x");
    assert_eq!(seen[0].header("x-company-id"), Some("43"));
    assert_eq!(seen[0].header("authorization"), None);
    // Nobody: not one at all.
    canaried.set(&json!({"percent": 0}));
    assert!(canaried.there(40..50).is_empty());
}

#[test]
fn so_many_per_cent_go_there_and_stay_over_reloads_and_restarts() {
    let canaried = Canaried::start(&json!({"percent": 30}));
    let there = canaried.there(1..101);
    assert!((15..=45).contains(&there.len()), "{there:?}");
    assert_eq!(there, canaried.there(1..101), "each time the same");
    canaried.set(&json!({"percent": 60}));
    let more = canaried.there(1..101);
    assert!(there.is_subset(&more) && more.len() > there.len());
    drop(canaried);
    // Another gateway, and another time.
    let again = Canaried::start(&json!({"percent": 30}));
    assert_eq!(there, again.there(1..101));
}

#[test]
fn a_canary_may_not_be_weaker_than_its_plugin() {
    let mesh = TestMesh::new().start();
    let more = |canary: Value| {
        let entry = mesh.entry(&json!({"canary": canary}));
        mesh.write_registry("echo", &entry);
    };
    let upstream = format!("https://{}", mesh.hop());
    more(json!({"upstream": upstream, "auth_mode": "public"}));
    let line = mesh.gateway.wait_for_event("registry_fault");
    let said = line.to_string();
    assert!(
        said.contains("canary.auth_mode") && said.contains("weaker"),
        "{said}"
    );
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    // In plain HTTP nobody could tell the gateway's headers from forged ones.
    more(json!({"upstream": "http://127.0.0.1:9"}));
    mesh.gateway.wait_for_line("the second fault", |line| {
        line["event"] == "registry_fault" && line.to_string().contains("canary.upstream")
    });
}

#[test]
fn a_mirror_finds_a_planted_difference_and_the_caller_sees_nothing_of_it() {
    let canaried = Canaried::start(&json!({"mirror": true}));
    let Canaried { mesh, canary, .. } = &canaried;
    canary.on("/differs", |exchange| {
        exchange.read_body();
        exchange.answer("404 Not Found", "", b"not here");
        Then::Keep
    });
    canary.on("/hangs", |exchange| {
        exchange.wait_for_close();
        Then::Close
    });
    let count = |result: &str| {
        let series = format!("gapura_mirror_total{{plugin=\"echo\",result=\"{result}\"}}");
        mesh.metric(&mesh.gateway, &series)
    };
    let ask = |path: &str, times: usize| {
        let mut wire = mesh.connect();
        let auth = mesh.authorization("7", "42");
        for _ in 0..times {
            wire.get(path, &auth);
            let answer = wire.response();
            assert_eq!(answer.status, 200, "what the canary says is thrown away");
            assert!(answer.text().contains("here you are"));
        }
    };
    ask("/echo/same", 200);
    eventually("copies were compared", || {
        (count("same") >= 9.0).then_some(())
    });
    let copies = canary.seen_at("/same");
    assert!(
        copies.len() <= 10,
        "{} of 200 are more than 5 %",
        copies.len()
    );
    assert!(count("differs") < 0.5 && count("failed") < 0.5);
    assert_eq!(copies[0].header("authorization"), None);
    assert_eq!(copies[0].header("x-company-id"), Some("42"));
    ask("/echo/differs", 100);
    eventually("the difference is found", || {
        (count("differs") >= 4.0).then_some(())
    });
    // A canary that hangs holds up nobody.
    ask("/echo/hangs", 100);
    // What changes something is never copied.
    for _ in 0..60 {
        let posted = mesh.post("/echo/post", "x").token_of("7", "42").send();
        assert_eq!(posted.status, 200);
    }
    assert!(canary.seen_at("/post").is_empty());
    assert_eq!(mesh.plugin.seen_at("/post").len(), 60);
}

#[test]
fn a_copy_waits_for_its_originals_place_and_never_goes_without_it() {
    let canaried = Canaried::with(
        TestMesh::new().one_worker(),
        &json!({"max_in_flight": 1}),
        &json!({"mirror": true}),
    );
    let Canaried { mesh, canary, .. } = &canaried;
    let gate = mesh.plugin.hold("/hold");
    let (mut first, auth) = (mesh.connect(), mesh.authorization("7", "42"));
    first.get("/echo/hold", &auth);
    mesh.plugin
        .wait_for("it is under way", |seen| seen.target == "/hold");
    let mut client = Http2::connect(mesh.public(), &mesh.client_tls(&["h2"]), 1 << 20);
    let token = mesh.signer.token_of("7", "42");
    let mut ask = |path: &str| {
        let request = http::Request::get(format!("https://localhost{path}"))
            .header("authorization", format!("Bearer {token}"));
        client.open(request.body(()).unwrap(), true)
    };
    // Two of these are to be copied; none of them has its turn.
    let all: Vec<_> = (0..40).map(|_| ask("/echo/shed")).collect();
    for one in all {
        assert_eq!(one.answer().whole().status, 503);
    }
    let skipped = "gapura_mirror_total{plugin=\"echo\",result=\"skipped\"}";
    assert!(mesh.metric(&mesh.gateway, skipped) > 39.5);
    assert!(canary.seen_at("/shed").is_empty(), "{:?}", canary.seen());
    // The twin: those that have it are copied.
    gate.open();
    assert_eq!(first.response().status, 200);
    for _ in 0..40 {
        first.get("/echo/same", &auth);
        assert_eq!(first.response().status, 200);
    }
    canary.wait_for("a copy", |seen| seen.target == "/same");
}

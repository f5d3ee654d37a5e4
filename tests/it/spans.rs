//! Where a request's time went: spans of both programs, as a collector gets them.

use std::time::{Duration, Instant};

use gapura_tests::collector::{Collector, Span};
use gapura_tests::mesh::{Builder, TestMesh};
use gapura_tests::plugin::Then;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::provider::Provider;
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, jwks};
use gapura_tests::{eventually, within};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// A mesh of which both programs send their spans to `collector`, with these variables besides.
fn traced(collector: &Collector, env: &[(&str, &str)]) -> Builder {
    TestMesh::new().invocations(|invocation, _| {
        let at = collector.url();
        let invocation = invocation.env("OTEL_EXPORTER_OTLP_ENDPOINT", &at);
        env.iter()
            .fold(invocation, |with, (name, value)| with.env(name, value))
    })
}

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{CALLER}-{flags}")
}

fn one<'a>(spans: &'a [Span], service: &str, kind: &str) -> &'a Span {
    let mut found = spans
        .iter()
        .filter(|span| span.service == service && span.kind() == kind);
    let first = found.next();
    let first = first.unwrap_or_else(|| panic!("no {kind} span of {service} in {spans:#?}"));
    assert!(found.next().is_none(), "two of them: {spans:#?}");
    first
}

fn dropped(mesh: &TestMesh, program: &Program) -> f64 {
    mesh.metric(program, "gapura_spans_dropped_total")
}

#[test]
fn a_request_is_one_tree_through_both_programs() {
    let collector = Collector::start();
    let mesh = traced(&collector, &[]).start();
    let seen = mesh
        .get("/echo//report%73?token=secret-in-the-query")
        .token_of("user-7", "42")
        .header("X-Request-Id", "one")
        .header("User-Agent", "a-client-that-says-who-it-is")
        .header("traceparent", &parent("01"))
        .seen_by_plugin();
    let spans = collector.trace(TRACE, 4);
    assert_eq!(spans.len(), 4, "{spans:#?}");
    let (gateway, sidecar) = ("gapura-gateway", "gapura-sidecar");
    let door = one(&spans, gateway, "server");
    let hop = one(&spans, gateway, "client");
    let beside = one(&spans, sidecar, "server");
    let call = one(&spans, sidecar, "client");
    assert_eq!(door.parent(), Some(CALLER));
    assert_eq!(hop.parent(), Some(door.id()));
    assert_eq!(beside.parent(), Some(hop.id()));
    assert_eq!(call.parent(), Some(beside.id()));
    // What the plugin records goes below the call that reached it.
    let passed_on = seen.header("traceparent").unwrap();
    assert_eq!(passed_on, format!("00-{TRACE}-{}-01", call.id()));
    for (span, expected) in [
        (
            door,
            json!({
                "http.request.method": "GET", "url.scheme": "https", "url.path": "/echo/reports", "http.route": "/echo",
                "server.address": "localhost", "client.address": "127.0.0.1", "network.protocol.version": "1.1",
                "http.response.status_code": "200", "gapura.company_id": "42", "gapura.plugin": "echo",
                "gapura.request_id": "one"
            }),
        ),
        (
            hop,
            json!({
                "http.request.method": "GET", "server.address": "127.0.0.1", "server.port": mesh.hop().port().to_string(),
                "url.full": format!("https://{}/reports", mesh.hop()), "network.protocol.version": "2",
                "http.response.status_code": "200", "gapura.plugin": "echo"
            }),
        ),
        (
            beside,
            json!({
                "url.path": "/reports", "network.protocol.version": "2", "gapura.company_id": "42", "gapura.plugin": "echo",
                "gapura.request_id": "one", "gapura.peer": "spiffe://test.internal/gateway/edge"
            }),
        ),
        (
            call,
            json!({"http.response.status_code": "200", "network.protocol.version": "1.1", "server.address": "127.0.0.1"}),
        ),
    ] {
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(
                span.attribute(name).as_deref(),
                value.as_str(),
                "{name} of {span:#?}"
            );
        }
        assert!(!span.is_error());
    }
    assert_eq!(door.json["name"], "GET /echo");
    // Each lies within its parent, by clocks of one machine.
    let at = |span: &Span, end: &str| -> u64 { span.json[end].as_str().unwrap().parse().unwrap() };
    for pair in [door, hop, beside, call].windows(2) {
        let [outer, inner] = pair else { unreachable!() };
        let slack = 1_000_000;
        assert!(at(outer, "startTimeUnixNano") <= at(inner, "startTimeUnixNano") + slack);
        assert!(at(inner, "startTimeUnixNano") <= at(inner, "endTimeUnixNano"));
    }
    for post in collector.posts() {
        let text = format!("{}{}", post.head, post.body);
        for secret in [
            "secret-in-the-query",
            "user-7",
            "Bearer",
            "a-client-that-says",
            "eyJ",
        ] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
}

#[test]
fn a_post_is_what_opentelemetry_reads() {
    let collector = Collector::start();
    let env = [
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=Bearer%20collector-key,x-team=lab",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "deployment.environment.name=test",
        ),
    ];
    let mesh = traced(&collector, &env).start();
    let request = mesh.get("/echo/x").token_of("7", "42");
    assert_eq!(
        request.header("traceparent", &parent("01")).send().status,
        200
    );
    let spans = collector.trace(TRACE, 4);
    assert_eq!(spans.len(), 4);
    let mut ids = Vec::new();
    for post in collector.posts() {
        let head = post.head.to_ascii_lowercase();
        for line in [
            "post /v1/traces http/1.1",
            "content-type: application/json",
            "authorization: bearer collector-key",
            "x-team: lab",
        ] {
            assert!(head.lines().any(|found| found == line), "{line} in {head}");
        }
        let read: ExportTraceServiceRequest = serde_json::from_value(post.body.clone())
            .unwrap_or_else(|why| panic!("{why}: {}", post.body));
        for resource in read.resource_spans {
            let about = format!("{:?}", resource.resource.unwrap());
            for said in [
                "gapura.identity",
                "spiffe://test.internal/",
                "deployment.environment.name",
            ] {
                assert!(about.contains(said), "{said} in {about}");
            }
            for span in resource
                .scope_spans
                .into_iter()
                .flat_map(|scope| scope.spans)
            {
                assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
                assert!(
                    span.start_time_unix_nano > 0
                        && span.end_time_unix_nano >= span.start_time_unix_nano
                );
                assert!(span.attributes.iter().all(|one| one.value.is_some()));
                ids.push(
                    span.span_id
                        .iter()
                        .map(|byte| format!("{byte:02x}"))
                        .collect::<String>(),
                );
            }
        }
    }
    assert!(
        spans
            .iter()
            .all(|span| ids.iter().any(|id| id == span.id()))
    );
    for program in [&mesh.gateway, &mesh.sidecar] {
        eventually("what was taken is counted", || {
            (mesh.metric(program, "gapura_spans_exported_total") >= 2.0).then_some(())
        });
        assert!(!program.log_text().contains("collector-key"));
    }
    let shown = mesh.admin(&mesh.gateway, "/config").text();
    assert!(shown.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && shown.contains("authorization"));
    assert!(!shown.contains("collector-key"), "{shown}");
}

#[test]
fn who_sends_a_request_decides_and_else_the_ratio_does() {
    for (sampler, argument, flags, recorded) in [
        ("", "", "01", true),
        ("", "", "00", false),
        ("parentbased_traceidratio", "0", "01", true),
        ("parentbased_traceidratio", "0", "", false),
        ("parentbased_traceidratio", "1", "", true),
        ("traceidratio", "1", "00", true),
        ("traceidratio", "0", "01", false),
        ("always_off", "", "01", false),
        ("always_on", "", "00", true),
    ] {
        let collector = Collector::start();
        let env = [
            ("OTEL_TRACES_SAMPLER", sampler),
            ("OTEL_TRACES_SAMPLER_ARG", argument),
        ];
        let mut mesh = traced(&collector, &env).start();
        let mut request = mesh.get("/echo/x").token_of("7", "42");
        if !flags.is_empty() {
            request = request.header("traceparent", &parent(flags));
        }
        let seen = request.seen_by_plugin();
        // What was decided is passed on, whatever came.
        let passed_on = seen.header("traceparent").unwrap();
        let expected = if recorded { "-01" } else { "-00" };
        let case = format!("{sampler} {argument} {flags}: {passed_on}");
        assert!(passed_on.ends_with(expected), "{case}");
        if recorded {
            let trace = &passed_on[3..35];
            let spans = collector.trace(trace, 4);
            assert_eq!(spans.len(), 4, "{case}");
        } else {
            for program in [&mut mesh.gateway, &mut mesh.sidecar] {
                program.signal("TERM");
                let _ = program.wait_for_end(Duration::from_secs(20));
            }
            assert!(
                collector.spans().is_empty(),
                "{case}: {:?}",
                collector.spans()
            );
        }
    }
}

#[test]
fn without_a_collector_a_trace_is_passed_on_as_it_came() {
    for env in [&[][..], &[("OTEL_TRACES_SAMPLER", "always_on")]] {
        let mesh = TestMesh::new()
            .invocations(|invocation, _| {
                env.iter()
                    .fold(invocation, |with, (name, value)| with.env(name, value))
            })
            .start();
        for flags in ["00", "01"] {
            let request = mesh.get("/echo/x").token_of("7", "42");
            let seen = request
                .header("traceparent", &parent(flags))
                .seen_by_plugin();
            let passed_on = seen.header("traceparent").unwrap();
            assert!(
                passed_on.starts_with(&format!("00-{TRACE}-")),
                "{passed_on}"
            );
            assert!(passed_on.ends_with(flags), "{passed_on}");
        }
        let metrics = mesh.admin(&mesh.gateway, "/metrics").text();
        assert!(!metrics.contains("gapura_spans"), "{metrics}");
    }
}

#[test]
fn a_refusal_is_a_span_with_its_code_and_a_probe_is_none() {
    let collector = Collector::start();
    let mesh = traced(&collector, &[]).start();
    for _ in 0..3 {
        assert_eq!(
            mesh.get("/healthz")
                .header("traceparent", &parent("01"))
                .send()
                .status,
            200
        );
    }
    mesh.plugin.on("/broken", |exchange| {
        exchange.read_body();
        exchange.answer("500 Internal Server Error", "", b"oh");
        Then::Keep
    });
    for (path, token, status) in [
        ("/echo/a", false, 401),
        ("/nowhere", true, 404),
        ("/echo/broken", true, 500),
    ] {
        let request = mesh.get(path).header("traceparent", &parent("01"));
        let request = if token {
            request.token_of("7", "42")
        } else {
            request
        };
        assert_eq!(request.send().status, status);
    }
    let spans = collector.trace(TRACE, 6);
    assert_eq!(spans.len(), 6, "{spans:#?}");
    let of = |path: &str| {
        let found = spans.iter().find(|span| {
            span.service == "gapura-gateway" && span.attribute("url.path").as_deref() == Some(path)
        });
        found.unwrap_or_else(|| panic!("no {path} in {spans:#?}"))
    };
    let code = |span: &Span| span.attribute("gapura.code");
    let refused = of("/echo/a");
    assert_eq!(code(refused).as_deref(), Some("token_missing"));
    assert_eq!(refused.attribute("http.route").as_deref(), Some("/echo"));
    assert!(
        !refused.is_error(),
        "what is wrong with a request is its sender's fault"
    );
    let unrouted = of("/nowhere");
    assert_eq!(code(unrouted).as_deref(), Some("no_route"));
    assert_eq!(
        (&unrouted.json["name"], unrouted.attribute("gapura.plugin")),
        (&json!("GET"), None)
    );
    let broken = of("/echo/broken");
    assert!(broken.is_error() && code(broken).is_none());
    assert_eq!(broken.attribute("error.type").as_deref(), Some("500"));
    assert!(
        spans
            .iter()
            .filter(|span| span.kind() == "client")
            .all(Span::is_error)
    );
}

#[test]
fn each_try_is_a_call_of_its_own() {
    let collector = Collector::start();
    // Nothing listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = nobody.local_addr().unwrap();
    drop(nobody);
    let mesh = traced(&collector, &[]).one_worker().start();
    // Of a weight that has it tried first, though it has just come.
    let first = json!({"url": format!("https://{gone}"), "weight": 100});
    let both = json!({"upstream": [first, format!("https://{}", mesh.hop())]});
    mesh.write_registry("echo", &mesh.entry(&both));
    let mut tries = 0;
    let spans = eventually("a request that was tried twice", || {
        tries += 1;
        let trace = format!("{tries:032x}");
        let request = mesh.get("/echo/x").token_of("7", "42");
        let request = request.header("traceparent", &format!("00-{trace}-{CALLER}-01"));
        assert_eq!(request.send().status, 200);
        let spans = collector.trace(&trace, 4);
        (spans.len() == 5).then_some(spans)
    });
    let calls: Vec<&Span> = spans
        .iter()
        .filter(|span| span.service == "gapura-gateway" && span.kind() == "client")
        .collect();
    let [first, second] = calls.as_slice() else {
        panic!("{spans:#?}")
    };
    assert!(first.is_error());
    assert_eq!(
        first.attribute("error.type").as_deref(),
        Some("upstream_unreachable")
    );
    assert_eq!(
        first.attribute("server.port"),
        Some(gone.port().to_string())
    );
    assert_eq!(
        second.attribute("http.request.resend_count").as_deref(),
        Some("1")
    );
    assert_eq!(
        one(&spans, "gapura-sidecar", "server").parent(),
        Some(second.id())
    );
}

#[test]
fn a_wait_for_a_turn_is_a_child() {
    let collector = Collector::start();
    let mesh = traced(&collector, &[])
        .fields(json!({"max_in_flight": 1}))
        .start();
    let gate = gapura_tests::plugin::Gate::default();
    let inside = gate.clone();
    mesh.plugin.on("/slow", move |exchange| {
        let _ = inside.wait();
        exchange.answer("200 OK", "", b"done");
        Then::Keep
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let request = mesh.get("/echo/slow").token_of("7", "42");
            assert_eq!(request.send().status, 200);
        });
        mesh.plugin
            .wait_for("the one that is under way", |seen| seen.target == "/slow");
        let waits = scope.spawn(|| {
            let request = mesh.get("/echo/x").token_of("7", "42");
            request.header("traceparent", &parent("01")).send().status
        });
        // It waits a second at most: seen, or not, the gate opens before.
        within(
            Duration::from_secs(20),
            "somebody waits or has waited",
            || {
                (mesh.metric(&mesh.gateway, "gapura_requests_in_flight{plugin=\"echo\"}") >= 2.0)
                    .then_some(())
            },
        );
        gate.open();
        let _ = waits.join().unwrap();
    });
    let spans = eventually("the wait and what waited", || {
        let spans = collector.trace(TRACE, 2);
        let is_there = |kind| {
            let mut of_it = spans.iter().filter(|span| span.service == "gapura-gateway");
            of_it.any(|span| span.kind() == kind)
        };
        (is_there("server") && is_there("internal")).then_some(spans)
    });
    let door = one(&spans, "gapura-gateway", "server");
    let wait = one(&spans, "gapura-gateway", "internal");
    assert_eq!(
        (&wait.json["name"], wait.parent()),
        (&json!("wait for a turn"), Some(door.id()))
    );
}

#[test]
fn a_wait_for_keys_is_a_child() {
    let (collector, provider) = (Collector::start(), Provider::start());
    let known = Signer::es256("known");
    provider.serve("/keys", Some(jwks(&[&known])));
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("provider-ca.pem");
    std::fs::write(&roots, provider.root_pem()).unwrap();
    let mesh = traced(&collector, &[])
        .without_keys()
        .gateway_flag("--jwks", &provider.url("/keys"))
        .gateway_flag("--issuer", ISSUER)
        .gateway_flag("--audience", AUDIENCE)
        .gateway_flag("--issuer-ca", roots.to_str().unwrap())
        .start();
    let ask = |signer: &Signer, trace: &str| {
        let request = mesh.get("/echo/x").token(&signer.token_of("7", "42"));
        let given = format!("00-{trace}-{CALLER}-01");
        request.header("traceparent", &given).send().status
    };
    let first = "0af7651916cd43dd8448eb211c80319c";
    assert_eq!(ask(&known, first), 200);
    let second = "1af7651916cd43dd8448eb211c80319c";
    assert_eq!(ask(&known, second), 200);
    // Signed by a key that nobody has: the provider is asked first.
    assert_ne!(ask(&Signer::es256("stranger"), TRACE), 200);
    let spans = collector.trace(TRACE, 2);
    let door = one(&spans, "gapura-gateway", "server");
    let wait = one(&spans, "gapura-gateway", "internal");
    let name = &wait.json["name"];
    assert_eq!(
        (name, wait.parent()),
        (&json!("wait for keys"), Some(door.id()))
    );
    // Its twin found the keys there.
    let spans = collector.trace(second, 4);
    assert!(spans.iter().all(|span| span.kind() != "internal"));
}

#[test]
fn what_a_collector_does_not_take_is_counted_and_tried_as_it_asks() {
    let collector = Collector::start();
    for answer in [
        "503 Service Unavailable",
        "429 Too Many Requests\r\nRetry-After: 1",
    ] {
        collector.answers(answer);
    }
    let mesh = traced(&collector, &[]).start();
    let get = |mesh: &TestMesh, trace: &str| {
        // Refused at the door, so that the sidecar has nothing to say.
        let request = mesh
            .get("/echo/x")
            .header("traceparent", &format!("00-{trace}-{CALLER}-01"));
        assert_eq!(request.send().status, 401);
    };
    get(&mesh, TRACE);
    let begun = Instant::now();
    let spans = collector.trace(TRACE, 3);
    assert_eq!(spans.len(), 3, "the same post three times");
    assert!(
        begun.elapsed() > Duration::from_millis(1200),
        "it was asked to wait a second"
    );
    eventually("it is taken", || {
        (mesh.metric(&mesh.gateway, "gapura_spans_exported_total") == 1.0).then_some(())
    });
    assert_eq!(dropped(&mesh, &mesh.gateway), 0.0);
    // For good, and in part.
    for (answer, body) in [
        ("400 Bad Request", "{}"),
        (
            "200 OK",
            r#"{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}"#,
        ),
    ] {
        let before = dropped(&mesh, &mesh.gateway);
        collector.answers_with(answer, body);
        get(&mesh, "0af7651916cd43dd8448eb211c80319c");
        eventually("it is counted", || {
            (dropped(&mesh, &mesh.gateway) == before + 1.0).then_some(())
        });
    }
    assert_eq!(
        collector.posts().len(),
        5,
        "what is refused is not sent again"
    );
    let line = mesh.gateway.wait_for_event("spans_lost");
    assert_eq!(
        (&line["level"], &line["collector"]),
        (
            &json!("warn"),
            &json!(format!("{}/v1/traces", collector.url()))
        )
    );
    let _ = mesh.gateway.wait_for_event("spans_taken");
}

#[test]
fn a_collector_that_is_away_is_counted_and_slows_nothing() {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let away = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let silent = Collector::start();
    silent.fall_silent();
    for url in [away, silent.url()] {
        let mesh = TestMesh::new()
            .invocations(|invocation, _| {
                invocation
                    .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
                    .env("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
            })
            .start();
        let mut wire = mesh.connect();
        let lines = mesh.authorization("7", "42");
        let mut slowest = Duration::ZERO;
        for _ in 0..200 {
            let begun = Instant::now();
            wire.get("/echo/x", &lines);
            assert_eq!(wire.response().status, 200);
            slowest = slowest.max(begun.elapsed());
        }
        assert!(slowest < Duration::from_secs(5), "{slowest:?}");
        within(
            Duration::from_secs(120),
            "what reached nobody is counted",
            || {
                let lost = dropped(&mesh, &mesh.gateway);
                (lost >= 400.0 && dropped(&mesh, &mesh.sidecar) >= 400.0).then_some(())
            },
        );
        assert_eq!(
            mesh.metric(&mesh.gateway, "gapura_spans_exported_total"),
            0.0
        );
    }
}

#[test]
fn what_was_gathered_is_sent_at_the_end_and_a_silent_collector_holds_nobody_up() {
    let collector = Collector::start();
    let mut mesh = traced(&collector, &[]).start();
    let request = mesh.get("/echo/x").token_of("7", "42");
    assert_eq!(
        request.header("traceparent", &parent("01")).send().status,
        200
    );
    for program in [&mut mesh.gateway, &mut mesh.sidecar] {
        program.signal("TERM");
        assert!(program.wait_for_end(Duration::from_secs(20)).success());
    }
    assert_eq!(collector.trace(TRACE, 4).len(), 4);

    let silent = Collector::start();
    silent.fall_silent();
    let mut mesh = traced(&silent, &[]).start();
    let request = mesh.get("/echo/x").token_of("7", "42");
    assert_eq!(
        request.header("traceparent", &parent("01")).send().status,
        200
    );
    mesh.gateway.signal("TERM");
    assert!(mesh.gateway.wait_for_end(Duration::from_secs(20)).success());
}

#[test]
fn a_collector_behind_tls_is_verified() {
    let (collector, another) = (Collector::start_tls(), Collector::start_tls());
    let dir = tempfile::tempdir().unwrap();
    let roots = dir.path().join("collector-ca.pem");
    for (vouching, taken) in [(&collector, true), (&another, false)] {
        std::fs::write(&roots, vouching.root_pem()).unwrap();
        let mesh = TestMesh::new()
            .invocations(|invocation, _| {
                invocation
                    .env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
                    .env("OTEL_EXPORTER_OTLP_CERTIFICATE", roots.to_str().unwrap())
            })
            .start();
        assert_eq!(mesh.get("/echo/x").send().status, 401);
        if taken {
            eventually("it is taken", || {
                (mesh.metric(&mesh.gateway, "gapura_spans_exported_total") >= 1.0).then_some(())
            });
        } else {
            let line = mesh.gateway.wait_for_event("spans_lost");
            assert!(line["message"].as_str().unwrap().contains("TLS"), "{line}");
        }
    }
}

/// What a start says that must not begin.
fn refused(mesh: &TestMesh, env: &[(&str, &str)], args: &[&str]) -> gapura_tests::program::Ended {
    let with: Invocation = env
        .iter()
        .fold(mesh.gateway_invocation(), |with, (name, value)| {
            with.env(name, value)
        });
    with.args(args).run("gapura-gateway")
}

#[test]
fn a_setting_that_is_wrong_is_named_and_nothing_starts() {
    let mesh = TestMesh::new().start();
    let at = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
    for (name, value, said) in [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "http/json"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318", "https://"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "hidden-key", "name=value"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "milliseconds"),
        (
            "OTEL_TRACES_SAMPLER",
            "sometimes",
            "parentbased_traceidratio",
        ),
        ("OTEL_TRACES_SAMPLER_ARG", "1.5", "from 0 to 1"),
        ("OTEL_SDK_DISABLED", "maybe", "true or false"),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "/nowhere.pem",
            "cannot be read",
        ),
    ] {
        let ended = refused(&mesh, &[at, (name, value)], &["--check"]);
        assert_eq!(ended.code, Some(2), "{name}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(name) && ended.stderr.contains(said),
            "{}",
            ended.stderr
        );
        assert!(!ended.stderr.contains("hidden-key"), "{}", ended.stderr);
    }
    let good = [
        at,
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hidden-key"),
    ];
    let ended = refused(&mesh, &good, &["--check"]);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("http://127.0.0.1:4318/v1/traces"),
        "{}",
        ended.stdout
    );
    assert!(!ended.stdout.contains("hidden-key"), "{}", ended.stdout);
    let shown: Value =
        serde_json::from_str(&ended.stdout[..ended.stdout.find("\n}").unwrap() + 2]).unwrap();
    assert_eq!(
        shown["OTEL_TRACES_SAMPLER"]["value"],
        "parentbased_traceidratio"
    );
}

/// The trace that docs/tracing.md shows.
#[test]
#[ignore = "makes a page"]
fn the_page_shows_what_is_sent() {
    let collector = Collector::start();
    let mesh = traced(&collector, &[]).one_worker().start();
    let get = |id: &str| {
        let request = mesh.get("/echo/reports?from=1").token_of("7", "42");
        let request = request.header("traceparent", &format!("00-{id}-{CALLER}-01"));
        assert_eq!(request.header("X-Request-Id", "a-1").send().status, 200);
    };
    get("0af7651916cd43dd8448eb211c80319c"); // so that connections stand
    get(TRACE);
    let spans = collector.trace(TRACE, 4);
    println!("trace {TRACE}");
    print_below(&spans, CALLER, 0);
}

fn print_below(spans: &[Span], parent: &str, depth: usize) {
    let nanos =
        |span: &Span, end: &str| -> f64 { span.json[end].as_str().unwrap().parse().unwrap() };
    for span in spans.iter().filter(|span| span.parent() == Some(parent)) {
        let took = (nanos(span, "endTimeUnixNano") - nanos(span, "startTimeUnixNano")) / 1e6;
        let indent = "   ".repeat(depth);
        let name = span.json["name"].as_str().unwrap();
        let kind = span.kind().to_ascii_uppercase();
        println!(
            "{indent}{}  {kind}  {name}  {took:.3} ms  span {}",
            span.service,
            span.id()
        );
        for name in [
            "url.full",
            "url.path",
            "http.response.status_code",
            "client.address",
            "gapura.peer",
            "gapura.company_id",
            "gapura.request_id",
        ] {
            if let Some(value) = span.attribute(name) {
                println!("{indent}      {name} = {value}");
            }
        }
        print_below(spans, span.id(), depth + 1);
    }
}

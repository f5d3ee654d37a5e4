use std::sync::Arc;

use http::{HeaderMap, Method};

use super::*;

struct One;

fn asked(method: &Method, path: &str, headers: HeaderMap, rules: &Rules) -> Response<Answer> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(())
        .unwrap();
    let mut head = request.into_parts().0;
    head.headers = headers;
    answer(&head, rules, &One, Pulse::default())
}

impl Pages for One {
    fn open_page(&self, path: &str) -> Option<Page> {
        (path == "/").then(|| Page {
            status: StatusCode::OK,
            kind: "text/html; charset=utf-8",
            text: "<p>".into(),
        })
    }

    fn page(&self, path: &str) -> Option<Page> {
        (path == "/healthz").then(|| Page::json(StatusCode::OK, &serde_json::json!({"ok": true})))
    }
}

fn status(
    method: &Method,
    path: &str,
    lines: &[(&'static str, &'static str)],
    rules: &Rules,
) -> u16 {
    let headers = lines
        .iter()
        .map(|(name, value)| {
            (
                http::HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        })
        .collect();
    asked(method, path, headers, rules).status().as_u16()
}

#[test]
fn a_reader_by_address_is_answered_and_one_by_a_strangers_name_is_not() {
    let rules = Rules {
        check_host: true,
        token: None,
    };
    for host in [
        "127.0.0.1:9901",
        "127.0.0.1",
        "localhost",
        "LOCALHOST:1",
        "[::1]:9901",
        "[::1]",
    ] {
        assert_eq!(
            status(&Method::GET, "/healthz", &[("host", host)], &rules),
            200,
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "evil.example:9901",
        "localhost.evil.example",
        "",
        "127.0.0.1.evil.example",
    ] {
        assert_eq!(
            status(&Method::GET, "/healthz", &[("host", host)], &rules),
            403,
            "{host}"
        );
    }
    assert_eq!(status(&Method::GET, "/healthz", &[], &rules), 403);
    assert_eq!(
        status(
            &Method::GET,
            "/healthz",
            &[("host", "evil.example")],
            &Rules::default()
        ),
        200
    );
}

#[test]
fn only_reading_and_only_what_is_there() {
    let rules = Rules::default();
    assert_eq!(status(&Method::HEAD, "/healthz", &[], &rules), 200);
    assert_eq!(status(&Method::POST, "/healthz", &[], &rules), 405);
    assert_eq!(status(&Method::GET, "/secrets", &[], &rules), 404);
    let allowed = |method| {
        asked(&method, "/healthz", HeaderMap::new(), &rules)
            .headers()
            .get(ALLOW)
            .cloned()
    };
    assert_eq!(allowed(Method::DELETE).unwrap(), "GET, HEAD");
    assert_eq!(allowed(Method::GET), None);
}

#[test]
fn a_question_is_posted_as_json_and_by_no_foreign_page() {
    let rules = Rules {
        check_host: true,
        token: None,
    };
    let refused = |method: &Method, lines: &[(&'static str, &'static str)]| {
        let host = ("host", "127.0.0.1:9901");
        let headers = [host]
            .iter()
            .chain(lines)
            .map(|(name, value)| {
                (
                    http::HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect();
        refused_question(method, &headers, &rules).map(|(status, _)| status.as_u16())
    };
    let json = ("content-type", "application/json");
    for lines in [
        &[json][..],
        &[("content-type", "Application/JSON; charset=utf-8")],
        &[json, ("origin", "http://127.0.0.1:9901")],
    ] {
        assert_eq!(refused(&Method::POST, lines), None, "{lines:?}");
    }
    for (lines, status) in [
        (&[][..], 415),
        (&[("content-type", "text/plain")], 415),
        (&[json, ("origin", "https://evil.example")], 403),
        (&[json, ("origin", "null")], 403),
        (&[json, ("origin", "http://127.0.0.1")], 403),
        (
            &[
                json,
                ("origin", "http://127.0.0.1:9901"),
                ("origin", "null"),
            ],
            403,
        ),
    ] {
        assert_eq!(refused(&Method::POST, lines), Some(status), "{lines:?}");
    }
    assert_eq!(refused(&Method::GET, &[json]), Some(405));
}

#[test]
fn what_needs_no_token_is_what_machines_ask_for() {
    let open: Vec<&str> = Endpoint::ALL
        .into_iter()
        .filter(|endpoint| endpoint.is_for_machines())
        .map(Endpoint::path)
        .collect();
    assert_eq!(open, ["/healthz", "/readyz", "/metrics"]);
    assert_eq!(Endpoint::of("/config"), Some(Endpoint::Config));
    assert_eq!(Endpoint::of("/healthz/"), None);
}

#[test]
fn a_token_is_asked_for_where_one_is_set() {
    let rules = Rules {
        check_host: false,
        token: Some(Arc::from(&b"s3cret"[..])),
    };
    assert_eq!(
        status(
            &Method::GET,
            "/healthz",
            &[("authorization", "Bearer s3cret")],
            &rules
        ),
        200
    );
    assert_eq!(
        status(
            &Method::GET,
            "/healthz",
            &[("authorization", "Bearer s3cre")],
            &rules
        ),
        401
    );
    assert_eq!(status(&Method::GET, "/healthz", &[], &rules), 401);
    let there = status(&Method::GET, "/", &[], &rules);
    assert_eq!(there, 200, "what tells nothing is open");
}

#[test]
fn what_tells_nothing_is_open_to_those_who_call_it_by_its_address_alone() {
    let rules = Rules {
        check_host: true,
        token: Some(Arc::from(&b"s3cret"[..])),
    };
    let of = |host| status(&Method::GET, "/", &[("host", host)], &rules);
    assert_eq!((of("127.0.0.1"), of("evil.example")), (200, 403));
}

#[test]
fn each_answer_tells_browsers_to_load_nothing_from_elsewhere_and_to_keep_nothing() {
    for path in ["/", "/healthz", "/nothing"] {
        let answer = asked(&Method::GET, path, HeaderMap::new(), &Rules::default());
        let of = |name| answer.headers()[name].to_str().unwrap();
        assert!(of("content-security-policy").starts_with("default-src 'self';"));
        assert!(of("content-security-policy").contains("frame-ancestors 'none'"));
        assert_eq!(of("x-content-type-options"), "nosniff");
        assert_eq!(of("cache-control"), "no-store");
    }
}

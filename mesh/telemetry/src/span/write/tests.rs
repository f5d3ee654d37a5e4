use std::rc::Rc;
use std::time::Duration;

use gapura_protocol::trace::Trace;
use http::StatusCode;
use http::header::HeaderValue;
use serde_json::{Value, json};

use super::super::live::{Asked, Callee};
use super::*;

const GIVEN: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn spans(trace: Option<Trace>) -> Rc<Spans> {
    let asked = Asked {
        scheme: "https",
        version: Version::HTTP_2,
    };
    Spans::new(trace.unwrap_or_else(|| Trace::begin(7)), 3, asked)
}

fn served() -> Served<'static> {
    Served {
        began: Instant::now(),
        method: &Method::GET,
        path: Some("/v1/lab/reports"),
        status: Some(200),
        code: None,
        request_id: "r-1",
        company: Some("42"),
        plugin: Some("lab"),
        peer: "127.0.0.1",
        bytes_in: 0,
        bytes_out: 12,
    }
}

fn written(served: &Served<'_>, spans: &Spans) -> Vec<Value> {
    let mut json = b"[".to_vec();
    let count = write(
        &mut json,
        served,
        spans,
        "client.address",
        SystemTime::now(),
    );
    assert_eq!(json.pop(), Some(b','));
    json.push(b']');
    let all: Vec<Value> = serde_json::from_slice(&json).unwrap();
    assert_eq!(all.len() as u64, count);
    all
}

fn attributes(span: &Value) -> Value {
    let all = span["attributes"].as_array().unwrap();
    let plain = all.iter().map(|attribute| {
        let value = &attribute["value"];
        let text = value.get("stringValue").or(value.get("intValue")).unwrap();
        (attribute["key"].as_str().unwrap().to_owned(), text.clone())
    });
    Value::Object(plain.collect())
}

#[test]
fn a_request_is_a_span_below_whoever_sent_it() {
    let spans = spans(Trace::parse(GIVEN));
    spans.takes("/v1/lab");
    spans.is_for(&HeaderValue::from_static("lab.example:8443"));
    let all = written(&served(), &spans);
    let [span] = all.as_slice() else {
        panic!("{all:?}")
    };
    assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
    assert_eq!(span["name"], "GET /v1/lab");
    assert_eq!(span["kind"], 2);
    assert_eq!(span["status"], json!({}));
    let expected = json!({
        "http.request.method": "GET",
        "url.scheme": "https",
        "url.path": "/v1/lab/reports",
        "http.route": "/v1/lab",
        "server.address": "lab.example",
        "server.port": "8443",
        "network.protocol.version": "2",
        "http.response.status_code": "200",
        "http.request.body.size": "0",
        "http.response.body.size": "12",
        "client.address": "127.0.0.1",
        "gapura.request_id": "r-1",
        "gapura.plugin": "lab",
        "gapura.company_id": "42",
    });
    assert_eq!(attributes(span), expected);
}

#[test]
fn what_begins_here_has_no_parent_and_what_is_not_known_is_left_out() {
    let served = Served {
        method: &Method::from_bytes(b"BREW").unwrap(),
        path: None,
        status: None,
        code: Some(Code::ClientGone),
        company: None,
        plugin: None,
        ..served()
    };
    let all = written(&served, &spans(None));
    assert_eq!(all[0].get("parentSpanId"), None);
    assert_eq!(all[0]["name"], "HTTP");
    let known = attributes(&all[0]);
    assert_eq!(known["http.request.method"], "_OTHER");
    assert_eq!(known["gapura.code"], "client_gone");
    for name in [
        "url.path",
        "http.response.status_code",
        "error.type",
        "server.address",
    ] {
        assert_eq!(known.get(name), None, "{name}");
    }
    assert_eq!(all[0]["status"], json!({}));
}

#[test]
fn a_clients_fault_is_no_error_here_and_ours_is() {
    for (status, code, error) in [
        (404, None, None),
        (429, Some(Code::RateLimited), None),
        (500, None, Some("500")),
        (503, Some(Code::Overloaded), Some("overloaded")),
        (200, Some(Code::AnswerCut), Some("answer_cut")),
    ] {
        let served = Served {
            status: Some(status),
            code,
            ..served()
        };
        let all = written(&served, &spans(None));
        let known = attributes(&all[0]);
        let said = known.get("error.type").and_then(Value::as_str);
        assert_eq!(said, error, "{status}");
        assert_eq!(
            all[0]["status"]["code"] == json!(2),
            error.is_some(),
            "{status}"
        );
    }
}

#[test]
fn a_call_is_a_child_with_its_own_end() {
    let spans = spans(None);
    let path = "/reports?token=secret".parse().unwrap();
    for answer in [Some(404), Some(200), None] {
        let callee = Callee {
            scheme: "https",
            address: "::1".into(),
            port: Some(19443),
        };
        let mut call = spans.call(callee, Some(&path), Version::HTTP_2);
        match answer {
            Some(status) => {
                let status = StatusCode::from_u16(status).unwrap();
                call.answered(status, Version::HTTP_11);
            }
            None => call.failed("upstream_timeout"),
        }
    }
    let all = written(&served(), &spans);
    assert_eq!(all.len(), 4);
    let own = &all[3]["spanId"];
    for (span, error) in all
        .iter()
        .zip([Some("404"), None, Some("upstream_timeout")])
    {
        assert_eq!(&span["parentSpanId"], own);
        assert_eq!((&span["name"], &span["kind"]), (&json!("GET"), &json!(3)));
        let known = attributes(span);
        assert_eq!(known["url.full"], "https://[::1]:19443/reports");
        assert_eq!(known["server.address"], "::1");
        assert_eq!(known["gapura.plugin"], "lab");
        assert_eq!(known.get("error.type").and_then(Value::as_str), error);
        assert_eq!(span["status"]["code"] == json!(2), error.is_some());
        assert!(!span.to_string().contains("secret"));
    }
    assert_eq!(attributes(&all[0])["network.protocol.version"], "1.1");
    assert_eq!(attributes(&all[1])["http.request.resend_count"], "1");
    assert_eq!(attributes(&all[0]).get("http.request.resend_count"), None);
}

#[test]
fn times_are_those_that_were_measured() {
    let spans = spans(None);
    let served = Served {
        began: Instant::now().checked_sub(Duration::from_secs(2)).unwrap(),
        ..served()
    };
    let all = written(&served, &spans);
    let nanos = |name: &str| all[0][name].as_str().unwrap().parse::<u64>().unwrap();
    let took = nanos("endTimeUnixNano") - nanos("startTimeUnixNano");
    assert!((2_000_000_000..3_000_000_000).contains(&took), "{took}");
}

#[test]
fn no_text_breaks_the_form_or_goes_on_for_ever() {
    let long = format!("/\"\\\u{1}é{}", "é".repeat(5000));
    let served = Served {
        path: Some(&long),
        ..served()
    };
    let spans = spans(None);
    spans.takes("/a\"b");
    spans.is_for(&HeaderValue::from_static("[::1]:8443"));
    let all = written(&served, &spans);
    let known = attributes(&all[0]);
    assert_eq!(known["server.address"], "::1");
    assert_eq!(all[0]["name"], "GET /a\"b");
    let path = known["url.path"].as_str().unwrap();
    assert!(path.len() <= TEXT_MOST && long.starts_with(path));
}

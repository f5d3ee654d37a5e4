use std::collections::BTreeMap;

use gapura_settings::Layers;

use super::*;

fn load(pairs: &[(&str, &str)]) -> (Result<Collector, Vec<String>>, Vec<String>) {
    let env: BTreeMap<String, String> = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let traces = Traces::read(&mut Layers::default(), &env, "gateway").unwrap();
    let mut warnings = Vec::new();
    let collector = Collector::load(&traces, None, |warning| warnings.push(warning));
    (collector, warnings)
}

const AT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

#[test]
fn a_key_goes_to_no_other_machine_in_plain_http() {
    let key = ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=hidden-key");
    for (at, with_key, fits, warns) in [
        ("http://localhost:4318", true, true, false),
        ("http://127.0.0.1:4318", true, true, false),
        ("http://collector:4318", false, true, true),
        ("http://collector:4318", true, false, false),
        ("collector:4318", false, false, false),
        ("grpc://collector:4317", false, false, false),
    ] {
        let env = [(AT, at), key];
        let (found, warnings) = load(&env[..1 + usize::from(with_key)]);
        let faults = found.err().unwrap_or_default();
        assert_eq!(faults.is_empty(), fits, "{at} {faults:?}");
        assert_eq!(!warnings.is_empty(), warns, "{at} {warnings:?}");
        for said in faults.iter().chain(&warnings) {
            assert!(
                said.starts_with(AT) && !said.contains("hidden-key"),
                "{said}"
            );
        }
    }
}

#[test]
fn roots_that_are_named_must_be_there() {
    let roots = ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere/ca.pem");
    for at in ["https://collector:4318", "http://localhost:4318"] {
        let faults = load(&[(AT, at), roots]).0.err().unwrap();
        assert!(
            faults[0].starts_with("OTEL_EXPORTER_OTLP_CERTIFICATE /nowhere/ca.pem"),
            "{faults:?}"
        );
    }
}

#[test]
fn a_post_says_whose_spans_they_are() {
    let resource = [
        ("service.name".to_owned(), "a \"door\"".to_owned()),
        ("service.version".to_owned(), "mine".to_owned()),
    ];
    let own = "spiffe://test.internal/gateway/edge".parse().unwrap();
    let mut json = opening(&resource, Some(&own));
    json.extend_from_slice(b"{}");
    json.extend_from_slice(CLOSING);
    let post: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let group = &post["resourceSpans"][0];
    assert_eq!(group["scopeSpans"][0]["spans"], serde_json::json!([{}]));
    let said = group["resource"]["attributes"].as_array().unwrap();
    let said: Vec<(&str, &str)> = said
        .iter()
        .map(|one| {
            (
                one["key"].as_str().unwrap(),
                one["value"]["stringValue"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        said[..3],
        [
            ("service.name", "a \"door\""),
            ("service.version", "mine"),
            ("gapura.identity", "spiffe://test.internal/gateway/edge"),
        ]
    );
    assert_eq!(
        said.iter()
            .filter(|(name, _)| *name == "service.version")
            .count(),
        1
    );
}

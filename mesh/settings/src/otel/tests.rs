use serde_json::json;

use super::*;

fn read(pairs: &[(&str, &str)]) -> (Option<Traces>, Vec<String>) {
    let env = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let mut layers = Layers::default();
    let traces = Traces::read(&mut layers, &env, "gateway");
    let problems = layers.into_problems();
    (traces, problems.iter().map(ToString::to_string).collect())
}

fn shown(traces: Option<&Traces>) -> Value {
    let mut shown = Effective::default();
    Traces::show(traces, &mut shown);
    shown.to_json()
}

const AT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318");

#[test]
fn without_a_collector_nothing_is_traced() {
    for env in [
        &[][..],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", "")],
        &[("OTEL_TRACES_SAMPLER", "always_on")],
        &[AT, ("OTEL_SDK_DISABLED", "true")],
        &[
            AT,
            ("OTEL_SDK_DISABLED", "TRUE"),
            ("OTEL_TRACES_SAMPLER", "nonsense"),
        ],
        &[AT, ("OTEL_TRACES_EXPORTER", "none")],
    ] {
        let (traces, problems) = read(env);
        assert!(
            traces.is_none() && problems.is_empty(),
            "{env:?} {problems:?}"
        );
    }
    assert!(shown(None)["OTEL_EXPORTER_OTLP_ENDPOINT"]["value"].is_null());
}

#[test]
fn the_address_is_that_of_traces() {
    let of_traces = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    for (env, endpoint, variable) in [
        (&[AT][..], "http://localhost:4318/v1/traces", AT.0),
        (
            &[(AT.0, "https://c.test/otlp/")],
            "https://c.test/otlp/v1/traces",
            AT.0,
        ),
        (
            &[AT, (of_traces, "https://c.test/x?key=1")],
            "https://c.test/x?key=1",
            of_traces,
        ),
    ] {
        let (traces, problems) = read(env);
        let traces = traces.unwrap();
        assert!(problems.is_empty());
        assert_eq!(
            (traces.endpoint.as_str(), traces.variable),
            (endpoint, variable)
        );
        assert!(!shown(Some(&traces)).to_string().contains("key=1"));
    }
}

#[test]
fn what_is_not_said_is_as_opentelemetry_has_it() {
    let (traces, _) = read(&[AT]);
    let traces = traces.unwrap();
    assert_eq!(traces.timeout, Duration::from_secs(10));
    assert_eq!(traces.sampler, Sampler::ALWAYS.parent_based());
    let name = ("service.name".to_owned(), "gapura-gateway".to_owned());
    assert_eq!(traces.resource, [name]);
    assert!(traces.headers.is_empty());
}

#[test]
fn what_is_for_traces_beats_what_is_for_all() {
    let (traces, problems) = read(&[
        AT,
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "5000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "250"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=1"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
            "authorization=Bearer%20hidden-key",
        ),
        ("OTEL_SERVICE_NAME", "door"),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "service.name=other,deployment.environment.name=test",
        ),
        ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
    ]);
    assert_eq!(problems, [""; 0]);
    let traces = traces.unwrap();
    assert_eq!(traces.timeout, Duration::from_millis(250));
    assert_eq!(traces.headers.len(), 1);
    assert_eq!(traces.headers["authorization"], "Bearer hidden-key");
    assert_eq!(traces.sampler, Sampler::ratio(0.25).parent_based());
    let text = |pair: (&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
    let resource = [
        ("service.name", "door"),
        ("deployment.environment.name", "test"),
    ];
    assert_eq!(traces.resource, resource.map(text));
    let shown = shown(Some(&traces));
    let headers = &shown["OTEL_EXPORTER_OTLP_HEADERS"];
    assert_eq!(headers["value"], json!({"authorization": "set, not shown"}));
    assert_eq!(headers["from"], "OTEL_EXPORTER_OTLP_TRACES_HEADERS");
    assert_eq!(
        shown["OTEL_TRACES_SAMPLER"]["value"],
        "parentbased_traceidratio"
    );
    for hidden in [shown.to_string(), format!("{traces:?}")] {
        assert!(!hidden.contains("hidden-key"), "{hidden}");
    }
}

#[test]
fn every_sampler_of_the_specification_but_remote_ones_is_known() {
    for (name, sampler) in [
        ("always_on", Sampler::ALWAYS),
        ("always_off", Sampler::NEVER),
        ("traceidratio", Sampler::ratio(0.5)),
        ("parentbased_always_on", Sampler::ALWAYS.parent_based()),
        ("parentbased_always_off", Sampler::NEVER.parent_based()),
        (
            "parentbased_traceidratio",
            Sampler::ratio(0.5).parent_based(),
        ),
    ] {
        let (traces, _) = read(&[
            AT,
            ("OTEL_TRACES_SAMPLER", name),
            ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ]);
        assert_eq!(traces.unwrap().sampler, sampler, "{name}");
    }
}

#[test]
fn each_mistake_is_named_by_its_variable_and_all_at_once() {
    let wrong = [
        ("OTEL_SDK_DISABLED", "perhaps"),
        ("OTEL_TRACES_EXPORTER", "zipkin"),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://localhost:4318?hidden-key",
        ),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=a%0Ahidden-key"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "k.pem"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a"),
    ];
    let (traces, problems) = read(&wrong);
    assert!(traces.is_none());
    assert_eq!(problems.len(), wrong.len(), "{problems:#?}");
    for ((name, _), said) in wrong.iter().zip(&problems) {
        assert!(said.starts_with(&format!("{name}: ")), "{said}");
        assert!(!said.contains("hidden-key"), "{said}");
    }
    for (name, value) in [
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "content-type=x"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a b=x"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_TRACES_SAMPLER_ARG", "NaN"),
        ("OTEL_TRACES_SAMPLER_ARG", "-0.1"),
    ] {
        assert_eq!(read(&[AT, (name, value)]).1.len(), 1, "{name}={value}");
    }
}

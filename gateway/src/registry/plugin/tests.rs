use super::*;
use proptest::prelude::*;

fn rules(signing: bool) -> Rules {
    Rules {
        trust_domain: "mylab.internal".parse().unwrap(),
        signing: if signing {
            Signing::WithActor
        } else {
            Signing::Off
        },
        max_body: Some(9),
    }
}

fn read_with(text: &str, rules: &Rules) -> Result<Plugin, Vec<String>> {
    let mut faults = Vec::new();
    let root = gapura_settings::json::parse(text.as_bytes(), &mut faults);
    let is_whole = faults.is_empty();
    let plugin = root
        .and_then(|root| Plugin::read(&root, rules, &mut faults))
        .filter(|_| is_whole);
    assert_eq!(plugin.is_some(), faults.is_empty(), "{faults:?}");
    plugin.ok_or_else(|| faults.iter().map(ToString::to_string).collect())
}

/// A good file with further fields.
fn with(more: &str) -> String {
    let base = "\"name\": \"lab\", \"version\": \"1.0\", \"mount\": \"/lab\", \"upstream\": \"https://127.0.0.1:19443\"";
    format!("{{{base}, \"auth_mode\": \"gateway_verified\"{more}}}")
}

/// A file with plain http.
fn plain(upstream: &str, auth: &str, more: &str) -> String {
    format!(
        "{{\"name\": \"lab\", \"version\": \"1.0\", \"mount\": \"/lab\", \"upstream\": \"{upstream}\", \"auth_mode\": \"{auth}\"{more}}}"
    )
}

#[test]
fn the_required_fields_are_enough() {
    let plugin = read_with(&with(""), &rules(false)).unwrap();
    assert_eq!(plugin.name.as_str(), "lab");
    assert_eq!(plugin.version, "1.0");
    assert_eq!(plugin.mount.as_str(), "/lab");
    assert_eq!(plugin.upstream.to_string(), "https://127.0.0.1:19443");
    assert_eq!(plugin.auth, AuthMode::GatewayVerified);
    assert!(
        !plugin.keep_mount_prefix
            && plugin.forward_headers.names().next().is_none()
            && plugin.inject_headers.is_empty()
    );
    assert_eq!(plugin.timeout, Duration::from_secs(30));
    assert_eq!(
        plugin.identity.to_string(),
        "spiffe://mylab.internal/plugin/lab"
    );
    assert_eq!(plugin.max_body, Some(9));
    assert!(!plugin.signed && plugin.may_leave_loopback() && plugin.gets_context());
    let contract = plugin.contract.unwrap();
    assert_eq!(contract.path, "/openapi.json");
    assert!(!contract.keeps_breaking_out && plugin.envelope == Envelope::Pass);
}

#[test]
fn every_field_is_read() {
    let more = r#", "$schema": "https://x/y.json", "keep_mount_prefix": true, "timeout_ms": 5, "forward_headers": ["X-A"],
        "inject_headers": {"X-Plugin-Key": "k"}, "verify": true, "identity": "plugin/other", "plaintext_upstream": true,
        "max_body_bytes": 0, "retry": {"attempts": 2, "budget_percent": 20}, "openapi": "/api.json",
        "openapi_breaking": "refuse", "envelope": "wrap",
        "health": {"path": "/up", "interval_ms": 1000, "unhealthy_after": 3, "healthy_after": 1}"#;
    let restricting = r#", "enabled": false, "outlive_token": true, "ws_token": true, "shadow": true, "strip_headers": ["Cookie"],
        "allow": [{"path": "/x"}], "tenants": {"only": ["42"]}, "cors": {"origins": ["https://app.example.com"]},
        "tests": [{"as": {"company_id": "42"}, "request": "GET /x", "expect": "allow"}]"#;
    let plugin = read_with(&with(restricting), &rules(false)).unwrap();
    assert!(!plugin.enabled && plugin.outlive_token && plugin.ws_token && plugin.cors.is_some());
    assert!(plugin.access.is_shadow() && plugin.access.restricts());
    assert!(plugin.strip_headers.names_it("cookie"));
    let plugin = read_with(&with(more), &rules(false)).unwrap();
    assert!(plugin.enabled && !plugin.outlive_token && !plugin.ws_token && plugin.cors.is_none());
    assert!(!plugin.access.is_shadow() && !plugin.access.restricts());
    assert!(plugin.keep_mount_prefix && plugin.plaintext_upstream);
    assert_eq!(plugin.timeout, Duration::from_millis(5));
    assert_eq!(plugin.inject_headers.len(), 1);
    assert_eq!(
        plugin.identity.to_string(),
        "spiffe://mylab.internal/plugin/other"
    );
    assert_eq!(plugin.max_body, Some(0));
    let contract = plugin.contract.unwrap();
    assert!(contract.path == "/api.json" && contract.keeps_breaking_out);
    assert_eq!(plugin.envelope, Envelope::Wrap);
    let health = plugin.health.unwrap();
    assert_eq!((health.path.as_str(), health.unhealthy_after), ("/up", 3));
    assert_eq!(
        (plugin.retry.attempts, plugin.retry.budget_percent),
        (2, 20)
    );
    let off = ", \"health\": false, \"openapi\": false, \"openapi_breaking\": \"warn\", \"envelope\": \"check\"";
    let off = read_with(&with(off), &rules(false)).unwrap();
    assert!(off.health.is_none() && off.contract.is_none() && off.envelope == Envelope::Check);
}

#[test]
fn each_missing_field_is_named() {
    let faults = read_with("{}", &rules(false)).unwrap_err();
    let named: Vec<String> = ["name", "version", "mount", "upstream", "auth_mode"]
        .map(|name| format!("1:1: the field \"{name}\" is missing"))
        .to_vec();
    assert_eq!(faults, named);
    assert_eq!(
        read_with("[]", &rules(false)).unwrap_err(),
        ["1:1: expected an object, found a list"]
    );
}

#[test]
fn each_wrong_value_is_named_where_it_stands() {
    for (more, said) in [
        (
            ", \"keep_mount_prefix\": 1",
            "\"keep_mount_prefix\" must be true or false, found a number",
        ),
        (
            ", \"keep_mount_prefix\": null",
            "\"keep_mount_prefix\" must be true or false, found null",
        ),
        (
            ", \"timeout_ms\": 0",
            "\"timeout_ms\" must be a whole number from 1 to 86400000, found 0",
        ),
        (
            ", \"timeout_ms\": \"5\"",
            "\"timeout_ms\" must be a whole number from 1 to 86400000, found a string",
        ),
        (
            ", \"timeout_ms\": 1.5",
            "\"timeout_ms\" must be a whole number from 1 to 86400000, found 1.5",
        ),
        (
            ", \"max_body_bytes\": -1",
            "\"max_body_bytes\" must be a whole number from 0, found -1",
        ),
        (
            ", \"verify\": false",
            "\"verify\" can be false with \"auth_mode\": \"forward_jwt\" only",
        ),
        (
            ", \"identity\": \"plugin/A\"",
            "\"identity\" must be plugin/NAME or spiffe://mylab.internal/plugin/NAME",
        ),
        (
            ", \"identity\": \"spiffe://other/plugin/lab\"",
            "\"identity\" must be of the gateway's own trust domain, mylab.internal",
        ),
        (
            ", \"identity\": \"spiffe://mylab.internal/gateway/lab\"",
            "only plugins answer",
        ),
        (
            ", \"identity\": \"gateway/lab\"",
            "\"identity\" must be plugin/NAME",
        ),
        (
            ", \"retry\": {\"atempts\": 1}",
            "unknown field \"retry.atempts\"; the nearest valid name is \"retry.attempts\"",
        ),
        (
            ", \"retry\": {\"attempts\": 11}",
            "\"retry.attempts\" must be a whole number from 0 to 10",
        ),
        (
            ", \"health\": true",
            "\"health\" must be an object or false, found true",
        ),
        (
            ", \"health\": {\"interval_ms\": 1}",
            "\"health.interval_ms\" must be",
        ),
        (
            ", \"health\": {\"path\": \"x\"}",
            "\"health.path\" must be a path",
        ),
        (", \"openapi\": \"/a?b\"", "\"openapi\" must be a path"),
        (
            ", \"allow\": []",
            "\"allow\" is an empty list, which would take nobody",
        ),
        (
            ", \"rate_limit\": {\"requests\": 1, \"per_s\": 1}",
            "the field \"rate_limit.key\" is missing",
        ),
        (
            ", \"max_in_flight\": 0",
            "\"max_in_flight\" must be a whole number from 1 to 1000000, found 0",
        ),
        (
            ", \"enabled\": 1",
            "\"enabled\" must be true or false, found a number",
        ),
        (
            ", \"canary\": {}",
            "the field \"canary.upstream\" is missing",
        ),
        (", \"cors\": {}", "the field \"cors.origins\" is missing"),
        (", \"ws_token\": true", "\"ws_token\" needs \"cors\""),
        (
            ", \"tenant\": []",
            "unknown field \"tenant\"; the nearest valid name is \"tenants\"",
        ),
        (
            ", \"timeout\": 1",
            "unknown field \"timeout\"; the nearest valid name is \"timeout_ms\"",
        ),
        (
            ", \"mount\": \"/b\"",
            "\"mount\" is named twice, first at 1:35; keep one",
        ),
    ] {
        let faults = read_with(&with(more), &rules(false)).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].contains(said),
            "{more}: {faults:?}"
        );
        assert!(faults[0].starts_with("1:"), "{faults:?}");
    }
    let base = with("");
    for (from, to, said) in [
        ("\"lab\"", "\"Lab\"", "\"name\" is not a plugin's name: "),
        ("\"lab\"", "7", "\"name\" must be a string, found a number"),
        (
            "\"1.0\"",
            "1.0",
            "\"version\" must be a string, found a number",
        ),
        ("\"1.0\"", "\"\"", "\"version\" must be 1 to 128"),
        ("\"/lab\"", "\"lab\"", "\"mount\" must begin with /"),
        ("\"/lab\"", "\"/version\"", "\"mount\" can't be /version"),
        (
            "gateway_verified",
            "gateway-verified",
            "\"auth_mode\" must be gateway_verified, forward_jwt or public; the nearest is gateway_verified",
        ),
    ] {
        let faults = read_with(&base.replacen(from, to, 1), &rules(false)).unwrap_err();
        assert!(
            faults.len() == 1 && faults[0].contains(said),
            "{to}: {faults:?}"
        );
    }
}

#[test]
fn all_mistakes_of_a_file_are_listed_at_once() {
    let text = "{\n \"name\": 1,\n \"vesion\": \"1\",\n \"mount\": \"\",\n \"upstream\": \"https://a\",\n \"auth_mode\": \"jwt\",\n \"timeout_ms\": 0\n}";
    let faults = read_with(text, &rules(false)).unwrap_err();
    let lines: Vec<&str> = faults
        .iter()
        .filter_map(|fault| fault.split(':').next())
        .collect();
    assert_eq!(lines, ["3", "1", "2", "4", "5", "6", "7"], "{faults:?}");
}

#[test]
fn verify_false_goes_with_forward_jwt_only() {
    let read = |auth: &str| {
        read_with(
            &with(", \"verify\": false").replace("gateway_verified", auth),
            &rules(false),
        )
    };
    assert_eq!(
        read("forward_jwt").unwrap().auth,
        AuthMode::ForwardUnverified
    );
    assert!(read("public").is_err() && read("gateway_verified").is_err());
    assert!(!read("forward_jwt").unwrap().gets_context());
}

#[test]
fn plain_http_beyond_loopback_has_to_be_asked_for() {
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let plugin = read_with(
            &plain(&format!("http://{host}:5000"), "public", ""),
            &rules(false),
        )
        .unwrap();
        assert!(!plugin.may_leave_loopback() && !plugin.signed);
    }
    let faults = read_with(&plain("http://plugin:5000", "public", ""), &rules(true)).unwrap_err();
    assert!(
        faults.len() == 1
            && faults[0].contains("plaintext_upstream")
            && faults[0].contains("https://"),
        "{faults:?}"
    );
    let asked = plain(
        "http://plugin:5000",
        "public",
        ", \"plaintext_upstream\": true",
    );
    assert!(
        read_with(&asked, &rules(false))
            .unwrap()
            .may_leave_loopback()
    );
}

#[test]
fn a_rule_on_actors_needs_a_signature_that_covers_them() {
    let older = Rules {
        signing: Signing::WithoutActor,
        ..rules(true)
    };
    let actors = r#", "allow": [{"path": "/**"}, {"actors": "none"}]"#;
    let direct = |more| plain("http://127.0.0.1:5000", "gateway_verified", more);
    let faults = read_with(&direct(actors), &older).unwrap_err();
    assert!(
        faults.len() == 1 && faults[0].contains("actors") && faults[0].contains("--signature v2"),
        "{faults:?}"
    );
    let any = direct(r#", "allow": [{"actors": "any"}]"#);
    assert!(read_with(&any, &older).is_err());
    // The newer form covers it, a sidecar needs no signature, and other rules ask nothing of it.
    assert!(read_with(&direct(actors), &rules(true)).is_ok());
    assert!(read_with(&with(actors), &older).is_ok());
    let others = direct(r#", "allow": [{"roles": ["admin"]}]"#);
    assert!(read_with(&others, &older).is_ok());
}

#[test]
fn verified_facts_go_over_plain_http_only_with_a_signature() {
    let verified = plain("http://127.0.0.1:5000", "gateway_verified", "");
    let faults = read_with(&verified, &rules(false)).unwrap_err();
    assert!(
        faults.len() == 1
            && faults[0].contains("--signing-secret-file")
            && faults[0].contains("sidecar"),
        "{faults:?}"
    );
    let signed = read_with(&verified, &rules(true)).unwrap();
    assert!(signed.signed && signed.gets_context());
    let forwarded = plain("http://127.0.0.1:5000", "forward_jwt", "");
    assert!(!read_with(&forwarded, &rules(false)).unwrap().gets_context());
    assert!(read_with(&forwarded, &rules(true)).unwrap().gets_context());
    let faults = read_with(
        &plain(
            "http://127.0.0.1:5000",
            "public",
            ", \"identity\": \"plugin/lab\"",
        ),
        &rules(true),
    )
    .unwrap_err();
    assert!(
        faults[0].contains("\"identity\" can't be proven over plain http"),
        "{faults:?}"
    );
}

#[test]
fn the_identity_may_be_written_in_both_ways() {
    for identity in ["plugin/b", "spiffe://mylab.internal/plugin/b"] {
        let plugin = read_with(
            &with(&format!(", \"identity\": \"{identity}\"")),
            &rules(false),
        )
        .unwrap();
        assert_eq!(
            plugin.identity.to_string(),
            "spiffe://mylab.internal/plugin/b"
        );
    }
}

#[test]
fn injected_values_are_in_no_fault_and_no_debug_text() {
    let plugin = read_with(
        &with(", \"inject_headers\": {\"X-Plugin-Key\": \"s3cret\"}"),
        &rules(false),
    )
    .unwrap();
    assert!(!format!("{plugin:?}").contains("s3cret"));
    let faults = read_with(
        &with(", \"inject_headers\": {\"Host\": \"s3cret\", \"X-A\": [\"s3cret\"]}"),
        &rules(false),
    )
    .unwrap_err();
    assert!(
        faults.len() == 2 && !faults.concat().contains("s3cret"),
        "{faults:?}"
    );
}

#[test]
fn a_stronger_mode_is_greater() {
    let modes = [
        AuthMode::Public,
        AuthMode::ForwardUnverified,
        AuthMode::ForwardJwt,
        AuthMode::GatewayVerified,
    ];
    assert!(modes.is_sorted() && modes.iter().filter(|mode| mode.is_verified()).count() == 2);
}

#[test]
fn the_sample_registry_is_good() {
    let plugin = read_with(
        include_str!("../../../../plugins.d/lab-reporting.json"),
        &rules(false),
    )
    .unwrap();
    assert_eq!(
        (plugin.name.as_str(), plugin.mount.as_str()),
        ("lab-reporting", "/v1/plugins/lab-reporting")
    );
}

fn field() -> impl Strategy<Value = String> {
    let known: Vec<&'static str> = [&names(fields::PLUGIN), LATER, &["nmae"]].concat();
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?[0-9]{1,20}",
        "\"(https?://)?[a-z0-9./:*\\[\\]@%-]{0,12}\"",
        "\\[\"X-[A-Za-z*-]{0,9}\", 1\\]",
        "\\{\"[A-Za-z_-]{0,9}\": \"[ -!#-\\[\\]-~é]{0,5}\"\\}",
        Just("[{\"url\": \"https://a:1\", \"weight\": 2}]".to_owned()),
    ];
    (proptest::sample::select(known), value)
        .prop_map(|(name, value)| format!(", \"{name}\": {value}"))
}

proptest! {
    #[test]
    fn no_file_makes_it_panic(more in proptest::collection::vec(field(), 0..6), signing in any::<bool>()) {
        let _ = read_with(&with(&more.concat()), &rules(signing));
        let _ = read_with(&format!("{{\"a\": 1{}}}", more.concat()), &rules(signing));
    }
}

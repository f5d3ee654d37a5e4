use http::Request;

use super::*;
use crate::authorise::AllowList;

fn peer() -> PermittedPeer {
    let list = AllowList::new(vec!["spiffe://lab/gateway/*".parse().unwrap()]);
    list.admit(&"spiffe://lab/gateway/edge".parse().unwrap())
        .unwrap()
}

fn head(method: &str, uri: &str, lines: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder()
        .method(method)
        .uri(uri)
        .header("host", "api");
    for (name, value) in lines {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn verdict(head: Parts, rule: &TenantRule) -> Result<Parts, Code> {
    check(&peer(), head, false, rule, &mut Seen::default()).map(Trusted::into_parts)
}

const OURS: [(&str, &str); 4] = [
    ("x-request-id", "r"),
    ("x-user-id", "7"),
    ("x-company-id", "42"),
    ("x-gapura-auth", "verified"),
];
const PUBLIC: [(&str, &str); 2] = [("x-request-id", "r"), ("x-gapura-auth", "public")];

#[test]
fn the_plugin_sees_the_context_and_the_clients_host() {
    let mut lines = OURS.to_vec();
    lines.extend([("x_company_id", "9"), ("x-spoof", "1"), ("accept", "*/*")]);
    let head = verdict(head("GET", "/reports?x=1", &lines), &TenantRule::default()).unwrap();
    let mut names: Vec<&str> = head.headers.keys().map(http::HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "accept",
            "host",
            "x-company-id",
            "x-request-id",
            "x-user-id"
        ]
    );
    assert_eq!(head.headers["host"], "api");
    assert_eq!(head.uri, "/reports?x=1");
}

#[test]
fn the_host_stays_where_it_stands_and_there_is_one() {
    let on_http2 = |uri: &str, line: Option<&'static str>| {
        let mut head = head("GET", uri, &OURS);
        head.version = Version::HTTP_2;
        head.headers.remove("host");
        if let Some(line) = line {
            head.headers.insert("host", HeaderValue::from_static(line));
        }
        verdict(head, &TenantRule::default())
    };
    let alone = on_http2("https://api:8443/x", None).unwrap();
    assert!(!alone.headers.contains_key("host"));
    assert_eq!(alone.uri.authority().unwrap(), "api:8443");
    let both = on_http2("https://api/x", Some("api:443")).unwrap();
    assert_eq!(both.headers["host"], "api:443");
    for (uri, line) in [
        ("https://api/x", Some("other")),
        ("https://a@api/x", None),
        ("/x", None),
    ] {
        assert_eq!(on_http2(uri, line).err(), Some(Code::BadRequest), "{uri}");
    }
}

#[test]
fn a_path_that_is_not_canonical_did_not_come_through_the_door() {
    for path in ["/a//b", "/%61", "/a/../b", "/a%2fb"] {
        assert_eq!(
            verdict(head("GET", path, &OURS), &TenantRule::default()).err(),
            Some(Code::BadRequest),
            "{path}"
        );
    }
}

#[test]
fn without_a_tenant_only_what_is_excused_passes() {
    let closed = TenantRule::default();
    let open = TenantRule {
        allow_none: true,
        ..TenantRule::default()
    };
    assert_eq!(
        verdict(head("GET", "/", &PUBLIC), &closed).err(),
        Some(Code::TenantMissing)
    );
    assert!(verdict(head("GET", "/", &PUBLIC), &open).is_ok());
    for auth in ["verified", "nonsense"] {
        let lines = [
            ("x-request-id", "r"),
            ("x-user-id", "7"),
            ("x-gapura-auth", auth),
        ];
        assert_eq!(
            verdict(head("GET", "/", &lines), &open).err(),
            Some(Code::TenantMissing),
            "{auth}"
        );
    }
    assert_eq!(
        verdict(head("GET", "/", &[("x-request-id", "r")]), &open).err(),
        Some(Code::TenantMissing)
    );
}

#[test]
fn a_public_path_narrows_the_excuse_by_whole_segments() {
    let rule = TenantRule {
        allow_none: true,
        public_paths: vec!["/docs".into()],
        ..TenantRule::default()
    };
    for (path, passes) in [
        ("/docs", true),
        ("/docs/a", true),
        ("/docsx", false),
        ("/", false),
    ] {
        assert_eq!(
            verdict(head("GET", path, &PUBLIC), &rule).is_ok(),
            passes,
            "{path}"
        );
    }
}

#[test]
fn a_probe_is_a_bare_get_to_a_path_for_probes() {
    let rule = TenantRule {
        probe_paths: vec!["/healthz".into()],
        ..TenantRule::default()
    };
    let marked = [("x-request-id", "r"), ("x-gapura-probe", "1")];
    assert!(verdict(head("GET", "/healthz", &marked), &rule).is_ok());
    let with = |extra: (&'static str, &'static str)| vec![marked[0], marked[1], extra];
    for head in [
        head("POST", "/healthz", &marked),
        head("GET", "/healthz?x=1", &marked),
        head("GET", "/healthz/x", &marked),
        head("GET", "/other", &marked),
        head("GET", "/healthz", &with(("authorization", "Bearer a"))),
        head("GET", "/healthz", &with(("cookie", "a=1"))),
        head("GET", "/healthz", &with(("content-length", "1"))),
        head("GET", "/healthz", &[("x-request-id", "r")]),
    ] {
        assert_eq!(verdict(head, &rule).err(), Some(Code::TenantMissing));
    }
}

#[test]
fn an_upgrade_is_for_websockets_alone() {
    let asks = |lines: &[(&str, &str)]| {
        let mut all = OURS.to_vec();
        all.extend_from_slice(lines);
        let trusted = check(
            &peer(),
            head("GET", "/", &all),
            false,
            &TenantRule::default(),
            &mut Seen::default(),
        )
        .unwrap();
        (
            trusted.websocket,
            trusted.into_parts().headers.contains_key("upgrade"),
        )
    };
    assert_eq!(
        asks(&[
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket")
        ]),
        (true, false)
    );
    assert_eq!(asks(&[("upgrade", "websocket")]), (false, false));
    assert_eq!(
        asks(&[("connection", "upgrade"), ("upgrade", "h2c")]),
        (false, false)
    );
}

#[test]
fn who_acts_for_the_user_reaches_the_plugin_and_is_seen() {
    let mut lines = OURS.to_vec();
    lines.push(("x-actor-id", "support-1"));
    let mut seen = Seen::default();
    let head = check(
        &peer(),
        head("GET", "/", &lines),
        false,
        &TenantRule::default(),
        &mut seen,
    )
    .map(Trusted::into_parts)
    .unwrap();
    assert_eq!(head.headers["x-actor-id"], "support-1");
    assert!(seen.actor);
    verdict(self::head("GET", "/", &OURS), &TenantRule::default()).unwrap();
}

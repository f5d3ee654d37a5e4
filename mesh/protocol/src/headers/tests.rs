use proptest::prelude::*;

use super::*;

fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

fn nothing(_: &HeaderName) -> bool {
    false
}

/// What of a client's request goes on, and what was taken.
fn passed(headers: &HeaderMap, forwarded: impl Fn(&HeaderName) -> bool) -> (HeaderMap, Stripped) {
    let mut passed = HeaderMap::new();
    let stripped = pass_client_request(headers, forwarded, |name, value| {
        passed.append(name.clone(), value.clone());
    });
    (passed, stripped)
}

#[test]
fn a_client_keeps_its_own_headers_and_loses_ours() {
    let headers = map(&[
        ("host", "a"),
        ("accept", "*/*"),
        ("cookie", "a=1"),
        ("x-user-id", "root"),
        ("x-company-id", "9"),
        ("x-role", "admin"),
        ("x-actor-id", "8"),
        ("x-request-id", "a"),
        ("x-plugin-anything", "1"),
        ("x-internal-signature", "v1"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-real-ip", "1.2.3.4"),
        ("x-gapura-auth", "verified"),
        ("x-custom", "1"),
        ("forwarded", "for=1"),
        ("proxy", "evil"),
        ("baggage", "a=b"),
    ]);
    let (headers, stripped) = passed(&headers, nothing);
    assert_eq!(names(&headers), ["accept", "cookie", "host"]);
    assert_eq!(stripped.of(Kind::Identity), 10);
    assert_eq!(stripped.of(Kind::X), 4);
}

#[test]
fn forward_headers_let_a_plugin_see_what_it_asks_for_and_nothing_reserved() {
    let headers = map(&[("x-custom", "1"), ("x-other", "2"), ("x-role", "admin")]);
    let (headers, _) = passed(&headers, |_| true);
    assert_eq!(names(&headers), ["x-custom", "x-other"]);
}

#[test]
fn every_alias_of_a_name_is_dropped_each_line_counted() {
    let mut headers = map(&[
        ("x_company_id", "9"),
        ("x.company.id", "9"),
        ("x-company_id", "9"),
        ("x!company$id", "9"),
        ("user_agent", "a"),
    ]);
    headers.append("x_company_id", HeaderValue::from_static("8"));
    let (headers, stripped) = passed(&headers, |_| true);
    assert!(headers.is_empty());
    assert_eq!(stripped.of(Kind::Alias), 6);
}

#[test]
fn every_connection_line_is_read() {
    let headers = map(&[
        ("connection", "close, Cookie"),
        ("connection", "Accept , host,content-length"),
        ("cookie", "a"),
        ("accept", "b"),
        ("host", "a"),
        ("content-length", "1"),
        ("keep-alive", "1"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("http2-settings", "A"),
        ("user-agent", "c"),
    ]);
    let (headers, stripped) = passed(&headers, nothing);
    assert_eq!(names(&headers), ["content-length", "host", "user-agent"]);
    assert_eq!(stripped.of(Kind::Nominated), 2);
    assert_eq!(stripped.of(Kind::HopByHop), 6);
}

#[test]
fn the_sidecar_lets_through_what_the_gateway_vouches_for() {
    let mut headers = map(&[
        ("x-request-id", "a"),
        ("x-user-id", "7"),
        ("x-company-id", "42"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "spoof"),
        ("x-real-ip", "1"),
        ("x-gapura-auth", "verified"),
        ("x-gapura-vouched", "X-Custom, x-plugin-flag,x-gapura-made"),
        ("x-gapura-made", "internal"),
        ("x-custom", "1"),
        ("x-plugin-flag", "on"),
        ("x-spoof", "1"),
        ("x_user_id", "root"),
        ("accept", "*/*"),
    ]);
    let stripped = scrub_hop_request(&mut headers);
    assert_eq!(
        names(&headers),
        [
            "accept",
            "x-company-id",
            "x-custom",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-plugin-flag",
            "x-request-id",
            "x-user-id"
        ]
    );
    assert_eq!(
        (
            stripped.of(Kind::Identity),
            stripped.of(Kind::X),
            stripped.of(Kind::Alias)
        ),
        (3, 1, 1)
    );
}

#[test]
fn our_own_marks_go_uncounted_whether_or_not_anything_else_goes() {
    let marked = [
        ("x-request-id", "a"),
        ("x-gapura-auth", "verified"),
        ("x-gapura-probe", "1"),
        ("x-gapura-vouched", "x-custom"),
        ("x-gapura-vouched", "x-other"),
        ("accept", "*/*"),
    ];
    let mut headers = map(&marked);
    assert_eq!(scrub_hop_request(&mut headers).total(), 0);
    assert_eq!(names(&headers), ["accept", "x-request-id"]);
    let mut headers = map(&marked);
    headers.insert("x-other", HeaderValue::from_static("1"));
    headers.append("te", HeaderValue::from_static("trailers"));
    headers.append("te", HeaderValue::from_static("gzip"));
    let stripped = scrub_hop_request(&mut headers);
    assert_eq!((stripped.of(Kind::HopByHop), stripped.total()), (2, 2));
    assert_eq!(names(&headers), ["accept", "x-other", "x-request-id"]);
}

/// Rule 3 for one name that is none of our marks, as the contract puts it.
fn rule_3(name: &HeaderName, nominated: &[&str], vouched: &[&str]) -> Option<Kind> {
    let text = name.as_str();
    if is_of_rule_2(text) {
        return None;
    }
    if !is_plain(text) {
        return Some(Kind::Alias);
    }
    if is_hop_by_hop(name) {
        return Some(Kind::HopByHop);
    }
    if nominated.contains(&text) {
        return (!is_never_nominated(name)).then_some(Kind::Nominated);
    }
    if matches!(text, "forwarded" | "proxy" | "baggage") {
        return Some(Kind::X);
    }
    let ours = text.starts_with("x-gapura-");
    if !(text.starts_with("x-") || tells_who(text)) || (!ours && vouched.contains(&text)) {
        return None;
    }
    Some(if is_reserved(text) {
        Kind::Identity
    } else {
        Kind::X
    })
}

const ON_THE_HOP: [&str; 24] = [
    "accept",
    "authorization",
    "baggage",
    "cf-ray",
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy",
    "remote-user",
    "te",
    "traceparent",
    "x-a",
    "x-forwarded-for",
    "x-forwarded-port",
    "x-gapura-auth",
    "x-gapura-made",
    "x-plugin-a",
    "x-real-ip",
    "x-user-id",
    "x_user_id",
    "x-b",
];

proptest! {
    #[test]
    fn on_the_hop_each_name_goes_or_stays_by_the_rule(
        there in proptest::collection::vec(proptest::sample::select(&ON_THE_HOP[..]), 0..12),
        nominated in proptest::collection::vec(proptest::sample::select(&ON_THE_HOP[..]), 0..4),
        vouched in proptest::collection::vec(proptest::sample::select(&ON_THE_HOP[..]), 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for name in &there {
            headers.append(*name, HeaderValue::from_static(""));
        }
        let list = |names: &[&str]| HeaderValue::from_str(&names.join(", ")).unwrap();
        if !nominated.is_empty() {
            headers.append(CONNECTION, list(&nominated));
        }
        headers.append(X_GAPURA_VOUCHED, list(&vouched));
        let (mut stay, mut counts) = (Vec::new(), Stripped::default());
        for name in headers.keys() {
            if matches!(name.as_str(), "x-gapura-auth" | "x-gapura-vouched") {
                continue;
            }
            match rule_3(name, &nominated, &vouched) {
                None => stay.push(name.as_str()),
                Some(kind) => counts.add(kind, headers.get_all(name).iter().count() as u32),
            }
        }
        stay.sort_unstable();
        let mut left = headers.clone();
        prop_assert_eq!(scrub_hop_request(&mut left), counts);
        prop_assert_eq!(names(&left), stay);
    }
}

#[test]
fn an_answer_loses_what_is_inside_the_mesh() {
    let mut headers = map(&[
        ("content-type", "a"),
        ("set-cookie", "a"),
        ("x-company-id", "42"),
        ("X_Role", "admin"),
        ("x-gapura-made", "internal"),
        ("x-powered-by", "php"),
        ("my_header", "1"),
        ("connection", "x-secret"),
        ("x-secret", "1"),
        ("transfer-encoding", "chunked"),
    ]);
    scrub_response(&mut headers);
    assert_eq!(
        names(&headers),
        ["content-type", "my_header", "set-cookie", "x-powered-by"]
    );
}

#[test]
fn of_a_sidecars_answer_the_id_stays_to_be_written_over_and_nothing_else_of_ours() {
    let lines = [
        ("connection", "x-request-id"),
        ("content-type", "a"),
        ("x-request-id", "a"),
        ("x-company-id", "42"),
        ("x_request_id", "a"),
    ];
    let mut headers = map(&lines);
    let stripped = scrub_hop_response(&mut headers);
    assert_eq!(names(&headers), ["content-type", "x-request-id"]);
    assert_eq!(
        (stripped.of(Kind::Identity), stripped.of(Kind::Alias)),
        (1, 1)
    );
    let mut headers = map(&lines);
    let stripped = scrub_response(&mut headers);
    assert_eq!(names(&headers), ["content-type"]);
    assert_eq!(stripped.of(Kind::Identity), 1);
    assert_eq!(stripped.of(Kind::Nominated), 1);
}

#[test]
fn of_a_requests_trailers_only_grpc_and_what_is_asked_for_pass() {
    let lines = [
        ("grpc-status", "0"),
        ("x-checksum", "1"),
        ("x-role", "admin"),
        ("x_role", "admin"),
        ("content-length", "1"),
        ("digest", "1"),
    ];
    let mut trailers = map(&lines);
    let stripped = scrub_request_trailers(&mut trailers, |name| name.as_str() == "x-checksum");
    assert_eq!(names(&trailers), ["grpc-status", "x-checksum"]);
    assert_eq!(stripped.of(Kind::Trailer), 4);
    let mut trailers = map(&lines);
    scrub_response_trailers(&mut trailers);
    assert_eq!(names(&trailers), ["digest", "grpc-status", "x-checksum"]);
}

#[test]
fn a_message_announces_the_trailers_that_may_pass() {
    let headers = map(&[
        ("trailer", "Grpc-Status, X-Checksum,x-role"),
        ("trailer", "x_role, content-length"),
    ]);
    assert_eq!(
        announced_by_request(&headers, |name| name.as_str() == "x-checksum").unwrap(),
        "grpc-status, x-checksum"
    );
    assert_eq!(
        announced_by_request(&map(&[("trailer", "x-role")]), |_| true),
        None
    );
    assert_eq!(
        announced_by_response(&headers).unwrap(),
        "grpc-status, x-checksum"
    );
    assert_eq!(announced_by_response(&map(&[])), None);
}

#[test]
fn cookies_that_http2_split_are_one_field_again() {
    let mut headers = map(&[("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")]);
    join_cookies(&mut headers);
    assert_eq!(
        headers.get_all(COOKIE).into_iter().collect::<Vec<_>>(),
        ["a=1; b=2; c=3"]
    );
}

#[test]
fn a_context_header_stands_once_and_is_valid_or_the_request_is_bad() {
    let good = map(&[
        ("x-request-id", "a"),
        ("x-user-id", "7"),
        ("x-company-id", "42"),
        ("x-role", "admin,user"),
        ("x-gapura-auth", "verified"),
    ]);
    let context = hop_context(&good).unwrap();
    assert_eq!(context.tenant.unwrap().as_str(), "42");
    assert_eq!(context.auth, Some(Auth::Verified));
    assert!(hop_context(&map(&[("x-request-id", "a")])).is_ok());
    let acted = map(&[
        ("x-request-id", "a"),
        ("x-user-id", "7"),
        ("x-company-id", "42"),
        ("x-actor-id", "_svc"),
    ]);
    assert_eq!(hop_context(&acted).unwrap().actor.unwrap().as_str(), "_svc");
    let bad: [&[(&str, &str)]; 16] = [
        &[],
        &[("x-user-id", "7"), ("x-company-id", "42")],
        &[("x-request-id", "a"), ("x-request-id", "a")],
        &[("x-request-id", "a b")],
        &[("x-request-id", "a"), ("x-company-id", "42")],
        &[
            ("x-request-id", "a"),
            ("x-user-id", "7"),
            ("x-company-id", "42"),
            ("x-company-id", "42"),
        ],
        &[
            ("x-request-id", "a"),
            ("x-user-id", "7"),
            ("x-company-id", "42, 43"),
        ],
        &[("x-request-id", "a"), ("x-user-id", "7"), ("x-role", "")],
        &[("x-request-id", "a"), ("x-role", "admin")],
        &[("x-request-id", "a"), ("x-actor-id", "8")],
        &[
            ("x-request-id", "a"),
            ("x-user-id", "7"),
            ("x-actor-id", "8"),
            ("x-actor-id", "8"),
        ],
        &[
            ("x-request-id", "a"),
            ("x-user-id", "7"),
            ("x-actor-id", "8,9"),
        ],
        &[
            ("x-request-id", "a"),
            ("x-user-id", "7"),
            ("x-gapura-auth", "public"),
        ],
        &[
            ("x-request-id", "a"),
            ("x-user-id", "7"),
            ("x-company-id", "42"),
            ("x-gapura-auth", "unverified"),
        ],
        &[
            ("x-request-id", "a"),
            ("x-role", "admin"),
            ("x-gapura-auth", "public"),
        ],
        &[
            ("x-request-id", "a"),
            ("x-actor-id", "8"),
            ("x-gapura-auth", "unverified"),
        ],
    ];
    for auth in ["public", "unverified"] {
        assert!(hop_context(&map(&[("x-request-id", "a"), ("x-gapura-auth", auth)])).is_ok());
    }
    for lines in bad {
        assert_eq!(
            hop_context(&map(lines)).err(),
            Some(BadContext),
            "{lines:?}"
        );
    }
}

proptest! {
    /// A plugin that folds names as CGI does must never find one of ours after the scrub.
    #[test]
    fn no_folding_finds_a_name_of_ours(
        lines in proptest::collection::vec(("[xX][-_.!~][a-zA-Z-]{0,9}|[xX][-_.](user|role|company|real)[-_.](id|ip)|[a-z]{1,5}", "[a-z, -]{0,9}"), 0..12),
        connection in proptest::collection::vec("[a-zA-Z, _-]{0,20}", 0..3),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &lines {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        for line in &connection {
            headers.append(CONNECTION, HeaderValue::from_str(line).unwrap());
        }
        let before = headers.len();
        let (headers, stripped) = passed(&headers, |_| true);
        prop_assert_eq!(before, headers.len() + stripped.total() as usize);
        for name in headers.keys() {
            let folded: String = name.as_str().chars().map(|char| if char.is_ascii_alphanumeric() { char } else { '-' }).collect();
            prop_assert!(!is_reserved(&folded));
            prop_assert!(is_plain(name.as_str()));
        }
    }
}

//! After a client's headers have been scrubbed, no name is left that anybody could read as one of
//! ours.

use gapura_protocol::headers::{
    hop_context, is_reserved, pass_client_request, scrub_hop_request, scrub_request_trailers,
    scrub_response,
};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Lines of `name:value`, as far as they are such.
fn map(bytes: &[u8]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(&line[..colon]),
            HeaderValue::from_bytes(&line[colon + 1..]),
        ) else {
            continue;
        };
        map.append(name, value);
    }
    map
}

fn passed(sent: &HeaderMap) -> HeaderMap {
    let mut passed = HeaderMap::new();
    let asked_for = |name: &HeaderName| !is_reserved(name.as_str());
    pass_client_request(sent, asked_for, |name, value| {
        passed.append(name.clone(), value.clone());
    });
    passed
}

fn assert_clean(map: &HeaderMap) {
    for name in map.keys() {
        let name = name.as_str();
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'),
            "{name}"
        );
        assert!(!is_reserved(name), "{name}");
        assert!(
            !matches!(
                name,
                "connection"
                    | "keep-alive"
                    | "proxy-connection"
                    | "transfer-encoding"
                    | "upgrade"
                    | "proxy"
                    | "forwarded"
            ),
            "{name}"
        );
    }
}

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let sent = map(bytes);

    let request = passed(&sent);
    assert_clean(&request);
    assert_eq!(passed(&request), request, "twice is once");

    let mut trailers = sent.clone();
    scrub_request_trailers(&mut trailers, |_| false);
    assert!(
        trailers
            .keys()
            .all(|name| name.as_str().starts_with("grpc-")),
        "{trailers:?}"
    );

    let mut hop = sent.clone();
    scrub_hop_request(&mut hop);
    if let Ok(context) = hop_context(&hop) {
        assert!(context.request_id.as_str().len() <= 128);
    }

    let mut response = sent;
    scrub_response(&mut response);
    assert!(
        response.keys().all(|name| !is_reserved(name.as_str())),
        "{response:?}"
    );
}

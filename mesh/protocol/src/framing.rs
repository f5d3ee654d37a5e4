//! The one rule of which HTTP message is unambiguous (CONTRACT section 5).
//!
//! In: the head of a request as hyper or h2 parsed it, both of which let through more than one
//! reader would understand alike (measured: two hosts, an absolute target for another host, equal
//! lengths, transfer codings in front of `chunked`). Out: the [`Target`] of the request, or the
//! code it is refused with. Never repaired, never guessed.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Uri, Version};

use crate::envelope::Code;
use crate::host::is_authority;
use crate::once::{Once, Several};
use crate::path::CanonicalPath;

/// How much of a head is taken.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all fields; as HTTP/1.1 writes them, line ends among them.
    pub head: usize,
    /// Fields, 128 at most.
    pub fields: usize,
    /// Bytes of the target.
    pub target: usize,
}

/// From clients: what browsers and their cookies need (CONTRACT section 5).
pub const CLIENT_LIMITS: Limits = Limits {
    head: 32 * 1024,
    fields: 100,
    target: 8 * 1024,
};

/// On the hop and on the plugin's side: what the door took and the gateway added is never refused
/// behind it.
pub const HOP_LIMITS: Limits = Limits {
    head: 64 * 1024,
    fields: 128,
    target: 16 * 1024,
};

/// Where an unambiguous request goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The canonical path.
    pub path: CanonicalPath<'a>,
    /// The one host it is for, as the client wrote it. Only HTTP/1.0 may name none.
    pub host: Option<HeaderValue>,
}

/// Reads the target of a request whose head is `head` and whose target is `uri`; a copy of it,
/// usually, since the head goes on.
///
/// # Errors
/// The code of the refusal.
pub fn check<'a>(head: &Parts, uri: &'a Uri, limits: &Limits) -> Result<Target<'a>, Code> {
    let (path, host) = target(head, uri, limits)?;
    let host = host.map(Named::value).transpose()?;
    Ok(Target { path, host })
}

/// The same of a request on the hop, which has a host in any case. It stays where it stands, in its
/// line or in the target, without a copy.
///
/// # Errors
/// The code of the refusal.
pub fn check_on_hop(head: &Parts) -> Result<CanonicalPath<'_>, Code> {
    let (path, host) = target(head, &head.uri, &HOP_LIMITS)?;
    host.map(|_| path).ok_or(Code::BadRequest)
}

fn target<'h, 'a: 'h>(
    head: &'h Parts,
    uri: &'a Uri,
    limits: &Limits,
) -> Result<(CanonicalPath<'a>, Option<Named<'h>>), Code> {
    let stated = check_fields(head, limits)?;
    let query = uri.query().map_or(0, |query| query.len() + 1);
    if uri.path().len() + query > limits.target {
        return Err(Code::UriTooLong);
    }
    if uri.query().is_some_and(|query| !query.is_ascii()) {
        return Err(Code::BadRequest);
    }
    let host = host(head, stated.host, uri)?;
    let path = CanonicalPath::parse(uri.path().as_bytes()).map_err(|_| Code::BadRequest)?;
    Ok((path, host))
}

/// Where the one host of a request stands.
#[derive(Clone, Copy)]
enum Named<'h> {
    Line(&'h HeaderValue),
    Target(&'h str),
}

impl Named<'_> {
    fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Line(line) => line.as_bytes(),
            Self::Target(authority) => authority.as_bytes(),
        }
    }

    fn value(self) -> Result<HeaderValue, Code> {
        match self {
            Self::Line(line) => Ok(line.clone()),
            Self::Target(authority) => {
                HeaderValue::from_str(authority).map_err(|_| Code::BadRequest)
            }
        }
    }
}

/// Whether a request is for the server and no path on it, `OPTIONS *`; `None` for any other.
///
/// # Errors
/// The code of the refusal.
pub fn check_server_wide(head: &Parts, limits: &Limits) -> Result<Option<()>, Code> {
    if head.method != Method::OPTIONS || head.uri.path() != "*" {
        return Ok(None);
    }
    let stated = check_fields(head, limits)?;
    host(head, stated.host, &head.uri)?;
    Ok(Some(()))
}

/// What the fields of a head say of its framing and its target.
#[derive(Default)]
struct Stated<'h> {
    /// Bytes of all fields: 4 on top of each name and value, as HTTP/1 writes them.
    size: usize,
    length: Once<'h>,
    coding: Once<'h>,
    authorization: Once<'h>,
    host: Once<'h>,
}

impl<'h> Stated<'h> {
    fn by(headers: &'h HeaderMap) -> Self {
        let mut stated = Self::default();
        for (name, value) in headers {
            stated.size += name.as_str().len() + value.len() + 4;
            if *name == HOST {
                stated.host.note(value);
            } else if *name == CONTENT_LENGTH {
                stated.length.note(value);
            } else if *name == TRANSFER_ENCODING {
                stated.coding.note(value);
            } else if *name == AUTHORIZATION {
                stated.authorization.note(value);
            }
        }
        stated
    }

    /// The length that a head states, in one way alone: one length, or one `chunked`, or neither
    /// (RFC 9112, section 6.1).
    fn length(&self) -> Result<Option<&'h [u8]>, Code> {
        let (length, coding) = (self.length.value()?, self.coding.value()?);
        let chunked = |coding: &HeaderValue| {
            coding
                .as_bytes()
                .trim_ascii()
                .eq_ignore_ascii_case(b"chunked")
        };
        match coding {
            Some(coding) if length.is_some() || !chunked(coding) => Err(Code::BadRequest),
            _ => Ok(length.map(HeaderValue::as_bytes)),
        }
    }
}

impl From<Several> for Code {
    fn from(_: Several) -> Self {
        Self::BadRequest
    }
}

/// What holds whatever the target is.
fn check_fields<'h>(head: &'h Parts, limits: &Limits) -> Result<Stated<'h>, Code> {
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Code::MethodNotAllowed);
    }
    let stated = Stated::by(&head.headers);
    if head.headers.len() > limits.fields || stated.size > limits.head {
        return Err(Code::HeadersTooLarge);
    }
    if stated
        .length()?
        .is_some_and(|stated| length(stated).is_none() || is_padded(stated))
    {
        return Err(Code::BadRequest);
    }
    stated.authorization.value()?;
    Ok(stated)
}

/// Whether the head of an answer is of a size that the hop takes, and says in one way alone how
/// long its body is. A length that goes on is of our own writing.
#[must_use]
pub fn settle_answer(headers: &mut HeaderMap) -> bool {
    let stated = Stated::by(headers);
    if headers.len() > HOP_LIMITS.fields || stated.size > HOP_LIMITS.head {
        return false;
    }
    let stated = match stated.length() {
        Ok(Some(stated)) => stated,
        Ok(None) => return true,
        Err(_) => return false,
    };
    let (Some(length), padded) = (length(stated), is_padded(stated)) else {
        return false;
    };
    if padded {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    true
}

/// A length: digits, and nothing but digits (RFC 9110, section 8.6).
fn length(text: &[u8]) -> Option<u64> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text)
        .ok()
        .filter(|_| digits)?
        .parse()
        .ok()
}

/// Whether a length begins with a needless zero: some readers take it for octal.
fn is_padded(length: &[u8]) -> bool {
    length.len() > 1 && length.first() == Some(&b'0')
}

/// The one host of a request: `Host`, `:authority` and an absolute target must agree.
fn host<'h>(head: &Parts, line: Once<'h>, uri: &'h Uri) -> Result<Option<Named<'h>>, Code> {
    let line = line.value()?;
    if uri
        .scheme_str()
        .is_some_and(|scheme| !matches!(scheme, "http" | "https"))
    {
        return Err(Code::BadRequest);
    }
    let authority = uri.authority().map(http::uri::Authority::as_str);
    let host = match (line, authority) {
        (Some(line), Some(authority))
            if !is_same(line.as_bytes(), authority.as_bytes(), uri.scheme_str()) =>
        {
            return Err(Code::BadRequest);
        }
        (Some(line), _) => Named::Line(line),
        // HTTP/2 carries it in `:authority` alone; HTTP/1 demands the header whatever the target
        // says.
        (None, Some(authority)) if head.version == Version::HTTP_2 => Named::Target(authority),
        // HTTP/1.0 knew no hosts; a plugin is not reached without one all the same.
        (None, None) if head.version == Version::HTTP_10 => return Ok(None),
        (None, _) => return Err(Code::BadRequest),
    };
    if is_authority(host.as_bytes()) {
        Ok(Some(host))
    } else {
        Err(Code::BadRequest)
    }
}

/// Whether two names of a host are one, whether or not they spell the port that the scheme has
/// anyway.
fn is_same(one: &[u8], other: &[u8], scheme: Option<&str>) -> bool {
    let port: &[u8] = match scheme {
        Some("http") => b":80",
        Some("https") => b":443",
        _ => b"",
    };
    let name = |host: &[u8]| host.strip_suffix(port).unwrap_or(host).to_ascii_lowercase();
    one.eq_ignore_ascii_case(other) || name(one) == name(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn parts(method: &str, uri: &str, version: Version, lines: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().method(method).uri(uri).version(version);
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn verdict(method: &str, uri: &str, lines: &[(&str, &str)]) -> Result<(), Code> {
        let head = parts(method, uri, Version::HTTP_11, lines);
        check(&head, &head.uri, &CLIENT_LIMITS).map(|_| ())
    }

    #[test]
    fn a_plain_request_has_one_target() {
        let head = parts(
            "GET",
            "/a//b%7e?x=1",
            Version::HTTP_11,
            &[("host", "api.example:8443")],
        );
        let target = check(&head, &head.uri, &CLIENT_LIMITS).unwrap();
        assert_eq!(target.path.as_str(), "/a/b~");
        assert_eq!(target.host.unwrap(), "api.example:8443");
    }

    #[test]
    fn one_host_and_only_one() {
        assert_eq!(verdict("GET", "/", &[]), Err(Code::BadRequest));
        assert_eq!(
            verdict("GET", "/", &[("host", "a"), ("host", "a")]),
            Err(Code::BadRequest)
        );
        assert_eq!(
            verdict("GET", "http://evil/x", &[("host", "a")]),
            Err(Code::BadRequest)
        );
        assert_eq!(verdict("GET", "http://a/x", &[("host", "A")]), Ok(()));
        assert_eq!(verdict("GET", "http://a/x", &[]), Err(Code::BadRequest));
        for bad in [
            "", "a@b", "a:b", "a:123456", "a, b", "a/b", "[::1", "[]", "[::1]x", "a b",
        ] {
            assert_eq!(
                verdict("GET", "/", &[("host", bad)]),
                Err(Code::BadRequest),
                "{bad:?}"
            );
        }
        for good in ["a", "a.b-c_d:1", "127.0.0.1", "[::1]:8443", "a:"] {
            assert_eq!(verdict("GET", "/", &[("host", good)]), Ok(()), "{good:?}");
        }
    }

    #[test]
    fn a_length_has_one_spelling() {
        let of = |length: &str| verdict("POST", "/", &[("host", "a"), ("content-length", length)]);
        for length in ["0", "5", "10", "18446744073709551615"] {
            assert_eq!(of(length), Ok(()), "{length}");
        }
        for length in [
            "",
            "00",
            "0005",
            "05",
            "+5",
            "5,5",
            "5 5",
            "0x5",
            "5.0",
            "18446744073709551616",
        ] {
            assert_eq!(of(length), Err(Code::BadRequest), "{length:?}");
        }
    }

    #[test]
    fn the_length_of_an_answer_goes_on_in_our_own_writing() {
        let settled = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(CONTENT_LENGTH, HeaderValue::from_static(line));
            }
            settle_answer(&mut headers).then(|| {
                let length = headers.get(CONTENT_LENGTH);
                length.map(|length| length.to_str().unwrap().to_owned())
            })
        };
        assert_eq!(settled(&[]), Some(None));
        assert_eq!(settled(&["5"]), Some(Some("5".to_owned())));
        assert_eq!(settled(&["0005"]), Some(Some("5".to_owned())));
        assert_eq!(settled(&["00"]), Some(Some("0".to_owned())));
        for lines in [&["2, 2"][..], &["2", "2"], &[""], &["-1"], &["2 "]] {
            assert_eq!(settled(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn a_default_port_may_be_spelled_or_not_and_no_other() {
        for (target, host, verdict) in [
            ("http://a:80/x", "a", Ok(())),
            ("http://a/x", "A:80", Ok(())),
            ("http://[::1]:80/x", "[::1]", Ok(())),
            ("https://a/x", "a:443", Ok(())),
            ("https://a:80/x", "a", Err(Code::BadRequest)),
            ("http://a:8080/x", "a", Err(Code::BadRequest)),
            ("http://a/x", "b:80", Err(Code::BadRequest)),
        ] {
            assert_eq!(
                super::tests::verdict("GET", target, &[("host", host)]),
                verdict,
                "{target} {host}"
            );
        }
    }

    #[test]
    fn http10_may_lack_a_host_and_nobody_may_have_two() {
        let host = |lines: &[(&str, &str)]| {
            let head = parts("GET", "/", Version::HTTP_10, lines);
            check(&head, &head.uri, &CLIENT_LIMITS).map(|target| target.host)
        };
        assert_eq!(host(&[]), Ok(None));
        assert_eq!(host(&[("host", "a")]).unwrap().unwrap(), "a");
        assert!(host(&[("host", "a"), ("host", "a")]).is_err());
        assert!(host(&[("host", "")]).is_err());
    }

    #[test]
    fn the_server_as_a_whole_is_asked_in_one_way() {
        let asked = |method: &str, target: &str, lines: &[(&str, &str)]| {
            let head = parts(method, target, Version::HTTP_11, lines);
            check_server_wide(&head, &CLIENT_LIMITS)
        };
        assert_eq!(asked("OPTIONS", "*", &[("host", "a")]), Ok(Some(())));
        assert_eq!(asked("OPTIONS", "*", &[]), Err(Code::BadRequest));
        assert_eq!(asked("OPTIONS", "/", &[("host", "a")]), Ok(None));
        assert_eq!(asked("GET", "*", &[("host", "a")]), Ok(None));
    }

    #[test]
    fn in_http2_the_authority_is_the_host_and_a_host_field_must_agree() {
        let check = |uri: &str, lines: &[(&str, &str)]| {
            let head = parts("GET", uri, Version::HTTP_2, lines);
            check(&head, &head.uri, &CLIENT_LIMITS).map(|_| ())
        };
        assert_eq!(check("https://a/x", &[]), Ok(()));
        assert_eq!(check("https://a/x", &[("host", "a")]), Ok(()));
        assert_eq!(
            check("https://a/x", &[("host", "b")]),
            Err(Code::BadRequest)
        );
        assert_eq!(check("/x", &[("host", "b")]), Ok(()));
        assert_eq!(check("/x", &[]), Err(Code::BadRequest));
        assert_eq!(check("https://u@a/x", &[]), Err(Code::BadRequest));
        assert_eq!(check("gopher://a/x", &[]), Err(Code::BadRequest));
    }

    #[test]
    fn one_length_or_one_chunked() {
        let with = |lines: &[(&str, &str)]| {
            let mut all = vec![("host", "a")];
            all.extend_from_slice(lines);
            verdict("POST", "/", &all)
        };
        assert_eq!(with(&[("content-length", "2")]), Ok(()));
        assert_eq!(with(&[("transfer-encoding", "Chunked ")]), Ok(()));
        for lines in [
            &[("content-length", "2"), ("content-length", "2")][..],
            &[("content-length", "2"), ("transfer-encoding", "chunked")],
            &[("transfer-encoding", "gzip, chunked")],
            &[
                ("transfer-encoding", "chunked"),
                ("transfer-encoding", "chunked"),
            ],
            &[("transfer-encoding", "identity")],
            &[("authorization", "Bearer a"), ("authorization", "Bearer b")],
        ] {
            assert_eq!(with(lines), Err(Code::BadRequest), "{lines:?}");
        }
    }

    #[test]
    fn what_is_too_large_has_its_own_answer() {
        let long = format!("/{}", "a".repeat(8 * 1024));
        assert_eq!(
            verdict("GET", &long, &[("host", "a")]),
            Err(Code::UriTooLong)
        );
        assert_eq!(
            verdict("GET", &long[..long.len() - 1], &[("host", "a")]),
            Ok(())
        );
        let value = "b".repeat(33 * 1024);
        assert_eq!(
            verdict("GET", "/", &[("host", "a"), ("a", &value)]),
            Err(Code::HeadersTooLarge)
        );
        let many = vec![("a", "b"); 100];
        let with_host = |count: usize| {
            many[..count]
                .iter()
                .copied()
                .chain([("host", "a")])
                .collect::<Vec<_>>()
        };
        assert_eq!(verdict("GET", "/", &with_host(99)), Ok(()));
        assert_eq!(
            verdict("GET", "/", &with_host(100)),
            Err(Code::HeadersTooLarge)
        );
    }

    #[test]
    fn tunnels_and_mirrors_are_not_served() {
        assert_eq!(
            verdict("CONNECT", "a:443", &[("host", "a:443")]),
            Err(Code::MethodNotAllowed)
        );
        assert_eq!(
            verdict("TRACE", "/", &[("host", "a")]),
            Err(Code::MethodNotAllowed)
        );
        assert_eq!(
            verdict("OPTIONS", "*", &[("host", "a")]),
            Err(Code::BadRequest)
        );
    }
}

//! From a probe to bytes: placeholders are filled in, and what is said once is written in both
//! versions of HTTP.
//!
//! In: an attack, what fills its texts. Out: shots, each with a mark of its own, or why one can't
//! be made. Sends nothing.

use super::attack::{Attack, By, Fields, Send, Then};
use super::forge::{Forged, Given, TokenKey, forge};
use super::frames::{self, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE};
use super::mark::{HEADER, Run};
use super::target::Target;
use super::wire::Protocol;

/// What fills the texts.
pub(super) struct Filling<'a> {
    pub(super) target: &'a Target,
    pub(super) run: &'a Run,
    pub(super) good: &'a Given,
    /// Another caller's token.
    pub(super) other: Option<&'a str>,
    pub(super) key: Option<&'a TokenKey>,
    /// Seconds since 1970.
    pub(super) now: u64,
}

/// One connection's worth of an attack.
#[derive(Clone, Debug, Default)]
pub(super) struct Shot {
    /// Which probe it is.
    pub(super) what: &'static str,
    pub(super) over: Over,
    pub(super) mark: String,
    pub(super) bytes: Vec<u8>,
    /// A second request hides in it, or follows it.
    pub(super) second: bool,
    /// It asks for a tunnel or an echo, where any good answer is bad.
    pub(super) tunnel: bool,
    /// Its length is a lie, so that it must never arrive as a whole.
    pub(super) untrue: bool,
    /// Where another target is asked for: its path behind the mount, with its escapes undone.
    pub(super) tail: Option<String>,
    /// Why it can't be made.
    pub(super) lacks: Option<&'static str>,
}

/// The protocol of a shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Over(pub(super) Protocol);

impl Default for Over {
    fn default() -> Self {
        Self(Protocol::Http1)
    }
}

/// Every shot of an attack; numbers go on from `number`.
pub(super) fn shots(attack: &Attack, filling: &Filling<'_>, number: &mut usize) -> Vec<Shot> {
    let mut all = Vec::new();
    let mut mark = || {
        *number += 1;
        filling.run.mark(*number)
    };
    match &attack.by {
        By::Shots(probes) => {
            for probe in *probes {
                for protocol in protocols(&probe.send) {
                    all.push(Shot {
                        what: probe.what,
                        ..filling.shot(&probe.send, protocol, mark())
                    });
                }
            }
        }
        By::Tokens(forgeries) => {
            for forgery in *forgeries {
                for protocol in [Protocol::Http1, Protocol::Http2] {
                    let made = forge(forgery.how, filling.good, filling.key, filling.now);
                    all.push(Shot {
                        what: forgery.what,
                        ..filling.forged(made, protocol, mark())
                    });
                }
            }
        }
        _ => {}
    }
    all
}

/// What is wrong in the wording of one version is tried over that one alone.
fn protocols(send: &Send) -> Vec<Protocol> {
    match send {
        Send::Raw(_) => vec![Protocol::Http1],
        Send::Head(..) => vec![Protocol::Http2],
        _ => vec![Protocol::Http1, Protocol::Http2],
    }
}

impl Filling<'_> {
    fn shot(&self, send: &Send, protocol: Protocol, mark: String) -> Shot {
        let fill = |text: &str| self.fill(text, &mark);
        let usual = fill("{mount}/{mark}");
        let empty: Fields = &[];
        let made = match send {
            Send::Raw(text) => Shot {
                bytes: fill(text).into_bytes(),
                second: text.contains("{mark}s")
                    || text.contains("{mark}o")
                    || text.contains("{hidden-request}"),
                tunnel: text.starts_with("CONNECT"),
                lacks: self.lacks(text),
                ..Shot::default()
            },
            Send::Head(fields, then) => self.head(fields, *then, &mark),
            Send::Fields(fields) => Shot {
                bytes: self.request(protocol, "GET", &usual, Some(self.bearer()), fields, &mark),
                lacks: fields.iter().find_map(|(_, value)| self.lacks(value)),
                ..Shot::default()
            },
            Send::Target(target) => Shot {
                bytes: self.request(
                    protocol,
                    "GET",
                    &fill(target),
                    Some(self.bearer()),
                    empty,
                    &mark,
                ),
                tail: decoded(&fill(target))
                    .strip_prefix(&self.target.mount)
                    .map(str::to_owned),
                lacks: self.lacks(target),
                ..Shot::default()
            },
            Send::Method(method) => Shot {
                bytes: self.request(protocol, method, &usual, Some(self.bearer()), empty, &mark),
                tunnel: true,
                ..Shot::default()
            },
            Send::Trailers(trailers) => Shot {
                bytes: self.trailers(protocol, trailers, &mark),
                ..Shot::default()
            },
        };
        Shot {
            over: Over(protocol),
            mark,
            ..made
        }
    }

    /// A GET with a forged token, or none.
    fn forged(&self, made: Result<Forged, &'static str>, protocol: Protocol, mark: String) -> Shot {
        let made = match made {
            Ok(made) => made,
            Err(lacks) => {
                return Shot {
                    over: Over(protocol),
                    mark,
                    lacks: Some(lacks),
                    ..Shot::default()
                };
            }
        };
        let target = self.fill("{mount}/{mark}", &mark) + &made.query;
        let bytes = self.request(protocol, "GET", &target, made.field, &[], &mark);
        Shot {
            over: Over(protocol),
            bytes,
            mark,
            ..Shot::default()
        }
    }

    /// A good request, as a client who wishes no ill sends it.
    pub(super) fn good(&self, protocol: Protocol, tail: &str, token: &str, mark: &str) -> Vec<u8> {
        let target = format!("{}{tail}", self.target.mount);
        let bearer = ("Authorization".to_owned(), format!("Bearer {token}"));
        self.request(protocol, "GET", &target, Some(bearer), &[], mark)
    }

    /// A good request with a body in chunks.
    pub(super) fn good_upload(&self, protocol: Protocol, mark: &str) -> Vec<u8> {
        self.trailers(protocol, &[], mark)
    }

    fn bearer(&self) -> (String, String) {
        (
            "Authorization".to_owned(),
            format!("Bearer {}", self.good.whole),
        )
    }

    fn request(
        &self,
        protocol: Protocol,
        method: &str,
        target: &str,
        first: Option<(String, String)>,
        fields: Fields,
        mark: &str,
    ) -> Vec<u8> {
        let mut all = vec![(HEADER.to_owned(), mark.to_owned())];
        all.extend(first);
        all.extend(
            fields
                .iter()
                .map(|(name, value)| ((*name).to_owned(), self.fill(value, mark))),
        );
        match protocol {
            Protocol::Http1 => {
                let lines: String = all
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                format!(
                    "{method} {target} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n",
                    self.target.authority
                )
                .into_bytes()
            }
            Protocol::Http2 => {
                let mut bytes = PREFACE.to_vec();
                bytes.extend(frames::head(1, &self.http2(method, target, &all), true));
                bytes
            }
        }
    }

    fn http2(
        &self,
        method: &str,
        target: &str,
        fields: &[(String, String)],
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pseudo = [
            (":method", method),
            (":scheme", "https"),
            (":authority", &self.target.authority),
            (":path", target),
        ];
        let pseudo = pseudo
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        let named = fields.iter().map(|(name, value)| {
            (
                name.to_ascii_lowercase().into_bytes(),
                value.clone().into_bytes(),
            )
        });
        pseudo.chain(named).collect()
    }

    fn head(&self, fields: Fields, then: Then, mark: &str) -> Shot {
        let fields: Vec<_> = fields
            .iter()
            .map(|(name, value)| {
                (
                    name.as_bytes().to_vec(),
                    self.fill(value, mark).into_bytes(),
                )
            })
            .collect();
        let mut bytes = PREFACE.to_vec();
        bytes.extend(frames::head(1, &fields, matches!(then, Then::End)));
        match then {
            Then::End => {}
            Then::Body(body) => bytes.extend(frames::frame(DATA, END_STREAM, 1, body.as_bytes())),
            Then::OpenTrailers(trailers) => {
                bytes.extend(frames::frame(DATA, 0, 1, b"hi"));
                let trailers: Vec<_> = trailers
                    .iter()
                    .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
                    .collect();
                bytes.extend(frames::frame(
                    HEADERS,
                    END_HEADERS,
                    1,
                    &frames::block(&trailers),
                ));
            }
        }
        Shot {
            bytes,
            tunnel: fields.iter().any(|(_, value)| value == b"CONNECT"),
            untrue: matches!(then, Then::Body(_)),
            ..Shot::default()
        }
    }

    fn trailers(&self, protocol: Protocol, trailers: Fields, mark: &str) -> Vec<u8> {
        let target = self.fill("{mount}/{mark}", mark);
        let own = [(HEADER.to_owned(), mark.to_owned()), self.bearer()];
        match protocol {
            Protocol::Http1 => {
                let lines: String = trailers
                    .iter()
                    .map(|(name, value)| format!("{name}: {value}\r\n"))
                    .collect();
                let [(mark_name, mark), (_, bearer)] = own;
                format!(
                    "POST {target} HTTP/1.1\r\nHost: {}\r\n{mark_name}: {mark}\r\nAuthorization: {bearer}\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n{lines}\r\n",
                    self.target.authority
                )
                .into_bytes()
            }
            Protocol::Http2 => {
                let mut bytes = PREFACE.to_vec();
                bytes.extend(frames::head(1, &self.http2("POST", &target, &own), false));
                let last = if trailers.is_empty() { END_STREAM } else { 0 };
                bytes.extend(frames::frame(DATA, last, 1, b"hi"));
                if last == 0 {
                    let fields: Vec<_> = trailers
                        .iter()
                        .map(|(name, value)| {
                            (
                                name.to_ascii_lowercase().into_bytes(),
                                value.as_bytes().to_vec(),
                            )
                        })
                        .collect();
                    bytes.extend(frames::head(1, &fields, true));
                }
                bytes
            }
        }
    }

    /// What a text needs and is not there.
    fn lacks(&self, text: &str) -> Option<&'static str> {
        if text.contains("{other}") && self.other.is_none() {
            return Some("takes --other-token-file");
        }
        let of_a_mount = text.starts_with("{mount}x") || text.starts_with("{emount}");
        (of_a_mount && self.target.mount.is_empty()).then_some("the plugin is mounted at /")
    }

    fn fill(&self, text: &str, mark: &str) -> String {
        let auth = format!("Authorization: Bearer {}\r\n", self.good.whole);
        let hidden = if text.contains("{hidden") {
            let request =
                "GET {mount}/{mark}s HTTP/1.1\r\nHost: {host}\r\nProve-Mark: {mark}s\r\n{auth}\r\n";
            self.fill(request, mark)
        } else {
            String::new()
        };
        text.replace("{hidden-request}", &hidden)
            .replace("{hidden}", &hidden.len().to_string())
            .replace("{emount}", &escaped_last(&self.target.mount))
            .replace("{mount}", &self.target.mount)
            .replace("{host}", &self.target.authority)
            .replace("{mark}", mark)
            .replace("{auth-lf}", &auth.replace("\r\n", "\n"))
            .replace("{auth}", &auth)
            .replace("{good}", &self.good.whole)
            .replace("{other}", self.other.unwrap_or_default())
            .replace("{10k}", &"k".repeat(10 << 10))
    }
}

/// The mount with its last letter as an escape.
fn escaped_last(mount: &str) -> String {
    mount
        .char_indices()
        .last()
        .map_or_else(String::new, |(at, last)| {
            format!("{}%{:02x}", &mount[..at], u32::from(last))
        })
}

/// A path with its escapes undone once; what is no escape stays.
pub(super) fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match (
            bytes[at],
            escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()),
        ) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::catalogue;

    fn with<T>(mount: &str, other: Option<&str>, then: impl FnOnce(&Filling<'_>) -> T) -> T {
        let target = Target::read(&format!("http://127.0.0.1:1{mount}"), None).unwrap();
        let run = Run::new().unwrap();
        let good = Given::read("e30.e30.c2ln").unwrap();
        then(&Filling {
            target: &target,
            run: &run,
            good: &good,
            other,
            key: None,
            now: 0,
        })
    }

    #[test]
    fn every_shot_of_the_catalogue_is_filled_and_marked() {
        with("/prove", Some("e30.e30.b3RoZXI"), |filling| {
            let mut number = 0;
            let mut count = 0;
            for attack in catalogue::all() {
                for shot in shots(attack, filling, &mut number) {
                    count += 1;
                    if shot.lacks.is_some() {
                        continue;
                    }
                    let text = String::from_utf8_lossy(&shot.bytes);
                    assert!(text.contains(&shot.mark), "{}: {text}", attack.id);
                    for left in ["{m", "{h", "{a", "{g", "{o", "{1", "{e"] {
                        assert!(!text.contains(left), "{} {}: {text}", attack.id, shot.what);
                    }
                }
            }
            assert!((150..600).contains(&count), "{count} shots");
        });
    }

    #[test]
    fn what_is_missing_is_said() {
        with("", None, |filling| {
            let mut number = 0;
            let lacking: Vec<_> = catalogue::all()
                .flat_map(|attack| shots(attack, filling, &mut number))
                .filter_map(|shot| shot.lacks)
                .collect();
            for why in [
                "takes --other-token-file",
                "takes --token-key",
                "the plugin is mounted at /",
            ] {
                assert!(lacking.contains(&why), "{why}");
            }
        });
    }

    #[test]
    fn escapes_are_made_and_undone() {
        assert_eq!(escaped_last("/prove"), "/prov%65");
        assert_eq!(escaped_last(""), "");
        assert_eq!(decoded("/a%2fb%zz%"), "/a/b%zz%");
    }
}

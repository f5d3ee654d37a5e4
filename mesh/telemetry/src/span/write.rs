//! A finished request's spans as JSON, in the form of OTLP (opentelemetry-proto 1.x,
//! `docs/specification.md`, JSON encoding): ids in hexadecimal, 64-bit numbers as texts,
//! enumerations as numbers. Names of attributes are those of OpenTelemetry's semantic conventions
//! for HTTP; what those do not name begins with `gapura.`.
//!
//! Written by hand into a buffer that is reused, as access lines are. Texts of others are cut where
//! they get long.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use gapura_protocol::envelope::Code;
use http::{Method, Version};

use super::live::{Called, Child, Outcome, Spans, What};
use crate::log::{push_decimal, push_json_inner, push_json_text};

/// What is known of a finished request that was served here.
pub(crate) struct Served<'a> {
    /// When its head was here.
    pub(crate) began: Instant,
    pub(crate) method: &'a Method,
    /// Canonical, without a query.
    pub(crate) path: Option<&'a str>,
    /// None where nobody was there any more to be answered.
    pub(crate) status: Option<u16>,
    /// Why we answered ourselves, or what became of the answer.
    pub(crate) code: Option<Code>,
    pub(crate) request_id: &'a str,
    pub(crate) company: Option<&'a str>,
    pub(crate) plugin: Option<&'a str>,
    /// The client's address, or the peer's identity.
    pub(crate) peer: &'a str,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
}

/// One moment by both clocks, so that a span's length is what was measured whatever the wall clock
/// did meanwhile.
#[derive(Clone, Copy)]
struct Moment {
    wall: u64,
    at: Instant,
}

/// The numbers of `SpanKind`.
#[derive(Clone, Copy)]
enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// A text of somebody else's is cut here.
const TEXT_MOST: usize = 1024;

/// Bits 8 and 9 of `Span.flags`: it is known whether the parent is in another program, and it is.
const PARENT_IS_HERE: u32 = 0x100;
const PARENT_IS_ELSEWHERE: u32 = 0x300;

/// Writes the request's own span and its children, each followed by a comma; how many those were.
/// `peer` is what its peer is called.
pub(super) fn write(
    json: &mut Vec<u8>,
    served: &Served<'_>,
    spans: &Spans,
    peer: &'static str,
    now: SystemTime,
) -> u64 {
    let wall = now.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    });
    let now = Moment {
        wall,
        at: Instant::now(),
    };
    let children = spans.children();
    let mut count = 1;
    for child in &children {
        write_child(json, child, served, spans, now);
        count += 1;
    }
    write_served(json, served, spans, peer, now);
    count
}

fn write_served(
    json: &mut Vec<u8>,
    served: &Served<'_>,
    spans: &Spans,
    peer: &'static str,
    now: Moment,
) {
    let (method, route) = (known(served.method), spans.route());
    let (trace, asked) = (spans.trace(), spans.asked());
    json.extend_from_slice(br#"{"traceId":"#);
    json.extend_from_slice(&trace.id.quoted());
    json.extend_from_slice(br#","spanId":"#);
    json.extend_from_slice(&spans.id().quoted());
    let parent = trace.parent();
    if let Some(parent) = parent {
        json.extend_from_slice(br#","parentSpanId":"#);
        json.extend_from_slice(&parent.quoted());
    }
    let flags = parent.map_or(PARENT_IS_HERE, |_| PARENT_IS_ELSEWHERE);
    json.extend_from_slice(br#","name":""#);
    json.extend_from_slice(method.unwrap_or("HTTP").as_bytes());
    if let Some(route) = &route {
        json.push(b' ');
        push_json_inner(json, route);
    }
    json.push(b'"');
    push_frame(json, flags, Kind::Server, (now.of(served.began), now.wall));
    push_text(json, "http.request.method", method.unwrap_or("_OTHER"));
    push_text(json, "url.scheme", asked.scheme);
    if let Some(path) = served.path {
        push_text(json, "url.path", path);
    }
    if let Some(route) = &route {
        push_text(json, "http.route", route);
    }
    if let Some(host) = spans.host().as_ref().and_then(|host| host.to_str().ok()) {
        push_host(json, host);
    }
    push_text(json, "network.protocol.version", number(asked.version));
    if let Some(status) = served.status {
        push_number(json, "http.response.status_code", u64::from(status));
    }
    push_number(json, "http.request.body.size", served.bytes_in);
    push_number(json, "http.response.body.size", served.bytes_out);
    push_text(json, peer, served.peer);
    push_text(json, "gapura.request_id", served.request_id);
    if let Some(plugin) = served.plugin {
        push_text(json, "gapura.plugin", plugin);
    }
    if let Some(company) = served.company {
        push_text(json, "gapura.company_id", company);
    }
    if let Some(code) = served.code {
        push_text(json, "gapura.code", code.as_str());
    }
    // What is wrong with a request is its sender's fault (semantic conventions: 4xx leaves a SERVER
    // span's status unset).
    let is_cut = served.code == Some(Code::AnswerCut);
    let status = served.status.filter(|status| *status >= 500 || is_cut);
    if let Some(status) = status {
        push_error_type(json, served.code.map(Code::as_str), status);
    }
    push_end(json, status.is_some());
}

fn write_child(json: &mut Vec<u8>, child: &Child, served: &Served<'_>, spans: &Spans, now: Moment) {
    json.extend_from_slice(br#"{"traceId":"#);
    json.extend_from_slice(&spans.trace().id.quoted());
    json.extend_from_slice(br#","spanId":"#);
    json.extend_from_slice(&child.id.quoted());
    json.extend_from_slice(br#","parentSpanId":"#);
    json.extend_from_slice(&spans.id().quoted());
    json.extend_from_slice(br#","name":""#);
    let times = (now.of(child.began), now.of(child.ended));
    match &child.what {
        What::Wait(what) => {
            json.extend_from_slice(what.as_bytes());
            json.push(b'"');
            push_frame(json, PARENT_IS_HERE, Kind::Internal, times);
            push_end(json, false);
        }
        What::Call(called) => {
            let method = known(served.method);
            json.extend_from_slice(method.unwrap_or("HTTP").as_bytes());
            json.push(b'"');
            push_frame(json, PARENT_IS_HERE, Kind::Client, times);
            push_text(json, "http.request.method", method.unwrap_or("_OTHER"));
            let is_error = push_called(json, called);
            if let Some(plugin) = served.plugin {
                push_text(json, "gapura.plugin", plugin);
            }
            push_end(json, is_error);
        }
    }
}

/// Whether the call failed.
fn push_called(json: &mut Vec<u8>, called: &Called) -> bool {
    let callee = &called.callee;
    push_text(json, "server.address", &callee.address);
    match callee.port {
        Some(port) => {
            push_number(json, "server.port", u64::from(port));
            push_url(json, called, port);
        }
        None => push_text(json, "network.transport", "unix"),
    }
    push_text(json, "network.protocol.version", number(called.version));
    if called.again > 0 {
        let again = u64::from(called.again);
        push_number(json, "http.request.resend_count", again);
    }
    match called.outcome {
        Outcome::Answered(status) => {
            let code = status.as_u16();
            push_number(json, "http.response.status_code", u64::from(code));
            let is_error = status.is_client_error() || status.is_server_error();
            if is_error {
                push_error_type(json, None, code);
            }
            is_error
        }
        Outcome::Failed(why) => {
            push_text(json, "error.type", why);
            true
        }
    }
}

/// The address that was called, without its query.
fn push_url(json: &mut Vec<u8>, called: &Called, port: u16) {
    let Some(path) = &called.path else {
        return;
    };
    let callee = &called.callee;
    json.extend_from_slice(br#"{"key":"url.full","value":{"stringValue":""#);
    json.extend_from_slice(callee.scheme.as_bytes());
    json.extend_from_slice(b"://");
    let is_v6 = callee.address.contains(':');
    json.extend_from_slice(if is_v6 { b"[" } else { b"" });
    push_json_inner(json, &callee.address);
    json.extend_from_slice(if is_v6 { b"]" } else { b"" });
    json.push(b':');
    push_decimal(json, u64::from(port));
    push_json_inner(json, cut(path.path()));
    json.extend_from_slice(br#""}},"#);
}

/// What a request's `Host` says, as name and port.
fn push_host(json: &mut Vec<u8>, host: &str) {
    let after_name = host.rfind(']').map_or(0, |end| end + 1);
    let colon = host
        .get(after_name..)
        .and_then(|rest| rest.rfind(':'))
        .map(|at| after_name + at);
    let (name, port) = match colon {
        Some(at) => (host.get(..at), host.get(at + 1..)),
        None => (Some(host), None),
    };
    let name = name.unwrap_or_default();
    push_text(json, "server.address", name.trim_matches(['[', ']']));
    if let Some(port) = port.and_then(|port| port.parse::<u16>().ok()) {
        push_number(json, "server.port", u64::from(port));
    }
}

fn push_error_type(json: &mut Vec<u8>, code: Option<&str>, status: u16) {
    match code {
        Some(code) => push_text(json, "error.type", code),
        None => {
            json.extend_from_slice(br#"{"key":"error.type","value":{"stringValue":""#);
            push_decimal(json, u64::from(status));
            json.extend_from_slice(br#""}},"#);
        }
    }
}

/// What stands between a span's name and its attributes.
fn push_frame(json: &mut Vec<u8>, flags: u32, kind: Kind, (began, ended): (u64, u64)) {
    // Whatever has spans is sampled.
    json.extend_from_slice(br#","flags":"#);
    push_decimal(json, u64::from(flags | 1));
    json.extend_from_slice(br#","kind":"#);
    push_decimal(json, kind as u64);
    json.extend_from_slice(br#","startTimeUnixNano":""#);
    push_decimal(json, began);
    json.extend_from_slice(br#"","endTimeUnixNano":""#);
    push_decimal(json, ended);
    json.extend_from_slice(br#"","attributes":["#);
}

fn push_end(json: &mut Vec<u8>, is_error: bool) {
    if json.last() == Some(&b',') {
        json.pop();
    }
    json.extend_from_slice(if is_error {
        br#"],"status":{"code":2}},"#
    } else {
        br#"],"status":{}},"#
    });
}

/// Writes an attribute with a text, and a comma, whatever either holds.
pub fn push_attribute(json: &mut Vec<u8>, key: &str, text: &str) {
    json.extend_from_slice(br#"{"key":"#);
    push_json_text(json, key);
    json.extend_from_slice(br#","value":{"stringValue":"#);
    push_json_text(json, cut(text));
    json.extend_from_slice(b"}},");
}

/// The same for a name of ours, which needs no escape.
fn push_text(json: &mut Vec<u8>, key: &'static str, text: &str) {
    json.extend_from_slice(br#"{"key":""#);
    json.extend_from_slice(key.as_bytes());
    json.extend_from_slice(br#"","value":{"stringValue":""#);
    push_json_inner(json, cut(text));
    json.extend_from_slice(br#""}},"#);
}

fn push_number(json: &mut Vec<u8>, key: &'static str, number: u64) {
    json.extend_from_slice(br#"{"key":""#);
    json.extend_from_slice(key.as_bytes());
    json.extend_from_slice(br#"","value":{"intValue":""#);
    push_decimal(json, number);
    json.extend_from_slice(br#""}},"#);
}

fn cut(text: &str) -> &str {
    match text.len() {
        0..=TEXT_MOST => text,
        _ => &text[..text.floor_char_boundary(TEXT_MOST)],
    }
}

/// The methods of RFC 9110 and PATCH; any other is a text that a client has made up.
fn known(method: &Method) -> Option<&'static str> {
    Some(match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => return None,
    })
}

fn number(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    }
}

impl Moment {
    fn of(self, at: Instant) -> u64 {
        let ago = self.at.saturating_duration_since(at).as_nanos();
        self.wall
            .saturating_sub(u64::try_from(ago).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;

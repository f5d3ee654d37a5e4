//! One finished request as one line of JSON, written by hand: a formatter would cost more than all
//! else that is done when a request ends.

use std::time::Duration;

use gapura_protocol::context::RequestId;
use gapura_protocol::envelope::Code;
use gapura_protocol::trace::TraceId;
use http::Method;

use crate::log::{push_decimal, push_json_text};

/// What a line says.
pub(super) struct Line<'a> {
    /// When, as RFC 3339.
    pub(super) ts: &'a [u8; 24],
    /// The fault is on our side or the plugin's.
    pub(super) is_wrong: bool,
    pub(super) service: &'static str,
    pub(super) event: &'a str,
    pub(super) request_id: &'a RequestId,
    pub(super) trace_id: Option<&'a TraceId>,
    pub(super) method: &'a Method,
    pub(super) path: Option<&'a str>,
    pub(super) status: u16,
    pub(super) latency: Duration,
    pub(super) upstream: Option<Duration>,
    pub(super) company: Option<&'a str>,
    pub(super) plugin: Option<&'a str>,
    pub(super) peer: &'a str,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) stripped: u32,
    pub(super) actor: bool,
    pub(super) code: Option<Code>,
    pub(super) reason: Option<&'static str>,
}

impl Line<'_> {
    /// Writes it behind what is there.
    pub(super) fn write(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"ts\":\"");
        line.extend_from_slice(self.ts);
        line.extend_from_slice(match self.is_wrong {
            true => b"\",\"level\":\"warn\",\"service\":\"",
            false => b"\",\"level\":\"info\",\"service\":\"",
        });
        line.extend_from_slice(self.service.as_bytes());
        line.extend_from_slice(b"\",\"event\":\"");
        line.extend_from_slice(self.event.as_bytes());
        line.extend_from_slice(b"\",\"request_id\":\"");
        line.extend_from_slice(self.request_id.as_str().as_bytes());
        line.extend_from_slice(b"\",\"trace_id\":");
        match self.trace_id {
            Some(trace) => line.extend_from_slice(&trace.quoted()),
            None => line.extend_from_slice(b"null"),
        }
        line.extend_from_slice(b",\"method\":\"");
        line.extend_from_slice(self.method.as_str().as_bytes());
        line.push(b'"');
        text(line, b",\"path\":", self.path);
        number(line, b",\"status\":", self.status.into());
        line.extend_from_slice(b",\"latency_ms\":");
        millis(line, self.latency);
        line.extend_from_slice(b",\"upstream_ms\":");
        match self.upstream {
            Some(upstream) => millis(line, upstream),
            None => line.extend_from_slice(b"null"),
        }
        text(line, b",\"company_id\":", self.company);
        text(line, b",\"plugin\":", self.plugin);
        text(line, b",\"peer\":", Some(self.peer));
        number(line, b",\"bytes_in\":", self.bytes_in);
        number(line, b",\"bytes_out\":", self.bytes_out);
        number(line, b",\"stripped\":", self.stripped.into());
        if self.actor {
            line.extend_from_slice(b",\"actor\":true");
        }
        text(line, b",\"code\":", self.code.map(|code| code.as_str()));
        if let Some(reason) = self.reason {
            text(line, b",\"reason\":", Some(reason));
        }
        line.extend_from_slice(b"}\n");
    }
}

fn text(line: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    line.extend_from_slice(name);
    match value {
        Some(value) => push_json_text(line, value),
        None => line.extend_from_slice(b"null"),
    }
}

fn number(line: &mut Vec<u8>, name: &[u8], value: u64) {
    line.extend_from_slice(name);
    push_decimal(line, value);
}

/// With three decimals.
fn millis(line: &mut Vec<u8>, took: Duration) {
    let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    push_decimal(line, micros / 1000);
    line.push(b'.');
    // A thousand in front keeps the zeros.
    let from = line.len();
    push_decimal(line, 1000 + micros % 1000);
    line.remove(from);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_have_three_decimals() {
        for (micros, text) in [
            (0, "0.000"),
            (7, "0.007"),
            (999, "0.999"),
            (1_000, "1.000"),
            (61_050, "61.050"),
        ] {
            let mut line = Vec::new();
            millis(&mut line, Duration::from_micros(micros));
            assert_eq!(std::str::from_utf8(&line), Ok(text));
        }
    }
}

//! One finished request as one line of JSON, written by hand: a formatter would cost more than all
//! else that is done when a request ends.

use std::time::Duration;

use gapura_protocol::context::TenantId;

use super::Record;
use crate::log::{push_decimal, push_json_text};

/// Writes the line of `record`, which took `took`, behind what is there.
pub(super) fn write(line: &mut Vec<u8>, event: &str, record: &Record, took: Duration) {
    let sink = &record.sink;
    let mut stamp = sink.stamp.get();
    line.extend_from_slice(b"{\"ts\":\"");
    line.extend_from_slice(stamp.at(sink.log.clock().now()));
    sink.stamp.set(stamp);
    line.extend_from_slice(match record.is_wrong() {
        true => b"\",\"level\":\"warn\",\"service\":\"",
        false => b"\",\"level\":\"info\",\"service\":\"",
    });
    line.extend_from_slice(sink.log.service().as_bytes());
    line.extend_from_slice(b"\",\"event\":\"");
    line.extend_from_slice(event.as_bytes());
    line.extend_from_slice(b"\",\"request_id\":\"");
    line.extend_from_slice(record.request_id.as_str().as_bytes());
    line.extend_from_slice(b"\",\"trace_id\":");
    match &record.trace_id {
        Some(trace) => line.extend_from_slice(&trace.quoted()),
        None => line.extend_from_slice(b"null"),
    }
    line.extend_from_slice(b",\"method\":\"");
    line.extend_from_slice(record.method.as_str().as_bytes());
    line.push(b'"');
    text(line, b",\"path\":", record.path.as_str());
    number(line, b",\"status\":", record.status.into());
    line.extend_from_slice(b",\"latency_ms\":");
    millis(line, took);
    line.extend_from_slice(b",\"upstream_ms\":");
    match record.upstream {
        Some(upstream) => millis(line, upstream),
        None => line.extend_from_slice(b"null"),
    }
    let tenant = record.tenant.as_ref().map(TenantId::as_str);
    text(line, b",\"company_id\":", tenant);
    text(line, b",\"plugin\":", record.plugin_name());
    text(line, b",\"peer\":", Some(&record.peer));
    number(line, b",\"bytes_in\":", record.bytes_in);
    number(line, b",\"bytes_out\":", record.bytes_out);
    number(line, b",\"stripped\":", record.stripped.total().into());
    if record.actor {
        line.extend_from_slice(b",\"actor\":true");
    }
    text(line, b",\"code\":", record.code.map(|code| code.as_str()));
    if let Some(reason) = record.reason {
        text(line, b",\"reason\":", Some(reason));
    }
    line.extend_from_slice(b"}\n");
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

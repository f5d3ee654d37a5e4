//! `gapura tap`: finished requests as they end, from the operator's side of a running program.
//!
//! In: which requests are meant, and the events of `/tap`. Out: a line each, for people or as it
//! came, until the program or its reader ends. What a line says was decided by the program; here it
//! is only set in columns, and nothing in it can move a terminal's cursor.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write};
use std::time::Duration;

use gapura_operator::ask::{self, Event};
use gapura_settings::AdminSide;
use serde_json::Value;

use crate::Error;

/// Which requests are meant; all, unless something is named.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Those of this plugin; `none` for those that no plugin takes.
    pub plugin: Option<String>,
    /// Those that act for this company.
    pub company: Option<String>,
    /// Those with this status, or of this class: `404` or `5xx`.
    pub status: Option<String>,
    /// Those that took so long or longer.
    pub slow: Option<Duration>,
}

/// Writes them to `out` until the program ends, or nobody reads `out` any more.
///
/// # Errors
/// The program can't be reached, refuses, or has ended.
pub fn run(
    admin: &AdminSide,
    wanted: &Wanted,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let events = ask::events(admin, &wanted.path()).map_err(Error::Failed)?;
    let ended = |why: &str| Error::Failed(format!("the tap at {} has ended{why}", admin.address));
    for event in events {
        let event = event.map_err(|error| ended(&format!(": {error}")))?;
        let line = if json { event.data } else { shown(&event) };
        match writeln!(out, "{line}").and_then(|()| out.flush()) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            Err(error) => return Err(Error::Failed(format!("can't write: {error}"))),
        }
    }
    Err(ended("; the program may be gone"))
}

impl Wanted {
    fn path(&self) -> String {
        let slow = self.slow.map(|slow| slow.as_millis().to_string());
        let mut path = "/tap".to_owned();
        for (key, value) in [
            ("plugin", &self.plugin),
            ("company", &self.company),
            ("status", &self.status),
            ("slow_ms", &slow),
        ] {
            if let Some(value) = value {
                let sign = if path.len() == "/tap".len() { '?' } else { '&' };
                let _ = write!(path, "{sign}{key}=");
                for byte in value.bytes() {
                    let _ = match byte {
                        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                            write!(path, "{}", char::from(byte))
                        }
                        _ => write!(path, "%{byte:02X}"),
                    };
                }
            }
        }
        path
    }
}

/// A line for people.
fn shown(event: &Event) -> String {
    let Ok(line) = serde_json::from_str::<Value>(&event.data) else {
        return printable(&event.data);
    };
    if event.kind == "dropped" {
        let count = &line["dropped"];
        return format!("             … {count} more that came too fast to be shown");
    }
    let text = |name: &str| printable(line[name].as_str().unwrap_or("-"));
    // Of an RFC 3339 moment the time of day: whoever watches knows the date.
    let ts = text("ts");
    let time = ts.split_once('T').map_or(&*ts, |(_, time)| time);
    let mut shown = format!(
        "{:<12} {} {:>10.3} ms  {} {}",
        time.trim_end_matches('Z'),
        line["status"],
        line["latency_ms"].as_f64().unwrap_or_default(),
        text("method"),
        text("path"),
    );
    for (label, name) in [
        ("plugin", "plugin"),
        ("company", "company_id"),
        ("code", "code"),
        ("reason", "reason"),
        ("peer", "peer"),
        ("id", "request_id"),
    ] {
        if let Some(value) = line[name].as_str() {
            let value = printable(value);
            let _ = match value.contains(' ') {
                true => write!(shown, "  {label}=\"{value}\""),
                false => write!(shown, "  {label}={value}"),
            };
        }
    }
    shown
}

/// Whatever could move a cursor, ring a bell or turn the line around is shown as its number.
fn printable(text: &str) -> String {
    let turns = |letter: char| matches!(letter, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() || turns(letter) {
            shown.extend(letter.escape_unicode());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, data: &str) -> Event {
        Event {
            kind: kind.to_owned(),
            data: data.to_owned(),
        }
    }

    #[test]
    fn a_request_is_a_line_that_can_be_read() {
        let data = r#"{"ts":"2026-11-27T21:04:05.678Z","level":"info","service":"gateway","event":"request","request_id":"one","trace_id":null,"method":"GET","path":"/lab/x","status":429,"latency_ms":1.250,"upstream_ms":null,"company_id":"42","plugin":"lab","peer":"127.0.0.1:5","bytes_in":0,"bytes_out":9,"stripped":0,"code":"rate_limited","reason":"the company's limit"}"#;
        assert_eq!(
            shown(&event("", data)),
            "21:04:05.678 429      1.250 ms  GET /lab/x  plugin=lab  company=42  code=rate_limited  reason=\"the company's limit\"  peer=127.0.0.1:5  id=one"
        );
        assert!(shown(&event("dropped", r#"{"dropped":7}"#)).contains("… 7 more"));
    }

    #[test]
    fn nothing_in_a_line_moves_the_cursor() {
        let data = r#"{"path":"/\u001b[2J\u202e\r\nx","status":400,"method":"\u0007"}"#;
        let line = shown(&event("", data));
        assert!(!line.chars().any(char::is_control), "{line:?}");
        assert!(line.contains("/\\u{1b}[2J\\u{202e}"), "{line}");
        assert!(!shown(&event("", "\u{1b}[2J")).contains('\u{1b}'));
    }

    #[test]
    fn what_is_wanted_is_asked_for() {
        assert_eq!(Wanted::default().path(), "/tap");
        let wanted = Wanted {
            plugin: Some("lab".to_owned()),
            company: Some("a:b&c".to_owned()),
            status: Some("5xx".to_owned()),
            slow: Some(Duration::from_secs(2)),
        };
        assert_eq!(
            wanted.path(),
            "/tap?plugin=lab&company=a%3Ab%26c&status=5xx&slow_ms=2000"
        );
    }
}

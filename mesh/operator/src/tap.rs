//! `/tap` on the operator's side: finished requests as they end, for whoever looks.
//!
//! In: what a viewer asks for, as a query. Out: the access lines of the requests that it means, an
//! event each, and an event `dropped` with their number where some were lost, since a viewer who
//! reads slowly slows nobody. Nothing here makes a line: what may stand in one is decided where
//! access lines are made.

use std::borrow::Cow;
use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use gapura_protocol::text::hex_value;
use gapura_telemetry::log::{Field, Level, Log};
use gapura_telemetry::tap::{Filter, Statuses, Tap, Watch};
use http::StatusCode;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::admin::{Events, Page, Viewers};

/// Where it is (CONTRACT section 6).
pub(crate) const TAP: &str = "/tap";

/// Who looks at one program.
pub(crate) struct Taps {
    /// None where the operator has taken it out.
    tap: Option<Tap>,
    log: Log,
    viewers: Viewers,
    pumps: RefCell<JoinSet<()>>,
}

/// How often it is looked whether something has come: as often as workers hand over.
const EVERY: Duration = Duration::from_millis(100);

impl Taps {
    pub(crate) fn new(tap: Option<Tap>, log: Log) -> Self {
        Self {
            tap,
            log,
            viewers: Viewers::default(),
            pumps: RefCell::default(),
        }
    }

    /// The requests that `query` asks for, from now on.
    pub(crate) fn events(&self, query: Option<&str>) -> Result<Events, Page> {
        let Some(tap) = &self.tap else {
            let message = "The tap is taken out of this program (--no-tap).";
            return Err(Page::refusal(StatusCode::NOT_FOUND, message));
        };
        let filter = asked(query.unwrap_or_default())
            .map_err(|message| Page::refusal(StatusCode::BAD_REQUEST, &message))?;
        let place = self.viewers.enter();
        let place = place.ok_or_else(Page::too_many_viewers)?;
        let watch = tap.watch(filter.clone());
        let watch = watch.ok_or_else(Page::too_many_viewers)?;
        let (send, coming) = mpsc::channel(1);
        let mut pumps = self.pumps.borrow_mut();
        while pumps.try_join_next().is_some() {}
        pumps.spawn_local(pump(watch, send, self.log.clone(), filter));
        Ok(Events::new(coming, place))
    }
}

/// Hands on what comes until nobody reads it. Who looked, and at what, is in the log: requests are
/// their callers' business.
async fn pump(watch: Watch, send: mpsc::Sender<Bytes>, log: Log, filter: Filter) {
    told(
        &log,
        "tap_opened",
        "somebody looks at finished requests",
        &filter,
    );
    let mut tick = interval(EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lines = Vec::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = send.closed() => break,
        }
        lines.clear();
        watch.take(&mut lines);
        let events = framed(&lines, watch.dropped());
        // It waits here for who reads slowly, and what comes meanwhile is dropped and counted.
        if !events.is_empty() && send.send(events.into()).await.is_err() {
            break;
        }
    }
    told(
        &log,
        "tap_closed",
        "somebody has looked at finished requests",
        &filter,
    );
}

fn told(log: &Log, event: &str, message: &str, filter: &Filter) {
    let text = |value: &Option<String>| Field::from(value.clone());
    let fields = [
        ("plugin", text(&filter.plugin)),
        ("company_id", text(&filter.company)),
    ];
    log.event(Level::Info, event, message, &fields);
}

/// Lines as events (WHATWG HTML, section 9.2), and how many others were lost.
fn framed(lines: &[u8], lost: u64) -> Vec<u8> {
    let mut events = Vec::with_capacity(lines.len() + lines.len() / 32 + 64);
    for line in lines.split_inclusive(|byte| *byte == b'\n') {
        events.extend_from_slice(b"data: ");
        events.extend_from_slice(line);
        events.push(b'\n');
    }
    if lost > 0 {
        let event = format!("event: dropped\ndata: {{\"dropped\":{lost}}}\n\n");
        events.extend_from_slice(event.as_bytes());
    }
    events
}

/// What a query asks for. A key with nothing behind it, as a form sends it, asks for nothing.
fn asked(query: &str) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let mut seen = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value =
            decoded(value).ok_or_else(|| format!("{key}: is not encoded as a query is."))?;
        if seen.contains(&key) {
            return Err(format!("{key}: may be asked for once."));
        }
        seen.push(key);
        let given = (!value.is_empty()).then(|| value.clone().into_owned());
        let wrong = |message: String| format!("{key}: {message}.");
        match key {
            "plugin" => filter.plugin = given,
            "company" => filter.company = given,
            "status" => {
                let status = given.as_deref().map(Statuses::parse).transpose();
                filter.status = status.map_err(wrong)?;
            }
            "slow_ms" => {
                let millis = given.as_deref().map(str::parse).transpose();
                let millis = millis
                    .map_err(|_| wrong("must be a whole number of milliseconds".to_owned()))?;
                filter.slow = millis.map(Duration::from_millis);
            }
            _ => {
                return Err("The tap can be asked for plugin, company, status (404 or 5xx) and slow_ms, and for nothing else.".to_owned());
            }
        }
    }
    Ok(filter)
}

/// A value of a query as a form or a person writes it.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => hex_value(rest.next()?)? << 4 | hex_value(rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_requests_are_meant() {
        assert_eq!(asked(""), Ok(Filter::default()));
        assert_eq!(asked("plugin=&status="), Ok(Filter::default()));
        let all = Filter {
            plugin: Some("lab".to_owned()),
            company: Some("a:b c".to_owned()),
            status: Some(Statuses::Class(5)),
            slow: Some(Duration::from_millis(200)),
        };
        assert_eq!(
            asked("plugin=lab&company=a%3Ab+c&status=5xx&slow_ms=200"),
            Ok(all)
        );
        for (query, said) in [
            ("status=6xx", "status: must be"),
            ("status=abc", "status: must be"),
            ("slow_ms=200ms", "slow_ms: must be"),
            ("slow_ms=-1", "slow_ms: must be"),
            ("plugin=a&plugin=b", "plugin: may be asked for once"),
            ("company=%zz", "company: is not encoded"),
            ("company=%ff", "company: is not encoded"),
            ("company=%4", "company: is not encoded"),
            ("path=/x", "can be asked for"),
            ("<b>=1", "can be asked for"),
        ] {
            let told = asked(query).unwrap_err();
            assert!(told.contains(said), "{query}: {told}");
        }
    }

    #[test]
    fn each_line_is_an_event_and_so_is_what_was_lost() {
        let text = |lines: &[u8], lost| String::from_utf8(framed(lines, lost)).unwrap();
        assert_eq!(text(b"", 0), "");
        assert_eq!(text(b"{1}\n{2}\n", 0), "data: {1}\n\ndata: {2}\n\n");
        assert_eq!(
            text(b"{1}\n", 7),
            "data: {1}\n\nevent: dropped\ndata: {\"dropped\":7}\n\n"
        );
    }
}

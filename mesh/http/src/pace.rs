//! How slow a body may be: so many bytes in each half minute that its peer was waited for.
//!
//! In: when a peer is waited for, and what then moves. Out: whether that is too little. A peer that
//! is not waited for is not slow, whoever else is; one that sends a byte now and then holds a place
//! for as long as it likes, unless somebody counts.

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// The least that a peer moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Bytes in each second, over [`WINDOW`].
    pub per_second: u64,
}

/// One body's pace.
#[derive(Debug)]
pub struct Pace {
    rate: Rate,
    since: Option<Instant>,
    waited: Duration,
    moved: u64,
    forgiven: bool,
}

/// Over how long it is measured: a train's tunnel is shorter.
pub const WINDOW: Duration = Duration::from_secs(30);

/// For so much longer a peer is waited for, once, after it was silent for long.
const AFTER_PAUSE: Duration = Duration::from_secs(5);

impl Rate {
    /// The pace of a message with these fields. None of one that is silent for long by design: an
    /// event stream, and gRPC.
    #[must_use]
    pub fn of(self, headers: &HeaderMap) -> Option<Pace> {
        let kind = headers.get(CONTENT_TYPE);
        let kind = kind.map(|kind| kind.as_bytes()).unwrap_or_default();
        let is = |name: &[u8]| {
            kind.get(..name.len())
                .is_some_and(|kind| kind.eq_ignore_ascii_case(name))
        };
        (!is(b"text/event-stream") && !is(b"application/grpc")).then(|| Pace::new(self))
    }
}

impl Pace {
    /// Nothing has moved, and nobody was waited for.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            since: None,
            waited: Duration::ZERO,
            moved: 0,
            forgiven: false,
        }
    }

    /// The peer is waited for from `now` on, unless it was before.
    pub fn waits(&mut self, now: impl FnOnce() -> Instant) {
        self.since.get_or_insert_with(now);
    }

    /// So much has moved. Whether that is too slow.
    pub fn moved(&mut self, bytes: u64, now: impl FnOnce() -> Instant) -> bool {
        self.moved = self.moved.saturating_add(bytes);
        let Some(since) = self.since.take() else {
            return false;
        };
        let pause = now().saturating_duration_since(since);
        self.waited += pause;
        if self.waited < WINDOW {
            return false;
        }
        // After a pause the first bytes come alone, and what follows them tells.
        if pause >= WINDOW / 2 && !std::mem::replace(&mut self.forgiven, true) {
            self.waited = WINDOW - AFTER_PAUSE;
            return false;
        }
        self.forgiven = false;
        let least = self.rate.per_second.saturating_mul(self.waited.as_secs());
        let is_slow = self.moved < least;
        (self.waited, self.moved) = (Duration::ZERO, 0);
        is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body is found too slow of which `bytes` come after each of these waits.
    fn is_slow(bytes: u64, waits: &[u64]) -> bool {
        let mut pace = Pace::new(Rate { per_second: 240 });
        let mut now = Instant::now();
        waits.iter().any(|seconds| {
            pace.waits(|| now);
            now += Duration::from_secs(*seconds);
            pace.waits(|| now);
            pace.moved(bytes, || now)
        })
    }

    #[test]
    fn who_moves_too_little_in_the_time_it_is_waited_for_is_slow() {
        assert!(is_slow(1, &[29, 29, 29]), "a byte now and then");
        assert!(!is_slow(1, &[29, 29, 0]), "a pause");
        assert!(is_slow(1, &[1; 30]));
        assert!(is_slow(239, &[1; 30]));
        assert!(!is_slow(240, &[1; 300]));
        assert!(!is_slow(1, &[1; 29]), "not before the window is over");
        assert!(!is_slow(100_000, &[29; 10]), "in bursts");
    }

    #[test]
    fn event_streams_and_grpc_have_no_pace() {
        for (kind, has) in [
            ("text/html", true),
            ("text/event-stream; charset=utf-8", false),
            ("Text/Event-Stream", false),
            ("application/grpc+proto", false),
            ("application/json", true),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
            assert_eq!(Rate { per_second: 1 }.of(&headers).is_some(), has, "{kind}");
        }
        assert!(Rate { per_second: 1 }.of(&HeaderMap::new()).is_some());
    }

    #[test]
    fn who_is_not_waited_for_is_not_slow() {
        let mut pace = Pace::new(Rate { per_second: 240 });
        let mut now = Instant::now();
        for _ in 0..100 {
            now += Duration::from_secs(10);
            assert!(!pace.moved(1, || now));
        }
    }

    #[test]
    fn each_window_counts_for_itself() {
        let mut pace = Pace::new(Rate { per_second: 240 });
        let now = Instant::now();
        let mut window = |bytes| {
            (0..30).any(|second| {
                pace.waits(|| now + Duration::from_secs(second));
                pace.moved(bytes, || now + Duration::from_secs(second + 1))
            })
        };
        assert!(!window(1_000_000));
        assert!(window(10), "what came before was paid for before");
    }
}

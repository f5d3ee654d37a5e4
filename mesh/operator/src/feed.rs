//! The operator's page while somebody looks at it: one document a second, whatever the number of
//! viewers.
//!
//! In: the counters, every few seconds, and what the program says of itself, once a second while
//! there is a viewer. Out: events for each viewer, and the latest document for whoever asks once.
//! All of it on the control thread; a viewer that does not take an event misses it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gapura_page::assets::Asset;
use gapura_page::document::{self, Document};
use gapura_page::history::{History, STEP};
use gapura_page::trust::{Certificate, Happened, LastRevocation, Trust};
use gapura_protocol::clock::unix;
use gapura_telemetry::access::UNROUTED;
use http::StatusCode;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};

use crate::admin::{Events, Page, Viewers};
use crate::report::Report;

/// Who looks at the page, and what they see. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Feed(Rc<State>);

#[derive(Default)]
struct State {
    viewers: Viewers,
    sending: RefCell<Vec<mpsc::Sender<Bytes>>>,
    came: Notify,
    history: RefCell<History>,
    /// The latest document, and when it was made.
    latest: RefCell<Option<(Instant, Bytes)>>,
    /// When the program began.
    started: Cell<u64>,
}

/// What is in the folder of the page, for who asks once.
pub(crate) const DOCUMENT: &str = "/page.json";

/// The same as it changes.
pub(crate) const EVENTS: &str = "/events";

/// Nobody sees more than this, and no more is made.
const EVERY: Duration = Duration::from_secs(1);

/// A document and the lines, twice over: whoever is further behind misses the next.
const WAITING: usize = 4;

impl Feed {
    /// Reads the counters and makes documents, for as long as the program runs.
    pub(crate) async fn run<R: Report>(self, report: Rc<R>) {
        self.0.started.set(report.shared().clock.unix());
        tokio::join!(self.remember(&*report), self.show(&*report));
    }

    /// The first page of a viewer and what follows, unless eight look already.
    pub(crate) fn look<R: Report>(&self, report: &R) -> Result<Events, Page> {
        let viewer = self.0.viewers.enter().ok_or_else(Page::too_many_viewers)?;
        let (sending, coming) = mpsc::channel(WAITING);
        // There is room for both.
        let _ = sending.try_send(self.lines());
        let _ = sending.try_send(event("state", &self.document(report)));
        self.0.sending.borrow_mut().push(sending);
        self.0.came.notify_one();
        Ok(Events::new(coming, viewer))
    }

    /// The document as it is now, or was a moment ago.
    pub(crate) fn page<R: Report>(&self, report: &R) -> Page {
        let text = String::from_utf8_lossy(&self.document(report)).into_owned();
        Page {
            status: StatusCode::OK,
            kind: "application/json",
            text: text.into(),
        }
    }

    async fn remember(&self, report: &impl Report) {
        let mut next = tokio::time::interval(STEP);
        next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            next.tick().await;
            self.0
                .history
                .borrow_mut()
                .enter(report.shared().meters.read());
            if self.is_watched() {
                self.send(&self.lines());
            }
        }
    }

    async fn show(&self, report: &impl Report) {
        loop {
            if !self.is_watched() {
                self.0.came.notified().await;
            }
            tokio::time::sleep(EVERY).await;
            report.look().await;
            if self.is_watched() {
                self.send(&event("state", &self.document(report)));
            }
        }
    }

    /// Whether anybody looks; who has gone is forgotten.
    fn is_watched(&self) -> bool {
        let mut sending = self.0.sending.borrow_mut();
        sending.retain(|one| !one.is_closed());
        !sending.is_empty()
    }

    fn send(&self, event: &Bytes) {
        for viewer in &*self.0.sending.borrow() {
            let _ = viewer.try_send(event.clone());
        }
    }

    fn lines(&self) -> Bytes {
        #[derive(Serialize)]
        struct Past {
            step_s: u64,
            lines: Vec<gapura_page::history::Lines>,
        }
        let past = Past {
            step_s: STEP.as_secs(),
            lines: self.0.history.borrow().lines(),
        };
        event("past", &json(&past))
    }

    fn document<R: Report>(&self, report: &R) -> Bytes {
        let mut latest = self.0.latest.borrow_mut();
        // A little less than the time between two, so that none is sent twice.
        let fresh = EVERY.mul_f32(0.9);
        if let Some((made, text)) = &*latest
            && made.elapsed() < fresh
        {
            return text.clone();
        }
        let text = json(&self.make(report));
        *latest = Some((Instant::now(), text.clone()));
        text
    }

    fn make<R: Report>(&self, report: &R) -> Document<R::Facts> {
        let (shared, history) = (report.shared(), self.0.history.borrow());
        let sides: Vec<&'static str> = R::SIDES.iter().map(|side| side.as_str()).collect();
        let (connections, handshakes) = document::connections(&history, &sides);
        let missing = report.missing();
        Document {
            service: shared.log.service(),
            version: env!("CARGO_PKG_VERSION"),
            now: shared.clock.unix(),
            started: self.0.started.get(),
            missing: missing.iter().map(ToString::to_string).collect(),
            alarms: document::alarms(&shared.alarms),
            lately: history.all_lately(UNROUTED),
            connections,
            rejections: document::rejections(&history),
            handshakes,
            trust: trust(report),
            own: report.facts(&history),
        }
    }
}

/// The file of the page at `path`.
pub(crate) fn asset(path: &str) -> Option<Page> {
    Asset::at(path).map(|asset| Page {
        status: StatusCode::OK,
        kind: asset.kind,
        text: asset.text.into(),
    })
}

fn trust<R: Report>(report: &R) -> Trust {
    let shared = report.shared();
    let now = shared.clock.now();
    let public = report.public_life().map(|(serial, not_before, not_after)| {
        Certificate::of(serial, not_before, not_after, unix(now))
    });
    let last = shared.trust_counters.last_revocation();
    let happened = Happened {
        last_revocation: last.map(|last| LastRevocation {
            at: unix(last.at),
            added: last.added,
            cut: last.cut,
            peers: last.peers,
        }),
        revoked_closed: shared
            .trust_counters
            .revoked_closed
            .load(std::sync::atomic::Ordering::Relaxed),
    };
    Trust::now(
        &shared.trust.load(),
        public,
        shared.live.by_peer(),
        happened,
        now,
    )
}

/// What cannot be written is shown as nothing: all of it is numbers and texts.
fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

/// An event as it goes over the wire. JSON has no line ends of its own.
fn event(name: &str, data: &[u8]) -> Bytes {
    [b"event: ", name.as_bytes(), b"\ndata: ", data, b"\n\n"]
        .concat()
        .into()
}

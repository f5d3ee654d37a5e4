//! Answers of the operator's side: a page whole, or events as they happen (WHATWG HTML, section
//! 9.2).
//!
//! In: a bounded channel of events, and a place among few viewers. Out: a body that hands on each
//! as it comes, and says a word now and then where nothing happens, so that a viewer who is gone is
//! noticed. Whoever sends never waits for a viewer: what finds no room is the sender's to drop.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};

/// Who may look at one kind of events: eight at a time.
#[derive(Clone, Default)]
pub struct Viewers(Rc<Cell<usize>>);

/// A place among them, for as long as it is kept.
pub struct Viewer(Rc<Cell<usize>>);

/// Events from now on.
pub struct Events {
    coming: mpsc::Receiver<Bytes>,
    #[expect(dead_code, reason = "held, never asked")]
    place: Viewer,
}

/// The body of an answer.
pub(super) enum Answer {
    /// All of it, once.
    Whole(Option<Bytes>),
    /// Events.
    Events(Box<Streaming>),
}

/// Events on their way to one viewer.
pub(super) struct Streaming {
    events: Events,
    pulse: Pulse,
    silence: Pin<Box<Sleep>>,
    /// How long that may be.
    silent: Duration,
}

/// When the reader of a stream last took something. A connection that has begun none has no pulse.
#[derive(Clone, Default)]
pub(super) struct Pulse(Rc<Cell<Option<Instant>>>);

/// A room of people, and one screen on a wall.
const VIEWERS: usize = 8;

/// A word at least so often; three of them, before who takes none is let go.
const SILENT: Duration = Duration::from_secs(10);

/// A comment, which every reader of events passes over.
const STILL_HERE: &[u8] = b":\n\n";

impl Viewers {
    /// A place, unless eight have one.
    #[must_use]
    pub fn enter(&self) -> Option<Viewer> {
        if self.0.get() >= VIEWERS {
            return None;
        }
        self.0.set(self.0.get() + 1);
        Some(Viewer(self.0.clone()))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Events {
    /// What `coming` brings, each already in the form of an event, for who has this place.
    #[must_use]
    pub fn new(coming: mpsc::Receiver<Bytes>, place: Viewer) -> Self {
        Self { coming, place }
    }
}

impl Answer {
    pub(super) fn events(events: Events, pulse: Pulse) -> Self {
        Self::with_a_word_every(SILENT, events, pulse)
    }

    fn with_a_word_every(silent: Duration, events: Events, pulse: Pulse) -> Self {
        pulse.beat();
        Self::Events(Box::new(Streaming {
            events,
            pulse,
            silence: Box::pin(sleep(silent)),
            silent,
        }))
    }
}

impl Pulse {
    fn beat(&self) {
        self.0.set(Some(Instant::now()));
    }

    /// Whether events are being read by somebody who took one within `time`.
    pub(super) fn is_felt(&self, time: Duration) -> bool {
        self.0.get().is_some_and(|last| last.elapsed() < time)
    }

    /// Whether events are being read at all.
    pub(super) fn is_there(&self) -> bool {
        self.0.get().is_some()
    }
}

impl Streaming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        // It is asked for more only once what it gave has gone out.
        self.pulse.beat();
        let next = match self.events.coming.poll_recv(cx) {
            Poll::Pending => match Future::poll(self.silence.as_mut(), cx) {
                Poll::Ready(()) => Some(Bytes::from_static(STILL_HERE)),
                Poll::Pending => return Poll::Pending,
            },
            Poll::Ready(next) => next,
        };
        self.silence.as_mut().reset(Instant::now() + self.silent);
        Poll::Ready(next)
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let next = match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take()),
            Self::Events(streaming) => streaming.poll(cx),
        };
        next.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                let length = bytes.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Self::Events(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[test]
    fn eight_have_a_place_and_who_leaves_makes_room() {
        let viewers = Viewers::default();
        let mut places: Vec<Viewer> = (0..VIEWERS)
            .map(|_| viewers.clone().enter().unwrap())
            .collect();
        assert!(viewers.enter().is_none());
        places.pop();
        assert!(viewers.enter().is_some());
    }

    #[tokio::test]
    async fn events_come_as_they_are_sent_and_a_word_where_none_does() {
        let (send, coming) = mpsc::channel(1);
        let place = Viewers::default().enter().unwrap();
        let (pulse, silent) = (Pulse::default(), Duration::from_millis(20));
        assert!(!pulse.is_there());
        let events = Events::new(coming, place);
        let mut answer = Answer::with_a_word_every(silent, events, pulse.clone());
        let mut next = async || {
            let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await;
            frame.map(|frame| frame.unwrap().into_data().unwrap())
        };
        send.try_send(Bytes::from_static(b"data: 1\n\n")).unwrap();
        assert_eq!(next().await.as_deref(), Some(&b"data: 1\n\n"[..]));
        let begun = Instant::now();
        assert_eq!(next().await.as_deref(), Some(STILL_HERE));
        assert!(begun.elapsed() >= silent);
        assert!(pulse.is_felt(SILENT) && !pulse.is_felt(Duration::ZERO));
        drop(send);
        assert_eq!(next().await, None);
    }
}

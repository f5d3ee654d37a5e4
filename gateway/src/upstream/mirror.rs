//! Copies of requests that go to a plugin's canary, so that its answers can be compared before
//! anybody depends on them.
//!
//! In: the copy of a request as it may go there, which goes once its original has its place, and
//! the answer that the caller gets.
//! Out: one more of `same`, `differs`, `failed` or `skipped` for the plugin. A copy's answer is
//! thrown away; the caller never waits for it, never sees it, and cannot tell that there was one.
//! How many there may be, `allowance` says.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use gapura_runtime::worker::Worker;
use gapura_telemetry::metrics::{Mirrored, PluginMeters};
use gapura_transport::body::{Attachment, Body, End, Upload};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, Response};
use http_body::Body as _;

use super::cluster::Cluster;
use super::{Error, Upstreams};
use crate::outgoing::Outgoing;

/// Two answers to one request, as far as they are known.
struct Comparison {
    ours: RefCell<Option<Known>>,
    theirs: RefCell<Option<Known>>,
    meters: Arc<PluginMeters>,
    slot: usize,
    told: Cell<bool>,
}

/// What is known of one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Whole {
        status: u16,
        length: u64,
    },
    /// It failed, or nobody read it to its end.
    Broken,
    /// It is none to compare: it has no end.
    Endless,
}

/// A copy that goes when its original does. Dropped before that, it was skipped.
pub(crate) struct Prepared {
    /// None once it has gone. Boxed, since it is rare and is carried past a wait.
    outgoing: Option<Box<Outgoing>>,
    ticket: Option<Ticket>,
    meters: Arc<PluginMeters>,
    slot: usize,
}

/// A copy under way, while the caller's own answer is waited for. Dropped without one, there is
/// nothing to compare with.
pub(crate) struct Mirroring(Option<Rc<Comparison>>);

/// Hears of the answer that the caller gets.
struct Original {
    comparison: Rc<Comparison>,
    status: u16,
    /// As the head says it; else what came is counted.
    said: Option<u64>,
    came: u64,
}

/// One of the copies that may be under way.
struct Ticket(Arc<Cluster>);

/// A copy that takes longer has failed, however long its plugin may take.
const WAIT_MOST: Duration = Duration::from_secs(10);

/// Of an answer that does not say how long it is, no more is read than this.
const READ_MOST: u64 = 8 * 1024 * 1024;

impl Ticket {
    fn of(cluster: &Arc<Cluster>) -> Option<Self> {
        let is_paid = cluster.allowance().take();
        is_paid.then(|| Self(cluster.clone()))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.allowance().give_back();
    }
}

/// A copy for `cluster`, if one may go, as `copy` makes it.
pub(crate) fn prepare(
    worker: &Worker,
    cluster: &Arc<Cluster>,
    copy: impl FnOnce() -> Option<Outgoing>,
) -> Option<Prepared> {
    let meters = cluster.meters(&worker.spec.meters).clone();
    let slot = worker.spec.index;
    let ticket = Ticket::of(cluster);
    let made = ticket.and_then(|ticket| Some((ticket, copy()?)));
    let Some((ticket, outgoing)) = made else {
        meters.slot(slot).mirrored(Mirrored::Skipped);
        return None;
    };
    Some(Prepared {
        outgoing: Some(Box::new(outgoing)),
        ticket: Some(ticket),
        meters,
        slot,
    })
}

impl Prepared {
    /// Sends it; and a place to tell of the answer that the caller gets.
    pub(crate) fn go(
        mut self,
        upstreams: &Rc<Upstreams>,
        worker: &Rc<Worker>,
    ) -> Option<Mirroring> {
        let (outgoing, ticket) = (self.outgoing.take()?, self.ticket.take()?);
        let comparison = Rc::new(Comparison {
            ours: RefCell::default(),
            theirs: RefCell::default(),
            meters: self.meters.clone(),
            slot: self.slot,
            told: Cell::new(false),
        });
        let (upstreams, on) = (upstreams.clone(), worker.clone());
        let theirs = comparison.clone();
        worker.tasks.spawn("a copy of a request", async move {
            let wait = outgoing.plugin.timeout.min(WAIT_MOST);
            let sent = send(&upstreams, &on, &ticket.0, *outgoing, wait).await;
            theirs.theirs(sent.unwrap_or(Known::Broken));
        });
        Some(Mirroring(Some(comparison)))
    }
}

impl Drop for Prepared {
    /// Its original was turned away: there is nothing to compare with, and a plugin that is full is
    /// not to be told by its canary.
    fn drop(&mut self) {
        if self.outgoing.is_some() {
            self.meters.slot(self.slot).mirrored(Mirrored::Skipped);
        }
    }
}

async fn send(
    upstreams: &Upstreams,
    worker: &Worker,
    cluster: &Arc<Cluster>,
    outgoing: Outgoing,
    wait: Duration,
) -> Result<Known, Error> {
    let upload = Rc::new(Upload::finished());
    let answer = upstreams
        .send_once(cluster, outgoing, &upload, wait)
        .await?;
    let (head, mut body) = answer.response.into_parts();
    let status = head.status.as_u16();
    if is_endless(&head.headers) {
        return Ok(Known::Endless);
    }
    if let Some(length) = length(&head.headers) {
        return Ok(Known::Whole { status, length });
    }
    let deadline = worker.timers.sleep(wait);
    let mut length = 0;
    loop {
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Pending => deadline.poll_passed(cx).map(|()| Err(Error::Timeout)),
            ready => ready.map(Ok),
        });
        match frame.await? {
            Some(Ok(frame)) => length += frame.data_ref().map_or(0, |data| data.len() as u64),
            Some(Err(fault)) => return Err(Error::Body(fault)),
            None => return Ok(Known::Whole { status, length }),
        }
        if length > READ_MOST {
            return Ok(Known::Endless);
        }
    }
}

impl Mirroring {
    /// The caller's answer, watched to its end.
    pub(crate) fn watch(mut self, answer: Response<Body>) -> Response<Body> {
        let Some(comparison) = self.0.take() else {
            return answer;
        };
        if is_endless(answer.headers()) {
            comparison.ours(Known::Endless);
            return answer;
        }
        let original = Original {
            status: answer.status().as_u16(),
            said: length(answer.headers()),
            came: 0,
            comparison,
        };
        if answer.body().is_ended() {
            original.is_whole();
            return answer;
        }
        answer.map(|body| body.with(Box::new(original)))
    }
}

impl Drop for Mirroring {
    fn drop(&mut self) {
        if let Some(comparison) = self.0.take() {
            comparison.ours(Known::Broken);
        }
    }
}

impl Comparison {
    fn ours(&self, known: Known) {
        self.ours.borrow_mut().get_or_insert(known);
        self.compare();
    }

    fn theirs(&self, known: Known) {
        self.theirs.borrow_mut().get_or_insert(known);
        self.compare();
    }

    fn compare(&self) {
        let (Some(ours), Some(theirs)) = (*self.ours.borrow(), *self.theirs.borrow()) else {
            return;
        };
        if !self.told.replace(true) {
            let result = verdict(ours, theirs);
            self.meters.slot(self.slot).mirrored(result);
        }
    }
}

fn verdict(ours: Known, theirs: Known) -> Mirrored {
    match (ours, theirs) {
        (_, Known::Broken) => Mirrored::Failed,
        (Known::Whole { .. }, Known::Whole { .. }) if ours == theirs => Mirrored::Same,
        (Known::Whole { .. }, Known::Whole { .. } | Known::Endless) => Mirrored::Differs,
        // There is nothing to compare with.
        (Known::Broken | Known::Endless, _) => Mirrored::Skipped,
    }
}

impl Original {
    fn is_whole(&self) {
        self.comparison.ours(Known::Whole {
            status: self.status,
            length: self.said.unwrap_or(self.came),
        });
    }
}

impl Attachment for Original {
    fn bytes(&mut self, count: u64) {
        self.came += count;
    }

    fn ended(&mut self, end: End) {
        if end == End::Whole {
            self.is_whole();
        }
    }
}

impl Drop for Original {
    /// Whatever was not whole by then has broken off.
    fn drop(&mut self) {
        self.comparison.ours(Known::Broken);
    }
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn is_endless(headers: &HeaderMap) -> bool {
    let kind = headers
        .get(CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok());
    kind.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/event-stream"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_and_length_are_compared_and_what_broke_is_no_difference() {
        let whole = |status, length| Known::Whole { status, length };
        for (ours, theirs, result) in [
            (whole(200, 5), whole(200, 5), Mirrored::Same),
            (whole(200, 5), whole(200, 6), Mirrored::Differs),
            (whole(200, 5), whole(404, 5), Mirrored::Differs),
            (whole(200, 5), Known::Broken, Mirrored::Failed),
            (whole(200, 5), Known::Endless, Mirrored::Differs),
            (Known::Broken, whole(200, 5), Mirrored::Skipped),
            (Known::Endless, Known::Endless, Mirrored::Skipped),
        ] {
            assert_eq!(verdict(ours, theirs), result, "{ours:?} {theirs:?}");
        }
    }
}

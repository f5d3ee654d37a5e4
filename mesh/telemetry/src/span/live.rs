//! The spans of one request that is sampled, while it is under way.
//!
//! In: what it asked for, what it had to wait for, and each call that was made for it. Out:
//! children, kept until the request's record ends; each is closed when its guard is dropped,
//! however that came. Bounded: a request has few children, and more than a few dozen are not kept.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Instant;

use gapura_protocol::random::Random;
use gapura_protocol::trace::{SpanId, Trace};
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{StatusCode, Version};

/// The spans of one request.
pub struct Spans {
    trace: Trace,
    id: SpanId,
    ids: Random,
    asked: Asked,
    route: RefCell<Option<Box<str>>>,
    host: RefCell<Option<HeaderValue>>,
    children: RefCell<Vec<Child>>,
    calls: Cell<u32>,
}

/// How a request came.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// Of HTTP.
    pub version: Version,
}

/// A part of what became of a request.
pub(super) struct Child {
    pub(super) id: SpanId,
    pub(super) began: Instant,
    pub(super) ended: Instant,
    pub(super) what: What,
}

/// What a child was.
pub(super) enum What {
    /// A wait for this.
    Wait(&'static str),
    Call(Box<Called>),
}

/// A call to the next program.
pub(super) struct Called {
    pub(super) callee: Callee,
    pub(super) path: Option<PathAndQuery>,
    pub(super) again: u32,
    pub(super) version: Version,
    pub(super) outcome: Outcome,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered(StatusCode),
    Failed(&'static str),
}

/// Whom a call goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callee {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// An address or a name; of a unix socket its path.
    pub address: Box<str>,
    /// None for a unix socket.
    pub port: Option<u16>,
}

/// A call under way: closed when it is dropped.
pub struct Call {
    spans: Rc<Spans>,
    id: SpanId,
    began: Instant,
    called: Option<Box<Called>>,
}

/// A wait under way: closed when it is dropped.
struct Wait<'a> {
    spans: &'a Spans,
    what: &'static str,
    began: Instant,
}

/// More children than this are more than anybody reads.
const CHILDREN_MOST: usize = 48;

/// Whoever waited for the call went away.
const CANCELLED: Outcome = Outcome::Failed("cancelled");

impl Spans {
    pub(super) fn new(trace: Trace, random: u64, asked: Asked) -> Rc<Self> {
        let ids = Random::continued(random);
        Rc::new(Self {
            trace,
            id: SpanId::new(ids.next()),
            ids,
            asked,
            route: RefCell::default(),
            host: RefCell::default(),
            children: RefCell::default(),
            calls: Cell::new(0),
        })
    }

    /// The request's own span.
    #[must_use]
    pub fn id(&self) -> SpanId {
        self.id
    }

    /// It matched this route.
    pub fn takes(&self, route: &str) {
        *self.route.borrow_mut() = Some(route.into());
    }

    /// It is for this host, as its head says.
    pub fn is_for(&self, host: &HeaderValue) {
        *self.host.borrow_mut() = Some(host.clone());
    }

    /// A call for this request begins, to `callee` and with this path; one more where there was one
    /// before.
    #[must_use]
    pub fn call(
        self: &Rc<Self>,
        callee: Callee,
        path: Option<&PathAndQuery>,
        version: Version,
    ) -> Box<Call> {
        let again = self.calls.get();
        self.calls.set(again.saturating_add(1));
        Box::new(Call {
            spans: self.clone(),
            id: SpanId::new(self.ids.next()),
            began: Instant::now(),
            called: Some(Box::new(Called {
                callee,
                path: path.cloned(),
                again,
                version,
                outcome: CANCELLED,
            })),
        })
    }

    pub(super) fn trace(&self) -> &Trace {
        &self.trace
    }

    pub(super) fn asked(&self) -> Asked {
        self.asked
    }

    pub(super) fn route(&self) -> Option<Box<str>> {
        self.route.borrow_mut().take()
    }

    pub(super) fn host(&self) -> Option<HeaderValue> {
        self.host.borrow_mut().take()
    }

    pub(super) fn children(&self) -> Vec<Child> {
        self.children.take()
    }

    fn keep(&self, id: SpanId, began: Instant, what: What) {
        let mut children = self.children.borrow_mut();
        if children.len() < CHILDREN_MOST {
            children.push(Child {
                id,
                began,
                ended: Instant::now(),
                what,
            });
        }
    }
}

impl Call {
    /// What the request has to say of its trace.
    #[must_use]
    pub fn header(&self) -> HeaderValue {
        self.spans.trace.header(self.id)
    }

    /// The head of its answer is here.
    pub fn answered(&mut self, status: StatusCode, version: Version) {
        if let Some(called) = &mut self.called {
            called.outcome = Outcome::Answered(status);
            called.version = version;
        }
    }

    /// There is none, for this reason.
    pub fn failed(&mut self, why: &'static str) {
        if let Some(called) = &mut self.called {
            called.outcome = Outcome::Failed(why);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(called) = self.called.take() {
            self.spans.keep(self.id, self.began, What::Call(called));
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let id = SpanId::new(self.spans.ids.next());
        self.spans.keep(id, self.began, What::Wait(self.what));
    }
}

/// Sees `future` through. Where it is not ready at once, the time until it is becomes a child of
/// `spans`, as a wait for `what`.
pub async fn watched<F: Future>(
    spans: Option<&Rc<Spans>>,
    what: &'static str,
    mut future: Pin<&mut F>,
) -> F::Output {
    let mut waits = None;
    poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        if polled.is_pending() && waits.is_none() {
            waits = spans.map(|spans| Wait {
                spans,
                what,
                began: Instant::now(),
            });
        }
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn spans() -> Rc<Spans> {
        let asked = Asked {
            scheme: "https",
            version: Version::HTTP_11,
        };
        Spans::new(Trace::begin(7).sampled(true), 7, asked)
    }

    fn callee() -> Callee {
        Callee {
            scheme: "https",
            address: "127.0.0.1".into(),
            port: Some(1),
        }
    }

    #[test]
    fn a_call_is_closed_however_it_ends() {
        let spans = spans();
        let mut call = spans.call(callee(), None, Version::HTTP_2);
        let header = call.header();
        call.answered(StatusCode::OK, Version::HTTP_11);
        drop(call);
        spans.call(callee(), None, Version::HTTP_2).failed("why");
        drop(spans.call(callee(), None, Version::HTTP_2));
        let children = spans.children();
        let outcomes: Vec<Outcome> = children
            .iter()
            .map(|child| match &child.what {
                What::Call(called) => called.outcome,
                What::Wait(_) => panic!("no wait"),
            })
            .collect();
        let expected = [
            Outcome::Answered(StatusCode::OK),
            Outcome::Failed("why"),
            CANCELLED,
        ];
        assert_eq!(outcomes, expected);
        let ids: Vec<_> = children.iter().map(|child| child.id).collect();
        assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != spans.id());
        let sent = Trace::parse(header.as_bytes()).unwrap();
        assert_eq!(sent.parent(), Some(ids[0]));
        assert!(sent.is_sampled());
    }

    #[test]
    fn only_what_is_not_there_at_once_was_waited_for() {
        let spans = spans();
        let mut cx = Context::from_waker(Waker::noop());
        {
            let one = pin!(async { 1 });
            let mut ready = pin!(watched(Some(&spans), "a", one));
            assert_eq!(ready.as_mut().poll(&mut cx), Poll::Ready(1));
        }
        assert!(spans.children().is_empty());
        {
            let never = pin!(std::future::pending::<()>());
            let mut waits = pin!(watched(Some(&spans), "b", never));
            assert!(waits.as_mut().poll(&mut cx).is_pending());
            assert!(waits.as_mut().poll(&mut cx).is_pending());
        }
        let children = spans.children();
        assert!(matches!(
            children.as_slice(),
            [Child {
                what: What::Wait("b"),
                ..
            }]
        ));
        {
            let never = pin!(std::future::pending::<()>());
            let mut waits = pin!(watched(None, "c", never));
            assert!(waits.as_mut().poll(&mut cx).is_pending());
        }
    }

    #[test]
    fn children_are_bounded() {
        let spans = spans();
        for _ in 0..1000 {
            drop(spans.call(callee(), None, Version::HTTP_2));
        }
        assert_eq!(spans.children().len(), CHILDREN_MOST);
    }
}

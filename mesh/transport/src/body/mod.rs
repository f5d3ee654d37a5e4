//! The one body type of a message under way, in either direction.
//!
//! In: bytes from a peer, over whichever protocol. Out: the same bytes, as an `http_body::Body`,
//! with what we owe every body: a count of the bytes, a limit, a deadline between two bytes, and
//! trailers that obey the header rule. Never copied and never collected: a gigabyte passes in the
//! memory of a few frames, since nothing is taken before the receiver asks for it.

mod attachment;
mod error;
mod upload;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use gapura_protocol::headers::{scrub_request_trailers, scrub_response_trailers};
use http::{HeaderMap, HeaderName};
use http_body::{Frame, SizeHint};

use crate::timers::{Sleep, Timers};
use attachment::Attachments;
use gapura_http::http1;
use gapura_http::http1::server::AnswerBody;
use gapura_http::pace::{Pace, Rate};

pub use attachment::{Attachment, End, Reader};
pub use error::BodyFault;
pub use upload::{Upload, UploadState};

/// A body under way: a pointer, since messages change hands many times before they are read;
/// nothing at all where there is no body.
pub struct Body(Option<Box<State>>);

struct State {
    source: Source,
    /// What was read before anybody asked.
    ahead: VecDeque<Result<Frame<Bytes>, BodyFault>>,
    left: Option<u64>,
    idle: Option<(Sleep, Duration)>,
    pace: Option<Pace>,
    trailers: Trailers,
    upload: Option<Rc<Upload>>,
    attachments: Attachments,
    reader: Option<Box<dyn Reader>>,
    /// An answer that has been read, for what is left of the upload that it answers.
    carrying: Option<http1::Incoming>,
    /// When it ends as if the sender had ended it.
    until: Option<Timestamp>,
    /// When it ends as if the sender had gone away.
    cut: Option<Timestamp>,
    /// Its end has been told.
    over: bool,
}

/// The moment at which a body ends, whatever its sender thinks.
pub type Timestamp = Pin<Box<dyn Future<Output = ()>>>;

enum Source {
    End,
    Full(Bytes),
    Message {
        incoming: http1::Incoming,
        /// It has a length, whose bytes it is whole with.
        measured: bool,
    },
}

/// Which trailers may pass.
pub enum Trailers {
    /// Those of an answer.
    Response,
    /// Those of a request: `grpc-*`, and those the plugin asks for.
    Request(Rc<dyn Fn(&HeaderName) -> bool>),
}

impl Body {
    fn of(source: Source) -> Self {
        Self(Some(Box::new(State::of(source))))
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self(None)
    }

    /// A body that is all there.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() {
            Self::empty()
        } else {
            Self::of(Source::Full(bytes))
        }
    }

    /// A body that our own HTTP reads.
    #[must_use]
    pub fn message(incoming: http1::Incoming) -> Self {
        if http_body::Body::is_end_stream(&incoming) {
            Self::empty()
        } else {
            Self::answer(incoming)
        }
    }

    /// The body of an answer, which carries the upload that it answers on, also where not a byte of
    /// it is left to come.
    #[must_use]
    pub fn answer(incoming: http1::Incoming) -> Self {
        let measured = http_body::Body::size_hint(&incoming).exact().is_some();
        Self::of(Source::Message { incoming, measured })
    }

    /// Fails once more than `limit` bytes have come.
    #[must_use]
    pub fn limited(mut self, limit: Option<u64>) -> Self {
        if let Some(state) = &mut self.0 {
            state.left = limit;
        }
        self
    }

    /// Fails when no byte comes for `idle`, while somebody waits for one.
    #[must_use]
    pub fn idle_after(mut self, timers: &Timers, idle: Duration) -> Self {
        if let Some(state) = &mut self.0
            && !matches!(state.source, Source::End | Source::Full(_))
        {
            state.idle = Some((timers.unset(), idle));
        }
        self
    }

    /// Fails when its sender, while somebody waits for it, is slower than this.
    #[must_use]
    pub fn no_slower(mut self, rate: Option<Rate>) -> Self {
        if let Some(state) = &mut self.0
            && !matches!(state.source, Source::End | Source::Full(_))
        {
            state.pace = rate.map(Pace::new);
        }
        self
    }

    /// Reads ahead until `most` bytes are there; whether there are as many, once that or the end
    /// has come. What is read so is no less bounded, counted and scrubbed when its reader takes it.
    pub fn poll_ahead(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<bool> {
        let Some(state) = &mut self.0 else {
            return Poll::Ready(false);
        };
        let data = |frame: &Result<Frame<Bytes>, BodyFault>| {
            let data = frame.as_ref().ok().and_then(Frame::data_ref);
            data.map_or(0, Bytes::len)
        };
        let mut held: usize = state.ahead.iter().map(data).sum();
        while held < most {
            if state.source_is_ended() || state.ahead.back().is_some_and(Result::is_err) {
                return Poll::Ready(false);
            }
            match state.poll_source(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => {
                    state.source = Source::End;
                }
                Poll::Ready(Some(frame)) => {
                    held += data(&frame);
                    state.ahead.push_back(frame);
                }
            }
        }
        Poll::Ready(true)
    }

    /// Ends, as if the sender had, once `end` is ready.
    #[must_use]
    pub fn ending_when(mut self, end: Timestamp) -> Self {
        if let Some(state) = &mut self.0 {
            state.until = Some(end);
        }
        self
    }

    /// Breaks off once `end` is ready, so that nobody takes what has come for the whole.
    #[must_use]
    pub fn cut_when(mut self, end: Timestamp) -> Self {
        if let Some(state) = &mut self.0 {
            state.cut = Some(end);
        }
        self
    }

    /// Lets through the trailers that a request may have.
    #[must_use]
    pub fn trailers(mut self, trailers: Trailers) -> Self {
        if let Some(state) = &mut self.0 {
            state.trailers = trailers;
        }
        self
    }

    /// Tells `upload` how far the body has come.
    #[must_use]
    pub fn watched(mut self, upload: Rc<Upload>) -> Self {
        match &mut self.0 {
            Some(state) => state.upload = Some(upload),
            None => upload.set(UploadState::Finished),
        }
        self
    }

    /// Carries `attachment`, which hears of the body from now on and is dropped with it. To a body
    /// that is at its end already nothing more is told.
    #[must_use]
    pub fn with(mut self, attachment: Box<dyn Attachment>) -> Self {
        self.0
            .get_or_insert_with(|| Box::new(State::of(Source::End)))
            .attachments
            .push(attachment);
        self
    }

    /// Shows what passes to `reader`, which changes nothing of it. To a body that is at its end
    /// already nothing is shown.
    #[must_use]
    pub fn read_by(mut self, reader: Box<dyn Reader>) -> Self {
        if let Some(state) = &mut self.0 {
            state.reader = Some(reader);
        }
        self
    }

    /// What was read ahead, in one piece.
    #[must_use]
    pub fn ahead(&self) -> Vec<u8> {
        let frames = self.0.iter().flat_map(|state| &state.ahead);
        let data = frames.filter_map(|frame| frame.as_ref().ok()?.data_ref());
        data.fold(Vec::new(), |mut all, data| {
            all.extend_from_slice(data);
            all
        })
    }

    /// Other bytes in its place, whatever is left of it. Who is attached to it hears of those.
    #[must_use]
    pub fn replaced(mut self, bytes: Bytes) -> Self {
        let state = self
            .0
            .get_or_insert_with(|| Box::new(State::of(Source::End)));
        state.ahead.clear();
        let before = std::mem::replace(&mut state.source, Source::Full(bytes));
        if let Source::Message { incoming, .. } = before {
            state.carrying = Some(incoming);
        }
        state.idle = None;
        state.left = None;
        self
    }

    /// Whether not a byte is left to come.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.0.as_ref().is_none_or(|state| state.is_ended())
    }
}

impl State {
    fn of(source: Source) -> Self {
        Self {
            source,
            ahead: VecDeque::new(),
            left: None,
            idle: None,
            pace: None,
            trailers: Trailers::Response,
            upload: None,
            attachments: Attachments::default(),
            reader: None,
            carrying: None,
            until: None,
            cut: None,
            over: false,
        }
    }

    fn is_ended(&self) -> bool {
        self.ahead.is_empty() && self.source_is_ended()
    }

    fn source_is_ended(&self) -> bool {
        match &self.source {
            Source::End => true,
            Source::Full(_) => false,
            Source::Message { incoming, .. } => http_body::Body::is_end_stream(incoming),
        }
    }

    fn poll_source(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match &mut self.source {
            Source::End => Poll::Ready(None),
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.source = Source::End;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Source::Message { incoming, measured } => {
                http_body::Body::poll_frame(Pin::new(incoming), cx)
                    .map_err(|error| BodyFault::of(error, *measured))
            }
        }
    }

    /// What was read ahead, and what the source has behind it.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        match self.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => self.poll_source(cx),
        }
    }

    /// The same frame, unless its sender is too slow.
    fn paced(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyFault> {
        let Some(pace) = &mut self.pace else {
            return Ok(frame);
        };
        let count = frame.data_ref().map_or(0, Bytes::len) as u64;
        if pace.moved(count, Instant::now) {
            Err(BodyFault::Slow)
        } else {
            Ok(frame)
        }
    }

    fn passed(&mut self, frame: Frame<Bytes>) -> Result<Frame<Bytes>, BodyFault> {
        if let Some(data) = frame.data_ref() {
            let count = data.len() as u64;
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(count).ok_or(BodyFault::TooLarge)?;
            }
            if let Some(upload) = &self.upload {
                upload.count(count);
            }
            self.attachments.each(|attachment| attachment.bytes(count));
            if let Some(reader) = &mut self.reader {
                reader.data(data);
            }
            return Ok(frame);
        }
        match frame.into_trailers() {
            Ok(trailers) => Ok(Frame::trailers(self.scrubbed(trailers))),
            Err(other) => Ok(other),
        }
    }

    fn scrubbed(&mut self, mut trailers: HeaderMap) -> HeaderMap {
        let stripped = match &self.trailers {
            Trailers::Response => scrub_response_trailers(&mut trailers),
            Trailers::Request(forwarded) => {
                scrub_request_trailers(&mut trailers, |name| forwarded(name))
            }
        };
        self.attachments
            .each(|attachment| attachment.trailers(&stripped));
        trailers
    }

    /// The length of what was read ahead, where nothing else follows.
    fn hint_ahead(&self) -> SizeHint {
        let data = |frame: &Result<Frame<Bytes>, BodyFault>| {
            frame
                .as_ref()
                .ok()?
                .data_ref()
                .map(|data| data.len() as u64)
        };
        let whole: Option<u64> = self.ahead.iter().map(data).sum();
        match whole.filter(|_| self.source_is_ended()) {
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }

    fn finish(&mut self, end: End) {
        self.ahead.clear();
        if let Source::Message { incoming, .. } = std::mem::replace(&mut self.source, Source::End) {
            self.carrying = Some(incoming);
        }
        self.idle = None;
        if !std::mem::replace(&mut self.over, true) {
            self.attachments.each(|attachment| attachment.ended(end));
            if end == End::Whole
                && let Some(reader) = self.reader.take()
            {
                reader.whole();
            }
        }
        if let Some(upload) = self.upload.take() {
            upload.set(match end {
                End::Whole | End::CutShort => UploadState::Finished,
                End::Unread => UploadState::Failed(BodyFault::Cut),
                End::Broken(fault) => UploadState::Failed(fault),
            });
        }
    }
}

/// Whether a moment has come; it is forgotten then, since nothing may be asked twice that has
/// answered.
fn is_over(end: &mut Option<Timestamp>, cx: &mut Context<'_>) -> bool {
    let is_over = end
        .as_mut()
        .is_some_and(|end| end.as_mut().poll(cx).is_ready());
    if is_over {
        *end = None;
    }
    is_over
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let Some(this) = &mut self.0 else {
            return Poll::Ready(None);
        };
        if is_over(&mut this.cut, cx) {
            this.finish(End::Broken(BodyFault::Cut));
            return Poll::Ready(Some(Err(BodyFault::Cut)));
        }
        if is_over(&mut this.until, cx) {
            this.finish(End::CutShort);
            return Poll::Ready(None);
        }
        let polled = match this.poll_next(cx) {
            Poll::Ready(polled) => polled,
            Poll::Pending => {
                this.attachments.each(|attachment| attachment.waits());
                if let Some(pace) = &mut this.pace {
                    pace.waits(Instant::now);
                }
                let Some((sleep, idle)) = &this.idle else {
                    return Poll::Pending;
                };
                if !sleep.is_set() {
                    sleep.reset(*idle);
                }
                if sleep.poll_passed(cx).is_pending() {
                    return Poll::Pending;
                }
                Some(Err(BodyFault::Idle))
            }
        };
        if let Some((sleep, _)) = &this.idle {
            sleep.unset();
        }
        let polled = polled.map(|frame| frame.and_then(|frame| this.paced(frame)));
        match polled.map(|frame| frame.and_then(|frame| this.passed(frame))) {
            Some(Ok(frame)) => {
                // Trailers are the end: whoever got them asks for nothing more.
                if frame.is_trailers() || this.is_ended() {
                    this.finish(End::Whole);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(fault)) => {
                this.finish(End::Broken(fault));
                Poll::Ready(Some(Err(fault)))
            }
            None => {
                this.finish(End::Whole);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let Some(state) = &self.0 else {
            return SizeHint::with_exact(0);
        };
        if !state.ahead.is_empty() {
            return state.hint_ahead();
        }
        match &state.source {
            Source::End => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Message { incoming, .. } => http_body::Body::size_hint(incoming),
        }
    }
}

impl AnswerBody for Body {
    fn skip(&mut self) {
        if let Some(state) = &mut self.0 {
            state.over = true;
        }
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(state) = &self.0 else {
            return Poll::Ready(());
        };
        match (&state.source, &state.carrying) {
            (Source::Message { incoming, .. }, _) | (_, Some(incoming)) => incoming.poll_upload(cx),
            _ => Poll::Ready(()),
        }
    }
}

impl Drop for State {
    /// A body that nobody reads any more will not be finished: who waits for that must not wait for
    /// ever.
    fn drop(&mut self) {
        if !self.over && !self.is_ended() {
            self.attachments
                .each(|attachment| attachment.ended(End::Unread));
        }
        if let Some(upload) = self.upload.take() {
            upload.set(if self.is_ended() {
                UploadState::Finished
            } else {
                UploadState::Failed(BodyFault::Cut)
            });
        }
    }
}

impl fmt::Debug for Body {
    /// Never a byte of what it carries.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body")
            .field("ended", &self.is_ended())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::poll_fn;

    use super::*;

    /// Writes down what it hears, its own end included.
    #[derive(Clone, Default)]
    struct Listener(Rc<RefCell<Vec<String>>>);

    impl Attachment for Listener {
        fn bytes(&mut self, count: u64) {
            self.0.borrow_mut().push(format!("{count} bytes"));
        }

        fn ended(&mut self, end: End) {
            self.0.borrow_mut().push(format!("{end:?}"));
        }
    }

    struct Dropped(Listener);

    impl Attachment for Dropped {}

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.0.borrow_mut().push("dropped".to_owned());
        }
    }

    async fn read(body: &mut Body) -> Option<Result<Frame<Bytes>, BodyFault>> {
        poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await
    }

    #[tokio::test]
    async fn who_is_attached_hears_of_bytes_and_of_one_end_and_goes_with_the_body() {
        let heard = Listener::default();
        let mut body = Body::full(Bytes::from_static(b"seven b"))
            .with(Box::new(heard.clone()))
            .with(Box::new(Dropped(heard.clone())));
        assert!(read(&mut body).await.unwrap().unwrap().is_data());
        assert!(read(&mut body).await.is_none());
        assert_eq!(*heard.0.borrow(), ["7 bytes", "Whole"]);
        drop(body);
        assert_eq!(heard.0.borrow().last().unwrap(), "dropped");
    }

    #[tokio::test]
    async fn what_was_read_ahead_is_bounded_and_counted_when_it_is_taken() {
        let heard = Listener::default();
        let mut body = Body::full(Bytes::from_static(b"seven b")).with(Box::new(heard.clone()));
        let large = poll_fn(|cx| body.poll_ahead(7, cx)).await;
        assert!(large && heard.0.borrow().is_empty() && !body.is_ended());
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(7));
        assert!(read(&mut body).await.unwrap().unwrap().is_data());
        assert!(read(&mut body).await.is_none());
        assert_eq!(*heard.0.borrow(), ["7 bytes", "Whole"]);
        let mut body = Body::full(Bytes::from_static(b"seven b")).limited(Some(6));
        assert!(
            !poll_fn(|cx| body.poll_ahead(8, cx)).await,
            "it ends before"
        );
        let taken = read(&mut body).await.unwrap();
        assert_eq!(taken.unwrap_err(), BodyFault::TooLarge);
        assert!(!poll_fn(|cx| Body::empty().poll_ahead(1, cx)).await);
    }

    #[derive(Default)]
    struct Written(Rc<RefCell<Vec<u8>>>);

    impl Reader for Written {
        fn data(&mut self, data: &[u8]) {
            self.0.borrow_mut().extend_from_slice(data);
        }

        fn whole(self: Box<Self>) {
            self.0.borrow_mut().push(b'.');
        }
    }

    #[tokio::test]
    async fn a_reader_sees_what_passes_and_the_end_of_what_is_whole() {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let body = || Body::full(Bytes::from_static(b"seven b"));
        let mut read_body = body().read_by(Box::new(Written(seen.clone())));
        assert!(read(&mut read_body).await.unwrap().is_ok());
        assert_eq!(*seen.borrow(), b"seven b.");
        seen.borrow_mut().clear();
        let mut broken = body()
            .limited(Some(6))
            .read_by(Box::new(Written(seen.clone())));
        assert!(read(&mut broken).await.unwrap().is_err());
        drop(broken);
        assert!(seen.borrow().is_empty());
    }

    #[tokio::test]
    async fn what_stands_in_its_place_is_heard_of_by_who_is_attached() {
        let heard = Listener::default();
        let mut body = Body::full(Bytes::from_static(b"seven b")).with(Box::new(heard.clone()));
        assert!(!poll_fn(|cx| body.poll_ahead(64, cx)).await);
        assert_eq!(body.ahead(), b"seven b");
        let mut other = body.replaced(Bytes::from_static(b"xyz"));
        assert_eq!(http_body::Body::size_hint(&other).exact(), Some(3));
        let frame = read(&mut other).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "xyz");
        assert_eq!(*heard.0.borrow(), ["3 bytes", "Whole"]);
        let mut none = Body::empty().replaced(Bytes::from_static(b"xyz"));
        assert!(read(&mut none).await.unwrap().unwrap().is_data());
    }

    #[tokio::test]
    async fn a_body_that_breaks_says_so_and_so_does_one_that_nobody_reads() {
        let heard = Listener::default();
        let mut body = Body::full(Bytes::from_static(b"seven b"))
            .limited(Some(6))
            .with(Box::new(heard.clone()));
        assert_eq!(
            read(&mut body).await.unwrap().unwrap_err(),
            BodyFault::TooLarge
        );
        assert_eq!(*heard.0.borrow(), ["Broken(TooLarge)"]);
        let unread = Listener::default();
        drop(
            Body::full(Bytes::from_static(b"x"))
                .with(Box::new(unread.clone()))
                .with(Box::new(Dropped(unread.clone()))),
        );
        assert_eq!(*unread.0.borrow(), ["Unread", "dropped"]);
        let skipped = Listener::default();
        let mut body = Body::full(Bytes::from_static(b"x")).with(Box::new(skipped.clone()));
        body.skip();
        drop(body);
        assert!(skipped.0.borrow().is_empty(), "nobody was to read it");
    }

    #[tokio::test]
    async fn a_body_whose_time_is_over_was_not_read_to_its_end() {
        let timers = Timers::new();
        let heard = Listener::default();
        let mut body = Body::full(Bytes::from_static(b"x"))
            .with(Box::new(heard.clone()))
            .ending_when(Box::pin(timers.sleep(Duration::from_millis(1))));
        for _ in 0..3 {
            timers.step();
        }
        assert!(read(&mut body).await.is_none());
        assert_eq!(*heard.0.borrow(), ["CutShort"]);
    }
}

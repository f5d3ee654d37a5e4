//! One HTTP/2 connection that all requests of a worker to one address share.
//!
//! In: a request. Out: its answer; an upload that outlasts its answer goes on, and one whose answer
//! is given up ends with it.

use std::pin::pin;
use std::rc::Rc;

use gapura_http::http1::Rest;
use gapura_http2::Owner;
use gapura_http2::client::{Connection, Remake};
use gapura_runtime::worker::Worker;
use gapura_transport::body::{Attachment, Body, End, Upload, UploadState};
use gapura_transport::timers::Timers;
use gapura_transport::upstream::{Answer, Failed, Hint, Patience, carry_on};
use http::{Request, Response};

/// A connection. Clones are the same.
pub(super) type Shared = Connection<Timers>;

/// Keeps the rest of an upload for as long as its answer is read, and then sees it through.
struct Carrying {
    worker: Rc<Worker>,
    upload: Rc<Upload>,
    rest: Option<Rest>,
    /// All of the answer has been read.
    whole: bool,
}

/// Sends a request and waits for the head of its answer. `again` makes its head once more, where
/// the connection ends before that.
///
/// # Errors
/// [`Failed`]
pub(super) async fn send(
    connection: &Shared,
    (request, again): (Box<Request<Body>>, Option<&Remake<'_>>),
    patience: &Patience<'_>,
    (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    worker: &Rc<Worker>,
) -> Result<Answer, Failed> {
    let sending = pin!(connection.send_as(request, again, owner, hint));
    let answer = patience.answered(sending).await??;
    let (head, incoming) = answer.into_parts();
    let is_whole = http_body::Body::is_end_stream(&incoming);
    let upload = patience.upload();
    let body = if upload.state() == UploadState::Flowing {
        let carrying = Carrying {
            worker: worker.clone(),
            upload: upload.clone(),
            rest: incoming.rest(),
            whole: is_whole,
        };
        Body::answer(incoming).with(Box::new(carrying))
    } else {
        Body::message(incoming)
    };
    Ok(Response::from_parts(head, body).into())
}

impl Attachment for Carrying {
    fn ended(&mut self, end: End) {
        self.whole = end == End::Whole;
    }
}

impl Drop for Carrying {
    fn drop(&mut self) {
        let flows = self.upload.state() == UploadState::Flowing;
        if let Some(rest) = self.rest.take().filter(|_| self.whole && flows) {
            let (upload, timers) = (self.upload.clone(), self.worker.timers.clone());
            let tasks = &self.worker.tasks;
            tasks.spawn("the rest of an upload", carry_on(rest, upload, timers));
        }
    }
}

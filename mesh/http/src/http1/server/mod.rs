//! The server's side: one loop a connection, from its first byte to its last.
//!
//! In: a stream, a [`Service`] that answers requests and words refusals, [`Settings`]. Out: answers
//! in the order of their requests, and an [`End`]. Each refusal goes through the service like a
//! request does; there is no answer of this module's own making but `100 Continue`.
//! Invariants: a connection that idles owns no buffer and no parser; nothing waits unbounded; what
//! can't be read in one way ends the connection once all before it has been answered.

mod ending;
mod exchange;
mod heads;
mod shared;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};

use super::head::{CLIENT_LIMITS, HOP_LIMITS, Length, Limits, RequestHead};
use super::incoming::Incoming;
use super::refusal::Refusal;
use super::write::HttpDate;
use crate::buffers::Buffers;
use crate::pace::Rate;
use crate::stream::Stream;
use crate::timer::{Deadline, Timer};

use heads::Next;
use shared::Connection;

/// Answers requests.
pub trait Service {
    /// The body of an answer.
    type Body: AnswerBody;

    /// Answers a request. Dropped where it stands if the client goes away first.
    fn call(&self, request: Request<Incoming>) -> impl Future<Output = Response<Self::Body>>;

    /// Words a refusal: the connection ends behind it.
    fn refuse(&self, refusal: Refusal) -> Response<Self::Body>;

    /// The date for an answer that has none.
    fn date(&self) -> Option<HttpDate> {
        None
    }

    /// Whether the rest of an upload whose answer came early may be read, so that the answer
    /// arrives.
    fn may_drain(&self) -> bool {
        true
    }

    /// So many bytes of an answer are written, and the client has not taken them; at least, while
    /// it takes none.
    fn unsent(&self, bytes: usize) {
        let _ = bytes;
    }

    /// Whether there is room for what clients do not take: an answer is written a piece at a time
    /// where there is none.
    fn is_crowded(&self) -> bool {
        false
    }

    /// The task of a request panicked over HTTP/2: its stream was reset, the others are served, and
    /// the connection ends.
    fn panicked(&self) {}

    /// The connection is between two requests, having carried `served`.
    fn idle(&self, served: u64) {
        let _ = served;
    }
}

/// A body that can carry the request's upload on while the answer flows, or after it.
pub trait AnswerBody: http_body::Body<Data = Bytes> + Unpin {
    /// Goes on with the upload; ready when there is none any more. Asked whether or not the client
    /// takes the answer.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }

    /// Nobody will read it, and nothing is lost by that: its head is all that goes out.
    fn skip(&mut self) {}
}

impl AnswerBody for Incoming {
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Incoming::poll_upload(self, cx)
    }
}

/// The bounds of a connection.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of a head.
    pub limits: Limits,
    /// For a whole head, from its first byte on, and for the first byte of a connection.
    pub head_within: Duration,
    /// For the next request.
    pub idle_within: Duration,
    /// For the next byte of a body that somebody reads.
    pub body_idle: Option<Duration>,
    /// For the client to take some of what we write, and for an upload to go on once its answer has
    /// ended.
    pub stall_within: Duration,
    /// The least that it takes of an answer in the time it is waited for.
    pub least: Option<Rate>,
    /// For the rest of an upload that nobody reads any more.
    pub drain_within: Duration,
    /// And so many bytes of it.
    pub drain_most: u64,
    /// Whether trailers go out without `TE: trailers`.
    pub trailers_unasked: bool,
}

impl Settings {
    /// For clients (CONTRACT section 5).
    #[must_use]
    pub fn client() -> Self {
        Self {
            limits: CLIENT_LIMITS,
            head_within: Duration::from_secs(10),
            idle_within: Duration::from_secs(60),
            body_idle: Some(Duration::from_secs(30)),
            stall_within: Duration::from_secs(60),
            least: None,
            drain_within: Duration::from_secs(5),
            drain_most: 8 * 1024 * 1024,
            trailers_unasked: false,
        }
    }

    /// For the gateway, at the sidecar: what the door took passes.
    #[must_use]
    pub fn hop() -> Self {
        Self {
            limits: HOP_LIMITS,
            trailers_unasked: true,
            ..Self::client()
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub enum End<IO> {
    /// It is closed.
    Closed(Why),
    /// An answer switched protocols: what comes next is not ours. `read` came behind the request.
    Upgraded {
        /// The stream.
        io: IO,
        /// What was read of it.
        read: Bytes,
    },
    /// It began like an HTTP/2 connection.
    Http2 {
        /// The stream.
        io: IO,
        /// What was read of it: the preface, or the beginning of it, and what followed.
        read: Bytes,
    },
}

/// Why a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The client closed it between two requests.
    Client,
    /// No request came in time.
    Idle,
    /// It was told to stop.
    Stopped,
    /// A head was refused.
    Refused,
    /// Its last answer said so, or its request.
    Answered,
    /// The client went away before its answer was written.
    Gone,
    /// The client took nothing for too long.
    Stalled,
    /// An answer broke off.
    Cut,
    /// The rest of an upload was too much, too slow or malformed.
    Upload,
    /// The connection broke between two requests.
    Broken(io::ErrorKind),
}

/// What is asked of an answer.
#[derive(Debug)]
struct Asked {
    method: Method,
    modern: bool,
    keep_alive: bool,
    wants_trailers: bool,
}

/// Requests answered before others on this worker have a turn.
const TURN: u32 = 16;

/// Carries requests and answers over `io` until its end. Once `stop` is ready it takes no further
/// request: one that has begun is served, and told that the connection closes.
pub async fn serve<IO, S, T>(
    io: IO,
    service: &S,
    settings: &Settings,
    timer: &T,
    buffers: &Buffers,
    stop: impl Future<Output = ()>,
) -> End<IO>
where
    IO: Stream + 'static,
    S: Service,
    T: Timer,
    T::Deadline: 'static,
{
    let connection = Rc::new(Connection::new(
        io,
        buffers,
        timer.unset(),
        settings.body_idle,
    ));
    let mut driver = Driver {
        connection: connection.clone(),
        service,
        settings,
        deadline: timer.unset(),
        stop: pin!(stop),
        stopping: false,
        served: 0,
        turn: 0,
        outlasting: None,
    };
    let end = driver.run().await;
    driver.last_words().await;
    let why = match end {
        Ok(Switch::Upgrade) => match connection.take() {
            Some((io, read)) => return End::Upgraded { io, read },
            None => Why::Gone,
        },
        Ok(Switch::Http2) => match connection.take() {
            Some((io, read)) => return End::Http2 { io, read },
            None => Why::Gone,
        },
        Err(why) => why,
    };
    // Whoever still holds a body of this connection reads nothing more from it.
    drop(connection.take());
    End::Closed(why)
}

/// Sees one connection through.
struct Driver<'a, IO, S: Service, D, F> {
    connection: Rc<Connection<IO, D>>,
    service: &'a S,
    settings: &'a Settings,
    deadline: D,
    stop: std::pin::Pin<&'a mut F>,
    stopping: bool,
    served: u64,
    turn: u32,
    /// An answer that has gone out, whose upload was read to its end and is still on its way.
    outlasting: Option<S::Body>,
}

/// What the connection becomes.
enum Switch {
    Upgrade,
    Http2,
}

impl<IO, S, D, F> Driver<'_, IO, S, D, F>
where
    IO: Stream + 'static,
    S: Service,
    D: Deadline + 'static,
    F: Future<Output = ()>,
{
    async fn run(&mut self) -> Result<Switch, Why> {
        loop {
            let next = match self.next_head().await {
                // The end is ours to say: in TLS it would look like a line that was cut.
                Err(why @ (Why::Idle | Why::Stopped)) => {
                    self.close(false).await;
                    return Err(why);
                }
                next => next?,
            };
            match next {
                Next::Request(head) => {
                    // Boxed, so that a connection at rest holds no room for a request under way:
                    // what one frees, the next takes. Made where it stays, since it is kilobytes.
                    let exchange = Box::write(Box::new_uninit(), self.exchange(head));
                    if let Some(switch) = Box::into_pin(exchange).await? {
                        return Ok(switch);
                    }
                }
                Next::Http2 => return Ok(Switch::Http2),
                Next::Refused(refusal) => return Err(self.refuse(*refusal).await),
            }
        }
    }

    /// One request, from its whole head on to where the next may begin.
    async fn exchange(&mut self, head: RequestHead) -> Result<Option<Switch>, Why> {
        self.served += 1;
        self.turn += 1;
        if self.turn >= TURN {
            self.give_way().await?;
        }
        let RequestHead {
            parts,
            body,
            keep_alive,
            expects_continue,
            wants_trailers,
            upgrade,
        } = head;
        let asked = Asked {
            method: parts.method.clone(),
            modern: parts.version != http::Version::HTTP_10,
            keep_alive,
            wants_trailers: wants_trailers || self.settings.trailers_unasked,
        };
        let incoming = self.connection.begin(
            body,
            self.settings.limits,
            expects_continue,
            asked.modern,
            upgrade,
        );
        let request = Request::from_parts(parts, incoming);
        let response = self.called(request).await?;
        let (closing, body) = self.answer(&asked, response).await?;
        match closing {
            exchange::After::Upgrade => Ok(Some(Switch::Upgrade)),
            exchange::After::Next => {
                self.settle(body).await?;
                Ok(None)
            }
            exchange::After::Close => Err(self.end(body).await),
        }
    }

    /// Answers what is no request, and ends.
    async fn refuse(&mut self, refusal: Refusal) -> Why {
        let asked = Asked {
            method: refusal.seen.method.clone().unwrap_or(Method::GET),
            modern: refusal.seen.version != Some(http::Version::HTTP_10),
            keep_alive: false,
            wants_trailers: false,
        };
        // Where there is no request there is no body to read either.
        let unread = self
            .connection
            .begin(Length::None, self.settings.limits, false, false, false);
        drop(unread);
        let response = self.service.refuse(refusal);
        match self.answer(&asked, response).await {
            Ok((_, body)) => {
                drop(body);
                self.close(true).await;
                Why::Refused
            }
            Err(why) => why,
        }
    }
}

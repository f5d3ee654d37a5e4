//! HTTP/1.1 connections that a worker keeps for one address: each carries one request at a time.
//!
//! The connection that was used last is taken first, so that those beyond the need grow old and go. One comes back when its
//! answer has been read to the end, never at the head: else the next request would wait for a whole body.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::sync::Notify;

use super::life::Life;
use super::{SendError, answered, settled};
use crate::body::{Attachment, Body, End, Upload, UploadState};
use crate::io::BoxIo;
use crate::tasks::Tasks;
use crate::timers::{STEP, Timers};

/// The idle connections of one worker to one address.
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    keep: Duration,
    timers: Timers,
    tasks: Tasks,
}

struct Idle {
    sender: SendRequest<Body>,
    since: u64,
    link: Link,
}

/// A connection that no request is using.
pub type Kept = (SendRequest<Body>, Link);

/// What a connection's task and its users tell each other. Clones share it.
#[derive(Clone)]
pub struct Link(Rc<Shared>);

struct Shared {
    life: Arc<Life>,
    retired: Cell<bool>,
    cut: Cell<Option<&'static str>>,
    abandoned: Notify,
}

/// Ends a connection whose request or answer nobody wants any more. Hyper would first write what it holds, for which a peer that
/// takes nothing can let it wait for ever.
struct Wanted(Option<Link>);

/// A connection that goes back to its pool once its answer has been read; one whose answer is dropped before closes.
struct Leased(Option<Lease>);

struct Lease {
    pool: Rc<Pool>,
    sender: SendRequest<Body>,
    link: Link,
    upload: Rc<Upload>,
    wanted: Wanted,
}

/// Idle connections beyond these are closed: as many as a small plugin can have of anything.
const KEPT_MOST: usize = 256;

/// For the end of a body to be written once all of it has been read.
const LAST_WORDS: Duration = Duration::from_secs(15);

/// The hop and the plugin side take 128 fields (CONTRACT section 5).
const FIELDS: usize = 128;

/// The head of a message, 64 KiB, and room for what follows it in the same read.
const BUFFER: usize = 128 * 1024;

impl Pool {
    /// An empty pool whose connections may idle for `keep`.
    #[must_use]
    pub fn new(timers: &Timers, tasks: &Tasks, keep: Duration) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            keep,
            timers: timers.clone(),
            tasks: tasks.clone(),
        })
    }

    /// Speaks HTTP/1.1 on `io`, in a task of its own that ends with the connection and with its `life`.
    ///
    /// # Errors
    /// If the stream breaks at once.
    pub async fn open(self: &Rc<Self>, io: BoxIo, life: Life) -> Result<Kept, hyper::Error> {
        let builder = http1::Builder::new()
            .max_headers(FIELDS)
            .max_buf_size(BUFFER)
            .clone();
        let (sender, connection) = builder.handshake::<_, Body>(TokioIo::new(io)).await?;
        let life = Arc::new(life);
        let shared = Shared {
            life: life.clone(),
            retired: Cell::new(false),
            cut: Cell::new(None),
            abandoned: Notify::new(),
        };
        let link = Link(Rc::new(shared));
        // The task must not keep the pool: its idle senders keep the connection, which keeps the task.
        let (task, pool) = (link.clone(), Rc::downgrade(self));
        self.tasks
            .spawn("a connection towards a plugin", async move {
                let retire = || {
                    task.0.retired.set(true);
                    if let Some(pool) = pool.upgrade() {
                        pool.tidy();
                    }
                };
                tokio::select! {
                    biased;
                    reason = life.cut(retire) => task.0.cut.set(Some(reason)),
                    // How it ends is told to whoever waits for an answer on it.
                    _ = connection.with_upgrades() => {}
                    () = task.0.abandoned.notified() => {}
                }
            });
        Ok((sender, link))
    }

    /// A connection that was kept, if any is still alive.
    pub async fn take(&self) -> Option<Kept> {
        loop {
            let mut idle = self.idle.borrow_mut().pop()?;
            if !self.is_fresh(&idle) {
                continue;
            }
            if self.is_ready(&mut idle.sender).await {
                return Some((idle.sender, idle.link));
            }
            drop(Wanted(Some(idle.link)));
        }
    }

    /// Whether a connection takes a request now. Its task may have to write the end of the last one; a peer that does not take that
    /// must not hold up the next.
    async fn is_ready(&self, sender: &mut SendRequest<Body>) -> bool {
        if sender.is_ready() {
            return true;
        }
        tokio::select! {
            biased;
            ready = sender.ready() => ready.is_ok(),
            () = self.timers.sleep(STEP) => false,
        }
    }

    /// Closes what has idled too long or is retired. Called about once a second.
    pub fn tidy(&self) {
        self.idle.borrow_mut().retain(|idle| self.is_fresh(idle));
    }

    fn is_fresh(&self, idle: &Idle) -> bool {
        let age =
            STEP * u32::try_from(self.timers.now().saturating_sub(idle.since)).unwrap_or(u32::MAX);
        !idle.sender.is_closed() && !idle.link.0.retired.get() && age < self.keep
    }

    /// Sends a request on one connection and waits for the head of its answer; `timeout` counts from the request's last byte.
    /// A switch of protocols keeps the connection for itself.
    ///
    /// # Errors
    /// [`SendError`]
    pub async fn send(
        self: &Rc<Self>,
        (mut sender, link): Kept,
        request: Request<Body>,
        upload: &Rc<Upload>,
        timeout: Duration,
    ) -> Result<Response<Body>, SendError> {
        let answer = std::pin::pin!(sender.try_send_request(request));
        let wanted = Wanted(Some(link.clone()));
        let answer = match answered(answer, |_| {}, upload, &self.timers, timeout).await? {
            Ok(answer) => answer,
            Err(mut error) => {
                if let Some(request) = error.take_message() {
                    return Err(SendError::Unsent(Box::new(request)));
                }
                return Err(link
                    .0
                    .cut
                    .get()
                    .map_or_else(|| why(error.into_error()), SendError::Cut));
            }
        };
        let lease = Lease {
            pool: self.clone(),
            sender,
            link,
            upload: upload.clone(),
            wanted,
        };
        Ok(with_lease(answer, lease))
    }
}

impl Wanted {
    fn no_longer_watched(mut self) {
        self.0 = None;
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        if let Some(link) = &self.0 {
            link.0.abandoned.notify_one();
        }
    }
}

impl Lease {
    /// The answer has been read to its end. A request whose body is still under way keeps the connection while the peer takes of it,
    /// and closes it.
    fn give_back(self) {
        let Self {
            pool,
            sender,
            link,
            upload,
            wanted,
        } = self;
        match upload.state() {
            UploadState::Finished => wanted.no_longer_watched(),
            UploadState::Failed(_) => return,
            UploadState::Flowing => {
                let timers = pool.timers.clone();
                pool.tasks.spawn("the rest of an upload", async move {
                    settled(&upload, &timers).await;
                    timers.sleep(LAST_WORDS).await;
                    drop(wanted);
                });
                return;
            }
        }
        if !sender.is_closed() && !link.0.retired.get() {
            let mut idle = pool.idle.borrow_mut();
            if idle.len() < KEPT_MOST {
                idle.push(Idle {
                    sender,
                    since: pool.timers.now(),
                    link,
                });
            }
        }
    }
}

fn with_lease(mut answer: Response<Incoming>, lease: Lease) -> Response<Body> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        // The connection's driver ends here; whoever carries the tunnel on holds its life.
        answer.extensions_mut().insert(lease.link.0.life.clone());
        lease.wanted.no_longer_watched();
        return answer.map(|_| Body::empty());
    }
    answer.map(|incoming| {
        let body = Body::incoming(incoming);
        if body.is_ended() {
            lease.give_back();
            return body;
        }
        body.with(Box::new(Leased(Some(lease))))
    })
}

impl Attachment for Leased {
    fn ended(&mut self, end: End) {
        // In the middle of an answer a connection cannot be used again.
        if let (Some(lease), End::Whole) = (self.0.take(), end) {
            lease.give_back();
        }
    }
}

fn why(error: hyper::Error) -> SendError {
    if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        return SendError::Protocol;
    }
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            // The error is owned by hyper's; what is inside it, an alert of the peer's say, is what the caller wants to see.
            return SendError::Broken(Some(copy_of(io)));
        }
        cause = inner.source();
    }
    SendError::Broken(None)
}

/// An equal error: rustls's own is cloned, of others the kind and the text remain.
fn copy_of(error: &io::Error) -> io::Error {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(tls) => io::Error::new(error.kind(), tls.clone()),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::task::LocalSet;

    async fn pool_and_connection(peer: tokio::io::DuplexStream) -> (Rc<Pool>, Kept) {
        let pool = Pool::new(&Timers::new(), &Tasks::default(), Duration::from_secs(1));
        let kept = pool
            .open(Box::new(peer), Life::new((), None))
            .await
            .unwrap();
        (pool, kept)
    }

    fn upload() -> Request<Body> {
        Request::post("/")
            .header("host", "a")
            .body(Body::full(vec![0; 1 << 20].into()))
            .unwrap()
    }

    #[tokio::test]
    async fn a_request_that_is_given_up_lets_go_of_a_peer_that_takes_nothing() {
        let (near, mut far) = tokio::io::duplex(1024);
        let given_up = async {
            let (pool, kept) = pool_and_connection(near).await;
            let upload_state = Rc::new(Upload::default());
            let mut sending =
                Box::pin(pool.send(kept, upload(), &upload_state, Duration::from_secs(1)));
            for _ in 0..20 {
                assert!(
                    std::future::poll_fn(|cx| std::task::Poll::Ready(
                        sending.as_mut().poll(cx).is_pending()
                    ))
                    .await
                );
                tokio::task::yield_now().await; // until both wait for the peer
            }
            drop(sending);
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            let mut rest = Vec::new();
            far.read_to_end(&mut rest).await.unwrap();
            rest
        };
        let rest = LocalSet::new().run_until(given_up).await;
        assert!(
            rest.len() <= 1024,
            "{} bytes were still written",
            rest.len()
        );
    }
}

//! A stream that the trust in force may end at any moment, whoever reads or writes on it.
//!
//! In: a stream, what counts it as open, and the verdict of the trust in force where there is one.
//! Out: the same stream, on which everything fails from the moment it is cut; a [`ConnectionState`]
//! that says so, and that nothing new may begin on it.
//! Invariant: whoever waits for the stream to say something is woken when it is cut.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use gapura_http::{BoxStream, Stream};
use gapura_telemetry::metrics::OpenConnection;
use gapura_transport::live::LiveGuard;
use gapura_transport::tasks::Tasks;
use gapura_transport::upstream::kept::Held;
use gapura_transport::verdict::Verdict;
use gapura_trust::failure::handshake_refusal;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The stream.
pub(super) struct Tied {
    io: BoxStream,
    state: Rc<ConnectionState>,
}

/// What is known of it. It counts as open for as long as this is held.
pub(super) struct ConnectionState {
    retired: Cell<bool>,
    cut: Cell<Option<&'static str>>,
    reader: RefCell<Option<Waker>>,
    _open: OpenConnection,
    _guard: Option<LiveGuard>,
}

impl Tied {
    /// Ties `io` to the verdict that `guard` hears, in a task that ends with the state.
    pub(super) fn new(
        io: BoxStream,
        open: OpenConnection,
        guard: Option<LiveGuard>,
        tasks: &Tasks,
    ) -> (Self, Rc<ConnectionState>) {
        let verdict = guard.as_ref().map(LiveGuard::verdict);
        let state = Rc::new(ConnectionState {
            retired: Cell::new(false),
            cut: Cell::new(None),
            reader: RefCell::default(),
            _open: open,
            _guard: guard,
        });
        if let Some(mut verdict) = verdict {
            let told = Rc::downgrade(&state);
            tasks.spawn("the trust in a connection", async move {
                loop {
                    let now = *verdict.borrow_and_update();
                    let Some(state) = told.upgrade() else { return };
                    match now {
                        Verdict::Run => {}
                        Verdict::Retire => state.retired.set(true),
                        Verdict::Cut(reason) => return state.end(reason),
                    }
                    drop(state);
                    if verdict.changed().await.is_err() {
                        return;
                    }
                }
            });
        }
        let tied = Self {
            io,
            state: state.clone(),
        };
        (tied, state)
    }
}

impl ConnectionState {
    fn end(&self, reason: &'static str) {
        self.cut.set(Some(reason));
        let reader = self.reader.borrow_mut().take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    fn check(&self) -> io::Result<()> {
        match self.cut.get() {
            None => Ok(()),
            Some(_) => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

impl Held for ConnectionState {
    fn takes_more(&self) -> bool {
        !self.retired.get() && self.cut.get().is_none()
    }

    fn cut(&self) -> Option<&'static str> {
        self.cut.get()
    }

    fn is_final(&self, error: &io::Error) -> bool {
        is_alert(error)
    }
}

/// Whether the sidecar refuses us: it would again.
pub(super) fn is_alert(error: &io::Error) -> bool {
    handshake_refusal(error).is_peer_alert
}

impl AsyncRead for Tied {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.state.check()?;
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if polled.is_pending() {
            let mut reader = this.state.reader.borrow_mut();
            match &mut *reader {
                Some(known) => known.clone_from(cx.waker()),
                None => *reader = Some(cx.waker().clone()),
            }
        }
        polled
    }
}

impl AsyncWrite for Tied {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.state.check()?;
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.state.check()?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.state.check()?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.state.check()?;
        Pin::new(&mut this.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

impl Stream for Tied {
    fn is_gone(&self) -> bool {
        self.state.cut.get().is_some() || self.io.is_gone()
    }

    fn abort(&mut self) {
        self.io.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gapura_telemetry::metrics::{Meters, Side};
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::task::LocalSet;

    #[tokio::test]
    async fn a_cut_wakes_who_reads_and_everything_fails_from_then_on() {
        let test = async {
            let meters = Arc::new(Meters::new(1, &[]));
            let (near, mut far) = tokio::io::duplex(64);
            let open = OpenConnection::count(&meters, 0, Side::Hop);
            let (mut tied, state) = Tied::new(Box::new(near), open, None, &Tasks::default());
            tied.write_all(b"before").await.unwrap();
            assert!(state.takes_more());
            let reading = tokio::task::spawn_local(async move {
                let read = tied.read_u8().await.unwrap_err().kind();
                (read, tied.write_all(b"after").await.unwrap_err().kind())
            });
            tokio::task::yield_now().await; // it waits
            state.end("revoked");
            let broken = io::ErrorKind::ConnectionAborted;
            assert_eq!(reading.await.unwrap(), (broken, broken));
            assert!(!state.takes_more() && state.cut() == Some("revoked"));
            let mut came = Vec::new();
            far.read_to_end(&mut came).await.unwrap();
            assert_eq!(came, b"before");
        };
        LocalSet::new().run_until(test).await;
    }
}

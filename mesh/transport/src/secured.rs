//! A stream inside TLS, as a connection sees it.
//!
//! The end of TLS is not the end of a message: a read says so by an error where no `close_notify`
//! came. What reading and writing do not tell is asked of the stream inside. Nothing here looks
//! into a certificate.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use gapura_http::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::{client, server};

/// A session of either side, whose handshake is done.
pub struct Secured<T>(T);

impl<S> From<server::TlsStream<S>> for Secured<server::TlsStream<S>> {
    fn from(session: server::TlsStream<S>) -> Self {
        Self(session)
    }
}

impl<S> From<client::TlsStream<S>> for Secured<client::TlsStream<S>> {
    fn from(session: client::TlsStream<S>) -> Self {
        Self(session)
    }
}

impl<S: Stream> Stream for Secured<server::TlsStream<S>> {
    fn is_gone(&self) -> bool {
        self.0.get_ref().0.is_gone()
    }

    fn abort(&mut self) {
        self.0.get_mut().0.abort();
    }
}

impl<S: Stream> Stream for Secured<client::TlsStream<S>> {
    fn is_gone(&self) -> bool {
        self.0.get_ref().0.is_gone()
    }

    fn abort(&mut self) {
        self.0.get_mut().0.abort();
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Secured<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Secured<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

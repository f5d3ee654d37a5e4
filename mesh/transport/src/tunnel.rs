//! WebSockets: who may ask for one, what is a good answer to that, and the bytes both ways from
//! then on.
//!
//! In: a request that asks, and the answer of the next program. Out: the answer for the other side,
//! and a [`Tunnel`] for the connection's owner to carry on once that answer is out: it ends with
//! either end, with the caller's token, and with the trust in the connection it took over, and it
//! is dropped with the connection at the program's end. What it holds is dropped with it, and the
//! bytes are counted for whoever records them.
//! Invariant: not a byte goes on before both sides have said 101.

use std::any::Any;
use std::cell::Cell;
use std::io;
use std::rc::Rc;

use bytes::Bytes;
use gapura_protocol::headers::{connection_has, scrub_response};
use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Response, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::body::{Body, Timestamp};
use gapura_http::BoxStream;

/// A switch that both sides have agreed on, until the client's end of it is there.
pub struct Tunnel {
    plugin: TunnelEnd,
    end: Option<Timestamp>,
    traffic: Rc<Traffic>,
    held: Option<Box<dyn Any>>,
}

/// What has gone through a tunnel so far, in bytes that the other side took.
#[derive(Debug, Default)]
pub struct Traffic {
    of_client: Cell<u64>,
    of_plugin: Cell<u64>,
}

/// The other side switched to a protocol that nobody asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAskedFor;

/// What is read at a time: the size of a usual WebSocket message, twice.
const PIECE: usize = 8 * 1024;

/// Whether a request asks for a WebSocket: the one protocol that may be switched to (CONTRACT
/// section 5).
#[must_use]
pub fn is_asked_for(head: &Parts) -> bool {
    head.version == Version::HTTP_11
        && head.method == Method::GET
        && names_websocket(&head.headers)
        && connection_has(&head.headers, "upgrade")
}

/// Asks for a WebSocket, or grants one.
pub fn set_headers(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn names_websocket(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

impl Tunnel {
    /// Takes a 101 for the answer to a client, if that client asked for one; the tunnel lasts until
    /// `end` at most.
    ///
    /// # Errors
    /// [`NotAskedFor`] if nobody asked, or the 101 is for another protocol.
    pub fn grant(
        answer: Response<Body>,
        asked: bool,
        plugin: Option<TunnelEnd>,
        end: Option<Timestamp>,
    ) -> Result<(Response<Body>, Self), NotAskedFor> {
        let plugin = plugin.filter(|_| asked).ok_or(NotAskedFor)?;
        let tunnel = Self {
            plugin,
            end,
            traffic: Rc::default(),
            held: None,
        };
        Ok((granted(answer)?, tunnel))
    }

    /// Counts what goes through it.
    #[must_use]
    pub fn traffic(&self) -> Rc<Traffic> {
        self.traffic.clone()
    }

    /// Keeps `held` for as long as it lasts.
    pub fn hold(&mut self, held: Box<dyn Any>) {
        self.held = Some(held);
    }

    /// Carries bytes both ways until both ends are done, one breaks, or its time is over. The trust
    /// in the plugin's end ends it by breaking that end.
    pub async fn carry(self, client: TunnelEnd) {
        let Self {
            plugin,
            end,
            traffic,
            held,
        } = self;
        let _held = held;
        tokio::select! {
            () = carry(client, plugin, &traffic) => {}
            () = passed(end) => {}
        }
    }
}

impl Traffic {
    /// What came from the client, and what from the plugin.
    #[must_use]
    pub fn bytes(&self) -> (u64, u64) {
        (self.of_client.get(), self.of_plugin.get())
    }
}

/// One end of a tunnel whose bytes our own HTTP has read so far.
pub struct TunnelEnd {
    /// The stream.
    pub io: BoxStream,
    /// What was read of it behind its head.
    pub read: Bytes,
    /// What is kept for as long as the tunnel lasts.
    pub held: Box<dyn Any>,
}

fn granted(mut answer: Response<Body>) -> Result<Response<Body>, NotAskedFor> {
    if !names_websocket(answer.headers()) {
        return Err(NotAskedFor);
    }
    scrub_response(answer.headers_mut());
    set_headers(answer.headers_mut());
    Ok(answer)
}

/// Carries bytes both ways until both ends are done, or one breaks.
async fn carry(client: TunnelEnd, plugin: TunnelEnd, traffic: &Traffic) {
    let TunnelEnd { io, read, held } = client;
    let _held = (held, plugin.held);
    // Either end may break off a WebSocket as it likes.
    let _ = join_behind(io, read, plugin.io, plugin.read, traffic).await;
}

async fn passed(end: Option<Timestamp>) {
    match end {
        Some(end) => end.await,
        None => std::future::pending().await,
    }
}

/// Joins `client` and `plugin`, behind what was read of each, until both have said that their bytes
/// are over, or one breaks.
async fn join_behind(
    client: impl AsyncRead + AsyncWrite + Unpin,
    of_client: Bytes,
    plugin: impl AsyncRead + AsyncWrite + Unpin,
    of_plugin: Bytes,
    traffic: &Traffic,
) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (plugin_read, plugin_write) = tokio::io::split(plugin);
    tokio::try_join!(
        copy(of_client, client_read, plugin_write, &traffic.of_client),
        copy(of_plugin, plugin_read, client_write, &traffic.of_plugin)
    )?;
    Ok(())
}

async fn copy(
    first: Bytes,
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count_of: &Cell<u64>,
) -> io::Result<()> {
    let count = |more: usize| count_of.set(count_of.get() + more as u64);
    if !first.is_empty() {
        to.write_all(&first).await?;
        to.flush().await?;
        count(first.len());
    }
    drop(first);
    let mut piece = vec![0; PIECE];
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..length]).await?;
        to.flush().await?;
        count(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, StatusCode};

    #[tokio::test]
    async fn both_ways_until_both_ends_are_done() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut plugin, far) = tokio::io::duplex(64);
        let ends = async {
            client.write_all(b"ping").await.unwrap();
            client.shutdown().await.unwrap();
            let mut seen = Vec::new();
            plugin.read_to_end(&mut seen).await.unwrap();
            plugin.write_all(b"pong!").await.unwrap();
            drop(plugin);
            let mut back = Vec::new();
            client.read_to_end(&mut back).await.unwrap();
            (seen, back)
        };
        let traffic = Traffic::default();
        let first = Bytes::from_static(b"");
        let joined = join_behind(near, first.clone(), far, first, &traffic);
        let (joined, (seen, back)) = tokio::join!(joined, ends);
        joined.unwrap();
        assert_eq!(traffic.bytes(), (4, 5));
        assert_eq!(
            (seen.as_slice(), back.as_slice()),
            (&b"ping"[..], &b"pong!"[..])
        );
    }

    fn asks(method: &str, version: Version, upgrade: &str, connection: &str) -> bool {
        let request = Request::builder()
            .method(method)
            .version(version)
            .header(UPGRADE, upgrade)
            .header(CONNECTION, connection);
        is_asked_for(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_websocket_is_asked_for_in_one_way_only() {
        assert!(asks(
            "GET",
            Version::HTTP_11,
            "WebSocket",
            "keep-alive, Upgrade"
        ));
        assert!(!asks("POST", Version::HTTP_11, "websocket", "upgrade"));
        assert!(!asks("GET", Version::HTTP_10, "websocket", "upgrade"));
        assert!(!asks("GET", Version::HTTP_11, "websocket", "keep-alive"));
        for other in ["h2c", "websocket, h2c", "TLS/1.3", ""] {
            assert!(!asks("GET", Version::HTTP_11, other, "upgrade"), "{other}");
        }
    }

    #[test]
    fn a_switch_that_nobody_asked_for_is_none() {
        let answer = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(UPGRADE, "websocket")
            .body(Body::empty())
            .unwrap();
        assert!(Tunnel::grant(answer, false, None, None).is_err());
    }
}

//! The answering end of a handshake in which the other end proves itself, or shows nothing.
//!
//! In: an accepted socket, and the configuration of a trust set, whose judgement the handshake is.
//! Out: the stream and whom it has proven; or why it failed, once the other end has had time to
//! read our alert. Whether somebody who shows nothing is served is the configuration's and the
//! caller's to say.

use std::hash::Hash;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use gapura_certificates::peer::Peer;
use gapura_http::BoxStream;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::session::Session;
use crate::turns::Turns;

/// For a handshake, whoever is at the other end.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// For a peer that was refused to notice.
const LINGER: Duration = Duration::from_secs(1);

/// A connection whose handshake is over.
pub struct Shaken {
    /// What is said over it.
    pub stream: TlsStream<BoxStream>,
    /// Whom it has proven, and what [`crate::live::LiveConnections::admit`] wants to know of that;
    /// none where nothing was shown.
    pub proven: Option<(Peer, Shown)>,
}

/// The chain that a peer has shown, and what both ends agreed on.
pub type Shown = (Vec<CertificateDer<'static>>, Session);

/// Shakes hands, a step at a turn of `party`: who has no certificate takes turns with who has one,
/// and requests go on beside all of them.
///
/// # Errors
/// What it failed with, or that it took too long.
pub async fn shake<K: Clone + Eq + Hash>(
    stream: BoxStream,
    config: Arc<ServerConfig>,
    (turns, party): (&Turns<K>, &K),
) -> io::Result<Shaken> {
    let handshake = pin!(TlsAcceptor::from(config).accept(stream).into_fallible());
    let handshake = turns.paced(party, handshake);
    let stream = match tokio::time::timeout(HANDSHAKE_WITHIN, handshake)
        .await
        .map_err(|_| io::ErrorKind::TimedOut)?
    {
        Ok(stream) => stream,
        Err((error, stream)) => {
            linger(stream).await;
            return Err(error);
        }
    };
    let connection = stream.get_ref().1;
    let chain: Vec<_> = connection
        .peer_certificates()
        .unwrap_or_default()
        .iter()
        .map(|part| part.clone().into_owned())
        .collect();
    let proven = match chain.is_empty() {
        true => None,
        false => {
            let peer = Peer::of_judged_chain(&chain).map_err(io::Error::other)?;
            Some((peer, (chain, Session::of(connection))))
        }
    };
    Ok(Shaken { stream, proven })
}

/// Lets the peer read our alert: a socket that is closed with bytes unread takes back what it has
/// sent.
async fn linger(mut stream: BoxStream) {
    let mut discarded = [0; 4096];
    let read = async {
        stream.shutdown().await?;
        while stream.read(&mut discarded).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = tokio::time::timeout(LINGER, read).await;
}

//! An upgraded connection: bytes both ways until both ends have said that theirs is over, or one breaks.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes that have passed, for the record of the request.
#[derive(Default)]
pub struct Passed {
    /// Towards the plugin.
    pub up: Cell<u64>,
    /// Towards the client.
    pub down: Cell<u64>,
}

/// What is read at a time: the size of a usual WebSocket message, twice.
const PIECE: usize = 8 * 1024;

/// Joins `client` and `plugin`.
///
/// # Errors
/// The first error of either.
pub async fn join(
    client: impl AsyncRead + AsyncWrite + Unpin,
    plugin: impl AsyncRead + AsyncWrite + Unpin,
    passed: &Rc<Passed>,
) -> io::Result<()> {
    let (client_read, client_write) = tokio::io::split(client);
    let (plugin_read, plugin_write) = tokio::io::split(plugin);
    tokio::try_join!(copy(client_read, plugin_write, &passed.up), copy(plugin_read, client_write, &passed.down))?;
    Ok(())
}

async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, passed: &Cell<u64>) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let count = from.read(&mut piece).await?;
        if count == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..count]).await?;
        to.flush().await?;
        passed.set(passed.get() + count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_ways_until_both_ends_are_done() {
        let (mut client, near) = tokio::io::duplex(64);
        let (mut plugin, far) = tokio::io::duplex(64);
        let passed = Rc::new(Passed::default());
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
        let (joined, (seen, back)) = tokio::join!(join(near, far, &passed), ends);
        joined.unwrap();
        assert_eq!((seen.as_slice(), back.as_slice()), (&b"ping"[..], &b"pong!"[..]));
        assert_eq!((passed.up.get(), passed.down.get()), (4, 5));
    }
}

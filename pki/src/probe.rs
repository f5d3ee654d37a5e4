//! What a server really shows: connects, takes the certificates of its handshake and hangs up.
//!
//! In: `HOST:PORT`. Out: the chain, unjudged. No byte of application data is ever sent or read:
//! nothing that was learnt here is trusted.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use gapura_trust::nobody::anybody;
use gapura_trust::provider::public_provider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection};

use crate::error::Error;

/// The certificates that the server at `address` shows.
///
/// # Errors
/// Nobody answers, or not in TLS.
pub fn served(address: &str, patience: Duration) -> Result<Vec<CertificateDer<'static>>, Error> {
    let failed = |why: &dyn std::fmt::Display| Error::Failed(format!("{address}: {why}"));
    let (host, _) = address
        .rsplit_once(':')
        .ok_or_else(|| failed(&"not HOST:PORT"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| failed(&"not a host name or address"))?;
    let socket = address
        .to_socket_addrs()
        .map_err(|why| failed(&why))?
        .next()
        .ok_or_else(|| failed(&"no address"))?;
    let mut stream = TcpStream::connect_timeout(&socket, patience).map_err(|why| failed(&why))?;
    stream
        .set_read_timeout(Some(patience))
        .and_then(|()| stream.set_write_timeout(Some(patience)))
        .map_err(|why| failed(&why))?;
    let provider = public_provider();
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| failed(&why))?
        .dangerous()
        .with_custom_certificate_verifier(anybody(provider))
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|why| failed(&why))?;
    let ended = handshake(&mut connection, &mut stream);
    let chain = connection.peer_certificates().unwrap_or_default();
    let chain: Vec<_> = chain.iter().map(|der| der.clone().into_owned()).collect();
    match (chain.is_empty(), ended) {
        // A sidecar goes on to ask for our certificate and refuses us; by then it has shown its
        // own.
        (false, _) => Ok(chain),
        (true, Err(why)) => Err(failed(&why)),
        (true, Ok(())) => Err(failed(&"it showed no certificate")),
    }
}

fn handshake(
    connection: &mut ClientConnection,
    stream: &mut (impl Read + Write),
) -> std::io::Result<()> {
    while connection.is_handshaking() {
        connection.complete_io(stream)?;
    }
    Ok(())
}

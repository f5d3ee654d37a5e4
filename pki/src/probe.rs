//! What a server really shows: connects, takes the certificates of its handshake and hangs up.
//!
//! In: `HOST:PORT`. Out: the chain, unjudged. No byte of application data is ever sent or read: nothing that was learnt here is trusted.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use gapura_trust::provider::public_provider;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};

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
    let seen = Arc::new(CapturingVerifier {
        provider: public_provider(),
        chain: Mutex::default(),
    });
    let config = ClientConfig::builder_with_provider(seen.provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|why| failed(&why))?
        .dangerous()
        .with_custom_certificate_verifier(seen.clone())
        .with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), name).map_err(|why| failed(&why))?;
    let ended = handshake(&mut connection, &mut stream);
    let chain = std::mem::take(&mut *seen.chain.lock().unwrap_or_else(PoisonError::into_inner));
    match (chain.is_empty(), ended) {
        // A sidecar goes on to ask for our certificate and refuses us; by then it has shown its own.
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

/// Takes down the chain and lets everything pass.
#[derive(Debug)]
struct CapturingVerifier {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
}

impl ServerCertVerifier for CapturingVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain = std::iter::once(end_entity)
            .chain(intermediates)
            .map(|der| der.clone().into_owned())
            .collect();
        *self.chain.lock().unwrap_or_else(PoisonError::into_inner) = chain;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

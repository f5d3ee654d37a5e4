//! A connection on the hop whose peer the handshake has proven.

use std::rc::Rc;

use gapura_http::BoxStream;
use gapura_transport::live::LiveGuard;
use gapura_transport::secured::Secured;
use tokio_rustls::server::TlsStream;

use crate::authorise::{Denied, PermittedPeer};

/// What its driver needs of it.
pub(super) struct Proven {
    pub(super) stream: Secured<TlsStream<BoxStream>>,
    /// Whether the gateway chose HTTP/2.
    pub(super) http2: bool,
    pub(super) peer: Result<PermittedPeer, Denied>,
    pub(super) name: Rc<str>,
    pub(super) guard: LiveGuard,
}

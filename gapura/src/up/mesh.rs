//! Starts gateway and sidecars: the very libraries that run in production, told where everything of this run lies.

use std::net::SocketAddr;
use std::path::Path;

use gapura_mesh::clock::Clock;
use gapura_mesh::log::Log;

use crate::error::Error;

/// What the gateway is told.
pub(crate) struct GatewaySettings<'a> {
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) cert: &'a Path,
    pub(crate) key: &'a Path,
    pub(crate) plugins: &'a Path,
    pub(crate) mesh: &'a Path,
    pub(crate) jwks: &'a Path,
    pub(crate) issuer: &'a str,
}

/// What a sidecar is told.
pub(crate) struct SidecarSettings<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) mesh: &'a Path,
}

/// The running gateway.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) admin: Option<SocketAddr>,
}

/// A running sidecar.
pub(crate) struct Sidecar {
    pub(crate) address: SocketAddr,
}

pub(crate) async fn gateway(_settings: &GatewaySettings<'_>, _log: Log, _clock: &Clock) -> Result<Gateway, Error> {
    Err(Error::Failed("not built yet".to_owned()))
}

pub(crate) async fn sidecar(_settings: &SidecarSettings<'_>, _log: Log, _clock: &Clock) -> Result<Sidecar, Error> {
    Err(Error::Failed("not built yet".to_owned()))
}

impl Gateway {
    pub(crate) async fn stop(self) {}
}

impl Sidecar {
    pub(crate) async fn stop(self) {}
}

//! The mesh's own authority on this machine: one identity for the gateway, one for each plugin's sidecar.

use std::path::PathBuf;

use gapura_mesh::clock::Clock;
use gapura_mesh::identity::Name;

use super::screen::Peer;
use crate::error::Error;
use crate::state::State;

/// The authority and the leaves it has issued for this run.
pub(crate) struct Authority {
    gateway: Option<Leaf>,
}

/// A mesh folder and the identity in it.
#[derive(Clone)]
pub(crate) struct Leaf {
    pub(crate) folder: PathBuf,
    pub(crate) peer: Peer,
}

impl Authority {
    pub(crate) fn open(_state: &State, _clock: &Clock) -> Result<Self, Error> {
        Ok(Self { gateway: None })
    }

    pub(crate) fn gateway(&self) -> Result<&Leaf, Error> {
        self.gateway.as_ref().ok_or_else(|| Error::Failed("not built yet".to_owned()))
    }

    pub(crate) fn plugin(&mut self, _name: &Name) -> Result<Leaf, Error> {
        Err(Error::Failed("not built yet".to_owned()))
    }

    pub(crate) fn renew(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

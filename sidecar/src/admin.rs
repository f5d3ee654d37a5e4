//! What the sidecar says for itself: no more than any program.

use gapura_mesh::leg::Side;
use gapura_mesh::pages::Report;
use gapura_mesh::shared::Shared;

/// The operator's side.
pub(crate) struct Admin(pub(crate) Shared);

impl Report for Admin {
    const SIDES: &'static [Side] = &[Side::Hop, Side::Plugin];

    fn shared(&self) -> &Shared {
        &self.0
    }
}

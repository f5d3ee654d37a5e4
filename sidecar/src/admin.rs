//! What the sidecar says for itself: no more than any program.

use gapura_protocol::leg::Side;
use gapura_runtime::pages::Report;
use gapura_runtime::shared::Shared;

/// The operator's side.
pub(crate) struct Admin(pub(crate) Shared);

impl Report for Admin {
    const SIDES: &'static [Side] = &[Side::Hop, Side::Plugin];

    fn shared(&self) -> &Shared {
        &self.0
    }
}

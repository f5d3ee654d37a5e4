//! What the sidecar says for itself: no more than any program, and how its plugin is.

use gapura_operator::report::Report;
use gapura_operator::shared::Shared;
use gapura_page::history::History;
use gapura_protocol::leg::Side;

use crate::page::{Facts, Sight};

/// The operator's side.
pub(crate) struct Admin {
    /// What it shares with any program.
    pub(crate) shared: Shared,
    /// What the page shows besides.
    pub(crate) sight: Sight,
}

impl Report for Admin {
    const SIDES: &'static [Side] = &[Side::Hop, Side::Plugin];

    type Facts = Facts;

    fn facts(&self, history: &History) -> Facts {
        self.sight.facts(history)
    }

    async fn look(&self) {
        self.sight.look().await;
    }

    fn shared(&self) -> &Shared {
        &self.shared
    }
}

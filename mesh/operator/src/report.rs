//! What one program has to say for itself besides what both do: the seam between the operator's
//! side and the programs.

use std::collections::BTreeMap;

use gapura_page::history::History;
use gapura_protocol::leg::Side;
use gapura_telemetry::metrics::Text;
use serde::Serialize;
use serde_json::Value;

use crate::admin::{Endpoint, Page};
use crate::shared::{Missing, Shared};

/// What one program has to say besides what both do.
pub trait Report: 'static {
    /// The sides whose connections it counts.
    const SIDES: &'static [Side];

    /// Whether it explains how it would decide a request.
    const EXPLAINS: bool = false;

    /// What it alone has to say on the operator's page.
    type Facts: Serialize;

    /// That, as it is now.
    fn facts(&self, history: &History) -> Self::Facts;

    /// Looks at what changes without its doing; called about once a second while somebody looks at
    /// the page, and at no other time.
    fn look(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// What it shares with the other.
    fn shared(&self) -> &Shared;

    /// What keeps it from being ready.
    fn missing(&self) -> Vec<Missing> {
        self.shared().missing()
    }

    /// A page of its own; `None` where this program has none.
    fn page(&self, _endpoint: Endpoint) -> Option<Page> {
        None
    }

    /// The certificate that clients see, as `/certificates` shows it, where there is a listener for
    /// clients.
    fn public_certificate(&self) -> Option<Value> {
        None
    }

    /// Its serial number, its first second and its last, Unix time.
    fn public_life(&self) -> Option<(String, u64, u64)> {
        None
    }

    /// How many connections of clients were ended since somebody is no longer welcome, where there
    /// are any.
    fn revoked_clients(&self) -> Option<u64> {
        None
    }

    /// How it would decide the request that `question` describes, in JSON.
    fn explain(&self, _question: &[u8]) -> Option<Page> {
        None
    }

    /// Where each plugin in force is mounted, in a program that has mounts.
    fn mounts(&self) -> Option<BTreeMap<String, String>> {
        None
    }

    /// Counters of its own.
    fn metrics(&self, _text: &mut Text) {}
}

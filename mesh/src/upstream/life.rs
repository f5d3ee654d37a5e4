//! What a connection towards the plugin is tied to for as long as anything lives on it, a WebSocket included: its place in the
//! gauge of open connections, and the trust that may end it.

use crate::metrics::OpenConnection;
use crate::tls::live::{LiveGuard, Verdict};

/// Held by whoever drives a connection, and by a tunnel that took it over.
pub struct Life {
    guard: Option<LiveGuard>,
    _open: OpenConnection,
}

impl Life {
    /// The life of a connection that `open` counts, and that `guard` may end where there is one.
    #[must_use]
    pub fn new(open: OpenConnection, guard: Option<LiveGuard>) -> Self {
        Self { guard, _open: open }
    }

    /// Ready with the reason when the connection is to end at once; calls `retire` when it shall take no further request.
    pub async fn cut(&self, retire: impl Fn()) -> &'static str {
        let Some(guard) = &self.guard else {
            return std::future::pending().await;
        };
        let mut verdict = guard.verdict();
        loop {
            let now = *verdict.borrow_and_update();
            match now {
                Verdict::Run => {}
                Verdict::Retire => retire(),
                Verdict::Cut(reason) => return reason,
            }
            if verdict.changed().await.is_err() {
                return "unknown";
            }
        }
    }
}

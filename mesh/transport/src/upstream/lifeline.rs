//! What a connection towards the plugin is tied to for as long as anything lives on it, a WebSocket
//! included: whatever counts it as open, and the trust that may end it.

use std::any::Any;

use tokio::sync::watch;

use crate::verdict::Verdict;

/// Held by whoever drives a connection, and by a tunnel that took it over.
pub struct Lifeline {
    verdict: Option<watch::Receiver<Verdict>>,
    _held: Box<dyn Any + Send + Sync>,
}

impl Lifeline {
    /// The life of a connection during which `held` is kept, and that a `verdict` may end where
    /// there is one.
    #[must_use]
    pub fn new(held: impl Any + Send + Sync, verdict: Option<watch::Receiver<Verdict>>) -> Self {
        Self {
            verdict,
            _held: Box::new(held),
        }
    }

    /// Ready with the reason when the connection is to end at once; calls `retire` when it shall
    /// take no further request.
    pub async fn cut(&self, retire: impl Fn()) -> &'static str {
        let Some(mut verdict) = self.verdict.clone() else {
            return std::future::pending().await;
        };
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

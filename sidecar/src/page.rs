//! What the sidecar says on the operator's page: its plugin, and who may speak to it.
//!
//! In: the settings, the counters, and whether the plugin takes a connection, which is tried while
//! somebody looks and at no other time.
//! Out: a [`Facts`] document.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use gapura_page::history::{History, Lately};
use serde::Serialize;

use crate::forward::Address;

/// What only a sidecar has to say.
#[derive(Serialize)]
pub(crate) struct Facts {
    plugin: String,
    address: String,
    /// Whether it took a connection a moment ago; unknown while nobody has looked.
    reachable: Option<bool>,
    /// Why it did not.
    why: Option<String>,
    lately: Lately,
    /// Whose requests are taken.
    allow: Vec<String>,
    /// Whether requests without a company may pass.
    allow_no_tenant: bool,
}

/// What it is made from.
pub(crate) struct Sight {
    /// The plugin's name.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) address: Address,
    /// Whose requests are taken.
    pub(crate) allow: Vec<String>,
    /// Whether requests without a company may pass.
    pub(crate) allow_no_tenant: bool,
    /// When it was tried last, and what came of it.
    pub(crate) tried: RefCell<Option<(Instant, Result<(), String>)>>,
}

/// Often enough to see it go, and too seldom for a plugin to notice.
const TRY_EVERY: Duration = Duration::from_secs(5);

/// A name that takes longer to look up is as good as none.
const TRY_WITHIN: Duration = Duration::from_secs(2);

impl Sight {
    /// Tries whether the plugin takes a connection, if that was not tried just now.
    pub(crate) async fn look(&self) {
        let fresh = |tried: &Option<(Instant, _)>| {
            tried
                .as_ref()
                .is_some_and(|(at, _)| at.elapsed() < TRY_EVERY)
        };
        if fresh(&self.tried.borrow()) {
            return;
        }
        let tried = tokio::time::timeout(TRY_WITHIN, self.address.connect()).await;
        let tried = match tried {
            Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
            Err(_) => Err("it does not answer in time".to_owned()),
        };
        *self.tried.borrow_mut() = Some((Instant::now(), tried));
    }

    /// As it is now.
    pub(crate) fn facts(&self, history: &History) -> Facts {
        let tried = self.tried.borrow();
        let tried = tried.as_ref().map(|(_, tried)| tried);
        Facts {
            plugin: self.name.clone(),
            address: self.address.to_string(),
            reachable: tried.map(Result::is_ok),
            why: tried.and_then(|tried| tried.as_ref().err().cloned()),
            lately: history.lately(&self.name),
            allow: self.allow.clone(),
            allow_no_tenant: self.allow_no_tenant,
        }
    }
}

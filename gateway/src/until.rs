//! For how long a stream may last: no longer than its caller's token, and than its caller is
//! welcome.
//!
//! In: the permit that a request got. Out: the moments at which an open answer or a tunnel has to
//! end, for whoever carries it. Nothing here knows how one ends.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use gapura_transport::body::Timestamp;
use gapura_transport::timers::{Sleep, Timers};

use crate::authenticate::VerifiedCaller;
use crate::authorise::Permit;
use crate::standing::Standing;

/// For how long a stream may last.
pub(crate) struct Until {
    /// What is left of the caller's token; `None` where that does not matter.
    token_holds: Option<Duration>,
    caller: Option<Rc<VerifiedCaller>>,
    client: IpAddr,
}

impl Until {
    /// As long as what `permit` was given for holds, for a caller who comes from `client`.
    #[must_use]
    pub(crate) fn of(permit: &Permit, client: IpAddr, now: u64) -> Self {
        let counted = permit
            .caller()
            .filter(|_| !permit.plugin().outlive_token)
            .map(|caller| Duration::from_secs(caller.expires().saturating_sub(now)));
        Self {
            token_holds: counted,
            caller: permit.kept_caller(),
            client,
        }
    }

    /// When the caller's token ends.
    #[must_use]
    pub(crate) fn expiry(&self, timers: &Timers) -> Option<Sleep> {
        Some(timers.sleep(self.token_holds?))
    }

    /// When the caller is no longer welcome.
    #[must_use]
    pub(crate) fn denial(self, standing: &Standing) -> Option<Timestamp> {
        standing.end_of(self.caller?, self.client)
    }

    /// Whichever of the two comes first.
    #[must_use]
    pub(crate) fn end(self, timers: &Timers, standing: &Standing) -> Option<Timestamp> {
        match (self.expiry(timers), self.denial(standing)) {
            (None, denial) => denial,
            (Some(expiry), None) => Some(Box::pin(expiry)),
            (Some(expiry), Some(denial)) => Some(Box::pin(async move {
                tokio::select! {
                    () = expiry => {}
                    () = denial => {}
                }
            })),
        }
    }
}

//! Whether a caller who has proven who they are is still welcome: the deny list, the logouts and
//! the companies' files.
//!
//! In: the file `--deny` and the folder `--tenants`, followed while the program runs, and the
//! logouts that providers tell of; then a verified caller and where they come from. Out: a
//! [`Refusal`] or none, at each request, and for an open stream the moment at which there is one.
//! Nothing here knows plugins, rules or answers. Without any of these settings nothing is asked and
//! nothing is kept.
//! Invariant: what could not be read never lets anybody in whom the last good reading kept out.

mod deny;
mod logouts;
mod tenant;
mod tenants;
mod watch;

use std::net::IpAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use gapura_protocol::envelope::Code;
use gapura_transport::body::Timestamp;
use tokio::sync::watch::Sender;

use crate::authenticate::{VerifiedCaller, VerifiedLogout};
use crate::registry::RateLimit;
use deny::DenyList;
use logouts::Logouts;
use tenants::Tenants;

pub(crate) use logouts::{LogoutsKept, NotTaken};
pub(crate) use watch::Watcher;

/// Where it is read from.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The deny list.
    pub deny: Option<PathBuf>,
    /// The folder of companies' files.
    pub tenants: Option<PathBuf>,
    /// How logouts are kept, if they are taken.
    pub logouts: Option<LogoutsKept>,
    /// Where copies of what is in force are kept.
    pub last_good: Option<PathBuf>,
}

/// Who is no longer welcome. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Standing(Arc<Inner>);

struct Inner {
    deny: Option<ArcSwap<DenyList>>,
    tenants: Option<ArcSwap<Tenants>>,
    logouts: Option<Logouts>,
    changed: Sender<u64>,
    streams_ended: AtomicU64,
}

/// Why a caller is not welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The deny list names the token, its user, its session or its company.
    Revoked,
    /// Its provider has told of the logout of its user or session.
    LoggedOut,
    /// The company is suspended.
    Suspended,
    /// The company's callers come from elsewhere.
    Elsewhere,
}

impl Standing {
    /// Whether a caller is welcome from an address.
    ///
    /// # Errors
    /// [`Refusal`]: why not.
    pub(crate) fn check(&self, caller: &VerifiedCaller, client: IpAddr) -> Result<(), Refusal> {
        if let Some(deny) = &self.0.deny
            && deny.load().names(caller)
        {
            return Err(Refusal::Revoked);
        }
        if let Some(logouts) = &self.0.logouts
            && logouts.names(caller)
        {
            return Err(Refusal::LoggedOut);
        }
        if let Some(tenants) = &self.0.tenants
            && let Some(tenant) = tenants.load().of(caller.tenant().as_str())
        {
            if tenant.suspended {
                return Err(Refusal::Suspended);
            }
            if !tenant.takes(client) {
                return Err(Refusal::Elsewhere);
            }
        }
        Ok(())
    }

    /// How much the company's callers may send by its own file, over all plugins.
    #[must_use]
    pub(crate) fn rate_limit(&self, company: &str) -> Option<Arc<RateLimit>> {
        let tenants = self.0.tenants.as_ref()?.load();
        tenants.of(company)?.rate_limit.clone()
    }

    /// The moment at which a caller's stream has to end since they are no longer welcome; `None`
    /// where nothing could bring it.
    #[must_use]
    pub(crate) fn end_of(&self, caller: Rc<VerifiedCaller>, client: IpAddr) -> Option<Timestamp> {
        if self.0.deny.is_none() && self.0.tenants.is_none() && self.0.logouts.is_none() {
            return None;
        }
        let standing = self.clone();
        // Before the first check: a change between the two is seen by the second.
        let mut changed = self.0.changed.subscribe();
        Some(Box::pin(async move {
            while standing.check(&caller, client).is_ok() {
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            standing.0.streams_ended.fetch_add(1, Ordering::Relaxed);
        }))
    }

    /// Takes a logout: tokens of its session or user count no more, and their open streams end.
    ///
    /// # Errors
    /// [`NotTaken`]: why its provider has to be told otherwise.
    pub(crate) async fn log_out(&self, logout: VerifiedLogout) -> Result<(), NotTaken> {
        let standing = self.clone();
        // It waits for a disk, which no worker may.
        let taken = tokio::task::spawn_blocking(move || {
            let logouts = standing.0.logouts.as_ref().ok_or(NotTaken::NotKept)?;
            let taken = logouts.take(&logout);
            if matches!(taken, Ok(()) | Err(NotTaken::NotKept)) {
                standing
                    .0
                    .changed
                    .send_modify(|generation| *generation += 1);
            }
            taken
        });
        taken.await.unwrap_or(Err(NotTaken::NotKept))
    }

    /// The companies that are not let in, by their files.
    #[must_use]
    pub(crate) fn suspended(&self) -> Vec<String> {
        let tenants = self.0.tenants.as_ref();
        tenants.map_or_else(Vec::new, |tenants| tenants.load().suspended())
    }

    /// Whether a page of `origin` may read answers to `company`'s callers by the company's own
    /// file; of any company's, if `None`.
    #[must_use]
    pub(crate) fn shows_pages(&self, origin: &str, company: Option<&str>) -> bool {
        let Some(tenants) = &self.0.tenants else {
            return false;
        };
        let tenants = tenants.load();
        match company {
            None => tenants.origins.has(origin),
            Some(company) => tenants
                .of(company)
                .is_some_and(|tenant| tenant.origins.has(origin)),
        }
    }

    /// What the company's file says, in words, for `explain`; `None` if it has none.
    #[must_use]
    pub(crate) fn in_words(&self, company: &str) -> Option<String> {
        let tenants = self.0.tenants.as_ref()?.load();
        Some(tenants.of(company)?.in_words())
    }

    /// How many streams have ended since their caller was no longer welcome.
    #[must_use]
    pub(crate) fn streams_ended(&self) -> u64 {
        self.0.streams_ended.load(Ordering::Relaxed)
    }
}

impl Refusal {
    /// The code it is answered with.
    #[must_use]
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Revoked | Self::LoggedOut => Code::TokenRevoked,
            Self::Suspended => Code::TenantSuspended,
            Self::Elsewhere => Code::Forbidden,
        }
    }

    /// In words, for the log and `explain`.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Revoked => "the deny list names the token, its user, its session or its company",
            Self::LoggedOut => "its provider has told of the logout of its user or session",
            Self::Suspended => "the company is suspended",
            Self::Elsewhere => "the company's callers must come from other addresses",
        }
    }
}

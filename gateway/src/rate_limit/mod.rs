//! Whether a permitted request is within what its caller may send: the plugin's limit, and the
//! company's over all plugins.
//!
//! In: the two limits, who asks, from where, and the time. Out: [`Passed`], with what is left for
//! the client to read, or an [`Exceeded`] that says when to come again. What one limit grants and
//! the other refuses is given back. A limit that only watches (`shadow`) is counted like any other,
//! and tells nobody but the operator. Nothing here reads a header or knows an answer.
//!
//! `quota` is the arithmetic, `store` the seam to who remembers, `local` this program's memory,
//! `fields` what the client is told.
//! Invariant: all workers draw on one allowance, which no reload refills.

mod fields;
mod local;
pub(crate) mod quota;
mod store;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::authenticate::VerifiedCaller;
use crate::registry::{LimitKey, Plugin, RateLimit};
use local::LocalStore;
use quota::{Left, Verdict};
use store::{BucketId, Owner, Store, Who};

pub(crate) use fields::{Stand, Stands, mark};

/// Keeps callers to their limits. Clones share the buckets.
pub(crate) struct Limiter<S = LocalStore> {
    store: Arc<S>,
    begun: Instant,
}

/// What a request is for.
#[derive(Clone, Copy)]
pub(crate) enum For<'a> {
    /// This plugin.
    Plugin(&'a Plugin),
    /// The document of all plugins, which has this limit.
    Contracts(&'a Arc<RateLimit>),
}

/// A request as limits see it.
pub(crate) struct Asks<'a> {
    /// What it is for.
    pub(crate) what: For<'a>,
    /// The limit of its company's own file.
    pub(crate) company: Option<Arc<RateLimit>>,
    /// Whom it speaks for, where that was proven.
    pub(crate) caller: Option<&'a VerifiedCaller>,
    /// The network it comes from.
    pub(crate) client: IpAddr,
}

/// The request may go on.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    /// Where it stands with each limit that is more than a shadow.
    pub(crate) stands: Stands,
    /// It passed in the shadow of this limit, which would refuse it.
    pub(crate) shadowed: Option<Over>,
}

/// The request may not go on now.
#[derive(Debug)]
pub(crate) struct Exceeded {
    /// Which limit says so.
    pub(crate) over: Over,
    /// Where it stands with that limit.
    pub(crate) stand: Stand,
}

/// Which limit a request is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// The plugin's.
    Plugin(LimitKey),
    /// That of the document of all plugins.
    Contracts,
    /// The company's.
    Company,
}

/// One limit and the bucket that a request draws from.
struct Drawn<'a> {
    limit: &'a Arc<RateLimit>,
    id: BucketId<'a>,
    over: Over,
}

impl Limiter {
    /// With all buckets full.
    pub(crate) fn new(begun: Instant) -> Self {
        Self {
            store: Arc::default(),
            begun,
        }
    }

    /// Where a request would stand with each limit, without drawing on any, for `explain`.
    pub(crate) fn look(&self, asks: &Asks<'_>, now: Instant) -> Vec<(Over, Stand)> {
        let now = self.nanoseconds(now);
        let look = |drawn: Drawn<'_>| {
            let left = self.store.look(&drawn.id, drawn.limit.quota(), now);
            let limit = Arc::clone(drawn.limit);
            (drawn.over, Stand { limit, left })
        };
        asks.drawn().map(look).collect()
    }

    /// What is left to a company of a plugin's limit; none where that does not count companies.
    pub(crate) fn left_of(&self, plugin: &Plugin, company: &str, now: Instant) -> Option<u64> {
        let limit = plugin.rate_limit.as_ref()?;
        self.left(limit, Owner::Plugin(plugin.name.as_str()), company, now)
    }

    /// What is left to a company of the limit of its own file; none where that does not count the
    /// company as one.
    pub(crate) fn left_of_own(
        &self,
        limit: &RateLimit,
        company: &str,
        now: Instant,
    ) -> Option<u64> {
        self.left(limit, Owner::Company(company), company, now)
    }

    fn left(&self, limit: &RateLimit, of: Owner<'_>, company: &str, now: Instant) -> Option<u64> {
        let who = Who::Tenant(company);
        let id = BucketId { of, who };
        let left = self.store.look(&id, limit.quota(), self.nanoseconds(now));
        (limit.key() == LimitKey::Tenant).then_some(left.requests)
    }
}

impl<S> Limiter<S> {
    /// From 1, so that a moment of 0 has always passed.
    fn nanoseconds(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.begun).as_nanos();
        u64::try_from(since).unwrap_or(u64::MAX).saturating_add(1)
    }
}

impl<S> Clone for Limiter<S> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            begun: self.begun,
        }
    }
}

impl<S: Store> Limiter<S> {
    /// Draws one request from each bucket that it belongs to.
    ///
    /// # Errors
    /// [`Exceeded`] if one of them is empty.
    pub(crate) async fn take(&self, asks: &Asks<'_>, now: Instant) -> Result<Passed, Exceeded> {
        let now = self.nanoseconds(now);
        let mut passed = Passed::default();
        let mut given: Option<Drawn<'_>> = None;
        for drawn in asks.drawn() {
            let Drawn { limit, id, over } = &drawn;
            let verdict = self.store.take(id, limit.quota(), now).await;
            let stand = |left: Left| Stand {
                limit: Arc::clone(limit),
                left,
            };
            match verdict {
                Verdict::Taken(_) if limit.is_shadow() => {}
                Verdict::Taken(left) => {
                    passed.stands.add(stand(left));
                    given = Some(drawn);
                }
                Verdict::Refused(_) if limit.is_shadow() => passed.shadowed = Some(*over),
                Verdict::Refused(left) => {
                    if let Some(given) = given {
                        self.store.give_back(&given.id, given.limit.quota()).await;
                    }
                    let (over, stand) = (*over, stand(left));
                    return Err(Exceeded { over, stand });
                }
            }
        }
        Ok(passed)
    }
}

impl Asks<'_> {
    /// Whether any limit concerns it at all.
    pub(crate) fn is_limited(&self) -> bool {
        self.own().is_some() || self.company.is_some()
    }

    /// The limit of what it is for.
    fn own(&self) -> Option<Drawn<'_>> {
        let (limit, of, over) = match self.what {
            For::Plugin(plugin) => {
                let limit = plugin.rate_limit.as_ref()?;
                let of = Owner::Plugin(plugin.name.as_str());
                (limit, of, Over::Plugin(limit.key()))
            }
            For::Contracts(limit) => (limit, Owner::Contracts, Over::Contracts),
        };
        let who = self.counted_by(limit.key());
        Some(Drawn {
            limit,
            id: BucketId { of, who },
            over,
        })
    }

    /// The plugin's limit first: the company's is the larger one as a rule, and what it gives is
    /// given back less often.
    fn drawn(&self) -> impl Iterator<Item = Drawn<'_>> {
        let company = self.company.as_ref().zip(self.caller);
        let company = company.map(|(limit, caller)| Drawn {
            limit,
            id: BucketId {
                of: Owner::Company(caller.tenant().as_str()),
                who: self.counted_by(limit.key()),
            },
            over: Over::Company,
        });
        self.own().into_iter().chain(company)
    }

    /// Whom a limit counts. Where nobody was proven no file asks for anything but the address; it
    /// is the narrowest in any case.
    fn counted_by(&self, key: LimitKey) -> Who<'_> {
        match (key, self.caller) {
            (LimitKey::Ip, _) | (_, None) => Who::Address(self.client),
            (LimitKey::Tenant, Some(caller)) => Who::Tenant(caller.tenant().as_str()),
            (LimitKey::User, Some(caller)) => Who::User {
                tenant: caller.tenant().as_str(),
                user: caller.user().as_str(),
            },
        }
    }
}

impl Over {
    /// In words, for the access line and the operator.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Plugin(LimitKey::Tenant) => "over the plugin's rate_limit of each company",
            Self::Plugin(LimitKey::User) => "over the plugin's rate_limit of each user",
            Self::Plugin(LimitKey::Ip) => "over the plugin's rate_limit of each address",
            Self::Contracts => "over the limit of the gateway's own /openapi.json",
            Self::Company => "over the rate_limit of the company's own file",
        }
    }
}

impl Exceeded {
    /// Seconds until another try may pass: one at least.
    pub(crate) fn retry_after(&self) -> u64 {
        self.stand.left.more_in_seconds().max(1)
    }
}

impl Stand {
    /// In words, for `explain`.
    pub(crate) fn in_words(&self) -> String {
        let (left, limit) = (self.left.requests, &self.limit);
        let shadow = if limit.is_shadow() {
            "; it only watches (shadow)"
        } else {
            ""
        };
        format!("{limit}: {left} left{shadow}")
    }

    /// Whether one more request would be refused.
    pub(crate) fn refuses(&self) -> bool {
        self.left.requests == 0 && !self.limit.is_shadow()
    }
}

#[cfg(test)]
mod tests;

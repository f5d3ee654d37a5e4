//! Where buckets are kept: the seam between what is limited and who remembers it.
//!
//! In: whose bucket it is, the quota in force now, and the time. Out: a verdict, on which all who
//! share the store agree. The one kept in this program is `local`; one that several gateways share
//! answers over the network, so that every question is a future.
//! Invariant: a bucket nobody has asked for yet is full.

use std::future::Future;
use std::net::IpAddr;

use super::quota::{Quota, Verdict};

/// Whose bucket it is. Two that differ in any part are two buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct BucketId<'a> {
    /// Whose limit it is.
    pub(crate) of: Owner<'a>,
    /// Who is counted.
    pub(crate) who: Who<'a>,
}

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner<'a> {
    /// This plugin's, by its name.
    Plugin(&'a str),
    /// This company's, over all plugins.
    Company(&'a str),
    /// That of the document of all plugins.
    Contracts,
}

/// Who is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Who<'a> {
    /// A company.
    Tenant(&'a str),
    /// A user of a company: the same id at two companies is two users.
    User {
        /// The company.
        tenant: &'a str,
        /// The user.
        user: &'a str,
    },
    /// An address, or the network that one client has.
    Address(IpAddr),
}

/// Remembers buckets.
pub(crate) trait Store {
    /// Takes one request of a bucket, if there is one to take.
    fn take(&self, id: &BucketId<'_>, quota: Quota, now: u64) -> impl Future<Output = Verdict>;

    /// Puts one request back that another limit has refused.
    fn give_back(&self, id: &BucketId<'_>, quota: Quota) -> impl Future<Output = ()>;
}

//! Companies: a set of them, and which of them may call.
//!
//! In: company ids that are valid. Out: whether one is taken, and whether one choice is wider than
//! another. How a file writes them is not known here.

use std::collections::BTreeSet;

/// The field `tenants`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tenants {
    /// No other company may call.
    Only(TenantSet),
    /// Every other company may call.
    Except(TenantSet),
}

/// Company ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TenantSet(BTreeSet<Box<str>>);

impl Tenants {
    /// Whether it takes this company.
    pub(super) fn take(&self, company: &str) -> bool {
        match self {
            Self::Only(set) => set.has(company),
            Self::Except(set) => !set.has(company),
        }
    }

    /// Whether it takes every company that `other` takes.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Only(mine), Self::Only(theirs)) => theirs.0.is_subset(&mine.0),
            (Self::Only(_), Self::Except(_)) => false,
            (Self::Except(mine), Self::Only(theirs)) => theirs.0.is_disjoint(&mine.0),
            (Self::Except(mine), Self::Except(theirs)) => mine.0.is_subset(&theirs.0),
        }
    }
}

impl TenantSet {
    /// These companies.
    pub(crate) fn of(companies: impl IntoIterator<Item = String>) -> Self {
        Self(companies.into_iter().map(String::into_boxed_str).collect())
    }

    /// Whether a company is one of them.
    pub(crate) fn has(&self, company: &str) -> bool {
        self.0.contains(company)
    }

    /// Whether it has all that `other` has.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        other.0.is_subset(&self.0)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|company| &**company)
    }
}

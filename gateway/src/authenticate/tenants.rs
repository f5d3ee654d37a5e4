//! Which companies an issuer may speak for.
//!
//! In: what the operator said of each issuer. Out: for each one a test that a company passes or
//! not. With several issuers one that is not told its companies could speak for those of every
//! other: whoever runs the weakest would own them all.
//! Invariant: a company that some list names is spoken for by the issuers that name it and by no
//! `"*"`.

use std::collections::HashSet;

use gapura_protocol::context::TenantId;

/// The companies an issuer may speak for, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tenants {
    /// Nothing was said; only a sole issuer may leave it open.
    #[default]
    Unsaid,
    /// `"*"`: all that no other issuer names.
    Rest,
    /// These and no others.
    Only(Vec<TenantId>),
}

/// The same, compiled for one issuer among all.
pub(super) enum SpeaksFor {
    Any,
    AllBut(HashSet<TenantId>),
    Only(HashSet<TenantId>),
}

impl SpeaksFor {
    /// What `own` means beside the others.
    pub(super) fn compile<'a>(own: &Tenants, all: impl Iterator<Item = &'a Tenants>) -> Self {
        match own {
            Tenants::Unsaid => Self::Any,
            Tenants::Only(list) => Self::Only(list.iter().cloned().collect()),
            Tenants::Rest => {
                let named = all.filter_map(|tenants| match tenants {
                    Tenants::Only(list) => Some(list),
                    Tenants::Unsaid | Tenants::Rest => None,
                });
                Self::AllBut(named.flatten().cloned().collect())
            }
        }
    }

    /// Why a company that is allowed is, in words.
    pub(super) fn why(&self) -> &'static str {
        match self {
            Self::Any => "it is the only issuer, and no companies are named",
            Self::AllBut(_) => "its tenants are \"*\", and no other issuer names the company",
            Self::Only(_) => "its tenants name the company",
        }
    }

    pub(super) fn allows(&self, tenant: &TenantId) -> bool {
        match self {
            Self::Any => true,
            Self::AllBut(others) => !others.contains(tenant),
            Self::Only(own) => own.contains(tenant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> TenantId {
        TenantId::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_rest_is_what_no_other_names() {
        let all = [
            Tenants::Only(vec![id("1"), id("2")]),
            Tenants::Only(vec![id("2"), id("3")]),
            Tenants::Rest,
        ];
        let compiled: Vec<SpeaksFor> = all
            .iter()
            .map(|own| SpeaksFor::compile(own, all.iter()))
            .collect();
        let who = |tenant: &str| -> Vec<bool> {
            compiled.iter().map(|own| own.allows(&id(tenant))).collect()
        };
        assert_eq!(who("1"), [true, false, false]);
        assert_eq!(who("2"), [true, true, false]);
        assert_eq!(who("3"), [false, true, false]);
        assert_eq!(who("4"), [false, false, true]);
        assert_eq!(who("01"), [false, false, true]);
        assert!(SpeaksFor::compile(&Tenants::Unsaid, all.iter()).allows(&id("1")));
    }
}

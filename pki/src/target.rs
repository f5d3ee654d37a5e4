//! How an operator names an identity on the command line: `billing`, `plugin/billing` or the whole
//! SPIFFE id.

use std::fmt;
use std::str::FromStr;

use gapura_protocol::identity::{Name, PeerId, Role, TrustDomain};

use crate::error::Error;
use crate::ledger::{Event, Join, Leaf, Ledger};
use crate::timestamp::Timestamp;

/// An identity, or a name that may be of either role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The trust domain, if it was written.
    pub domain: Option<TrustDomain>,
    /// The role, if it was written.
    pub role: Option<Role>,
    /// The name.
    pub name: Name,
}

impl Target {
    /// Whether it means this leaf.
    #[must_use]
    pub fn takes(&self, leaf: &Leaf) -> bool {
        self.name == leaf.name && self.role.is_none_or(|role| role == leaf.role)
    }

    /// The end of the join tokens for it that were not used: whoever holds one must not bring back
    /// what was revoked or is gone.
    pub(crate) fn void_joins(&self, ledger: &Ledger, now: Timestamp) -> Vec<Event> {
        let meant =
            |join: &&Join| self.name == join.name && self.role.is_none_or(|role| role == join.role);
        let open = ledger.joins().open(now).filter(meant);
        open.map(|join| Event::JoinVoid {
            id: join.id.clone(),
        })
        .collect()
    }

    /// Those of `leaves` that it means.
    ///
    /// # Errors
    /// None, or a gateway and a plugin of that name.
    pub(crate) fn pick<'a>(
        &self,
        leaves: &[&'a Leaf],
        domain: &TrustDomain,
    ) -> Result<Vec<&'a Leaf>, Error> {
        if self
            .domain
            .as_ref()
            .is_some_and(|written| written != domain)
        {
            return Err(Error::Usage(format!(
                "{self} is of another trust domain; this CA serves {domain}"
            )));
        }
        let found: Vec<&Leaf> = leaves
            .iter()
            .copied()
            .filter(|leaf| self.takes(leaf))
            .collect();
        let Some(first) = found.first() else {
            return Err(Error::Failed(format!(
                "nothing was ever issued to {self}; see `gapura-pki list`"
            )));
        };
        if found.iter().any(|leaf| leaf.role != first.role) {
            return Err(Error::Usage(format!(
                "there is a gateway and a plugin named {0}; say gateway/{0} or plugin/{0}",
                self.name
            )));
        }
        Ok(found)
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why: &dyn fmt::Display| {
            Error::Usage(format!(
                "{text:?} is not a name: {why}; write billing, plugin/billing or spiffe://…"
            ))
        };
        if text.starts_with("spiffe://") {
            let id: PeerId = text.parse().map_err(|why| refused(&why))?;
            return Ok(Self {
                domain: Some(id.domain().clone()),
                role: Some(id.role()),
                name: id.name().clone(),
            });
        }
        let (role, name) = match text.split_once('/') {
            Some((role, name)) => (
                Some(
                    role.parse()
                        .map_err(|_| refused(&"a role is `gateway`, `plugin` or `pki`"))?,
                ),
                name,
            ),
            None => (None, text),
        };
        Ok(Self {
            domain: None,
            role,
            name: name.parse().map_err(|why| refused(&why))?,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Some(role) => write!(f, "{role}/{}", self.name),
            None => write!(f, "{}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_three_ways_to_write_an_identity() {
        for (text, role) in [
            ("a-b", None),
            ("plugin/a-b", Some(Role::Plugin)),
            ("spiffe://x.y/gateway/a-b", Some(Role::Gateway)),
        ] {
            let target: Target = text.parse().unwrap();
            assert_eq!((target.role, target.name.as_str()), (role, "a-b"));
        }
        for bad in [
            "",
            "A",
            "a/b",
            "plugin/",
            "plugin/a/b",
            "../a",
            "a\n",
            "spiffe://x.y/plugin/A",
            &"a".repeat(300),
        ] {
            assert!(bad.parse::<Target>().is_err(), "{bad:?}");
        }
    }
}

//! Whom a request acts for, as the command line says it.

use std::str::FromStr;

use gapura_protocol::context::{Roles, TenantId, UserId};

/// Whom the plugin is told that a request acts for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub(super) company: TenantId,
    pub(super) user: UserId,
    pub(super) roles: Option<Roles>,
}

impl FromStr for Caller {
    type Err = String;

    /// Reads `company=42,user=7` and perhaps `,role=admin`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be such as company=42,user=7 or company=42,user=7,role=admin".to_owned();
        let (mut company, mut user, mut roles) = (None, None, Vec::new());
        for part in text.split(',') {
            match part.split_once('=').ok_or_else(wrong)? {
                ("company", id) if company.is_none() => {
                    company = TenantId::parse(id.as_bytes()).ok().filter(|_| id != "0");
                    company
                        .as_ref()
                        .ok_or_else(|| format!("{id:?} is no company id"))?;
                }
                ("user", id) if user.is_none() => {
                    user = UserId::parse(id.as_bytes()).ok();
                    user.as_ref()
                        .ok_or_else(|| format!("{id:?} is no user id"))?;
                }
                ("role", role) => roles.push(role),
                _ => return Err(wrong()),
            }
        }
        let roles = match roles.as_slice() {
            [] => None,
            some => {
                let joined = Roles::join(some.iter().copied());
                Some(joined.map_err(|_| "a role is not of the allowed form".to_owned())?)
            }
        };
        Ok(Self {
            company: company.ok_or_else(wrong)?,
            user: user.ok_or_else(wrong)?,
            roles,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_is_a_company_and_a_user_and_perhaps_roles() {
        let caller: Caller = "company=42,user=7".parse().unwrap();
        assert_eq!((caller.company.as_str(), caller.user.as_str()), ("42", "7"));
        let caller: Caller = "user=7,company=acme,role=admin,role=lab".parse().unwrap();
        assert_eq!(caller.roles.unwrap().as_str(), "admin,lab");
        for bad in [
            "",
            "42",
            "company=42",
            "user=7",
            "company=0,user=7",
            "company=4 2,user=7",
            "company=42,user=7,company=43",
            "company=42,user=7,x=1",
            "company=42,user=7,role=",
        ] {
            assert!(bad.parse::<Caller>().is_err(), "{bad}");
        }
    }
}

//! How a join token is shown: HTTP's Basic authentication (RFC 7617), the identity as the user and
//! the secret as the password.
//!
//! The CA server needs no more of a token than these two: all else of it is for the agent.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gapura_protocol::identity::{Name, Role};
use zeroize::Zeroizing;

use crate::token::{self, Secret};

/// Who somebody says to be, and the secret that shall prove it.
pub struct Claim {
    /// What it wants to be.
    pub role: Role,
    /// Which one.
    pub name: Name,
    /// The secret of its join token.
    pub secret: Secret,
}

impl Claim {
    /// The value of an `Authorization` field.
    #[must_use]
    pub fn to_header(&self) -> Zeroizing<String> {
        let pair = Zeroizing::new(format!(
            "{}/{}:{}",
            self.role,
            self.name,
            *self.secret.to_text()
        ));
        Zeroizing::new(format!(
            "Basic {}",
            *Zeroizing::new(STANDARD.encode(pair.as_bytes()))
        ))
    }

    /// Reads the value of an `Authorization` field; the scheme in any case. `None` for all else.
    #[must_use]
    pub fn from_header(value: &[u8]) -> Option<Self> {
        let (scheme, rest) = value.split_at_checked(b"Basic ".len())?;
        if !scheme.eq_ignore_ascii_case(b"Basic ") {
            return None;
        }
        let pair = Zeroizing::new(STANDARD.decode(rest.trim_ascii()).ok()?);
        let (user, password) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
        let (role, name) = token::identity(user)?;
        Some(Self {
            role,
            name,
            secret: Secret::parse(password)?,
        })
    }
}

impl fmt::Debug for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claim({}/{})", self.role, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            role: Role::Plugin,
            name: "lab-reporting".parse().unwrap(),
            secret: Secret::new([7; 32]),
        }
    }

    #[test]
    fn what_is_shown_is_read_in_any_case_of_the_scheme() {
        let shown = claim().to_header();
        let (_, rest) = shown.split_once(' ').unwrap();
        for scheme in ["Basic", "basic", "BASIC"] {
            let read = Claim::from_header(format!("{scheme} {rest}").as_bytes()).unwrap();
            assert_eq!(
                (read.role, read.name.as_str()),
                (Role::Plugin, "lab-reporting")
            );
            assert_eq!(read.secret.sha256(), claim().secret.sha256());
        }
        for bad in [
            format!("Bearer {rest}"),
            format!("Basic{rest}"),
            "Basic ".to_owned(),
            "Basic !!".to_owned(),
            format!("Basic {}", STANDARD.encode("plugin/lab-reporting")),
            format!("Basic {}", STANDARD.encode("plugin/lab-reporting:short")),
            format!(
                "Basic {}",
                STANDARD.encode(format!("nobody/x:{}", *claim().secret.to_text()))
            ),
        ] {
            assert!(Claim::from_header(bad.as_bytes()).is_none(), "{bad}");
        }
    }

    #[test]
    fn it_is_never_printed() {
        assert!(!format!("{:?}", claim()).contains(claim().secret.to_text().as_str()));
    }
}

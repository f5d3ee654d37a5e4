//! Who a certificate speaks for: `spiffe://TRUST-DOMAIN/gateway/NAME`,
//! `spiffe://TRUST-DOMAIN/plugin/NAME`, or `spiffe://TRUST-DOMAIN/pki/NAME`.
//!
//! In: text, from a flag, a registry file or a certificate's URI SAN. Out: a [`PeerId`] whose every
//! part has been checked, so that no later code meets an empty segment, an escape or an upper-case
//! domain (SPIFFE-ID, sections 2.1 and 2.2). Nothing here reads certificates or decides who may do
//! what.

use std::fmt;
use std::str::FromStr;

/// The name under which every identity of one installation lives, e.g. `mylab.internal`: 1 to 255
/// of `[a-z0-9._-]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Box<str>);

/// What a program is in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Dials sidecars.
    Gateway,
    /// Answers for one plugin.
    Plugin,
    /// Serves certificates to hosts; good for nothing on the hop.
    Pki,
}

/// The last segment of an identity, and a plugin's name: `[a-z0-9][a-z0-9-]{0,62}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

/// A whole identity.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId {
    domain: TrustDomain,
    role: Role,
    name: Name,
}

/// One entry of a sidecar's `--allow`: a whole id, or a whole id whose last segment is `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPattern {
    domain: TrustDomain,
    role: Role,
    name: Option<Name>,
}

/// Why a text is not an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidId {
    /// The scheme is not `spiffe://`.
    Scheme,
    /// The trust domain is empty, too long or has a character outside `[a-z0-9._-]`.
    TrustDomain,
    /// The path is not `/gateway/NAME`, `/plugin/NAME` or `/pki/NAME`.
    Path,
    /// The name is not `[a-z0-9][a-z0-9-]{0,62}`.
    Name,
}

impl TrustDomain {
    /// The text of the domain.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        let fits = (1..=255).contains(&text.len()) && text.bytes().all(allowed);
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::TrustDomain)
        }
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Role {
    /// The word that stands for the role in an identity.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Plugin => "plugin",
            Self::Pki => "pki",
        }
    }
}

impl FromStr for Role {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text {
            "gateway" => Ok(Self::Gateway),
            "plugin" => Ok(Self::Plugin),
            "pki" => Ok(Self::Pki),
            _ => Err(InvalidId::Path),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Name {
    /// The text of the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let fits =
            (1..=63).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(allowed);
        if fits {
            Ok(Self(text.into()))
        } else {
            Err(InvalidId::Name)
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PeerId {
    /// The identity `spiffe://domain/role/name`.
    #[must_use]
    pub fn new(domain: TrustDomain, role: Role, name: Name) -> Self {
        Self { domain, role, name }
    }

    /// The installation it belongs to.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// What it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Which one it is.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }
}

impl FromStr for PeerId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (domain, role, name) = split(text)?;
        Ok(Self {
            domain: domain.parse()?,
            role: role.parse()?,
            name: name.parse()?,
        })
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/{}/{}", self.domain, self.role, self.name)
    }
}

impl IdPattern {
    /// The pattern that takes every identity of one role, `spiffe://domain/role/*`.
    #[must_use]
    pub fn any(domain: TrustDomain, role: Role) -> Self {
        Self {
            domain,
            role,
            name: None,
        }
    }

    /// The trust domain the pattern speaks of.
    #[must_use]
    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// Whether `id` is one the pattern names.
    #[must_use]
    pub fn takes(&self, id: &PeerId) -> bool {
        self.domain == id.domain
            && self.role == id.role
            && self.name.as_ref().is_none_or(|name| *name == id.name)
    }
}

impl FromStr for IdPattern {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let (domain, role, name) = split(text)?;
        let name = if name == "*" {
            None
        } else {
            Some(name.parse()?)
        };
        Ok(Self {
            domain: domain.parse()?,
            role: role.parse()?,
            name,
        })
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_ref().map_or("*", Name::as_str);
        write!(f, "spiffe://{}/{}/{name}", self.domain, self.role)
    }
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "an identity begins with `spiffe://`",
            Self::TrustDomain => "a trust domain is 1 to 255 of a-z 0-9 . - _",
            Self::Path => "an identity ends in `/gateway/NAME`, `/plugin/NAME` or `/pki/NAME`",
            Self::Name => "a name is 1 to 63 of a-z 0-9 -, and does not begin with -",
        })
    }
}

impl std::error::Error for InvalidId {}

/// Cuts `spiffe://domain/role/name` into its three parts; a fourth segment is left in the name,
/// which then does not parse.
fn split(text: &str) -> Result<(&str, &str, &str), InvalidId> {
    let rest = text.strip_prefix("spiffe://").ok_or(InvalidId::Scheme)?;
    let (domain, path) = rest.split_once('/').ok_or(InvalidId::Path)?;
    let (role, name) = path.split_once('/').ok_or(InvalidId::Path)?;
    Ok((domain, role, name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prints_what_it_parsed() {
        for text in [
            "spiffe://mylab.internal/gateway/edge",
            "spiffe://a/plugin/lab-reporting",
            "spiffe://a_b.c-d/plugin/9",
            "spiffe://mylab.internal/pki/ca-1",
        ] {
            assert_eq!(text.parse::<PeerId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_only_looks_like_an_identity() {
        let cases = [
            ("", InvalidId::Scheme),
            ("SPIFFE://a/plugin/b", InvalidId::Scheme),
            ("https://a/plugin/b", InvalidId::Scheme),
            ("spiffe:///plugin/b", InvalidId::TrustDomain),
            ("spiffe://A/plugin/b", InvalidId::TrustDomain),
            ("spiffe://a:1/plugin/b", InvalidId::TrustDomain),
            ("spiffe://u@a/plugin/b", InvalidId::TrustDomain),
            ("spiffe://a", InvalidId::Path),
            ("spiffe://a/plugin", InvalidId::Path),
            ("spiffe://a/sidecar/b", InvalidId::Path),
            ("spiffe://a//plugin/b", InvalidId::Path),
            ("spiffe://a/plugin/", InvalidId::Name),
            ("spiffe://a/plugin/b/", InvalidId::Name),
            ("spiffe://a/plugin/b/c", InvalidId::Name),
            ("spiffe://a/plugin/-b", InvalidId::Name),
            ("spiffe://a/plugin/B", InvalidId::Name),
            ("spiffe://a/plugin/b?x", InvalidId::Name),
            ("spiffe://a/plugin/b#x", InvalidId::Name),
            ("spiffe://a/plugin/%62", InvalidId::Name),
            ("spiffe://a/plugin/b\0", InvalidId::Name),
            ("spiffe://a/plugin/*", InvalidId::Name),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<PeerId>(), Err(why), "{text:?}");
        }
        assert!(
            format!("spiffe://a/plugin/{}", "b".repeat(63))
                .parse::<PeerId>()
                .is_ok()
        );
        assert!(
            format!("spiffe://a/plugin/{}", "b".repeat(64))
                .parse::<PeerId>()
                .is_err()
        );
    }

    #[test]
    fn a_star_stands_for_one_whole_last_segment_only() {
        let id: PeerId = "spiffe://a/gateway/edge".parse().unwrap();
        let takes = |pattern: &str| {
            pattern
                .parse::<IdPattern>()
                .is_ok_and(|pattern| pattern.takes(&id))
        };
        assert!(takes("spiffe://a/gateway/*"));
        assert!(takes("spiffe://a/gateway/edge"));
        for other in [
            "spiffe://a/gateway/ed*",
            "spiffe://a/*/edge",
            "spiffe://*/gateway/edge",
            "spiffe://b/gateway/*",
            "spiffe://a/plugin/*",
            "*",
        ] {
            assert!(!takes(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn whatever_parses_prints_back(text in "spiffe://[a-z./_-]{0,9}(gateway|plugin|pki)/[a-z0-9*/-]{0,9}") {
            if let Ok(id) = text.parse::<PeerId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}

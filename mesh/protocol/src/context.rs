//! The verified facts of a request, each a type that is made in one place: here.
//!
//! In: a claim of a verified token, or a header of the hop. Out: a value that is safe to stand in a
//! header, exactly as it came. A value that does not fit is refused, never cleaned up: two
//! spellings of one tenant would be two tenants to somebody. All of them hold their text as a
//! `HeaderValue`, so that handing one on costs a reference count.

use std::fmt;

use bytes::Bytes;
use http::HeaderValue;

use crate::text::hex_digits;

/// The company a request acts for: `[A-Za-z0-9][A-Za-z0-9._:-]{0,127}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TenantId(HeaderValue);

/// The user a request acts for, or who acts for one: `[A-Za-z0-9_-][A-Za-z0-9._:@|+=~/-]{0,254}`.
/// Issuers that name their users by base64url give names that begin with `-` or `_`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserId(HeaderValue);

/// The caller's roles, joined by commas: each `[A-Za-z0-9][A-Za-z0-9 ._:@|+=~/-]{0,127}` with
/// blanks singly and inside only, 4 KiB in all.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Roles(HeaderValue);

/// The name of one request on every hop, line and answer: `[A-Za-z0-9._-]{1,128}`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(HeaderValue);

/// A text that is not a value of the type it was meant for. Says nothing of the text itself, which
/// came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The longest joined list of roles, in bytes.
const ROLES_MAX: usize = 4096;

impl TenantId {
    /// Takes a claim or a header's value.
    ///
    /// # Errors
    /// [`Invalid`] unless the text has the form above.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        if Self::fits(text) {
            value(text).map(Self)
        } else {
            Err(Invalid)
        }
    }

    fn fits(text: &[u8]) -> bool {
        text.first().is_some_and(u8::is_ascii_alphanumeric)
            && is_token(text, 128, |byte| matches!(byte, b'.' | b'_' | b':' | b'-'))
    }

    /// The tenant of a numeric claim; 0 stands for none and is [`Invalid`].
    ///
    /// # Errors
    /// [`Invalid`] for 0.
    pub fn from_number(number: u64) -> Result<Self, Invalid> {
        if number == 0 {
            Err(Invalid)
        } else {
            Ok(Self(HeaderValue::from(number)))
        }
    }
}

impl UserId {
    /// Takes a claim or a header's value.
    ///
    /// # Errors
    /// [`Invalid`] unless the text has the form above.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        if Self::fits(text) {
            value(text).map(Self)
        } else {
            Err(Invalid)
        }
    }

    fn fits(text: &[u8]) -> bool {
        let first = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        text.first().is_some_and(first)
            && is_token(text, 255, |byte| {
                matches!(
                    byte,
                    b'.' | b'_' | b':' | b'@' | b'|' | b'+' | b'=' | b'~' | b'/' | b'-'
                )
            })
    }

    /// The user of a numeric claim; 0 is nobody and [`Invalid`].
    ///
    /// # Errors
    /// [`Invalid`] for 0.
    pub fn from_number(number: u64) -> Result<Self, Invalid> {
        if number == 0 {
            Err(Invalid)
        } else {
            Ok(Self(HeaderValue::from(number)))
        }
    }
}

impl Roles {
    /// Takes a header's value, or a claim that is one text: roles joined by `,`.
    ///
    /// # Errors
    /// [`Invalid`] if any part is not a role, or the whole is longer than 4 KiB.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        if Self::fits(text) {
            value(text).map(Self)
        } else {
            Err(Invalid)
        }
    }

    fn fits(text: &[u8]) -> bool {
        text.len() <= ROLES_MAX && text.split(|byte| *byte == b',').all(is_role)
    }

    /// Joins a list claim. No role may hold a comma: it would be two.
    ///
    /// # Errors
    /// [`Invalid`] if the list is empty, any entry is not a role, or the whole is longer than 4
    /// KiB.
    pub fn join<'a>(list: impl IntoIterator<Item = &'a str>) -> Result<Self, Invalid> {
        let mut joined = Vec::new();
        for role in list {
            if !is_role(role.as_bytes()) {
                return Err(Invalid);
            }
            if !joined.is_empty() {
                joined.push(b',');
            }
            joined.extend_from_slice(role.as_bytes());
        }
        Self::parse(&joined)
    }

    /// Each role by itself.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        text_of(&self.0).split(',')
    }
}

impl RequestId {
    /// Takes a header's value.
    ///
    /// # Errors
    /// [`Invalid`] unless the text has the form above.
    pub fn parse(text: &[u8]) -> Result<Self, Invalid> {
        if Self::fits(text) {
            value(text).map(Self::named)
        } else {
            Err(Invalid)
        }
    }

    /// HTTP/2 is told not to index it: a value that never comes again only drives those out of its
    /// table that do, and each one is compared with all that are still in there.
    fn named(mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        Self(value)
    }

    fn fits(text: &[u8]) -> bool {
        let allowed =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        (1..=128).contains(&text.len()) && text.iter().all(allowed)
    }

    /// A new UUIDv7 (RFC 9562, section 5.7): the milliseconds of `unix_ms`, then 74 random bits.
    #[must_use]
    pub fn new_v7(unix_ms: u64, random: u128) -> Self {
        let mut bytes = [0_u8; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&random.to_be_bytes()[6..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            text[at..at + 2].copy_from_slice(&hex_digits(*byte));
            at += 2;
        }
        // Of one piece with its count: what is copied of a slice would make one of its own at the
        // first clone.
        Self::named(
            HeaderValue::from_maybe_shared(Bytes::from_owner(text))
                .unwrap_or(HeaderValue::from_static("unnamed")),
        )
    }
}

macro_rules! as_header {
    ($($name:ident = $make:expr),*) => {$(
        impl $name {
            /// Takes a header's value as it stands, without copying it.
            ///
            /// # Errors
            /// [`Invalid`] where `parse` says so.
            pub fn of_header(value: &HeaderValue) -> Result<Self, Invalid> {
                if Self::fits(value.as_bytes()) { Ok($make(value.clone())) } else { Err(Invalid) }
            }

            /// The value as it stands in a header.
            #[must_use]
            pub fn header(&self) -> &HeaderValue {
                &self.0
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                text_of(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:?})", stringify!($name), self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

as_header!(
    TenantId = TenantId,
    UserId = UserId,
    Roles = Roles,
    RequestId = RequestId::named
);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value does not have the form its name promises")
    }
}

impl std::error::Error for Invalid {}

fn is_token(text: &[u8], longest: usize, also: impl Fn(u8) -> bool) -> bool {
    text.len() <= longest
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || also(*byte))
}

fn is_role(text: &[u8]) -> bool {
    let also = |byte: &u8| {
        matches!(
            byte,
            b' ' | b'.' | b'_' | b':' | b'@' | b'|' | b'+' | b'=' | b'~' | b'/' | b'-'
        )
    };
    // A blank at the end, or two in a row, is what one reader trims and another compares.
    text.first().is_some_and(u8::is_ascii_alphanumeric)
        && text.last() != Some(&b' ')
        && !text.windows(2).any(|pair| pair == b"  ")
        && text.len() <= 128
        && text
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || also(byte))
}

fn value(text: &[u8]) -> Result<HeaderValue, Invalid> {
    HeaderValue::from_bytes(text).map_err(|_| Invalid)
}

/// Every value above was checked to be visible ASCII or a space.
fn text_of(value: &HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_tenant_is_text_of_a_small_alphabet_or_a_positive_number() {
        for good in ["4", "acme", "acme.eu:west_1-b", &"a".repeat(128)] {
            assert_eq!(TenantId::parse(good.as_bytes()).unwrap().as_str(), good);
        }
        for bad in [
            "",
            " 4",
            "4 ",
            "-4",
            ".a",
            "a,b",
            "a/b",
            "a\r\nX-Role: admin",
            "é",
            "a\0",
            &"a".repeat(129),
        ] {
            assert_eq!(TenantId::parse(bad.as_bytes()), Err(Invalid), "{bad:?}");
        }
        assert_eq!(
            TenantId::from_number(u64::MAX).unwrap().as_str(),
            "18446744073709551615"
        );
        assert_eq!(TenantId::from_number(0), Err(Invalid));
    }

    #[test]
    fn what_names_one_request_is_never_indexed_and_what_comes_again_is() {
        let given = HeaderValue::from_static("r-1");
        for id in [
            RequestId::parse(b"r-1").unwrap(),
            RequestId::of_header(&given).unwrap(),
            RequestId::new_v7(1, 2),
        ] {
            assert!(id.header().is_sensitive(), "{id}");
        }
        let tenant = TenantId::of_header(&given).unwrap();
        assert!(!tenant.header().is_sensitive());
    }

    #[test]
    fn a_user_may_be_an_address_or_an_issuers_compound_name() {
        for good in [
            "7",
            "auth0|5f7c",
            "a@b.c",
            "CN=x/y~z+1",
            "_9Zk-x",
            "-Rq_1",
            &"u".repeat(255),
        ] {
            assert!(UserId::parse(good.as_bytes()).is_ok(), "{good:?}");
        }
        for bad in [
            "",
            "@a",
            ".a",
            "/a",
            "a b",
            "a,b",
            "a\n",
            "a\"b",
            &"u".repeat(256),
        ] {
            assert!(UserId::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn roles_are_joined_by_commas_and_none_can_hold_one() {
        let roles = Roles::join(["admin", "lab manager"]).unwrap();
        assert_eq!(roles.as_str(), "admin,lab manager");
        assert_eq!(roles.iter().collect::<Vec<_>>(), ["admin", "lab manager"]);
        assert!(Roles::parse(b"admin,lab manager").is_ok());
        assert!(Roles::parse(b"a b c,d").is_ok());
        for bad in [
            "", ",", "a,", ",a", "a,,b", " a", "a\tb", "a ", "a ,b", "a, b", "a  b", "_a", "-a",
        ] {
            assert!(Roles::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        assert!(Roles::join(["user,admin"]).is_err());
        assert!(Roles::join([]).is_err());
        let many = vec!["abcdefg"; 512];
        assert!(Roles::join(many.iter().copied()).is_ok());
        assert!(Roles::join(many.iter().copied().chain(["x"])).is_err());
    }

    #[test]
    fn a_new_request_id_is_a_version_7_uuid_that_carries_its_time() {
        let id = RequestId::new_v7(0x0192_3456_789a, u128::MAX);
        assert_eq!(id.as_str(), "01923456-789a-7fff-bfff-ffffffffffff");
        assert!(RequestId::parse(id.as_str().as_bytes()).is_ok());
        for bad in ["", "a b", "a/b", &"a".repeat(129)] {
            assert!(RequestId::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn no_value_ever_holds_a_control_or_a_list_separator(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let clean = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b',' && byte != b';');
            if let Ok(tenant) = TenantId::parse(&bytes) { prop_assert!(clean(tenant.as_str())); }
            if let Ok(user) = UserId::parse(&bytes) { prop_assert!(clean(user.as_str())); }
            if let Ok(id) = RequestId::parse(&bytes) { prop_assert!(clean(id.as_str())); }
            if let Ok(roles) = Roles::parse(&bytes) { prop_assert!(roles.iter().all(|role| !role.is_empty() && clean(role))); }
        }
    }
}

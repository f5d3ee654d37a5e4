//! What a host is, as text: a name of labels, an IPv4 address, a bracketed IPv6 address, and a port
//! behind it.
//!
//! The grammar stands here once. Each user asks for more where it must (a case, a depth, no
//! address), in words of its own; none reads a label, a bracket or a colon by itself. Nothing is
//! resolved here.

use std::net::Ipv6Addr;

/// The longest name that DNS can carry, without the dot at its end.
pub(crate) const LONGEST_NAME: usize = 253;

/// A label of a name: 1 to 63 letters, digits, `-`, and `_`, which names of services have.
#[must_use]
pub fn is_label(label: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=63).contains(&label.len()) && label.bytes().all(allowed)
}

/// A name, or an IPv4 address, which is one by its form: labels with dots between them.
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}

/// Whether no label begins or ends with `-`, which no name that is registered or certified does.
#[must_use]
pub fn has_no_outer_hyphen(name: &str) -> bool {
    name.split('.')
        .all(|label| !label.starts_with('-') && !label.ends_with('-'))
}

/// The address in `[…]`.
#[must_use]
pub fn bracketed(text: &str) -> Option<Ipv6Addr> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    inside.parse().ok()
}

/// Cuts `host` or `host:port`: the host, with its brackets if it has some, and what stands behind
/// the colon, unread. The whole is the host where brackets stay open.
#[must_use]
pub fn split_port(text: &[u8]) -> (&[u8], Option<&[u8]>) {
    let from = match text.first() {
        Some(b'[') => text.iter().position(|byte| *byte == b']'),
        _ => Some(0),
    };
    let colon = from.and_then(|from| {
        let rest = text[from..].iter().position(|byte| *byte == b':');
        rest.map(|at| from + at)
    });
    match colon {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

/// What `Host` and `:authority` may say: `name`, `name:port`, an IPv4 address or a bracketed IPv6
/// address; no user, no path, no list (RFC 9110, section 7.2). Names are not read label by label:
/// clients send what resolvers let pass, and it only ever is compared.
#[must_use]
pub(crate) fn is_authority(text: &[u8]) -> bool {
    let (host, port) = split_port(text);
    let host_fits = match host {
        [b'[', address @ .., b']'] => {
            let allowed = |byte: &u8| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.');
            !address.is_empty() && address.iter().all(allowed)
        }
        name => {
            let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
            !name.is_empty() && name.iter().all(allowed)
        }
    };
    let port_fits = port.is_none_or(|port| port.len() <= 5 && port.iter().all(u8::is_ascii_digit));
    host_fits && host.len() <= 255 && port_fits
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_labels_with_dots_between_them() {
        let long = "a".repeat(63);
        for good in ["localhost", "a.b", "_x.Y-z", "1.2.3.4", &long] {
            assert!(is_name(good), "{good}");
        }
        let longer = "a".repeat(64);
        let longest = ["ab"; 85].join(".");
        assert_eq!(longest.len(), LONGEST_NAME + 1);
        for bad in [
            "", ".", "a.", ".a", "a..b", "a b", "é", "*.a", "a:1", &longer, &longest,
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(has_no_outer_hyphen("a-b.c"));
        assert!(!has_no_outer_hyphen("a.-b") && !has_no_outer_hyphen("a-.b"));
    }

    #[test]
    fn an_authority_is_one_host_and_at_most_one_port() {
        for good in [
            "a",
            "a:1",
            "a.b_c-d:65535",
            "[::1]",
            "[::1]:8443",
            "1.2.3.4:",
            "a.",
        ] {
            assert!(is_authority(good.as_bytes()), "{good}");
        }
        for bad in [
            "", ":1", "a:b", "a:1:2", "a:123456", "u@a", "a/b", "a,b", "a b", "[]", "[::1", "::1",
            "[::1]x", "[g]", "[::1]]",
        ] {
            assert!(!is_authority(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn a_port_is_behind_the_host_and_no_part_of_an_address() {
        assert_eq!(split_port(b"a:1"), (&b"a"[..], Some(&b"1"[..])));
        assert_eq!(split_port(b"[::1]:1"), (&b"[::1]"[..], Some(&b"1"[..])));
        assert_eq!(split_port(b"[::1]"), (&b"[::1]"[..], None));
        assert_eq!(split_port(b"[::1"), (&b"[::1"[..], None));
        assert_eq!(bracketed("[::1]"), Some(Ipv6Addr::LOCALHOST));
        for bad in ["::1", "[::1", "[::1%eth0]", "[1.2.3.4]", "[]"] {
            assert_eq!(bracketed(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_cut_lose_a_byte(text in proptest::collection::vec(any::<u8>(), 0..40)) {
            let (host, port) = split_port(&text);
            let whole = host.len() + port.map_or(0, |port| port.len() + 1);
            prop_assert_eq!(whole, text.len());
            let _ = is_authority(&text);
        }
    }
}

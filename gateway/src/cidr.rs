//! A range of addresses whose forwarding headers are believed.

use std::fmt;
use std::net::IpAddr;

/// An address and how many of its leading bits count: `10.0.0.0/8`, `2001:db8::/32`, or one address
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cidr {
    address: IpAddr,
    bits: u8,
}

impl Cidr {
    /// Takes a range in its usual spelling.
    ///
    /// # Errors
    /// A sentence that says what is accepted, and for a range whose last bits are not zero the one
    /// that was meant.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let wrong =
            || "must be a range such as 10.0.0.0/8 or 2001:db8::/32, or one address".to_owned();
        let (address, bits) = text
            .split_once('/')
            .map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = width(address);
        let bits = match bits {
            None => most,
            Some(bits)
                if (1..=3).contains(&bits.len())
                    && bits.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                bits.parse()
                    .ok()
                    .filter(|bits| *bits <= most)
                    .ok_or_else(wrong)?
            }
            Some(_) => return Err(wrong()),
        };
        let start = masked(address, bits);
        if start != address {
            return Err(format!(
                "must be {start}/{bits}: the bits behind the first {bits} are not zero in {address}"
            ));
        }
        Ok(Self { address, bits })
    }

    /// Whether an address is in the range. An IPv4 address that came over an IPv6 socket counts as
    /// the IPv4 address it is.
    #[must_use]
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let range = self.address.to_canonical();
        // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
        let bits = if range.is_ipv4() && self.address.is_ipv6() {
            self.bits.saturating_sub(96)
        } else {
            self.bits
        };
        range.is_ipv4() == address.is_ipv4() && masked(address, bits) == range
    }

    /// Whether it holds every address of its kind.
    #[must_use]
    pub(crate) fn is_everyone(&self) -> bool {
        self.bits == 0
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with all but its first `bits` bits set to zero.
fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let drop = u32::from(width(address).saturating_sub(bits));
    match address {
        IpAddr::V4(address) => {
            IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(drop).unwrap_or(0)).into())
        }
        IpAddr::V6(address) => {
            IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(drop).unwrap_or(0)).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(range: &str, address: &str) -> bool {
        Cidr::parse(range)
            .unwrap()
            .contains(address.parse().unwrap())
    }

    #[test]
    fn holds_what_is_in_the_range() {
        for (range, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.168.1.4", "192.168.1.4", "192.168.1.5"),
            ("192.168.1.4/31", "192.168.1.5", "192.168.1.6"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "2001::1", "1.2.3.4"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "::2"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "11.1.2.3"),
        ] {
            assert!(contains(range, inside), "{range} {inside}");
            assert!(!contains(range, outside), "{range} {outside}");
        }
    }

    #[test]
    fn refuses_what_is_no_range() {
        for text in [
            "",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/8/8",
            "::/129",
            "localhost",
            "10.0.0/8",
            "10.0.0.0/0008",
        ] {
            assert!(Cidr::parse(text).is_err(), "{text}");
        }
        assert!(
            Cidr::parse("10.0.0.1/8")
                .unwrap_err()
                .contains("10.0.0.0/8")
        );
        assert!(
            Cidr::parse("10.0.0.0/8")
                .is_ok_and(|cidr| cidr.to_string() == "10.0.0.0/8" && !cidr.is_everyone())
        );
    }
}

//! The few rules of DER that reading a CRL with 100,000 entries at speed, a certificate's form, or
//! a message of certificates needs: tag, length, value.
//!
//! Certificates are read by x509-parser and judged by webpki; a whole parse of every CRL entry into
//! owned values would cost more than the rest of loading a trust set. Every read is bounded by its
//! input; a length that is not the shortest is refused.

/// A whole number, big-endian.
pub const INTEGER: u8 = 0x02;
pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
/// An object identifier.
pub const OID: u8 = 0x06;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
/// Elements in order.
pub const SEQUENCE: u8 = 0x30;
/// Elements in no order.
pub const SET: u8 = 0x31;
/// What the surrounding element knows as its number 0.
pub const CONTEXT_0: u8 = 0xa0;

/// What is left to read.
#[derive(Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// Whether all has been read.
    #[must_use]
    pub fn at_end(self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next element.
    #[must_use]
    pub(crate) fn next_tag(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next element: its tag and its value.
    pub fn any(&mut self) -> Option<(u8, &'a [u8])> {
        self.element().map(|(tag, value, _)| (tag, value))
    }

    /// The value of the next element, if its tag is `tag`; nothing is consumed otherwise.
    pub fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        if self.next_tag()? == tag {
            self.element().map(|(_, value, _)| value)
        } else {
            None
        }
    }

    /// The value of the next element with tag `tag`, and the element with its header.
    pub fn whole(&mut self, tag: u8) -> Option<(&'a [u8], &'a [u8])> {
        if self.next_tag()? == tag {
            self.element().map(|(_, value, whole)| (value, whole))
        } else {
            None
        }
    }

    /// The next element with its header.
    pub(super) fn any_whole(&mut self) -> Option<(u8, &'a [u8])> {
        self.element().map(|(tag, _, whole)| (tag, whole))
    }

    fn element(&mut self) -> Option<(u8, &'a [u8], &'a [u8])> {
        let all = self.0;
        let (&tag, rest) = all.split_first()?;
        if tag & 0x1f == 0x1f {
            return None; // a tag of several bytes does not occur in a CRL
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                let length = digits
                    .iter()
                    .fold(0_usize, |sum, digit| sum << 8 | usize::from(*digit));
                if digits.first() == Some(&0) || length < 0x80 {
                    return None;
                }
                (length, rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value, &all[..all.len() - rest.len()]))
    }
}

/// A serial number without the zero byte that DER puts before a set top bit, so that both spellings
/// of a number are one.
#[must_use]
pub fn trim_zeros(integer: &[u8]) -> &[u8] {
    let zeros = integer.iter().take_while(|byte| **byte == 0).count();
    &integer[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_short_and_long_lengths_and_refuses_padded_ones() {
        assert_eq!(Reader(&[0x02, 1, 5, 9]).any(), Some((2, &[5_u8][..])));
        let mut long = vec![0x30, 0x81, 0x80];
        long.extend([7; 0x80]);
        assert_eq!(Reader(&long).value(SEQUENCE).map(<[u8]>::len), Some(0x80));
        assert_eq!(Reader(&[0x30, 0x81, 0x01, 7]).any(), None);
        assert_eq!(Reader(&[0x30, 0x82, 0x00, 0x81, 7]).any(), None);
        assert_eq!(Reader(&[0x30, 0x80, 0, 0]).any(), None);
        assert_eq!(Reader(&[0x30, 5, 1]).any(), None);
        assert_eq!(Reader(&[0x02, 1, 5]).value(SEQUENCE), None);
    }

    #[test]
    fn a_number_is_the_same_with_and_without_its_leading_zero() {
        assert_eq!(trim_zeros(&[0, 0x80, 1]), [0x80, 1]);
        assert_eq!(trim_zeros(&[0x7f]), [0x7f]);
        assert!(trim_zeros(&[0]).is_empty());
    }

    proptest! {
        #[test]
        fn never_reads_past_its_input(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut reader = Reader(&bytes);
            while let Some((_, value)) = reader.any() {
                prop_assert!(value.len() < bytes.len());
            }
        }
    }
}

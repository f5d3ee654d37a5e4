//! What a message said of its length, held against what comes.
//!
//! In: `Content-Length`, and the sizes of pieces as they pass. Out: how much of a piece may pass,
//! and whether the body is whole.
//! Invariant: no more passes than was announced, and a body is whole exactly when all that was
//! announced has passed; one that announced nothing is never known to be whole here.

use http::HeaderMap;
use http::header::CONTENT_LENGTH;

use gapura_http::http1::fields::digits;

/// Bytes still to come, if that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Left(Option<u64>);

impl Left {
    /// Of a body whose length nobody knows.
    pub(super) const UNKNOWN: Self = Self(None);

    /// Of no body.
    pub(super) const NONE: Self = Self(Some(0));

    /// As the head says: one length of digits, or none at all.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, &'static str> {
        let mut lengths = headers.get_all(CONTENT_LENGTH).into_iter();
        match (lengths.next(), lengths.next()) {
            (None, _) => Ok(Self::UNKNOWN),
            (Some(length), None) => digits(length.as_bytes())
                .map(|length| Self(Some(length)))
                .ok_or("Content-Length is not a number"),
            (Some(_), Some(_)) => Err("two Content-Length fields"),
        }
    }

    /// How much of a piece of `size` bytes may pass, which it does.
    pub(super) fn pass(&mut self, size: usize) -> usize {
        let Some(left) = &mut self.0 else {
            return size;
        };
        let passing = usize::try_from(*left).map_or(size, |left| left.min(size));
        *left -= passing as u64;
        passing
    }

    /// Whether all that was announced has passed.
    pub(super) fn is_whole(self) -> bool {
        self.0 == Some(0)
    }

    /// Whether an end here would cut the body short.
    pub(super) fn is_short(self) -> bool {
        self.0.is_some_and(|left| left > 0)
    }

    pub(super) fn get(self) -> Option<u64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(lines: &[&'static str]) -> Result<Left, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CONTENT_LENGTH, line.parse().unwrap());
        }
        Left::of(&headers)
    }

    #[test]
    fn one_length_of_digits_or_none() {
        assert_eq!(of(&[]), Ok(Left::UNKNOWN));
        assert_eq!(of(&["12"]), Ok(Left(Some(12))));
        for lines in [
            &["1", "1"][..],
            &[""],
            &["+1"],
            &["1, 1"],
            &["0x1"],
            &["-1"],
        ] {
            assert!(of(lines).is_err(), "{lines:?}");
        }
    }

    proptest! {
        /// However a body is cut, as much of it passes as was announced, and it is whole exactly
        /// then.
        #[test]
        fn as_much_passes_as_was_announced(
            announced in proptest::option::of(0_u64..5000),
            pieces in proptest::collection::vec(0_usize..700, 0..20),
        ) {
            let mut left = Left(announced);
            let (mut came, mut passed) = (0_u64, 0_u64);
            for piece in pieces {
                came += piece as u64;
                let passing = left.pass(piece);
                prop_assert!(passing <= piece);
                passed += passing as u64;
                prop_assert_eq!(passed, announced.map_or(came, |announced| came.min(announced)));
                prop_assert_eq!(left.is_whole(), announced.is_some_and(|announced| came >= announced));
                prop_assert_eq!(left.is_short(), announced.is_some_and(|announced| came < announced));
            }
        }
    }
}

//! Bytes as hexadecimal digits and back: fingerprints, serials, trace ids, percent escapes.
//!
//! The one writer and the one reader of such digits. What they stand for is the caller's to know.

/// The two lower-case digits of a byte.
#[must_use]
pub(crate) fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    [
        DIGITS[usize::from(byte >> 4)],
        DIGITS[usize::from(byte & 15)],
    ]
}

/// Bytes in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| hex_digits(*byte));
    digits.map(char::from).collect()
}

/// What one digit of either case is worth.
#[must_use]
pub fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// Pairs of digits of either case back to bytes; nothing else may be among them.
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    let bytes = pairs
        .iter()
        .map(|[high, low]| Some(hex_value(*high)? << 4 | hex_value(*low)?));
    bytes.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn digits_of_either_case_are_read_and_nothing_else_is() {
        assert_eq!(unhex("0aFf"), Some(vec![10, 255]));
        assert_eq!(unhex(""), Some(vec![]));
        for bad in ["0", "0g", "é0", "+1", "0a:ff", " 1", "0x10"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = hex(&bytes);
            prop_assert!(text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
            prop_assert_eq!(unhex(&text), Some(bytes));
        }
    }
}

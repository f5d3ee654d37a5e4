//! A binary body as EST sends it: base64, with or without line ends (RFC 8951, section 3.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Base64 in lines of 64, which every reader takes.
#[must_use]
pub fn encode(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut lines = String::with_capacity(text.len() + text.len() / 64 + 1);
    let mut rest = text.as_str();
    while let Some((line, more)) = rest.split_at_checked(64) {
        lines.push_str(line);
        lines.push('\n');
        rest = more;
    }
    if !rest.is_empty() {
        lines.push_str(rest);
        lines.push('\n');
    }
    lines
}

/// The bytes behind base64; spaces and line ends count for nothing.
///
/// # Errors
/// A sentence, if it is not base64.
pub fn decode(text: &[u8]) -> Result<Vec<u8>, String> {
    let digits: Vec<u8> = text
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .collect();
    STANDARD.decode(digits).map_err(|_| {
        let hint = match text.trim_ascii_start().starts_with(b"-----BEGIN") {
            true => "; leave the BEGIN and END lines out",
            false => "",
        };
        format!("the body is not base64 (RFC 8951){hint}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn line_ends_count_for_nothing() {
        for text in ["aGVsbG8=", "aGVs\r\nbG8=\r\n", " aGVs\n\tbG8= \n"] {
            assert_eq!(decode(text.as_bytes()).unwrap(), b"hello");
        }
        for bad in ["aGVsbG8", "aGVsbG8==", "a-Vs", "\u{fffd}", "aGVs.bG8="] {
            assert!(decode(bad.as_bytes()).is_err(), "{bad}");
        }
        let pem = b"\n-----BEGIN CERTIFICATE REQUEST-----\naGVsbG8=\n";
        assert!(decode(pem).unwrap_err().contains("BEGIN and END"));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = encode(&bytes);
            prop_assert!(text.lines().all(|line| (1..=64).contains(&line.len())));
            prop_assert_eq!(decode(text.as_bytes()).unwrap(), bytes);
        }
    }
}

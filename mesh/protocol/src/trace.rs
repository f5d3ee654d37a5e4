//! W3C Trace Context, level 1: a valid `traceparent` is continued, else a new one begins.
//!
//! Out: the header for the next hop, with a new parent id of our own, and the trace id for the log.

use http::HeaderValue;

use crate::text::hex_digits;

/// The 32 lower-case hex digits of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

/// A request's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    flags: [u8; 2],
}

impl TraceId {
    /// As a JSON string.
    #[must_use]
    pub fn quoted(&self) -> [u8; 34] {
        let mut quoted = [b'"'; 34];
        quoted[1..33].copy_from_slice(&self.0);
        quoted
    }
}

impl Trace {
    /// Reads version 00, or the known part of a later version (Trace Context, section 3.2).
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let known = value.get(..55)?;
        let version = &known[..2];
        let longer = value.len() > 55;
        let fits = is_hex(version)
            && version != b"ff"
            && (!longer || (version != b"00" && value[55] == b'-'))
            && known[2] == b'-'
            && is_hex(&known[3..35])
            && known[35] == b'-'
            && is_hex(&known[36..52])
            && known[52] == b'-'
            && is_hex(&known[53..]);
        let zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
        if !fits || zero(&known[3..35]) || zero(&known[36..52]) {
            return None;
        }
        let mut id = [0; 32];
        id.copy_from_slice(&known[3..35]);
        Some(Self {
            id: TraceId(id),
            flags: [known[53], known[54]],
        })
    }

    /// A new trace, not sampled by anybody yet.
    #[must_use]
    pub fn begin(random: u128) -> Self {
        let mut id = [0; 32];
        push_hex(&mut id, &(random | 1).to_be_bytes());
        Self {
            id: TraceId(id),
            flags: *b"00",
        }
    }

    /// The header for the next hop, with `parent` naming our own part.
    #[must_use]
    pub fn header(&self, parent: u64) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.id.0);
        push_hex(&mut text[36..52], &(parent | 1).to_be_bytes());
        text[53..].copy_from_slice(&self.flags);
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
    }
}

fn is_hex(digits: &[u8]) -> bool {
    digits
        .iter()
        .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

fn push_hex(text: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&hex_digits(*byte));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_trace_is_continued_with_our_own_parent() {
        let trace = Trace::parse(GOOD.as_bytes()).unwrap();
        assert_eq!(
            trace.header(0xff).to_str().unwrap(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ff-01"
        );
        assert_eq!(&trace.id.quoted(), b"\"4bf92f3577b34da6a3ce929d0e0e4736\"");
        assert!(Trace::parse(format!("01{}-more", &GOOD[2..]).as_bytes()).is_some());
    }

    #[test]
    fn what_is_no_trace_is_not_continued() {
        for bad in [
            String::new(),
            GOOD[..54].to_owned(),
            format!("{GOOD}-more"),
            GOOD.to_uppercase(),
            format!("ff{}", &GOOD[2..]),
            GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            GOOD.replace('-', "_"),
        ] {
            assert!(Trace::parse(bad.as_bytes()).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn a_new_trace_is_a_valid_one() {
        for random in [0, u128::MAX, 1 << 77] {
            let header = Trace::begin(random).header(0);
            assert!(Trace::parse(header.as_bytes()).is_some(), "{header:?}");
        }
    }
}

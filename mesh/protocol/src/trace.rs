//! W3C Trace Context, level 1: a valid `traceparent` is continued, else a new one begins.
//!
//! Out: the header for the next hop, with a new parent id of our own, and the trace id for the log.

use http::HeaderValue;

use crate::text::hex_digits;

/// The 32 lower-case hex digits of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId([u8; 32]);

/// The 16 lower-case hex digits of one part of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanId([u8; 16]);

/// A request's place in its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    parent: Option<SpanId>,
    flags: u8,
}

/// Somebody before us may have recorded this trace.
const SAMPLED: u8 = 0b01;

/// The flags that have a meaning in level 2; others must not be passed on (Trace Context, section
/// 3.2.2.5).
const KNOWN: u8 = 0b11;

impl TraceId {
    /// As a JSON string.
    #[must_use]
    pub fn quoted(&self) -> [u8; 34] {
        let mut quoted = [b'"'; 34];
        quoted[1..33].copy_from_slice(&self.0);
        quoted
    }

    /// Its last 63 bits, which are random whoever made it, as a fraction of 2^63.
    #[must_use]
    pub fn fraction(&self) -> u64 {
        let digits = self.0[16..].iter();
        let low = digits.fold(0, |sum, hex| sum << 4 | u64::from(digit(*hex)));
        low >> 1
    }
}

impl SpanId {
    /// One of these random bits; never the invalid one of zeros.
    #[must_use]
    pub fn new(random: u64) -> Self {
        let mut id = [0; 16];
        push_hex(&mut id, &(random | 1).to_be_bytes());
        Self(id)
    }

    /// As a JSON string.
    #[must_use]
    pub fn quoted(&self) -> [u8; 18] {
        let mut quoted = [b'"'; 18];
        quoted[1..17].copy_from_slice(&self.0);
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
        let (mut id, mut parent) = ([0; 32], [0; 16]);
        id.copy_from_slice(&known[3..35]);
        parent.copy_from_slice(&known[36..52]);
        Some(Self {
            id: TraceId(id),
            parent: Some(SpanId(parent)),
            flags: digit(known[54]) & KNOWN,
        })
    }

    /// A new trace, not sampled by anybody yet.
    #[must_use]
    pub fn begin(random: u128) -> Self {
        let mut id = [0; 32];
        push_hex(&mut id, &(random | 1).to_be_bytes());
        Self {
            id: TraceId(id),
            parent: None,
            flags: 0,
        }
    }

    /// The part that the request came from; none where the trace begins here.
    #[must_use]
    pub fn parent(&self) -> Option<SpanId> {
        self.parent
    }

    /// Whether somebody before us may have recorded it, or we do.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same, recorded by us or not.
    #[must_use]
    pub fn sampled(mut self, sampled: bool) -> Self {
        self.flags = self.flags & !SAMPLED | u8::from(sampled);
        self
    }

    /// The header for the next hop, with `parent` naming our own part.
    #[must_use]
    pub fn header(&self, parent: SpanId) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        text[3..35].copy_from_slice(&self.id.0);
        text[36..52].copy_from_slice(&parent.0);
        text[53..].copy_from_slice(&hex_digits(self.flags));
        let value = HeaderValue::from_bytes(&text);
        let mut value = value.unwrap_or(HeaderValue::from_static(""));
        // As with a request's id: none comes twice, so HTTP/2 need not remember any.
        value.set_sensitive(true);
        value
    }
}

/// What a hex digit of a valid id stands for.
fn digit(hex: u8) -> u8 {
    match hex {
        b'0'..=b'9' => hex - b'0',
        _ => hex.wrapping_sub(b'a' - 10) & 0xf,
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
        let header = trace.header(SpanId::new(0xff));
        assert_eq!(
            header.to_str().unwrap(),
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00000000000000ff-01"
        );
        assert!(header.is_sensitive());
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
            let header = Trace::begin(random).header(SpanId::new(0));
            assert!(Trace::parse(header.as_bytes()).is_some(), "{header:?}");
        }
    }

    #[test]
    fn who_sent_it_and_whether_it_is_sampled_is_known() {
        let trace = Trace::parse(GOOD.as_bytes()).unwrap();
        let parent = trace.parent().unwrap();
        assert_eq!(&parent.quoted(), b"\"00f067aa0ba902b7\"");
        for (flags, sampled, passed_on) in [
            ("00", false, "00"),
            ("01", true, "01"),
            ("02", false, "02"),
            ("03", true, "03"),
            ("fe", false, "02"),
            ("ff", true, "03"),
        ] {
            let trace = Trace::parse(format!("{}{flags}", &GOOD[..53]).as_bytes()).unwrap();
            assert_eq!(trace.is_sampled(), sampled, "{flags}");
            let header = trace.header(parent);
            assert!(header.to_str().unwrap().ends_with(passed_on), "{flags}");
            assert!(trace.sampled(true).is_sampled() && !trace.sampled(false).is_sampled());
        }
        assert_eq!(Trace::begin(7).parent(), None);
    }

    #[test]
    fn the_fraction_of_a_trace_is_that_of_its_last_digits() {
        let of = |last: &str| {
            let text = format!("00-4bf92f3577b34da6{last}-00f067aa0ba902b7-00");
            Trace::parse(text.as_bytes()).unwrap().id.fraction()
        };
        assert_eq!(of("0000000000000001"), 0);
        assert_eq!(of("8000000000000000"), 1 << 62);
        assert_eq!(of("ffffffffffffffff"), u64::MAX >> 1);
        assert_eq!(of("a3ce929d0e0e4736"), 0xa3ce_929d_0e0e_4736 >> 1);
    }
}

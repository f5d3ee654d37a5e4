//! Which of two versions comes first (Semantic Versioning 2.0.0, section 11).
//!
//! In: text, from a plugin's file or from what an instance says of itself. Out: a [`SemVer`] that
//! can be compared, or nothing where the text is none. What stands behind a `+` decides nothing.

use std::cmp::Ordering;
use std::fmt;

/// A version by semantic versioning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SemVer {
    numbers: [u64; 3],
    /// Empty in a release.
    before: Vec<Part>,
    text: Box<str>,
}

/// One part of a pre-release. Numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Number(u64),
    Word(Box<str>),
}

/// Longer ones are no versions.
const LONGEST: usize = 128;

impl SemVer {
    /// Takes `MAJOR.MINOR.PATCH`, then `-PRE.RELEASE` and `+BUILD` where there are any.
    #[must_use]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.len() > LONGEST {
            return None;
        }
        let (rest, build) = match text.split_once('+') {
            Some((rest, build)) => (rest, Some(build)),
            None => (text, None),
        };
        let (numbers, before) = match rest.split_once('-') {
            Some((numbers, before)) => (numbers, Some(before)),
            None => (rest, None),
        };
        if build.is_some_and(|build| !build.split('.').all(is_word)) {
            return None;
        }
        let mut parts = numbers.split('.').map(number);
        let numbers = [parts.next()??, parts.next()??, parts.next()??];
        if parts.next().is_some() {
            return None;
        }
        let before = match before {
            Some(before) => before.split('.').map(part).collect::<Option<Vec<_>>>()?,
            None => Vec::new(),
        };
        Some(Self {
            numbers,
            before,
            text: text.into(),
        })
    }
}

impl PartialOrd for SemVer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.precedence(other))
    }
}

impl SemVer {
    /// Which comes first. Two that differ in their build alone are equal here.
    #[must_use]
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        let numbers = self.numbers.cmp(&other.numbers);
        numbers.then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            // A release comes after all that led to it.
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.before.cmp(&other.before),
        })
    }
}

impl fmt::Display for SemVer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text.len() == 1 || !text.starts_with('0');
    text.parse().ok().filter(|_| digits && plain)
}

fn is_word(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed)
}

fn part(text: &str) -> Option<Part> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(text).map(Part::Number);
    }
    is_word(text).then(|| Part::Word(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn version(text: &str) -> SemVer {
        SemVer::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn they_come_in_the_order_of_the_specification() {
        let order = [
            "0.9.0",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.2.0",
            "1.10.0",
            "2.0.0",
        ];
        for pair in order.windows(2) {
            assert!(version(pair[0]) < version(pair[1]), "{pair:?}");
        }
        let build = |text| version(text).precedence(&version("1.0.0"));
        assert_eq!(build("1.0.0+20130313"), Ordering::Equal);
    }

    #[test]
    fn what_is_none_is_not_guessed_at() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "1.02.3",
            "1.2.3-",
            "1.2.3-01",
            "1.2.3+",
            "1.2.x",
            "1.2.3-a..b",
            "-1.2.3",
            " 1.2.3",
            "1.2.99999999999999999999",
        ] {
            assert_eq!(SemVer::parse(text), None, "{text}");
        }
        assert!(SemVer::parse(&format!("1.2.3-{}", "a".repeat(200))).is_none());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_not_and_shown_as_it_was(text in "[0-9a-z.+-]{0,16}|.{0,16}") {
            if let Some(read) = SemVer::parse(&text) {
                prop_assert_eq!(read.to_string(), text);
                prop_assert_eq!(read.precedence(&read), Ordering::Equal);
            }
        }
    }
}

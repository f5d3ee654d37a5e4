//! The one canonical form of a request's path, used alike for routing, rules, logs and forwarding.
//!
//! In: the path of a request target as it came, without its query. Out: a [`CanonicalPath`],
//! borrowed where the client already sent the canonical form. Unreserved characters are decoded,
//! escapes are in upper case, `//` is merged, everything else stays byte for byte. What two readers
//! could take for two different paths is refused, never repaired: a `.` or `..` segment in any
//! spelling, `;`, an encoded `/`, a `\`, a NUL, escapes that are no UTF-8.
//! Invariant: `CanonicalPath` is made in `parse` and nowhere else, and parsing one again changes
//! nothing.

use std::borrow::Cow;
use std::fmt;

use crate::text::hex_value;

/// A path in its canonical form: ASCII, begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalPath<'a>(Cow<'a, str>);

/// Why a path has no canonical form. Says nothing of the path itself, which came from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// It does not begin with `/`.
    NoLeadingSlash,
    /// A segment is `.` or `..`, plain or encoded, alone, beside blanks, or before a `;`, `?` or
    /// `#`.
    DotSegment,
    /// A `;`: some plugins cut a segment there, others do not.
    Semicolon,
    /// An encoded `/`.
    EncodedSlash,
    /// A `\`, plain or encoded: some plugins read it as `/`.
    Backslash,
    /// `%00`.
    Nul,
    /// A `%` without two hexadecimal digits.
    BrokenEscape,
    /// A raw byte outside ASCII.
    NotAscii,
    /// Escapes that are no UTF-8: an overlong `/` or `.` to some plugins, another character or none
    /// to others.
    NotUtf8,
    /// A raw control character, space, `#` or `?`.
    Character,
}

/// What a raw byte means for the scan of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Plain,
    Slash,
    Dot,
    Escape,
    Refused,
}

/// Looked up once a byte: a comparison chain costs several times as much on the hot path.
const CLASSES: [Class; 256] = classes();

impl<'a> CanonicalPath<'a> {
    /// Brings the path of a request target (no query) into its canonical form.
    ///
    /// Double encoding is left alone: `%252e` is the canonical spelling of the text `%2e`, and
    /// whoever decodes twice has a fault that a proxy cannot guess at.
    ///
    /// # Errors
    /// [`PathError`] for a path that could be read in two ways.
    pub fn parse(raw: &'a [u8]) -> Result<Self, PathError> {
        if raw.first() != Some(&b'/') {
            return Err(PathError::NoLeadingSlash);
        }
        if is_plain(raw) {
            return std::str::from_utf8(raw)
                .map(|text| Self(Cow::Borrowed(text)))
                .map_err(|_| PathError::NotAscii);
        }
        let path = match rewrite(raw)? {
            None => Cow::Borrowed(std::str::from_utf8(raw).map_err(|_| PathError::NotAscii)?),
            Some(bytes) => Cow::Owned(String::from_utf8(bytes).map_err(|_| PathError::NotAscii)?),
        };
        let path = Self(path);
        if path.segments().any(is_dot_segment) {
            Err(PathError::DotSegment)
        } else if !is_utf8(path.as_str()) {
            Err(PathError::NotUtf8)
        } else {
            Ok(path)
        }
    }

    /// The path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it was canonical as it came.
    #[must_use]
    pub fn came_so(&self) -> bool {
        matches!(self.0, Cow::Borrowed(_))
    }

    /// What stands between the slashes; `/` has one empty segment, and so has a trailing slash.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }

    /// The same path, independent of the request it came from.
    #[must_use]
    pub fn into_owned(self) -> CanonicalPath<'static> {
        CanonicalPath(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for CanonicalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathError {
    /// A word for a metric or a log line.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NoLeadingSlash => "no_leading_slash",
            Self::DotSegment => "dot_segment",
            Self::Semicolon => "semicolon",
            Self::EncodedSlash => "encoded_slash",
            Self::Backslash => "backslash",
            Self::Nul => "nul",
            Self::BrokenEscape => "broken_escape",
            Self::NotAscii => "not_ascii",
            Self::NotUtf8 => "not_utf8",
            Self::Character => "character",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoLeadingSlash => "the path does not begin with /",
            Self::DotSegment => "the path has a . or .. segment",
            Self::Semicolon => "the path has a ;",
            Self::EncodedSlash => "the path has an encoded /",
            Self::Backslash => "the path has a \\",
            Self::Nul => "the path has an encoded NUL",
            Self::BrokenEscape => "the path has a % without two hexadecimal digits",
            Self::NotAscii => "the path has a byte outside ASCII",
            Self::NotUtf8 => "the path has escapes that are no UTF-8",
            Self::Character => "the path has a space, #, ? or control character",
        })
    }
}

impl std::error::Error for PathError {}

/// Whether `path` is in canonical form already: what a sidecar asks of a path that a gateway says
/// it has checked.
#[must_use]
pub fn is_canonical(path: &[u8]) -> bool {
    CanonicalPath::parse(path).is_ok_and(|path| path.came_so())
}

/// Whether a path needs no second look: no escape, no empty segment, none that begins with a dot.
/// Most paths are like this.
fn is_plain(raw: &[u8]) -> bool {
    let mut before = Class::Plain;
    for byte in raw {
        let class = CLASSES[usize::from(*byte)];
        match class {
            Class::Plain => {}
            Class::Slash | Class::Dot if before != Class::Slash => {}
            _ => return false,
        }
        before = class;
    }
    true
}

/// The canonical bytes where they differ from `raw`; dot segments are not looked at here.
fn rewrite(raw: &[u8]) -> Result<Option<Vec<u8>>, PathError> {
    let mut changed: Option<Vec<u8>> = None;
    let mut after_slash = false;
    let mut at = 0;
    while let Some(byte) = raw.get(at).copied() {
        let class = CLASSES[usize::from(byte)];
        let was_slash = std::mem::replace(&mut after_slash, class == Class::Slash);
        match class {
            Class::Refused => return Err(refusal(byte)),
            Class::Slash if was_slash => {
                changed.get_or_insert_with(|| raw[..at].to_vec());
                at += 1;
            }
            Class::Plain | Class::Dot | Class::Slash => {
                if let Some(changed) = &mut changed {
                    changed.push(byte);
                }
                at += 1;
            }
            Class::Escape => {
                let (high, low) = (
                    raw.get(at + 1).copied().unwrap_or_default(),
                    raw.get(at + 2).copied().unwrap_or_default(),
                );
                let value = hex_value(high)
                    .zip(hex_value(low))
                    .map(|(high, low)| high << 4 | low)
                    .ok_or(PathError::BrokenEscape)?;
                match value {
                    0 => return Err(PathError::Nul),
                    b'/' => return Err(PathError::EncodedSlash),
                    b'\\' => return Err(PathError::Backslash),
                    _ => {}
                }
                if is_unreserved(value) {
                    changed
                        .get_or_insert_with(|| raw[..at].to_vec())
                        .push(value);
                } else if high.is_ascii_lowercase() || low.is_ascii_lowercase() {
                    let upper = [b'%', high.to_ascii_uppercase(), low.to_ascii_uppercase()];
                    changed
                        .get_or_insert_with(|| raw[..at].to_vec())
                        .extend_from_slice(&upper);
                } else if let Some(changed) = &mut changed {
                    changed.extend_from_slice(&[b'%', high, low]);
                }
                at += 3;
            }
        }
    }
    Ok(changed)
}

/// Where a plugin that decodes too early cuts a segment: an encoded `;`, `?` or `#`.
const CUTS: [&str; 3] = ["%3B", "%3F", "%23"];

/// What a plugin may take off the ends of a segment: a blank, a tab, a line's end.
const BLANKS: [&str; 4] = ["%20", "%09", "%0A", "%0D"];

/// Whether a canonical segment climbs or stands still, by itself or once a plugin has cut and
/// trimmed it.
fn is_dot_segment(segment: &str) -> bool {
    if !matches!(segment.as_bytes().first(), Some(b'.' | b'%')) {
        return false;
    }
    let cut = CUTS.iter().filter_map(|cut| segment.find(cut)).min();
    let mut head = cut.map_or(segment, |at| &segment[..at]);
    while let Some(rest) = BLANKS
        .iter()
        .find_map(|blank| head.strip_prefix(blank).or(head.strip_suffix(blank)))
    {
        head = rest;
    }
    head == "." || head == ".."
}

/// Whether what the escapes of a canonical path stand for is text.
fn is_utf8(path: &str) -> bool {
    // Only an escape from %80 on can be wrong, and a canonical one is in upper case.
    let bytes = path.as_bytes();
    let is_high = |pair: &[u8]| matches!(pair, [b'%', b'8' | b'9' | b'A'..=b'F']);
    if !bytes.windows(2).any(is_high) {
        return true;
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let digits = bytes.get(at + 1..at + 3).filter(|_| *byte == b'%');
        let value = digits.and_then(|pair| match pair {
            [high, low] => Some(hex_value(*high)? << 4 | hex_value(*low)?),
            _ => None,
        });
        decoded.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    std::str::from_utf8(&decoded).is_ok()
}

fn refusal(byte: u8) -> PathError {
    match byte {
        b';' => PathError::Semicolon,
        b'\\' => PathError::Backslash,
        0x80.. => PathError::NotAscii,
        _ => PathError::Character,
    }
}

/// RFC 3986, section 2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

const fn classes() -> [Class; 256] {
    let mut classes = [Class::Refused; 256];
    let mut byte = 0x21_u8;
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'/' => Class::Slash,
            b'.' => Class::Dot,
            b'%' => Class::Escape,
            b';' | b'\\' | b'#' | b'?' => Class::Refused,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(raw: &str) -> Result<String, PathError> {
        CanonicalPath::parse(raw.as_bytes()).map(|path| path.as_str().to_owned())
    }

    #[test]
    fn leaves_a_canonical_path_where_it_is() {
        for path in [
            "/",
            "/a",
            "/a/",
            "/v1/plugins/lab-reporting/reports",
            "/a.b/c..d/..e/...",
            "/.well-known/x",
            "/a%20b/%C3%A9",
            "/a%3Bb",
            "/%3B..",
            "/%25",
            "/%252e%252e/%252f%255C%2500",
            "/a:b@c!d$e&f'g(h)i*j+k,l=m~n_o",
            "/\"<>[]^`{|}",
            "/%0A%7F",
            "/a%3Fb/..c%23/%23..",
            "/%20a%20/%09",
            "/%F0%9F%9A%AA/%EF%BF%BD",
        ] {
            assert_eq!(parsed(path).as_deref(), Ok(path));
            assert!(is_canonical(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn brings_every_spelling_into_one() {
        for (raw, canonical) in [
            ("//", "/"),
            ("///a//b///", "/a/b/"),
            ("/%61pi/%7Eme/%2D%5F", "/api/~me/-_"),
            ("/a%2eb", "/a.b"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a%3bb", "/a%3Bb"),
            ("/a%20b/%61", "/a%20b/a"),
            ("/%25%32%65", "/%252e"),
            ("/a%2a", "/a%2A"),
            ("/.%2e.", "/..."),
        ] {
            assert_eq!(parsed(raw).as_deref(), Ok(canonical), "{raw}");
            assert!(!is_canonical(raw.as_bytes()), "{raw}");
        }
    }

    #[test]
    fn refuses_what_could_be_read_in_two_ways() {
        for (raw, why) in [
            ("", PathError::NoLeadingSlash),
            ("a", PathError::NoLeadingSlash),
            ("*", PathError::NoLeadingSlash),
            ("%2fa", PathError::NoLeadingSlash),
            ("/.", PathError::DotSegment),
            ("/..", PathError::DotSegment),
            ("/a/../b", PathError::DotSegment),
            ("/a/./b", PathError::DotSegment),
            ("/a//../b", PathError::DotSegment),
            ("/a/%2e%2E/b", PathError::DotSegment),
            ("/a/.%2e", PathError::DotSegment),
            ("/a/%2e/b", PathError::DotSegment),
            ("/a/..%3Bx/b", PathError::DotSegment),
            ("/a/%2e%2e%3b", PathError::DotSegment),
            ("/a/.%3b/b", PathError::DotSegment),
            ("/a/..%3F/b", PathError::DotSegment),
            ("/a/..%3fx/b", PathError::DotSegment),
            ("/a/..%23/b", PathError::DotSegment),
            ("/a/%2e%2e%23x", PathError::DotSegment),
            ("/a/.%3F%3B", PathError::DotSegment),
            ("/a/..%20/b", PathError::DotSegment),
            ("/a/%09../b", PathError::DotSegment),
            ("/a/%20.%0D%0A%3Fx", PathError::DotSegment),
            ("/a%ff", PathError::NotUtf8),
            ("/a%80/b", PathError::NotUtf8),
            ("/a%c0%ae%c0%ae/b", PathError::NotUtf8),
            ("/a%c0%af", PathError::NotUtf8),
            ("/caf%e9", PathError::NotUtf8),
            ("/a%ED%A0%80", PathError::NotUtf8),
            ("/a%C3/%A9", PathError::NotUtf8),
            ("/a/..;/b", PathError::Semicolon),
            ("/a;x", PathError::Semicolon),
            ("/a%2fb", PathError::EncodedSlash),
            ("/a%2Fb", PathError::EncodedSlash),
            ("/a\\b", PathError::Backslash),
            ("/a%5cb", PathError::Backslash),
            ("/a%5Cb", PathError::Backslash),
            ("/a%00", PathError::Nul),
            ("/a%", PathError::BrokenEscape),
            ("/a%2", PathError::BrokenEscape),
            ("/a%2/b", PathError::BrokenEscape),
            ("/a%zz", PathError::BrokenEscape),
            ("/a%%32e", PathError::BrokenEscape),
            ("/a%+1", PathError::BrokenEscape),
            ("/é", PathError::NotAscii),
            ("/a b", PathError::Character),
            ("/a\tb", PathError::Character),
            ("/a\0", PathError::Character),
            ("/a\u{7f}", PathError::Character),
            ("/a#b", PathError::Character),
            ("/a?b", PathError::Character),
        ] {
            assert_eq!(parsed(raw), Err(why), "{raw:?}");
            assert!(!is_canonical(raw.as_bytes()), "{raw:?}");
        }
    }

    #[test]
    fn tells_the_segments_apart() {
        let path = CanonicalPath::parse(b"/v1//lab/").unwrap();
        assert_eq!(path.segments().collect::<Vec<_>>(), ["v1", "lab", ""]);
    }

    proptest! {
        #[test]
        fn a_canonical_path_stays_as_it_is(raw in "/([a-e./;%\\\\]|%[0-9a-fA-F]{2}|%2[ef5]|%3[bf]|%2[03]|/\\.\\.|%c3%a9){0,16}") {
            if let Ok(path) = CanonicalPath::parse(raw.as_bytes()) {
                let text = path.as_str();
                prop_assert_eq!(CanonicalPath::parse(text.as_bytes()), Ok(CanonicalPath(Cow::Borrowed(text))));
                prop_assert!(is_canonical(text.as_bytes()));
                for never in ["//", "\\", ";", "%2F", "%2f", "%5C", "%00"] {
                    prop_assert!(!text.contains(never), "{} in {}", never, text);
                }
                prop_assert!(path.segments().all(|segment| segment != "." && segment != ".."));
                for climbs in ["/..%3B", "/..%3F", "/..%23", "/..%20/"] {
                    prop_assert!(!text.contains(climbs), "{} in {}", climbs, text);
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(raw in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(path) = CanonicalPath::parse(&raw) {
                prop_assert!(path.as_str().is_ascii() && path.as_str().starts_with('/'));
            }
        }
    }
}

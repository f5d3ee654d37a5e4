//! The path of a rule: which requests it is about.
//!
//! In: the text of a rule, and later a request's canonical path below the mount, cut into
//! [`Segments`]. Out: whether they fit. A literal compares without regard to case, also where the
//! letters are escaped, since a plugin may compare that way: a rule that denies `/admin` must not
//! be got round by `/ADMIN`. `{company_id}` and `{user_id}` compare exactly, with what the segment
//! says once it is decoded. A slash at the end counts as none.

use std::borrow::Cow;

use gapura_protocol::path::CanonicalPath;

use super::subject::Subject;

/// The path of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathPattern {
    segments: Box<[Part]>,
    /// Whether all below is meant too: a last `**`.
    open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// This text, folded.
    Literal(Box<[u8]>),
    /// Any one segment.
    Any,
    /// The caller's own company.
    Company,
    /// The caller's own user id.
    User,
}

/// How a path fits a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It does.
    Yes,
    /// It does but for `{company_id}` or `{user_id}`, which names another.
    Another,
    /// It does not.
    No,
}

/// How the requests of which only the shape of the path is known fit a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meets {
    /// None does.
    Never,
    /// Some do.
    Sometimes,
    /// All do.
    Always,
    /// All do but for `{company_id}` or `{user_id}`, which name another.
    Another,
}

/// The shape of a path: segments, of which any may stand for another; `None` for one that may be
/// anything.
pub(crate) struct Template<'p>(Vec<Option<Segment<'p>>>);

/// A request's path below its mount, cut once for all rules.
pub(crate) struct Segments<'p>(Vec<Segment<'p>>);

/// One segment of a request's path.
pub(crate) struct Segment<'p> {
    raw: &'p str,
    folded: Cow<'p, [u8]>,
}

/// More segments than this are no rule that a person can read.
const SEGMENTS_MAX: usize = 32;

impl PathPattern {
    /// Takes a rule's path.
    ///
    /// # Errors
    /// A clause that says what is wrong, to stand behind the field's name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err("must begin with /, as the paths below the mount do".to_owned());
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let mut parts = Vec::new();
        let mut open = false;
        for segment in rest.split('/').filter(|_| !rest.is_empty()) {
            if open {
                return Err("may have ** at its end only".to_owned());
            }
            if segment == "**" {
                open = true;
            } else {
                parts.push(part(segment)?);
            }
        }
        if parts.len() > SEGMENTS_MAX {
            return Err(format!("can't have more than {SEGMENTS_MAX} segments"));
        }
        Ok(Self {
            segments: parts.into(),
            open,
        })
    }

    /// Whether a part of it is compared with who calls.
    pub(crate) fn names_the_caller(&self) -> bool {
        self.segments
            .iter()
            .any(|part| matches!(part, Part::Company | Part::User))
    }

    /// Its literals with their places, from the last to the first.
    pub(crate) fn literals(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let numbered = self.segments.iter().enumerate().rev();
        numbered.filter_map(|(at, part)| match part {
            Part::Literal(text) => Some((at, &**text)),
            _ => None,
        })
    }

    /// Whether every path that fits `other` fits it too, or is refused by it because it names
    /// another caller.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.segments, &other.segments);
        let is_long_enough = if self.open {
            theirs.len() >= mine.len()
        } else {
            theirs.len() == mine.len() && !other.open
        };
        is_long_enough
            && mine.iter().zip(theirs).all(|pair| match pair {
                (Part::Literal(mine), Part::Literal(theirs)) => mine == theirs,
                (Part::Literal(_), _) => false,
                (Part::Any | Part::Company | Part::User, _) => true,
            })
    }

    /// Whether it fits every path.
    pub(crate) fn is_everything(&self) -> bool {
        self.open && self.segments.is_empty()
    }

    /// How a request's path fits.
    pub(crate) fn fits(&self, path: &Segments<'_>, subject: Option<&Subject<'_>>) -> Fit {
        let (mine, theirs) = (&self.segments, &path.0);
        if theirs.len() < mine.len() || (theirs.len() > mine.len() && !self.open) {
            return Fit::No;
        }
        let mut fit = Fit::Yes;
        for (part, segment) in mine.iter().zip(theirs) {
            let own = match part {
                Part::Any => continue,
                Part::Literal(text) if **text == *segment.folded => continue,
                Part::Literal(_) => return Fit::No,
                Part::Company => subject.map(|subject| subject.company),
                Part::User => subject.map(|subject| subject.user),
            };
            if own.is_none_or(|own| *decoded(segment.raw) != *own.as_bytes()) {
                fit = Fit::Another;
            }
        }
        fit
    }

    /// How paths of a shape fit.
    pub(crate) fn meets(&self, template: &Template<'_>, subject: Option<&Subject<'_>>) -> Meets {
        let (mine, theirs) = (&self.segments, &template.0);
        if theirs.len() < mine.len() || (theirs.len() > mine.len() && !self.open) {
            return Meets::Never;
        }
        let (mut sometimes, mut partly, mut another) = (false, false, false);
        for (part, segment) in mine.iter().zip(theirs) {
            let (own, segment) = match (part, segment) {
                (Part::Any, _) => continue,
                (Part::Literal(text), Some(segment)) if **text == *segment.folded => continue,
                (Part::Literal(_), Some(_)) => return Meets::Never,
                (Part::Literal(_), None) => {
                    partly = true;
                    continue;
                }
                (_, None) => {
                    sometimes = true;
                    continue;
                }
                (Part::Company, Some(segment)) => (subject.map(|one| one.company), segment),
                (Part::User, Some(segment)) => (subject.map(|one| one.user), segment),
            };
            another |= own.is_none_or(|own| *decoded(segment.raw) != *own.as_bytes());
        }
        match (another, partly) {
            (true, false) => Meets::Another,
            // Some it refuses, the others it is not about: it lets none pass.
            (true, true) => Meets::Never,
            (false, _) if partly || sometimes => Meets::Sometimes,
            (false, _) => Meets::Always,
        }
    }
}

impl<'p> Template<'p> {
    /// Cuts a path with names in braces.
    pub(crate) fn of(path: &'p str) -> Self {
        let Segments(segments) = Segments::of(path);
        let cut = |segment: Segment<'p>| (!segment.raw.contains('{')).then_some(segment);
        Self(segments.into_iter().map(cut).collect())
    }
}

impl<'p> Segments<'p> {
    /// Cuts a canonical path.
    pub(crate) fn of(path: &'p str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut segments = Vec::with_capacity(8);
        if !path.is_empty() {
            segments.extend(path.split('/').map(|raw| Segment {
                raw,
                folded: fold(raw),
            }));
        }
        Self(segments)
    }

    /// Each segment, folded, with its place.
    pub(crate) fn folded(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let numbered = self.0.iter().enumerate();
        numbered.map(|(at, segment)| (at, &*segment.folded))
    }
}

fn part(segment: &str) -> Result<Part, String> {
    if segment.is_empty() {
        return Err("has an empty segment; requests never have one".to_owned());
    }
    if let Some(name) = segment
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
    {
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return match name {
            "company_id" => Ok(Part::Company),
            "user_id" => Ok(Part::User),
            _ if is_name => Ok(Part::Any),
            _ => Err(format!(
                "has {segment}; write {{name}} with a name of letters, digits and _"
            )),
        };
    }
    if segment.contains(['{', '}', '*']) {
        return Err(format!(
            "has {segment}; write a whole segment {{name}} for any one, and a last ** for all below"
        ));
    }
    let whole = format!("/{segment}");
    let canonical = CanonicalPath::parse(whole.as_bytes())
        .map_err(|err| format!("has {segment:?}: {err}; no request for it would be let in"))?;
    if canonical.as_str() != whole {
        let right = canonical.as_str().trim_start_matches('/');
        return Err(format!(
            "has {segment}; requests are compared in canonical form, write {right}"
        ));
    }
    Ok(Part::Literal(fold(segment).into()))
}

/// A segment as literals are compared: decoded, and without regard to case.
fn fold(segment: &str) -> Cow<'_, [u8]> {
    if !segment.contains('%') {
        return if segment.bytes().any(|byte| byte.is_ascii_uppercase()) {
            Cow::Owned(segment.to_ascii_lowercase().into_bytes())
        } else {
            Cow::Borrowed(segment.as_bytes())
        };
    }
    let bytes = decoded(segment);
    // Up and down again: some letters have two capitals or two small forms.
    Cow::Owned(match std::str::from_utf8(&bytes) {
        Ok(text) => text
            .chars()
            .flat_map(char::to_uppercase)
            .flat_map(char::to_lowercase)
            .collect::<String>()
            .into_bytes(),
        Err(_) => bytes.to_ascii_lowercase(),
    })
}

/// What a canonical segment says: its escapes are whole and in upper case.
fn decoded(segment: &str) -> Cow<'_, [u8]> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment.as_bytes());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = (*first == b'%')
            .then(|| after.split_at_checked(2))
            .flatten();
        let byte = escape
            .and_then(|(digits, _)| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        match (byte, escape) {
            (Some(byte), Some((_, after))) => {
                bytes.push(byte);
                rest = after;
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fit(pattern: &str, path: &str) -> Fit {
        let subject = Subject {
            company: "42",
            user: "ann@x",
            roles: "",
            scopes: &[],
            has_actor: false,
        };
        let pattern = PathPattern::parse(pattern).unwrap();
        pattern.fits(&Segments::of(path), Some(&subject))
    }

    #[test]
    fn a_pattern_takes_its_own_segments_and_all_below_only_with_two_stars() {
        for (pattern, path, is_yes) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/**", "/", true),
            ("/**", "/a/b", true),
            ("/reports", "/reports", true),
            ("/reports", "/reports/", true),
            ("/reports/", "/reports", true),
            ("/reports", "/reports/1", false),
            ("/reports", "/report", false),
            ("/reports/**", "/reports", true),
            ("/reports/**", "/reports/1/2", true),
            ("/reports/**", "/reportsx", false),
            ("/reports/{id}", "/reports/1", true),
            ("/reports/{id}", "/reports", false),
            ("/reports/{id}", "/reports/1/2", false),
            ("/reports/{id}/lines/**", "/reports/1/lines/9", true),
        ] {
            assert_eq!(fit(pattern, path) == Fit::Yes, is_yes, "{pattern} {path}");
        }
    }

    #[test]
    fn case_is_no_way_round_a_literal() {
        for path in ["/admin", "/ADMIN", "/aDmIn"] {
            assert_eq!(fit("/Admin", path), Fit::Yes, "{path}");
        }
        // É and é, and the Kelvin sign, which is a k to whoever folds.
        assert_eq!(fit("/caf%C3%A9", "/CAF%C3%89"), Fit::Yes);
        assert_eq!(fit("/key", "/%E2%84%AAey"), Fit::Yes);
        assert_eq!(fit("/caf%C3%A9", "/cafe"), Fit::No);
    }

    #[test]
    fn who_calls_is_compared_exactly_and_decoded() {
        assert_eq!(fit("/c/{company_id}", "/c/42"), Fit::Yes);
        assert_eq!(fit("/c/{company_id}", "/c/43"), Fit::Another);
        assert_eq!(fit("/c/{company_id}", "/d/43"), Fit::No);
        assert_eq!(fit("/c/{company_id}/x", "/c/43/y"), Fit::No);
        assert_eq!(fit("/u/{user_id}", "/u/ann%40x"), Fit::Yes);
        assert_eq!(fit("/u/{user_id}", "/u/ann@x"), Fit::Yes);
        assert_eq!(fit("/u/{user_id}", "/u/ANN@x"), Fit::Another);
        assert_eq!(fit("/u/{user_id}", "/u/ann%2540x"), Fit::Another);
        let pattern = PathPattern::parse("/c/{company_id}").unwrap();
        assert_eq!(pattern.fits(&Segments::of("/c/42"), None), Fit::Another);
    }

    #[test]
    fn what_could_not_mean_what_it_says_is_refused() {
        for (text, says) in [
            ("reports", "must begin with /"),
            ("", "must begin with /"),
            ("/a//b", "an empty segment"),
            ("/**/a", "at its end only"),
            ("/a/*", "a last ** for all below"),
            ("/a*", "a last ** for all below"),
            ("/x{id}", "a whole segment {name}"),
            ("/{}", "letters, digits and _"),
            ("/{a-b}", "letters, digits and _"),
            ("/../a", "no request for it would be let in"),
            ("/a;b", "no request for it would be let in"),
            ("/a?b", "no request for it would be let in"),
            ("/é", "no request for it would be let in"),
            ("/a%2db", "write a-b"),
            ("/caf%c3%a9", "write caf%C3%A9"),
        ] {
            let said = PathPattern::parse(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
        assert!(PathPattern::parse(&"/a".repeat(33)).is_err());
    }

    #[test]
    fn a_pattern_covers_another_that_is_no_wider() {
        let covers = |mine: &str, theirs: &str| {
            let parse = |text| PathPattern::parse(text).unwrap();
            parse(mine).covers(&parse(theirs))
        };
        for (mine, theirs) in [
            ("/a", "/A"),
            ("/a/**", "/a"),
            ("/a/**", "/a/b/**"),
            ("/**", "/"),
            ("/{x}", "/a"),
            ("/{company_id}", "/{y}"),
        ] {
            assert!(covers(mine, theirs), "{mine} {theirs}");
        }
        for (mine, theirs) in [
            ("/a", "/b"),
            ("/a", "/{x}"),
            ("/a", "/a/**"),
            ("/a/b/**", "/a/**"),
            ("/a/{x}", "/a/b/c"),
        ] {
            assert!(!covers(mine, theirs), "{mine} {theirs}");
        }
    }

    proptest! {
        #[test]
        fn no_path_makes_it_panic(pattern in "[/a{}*%0-9é]{0,12}", path in "/[/a%0-9Ff]{0,12}") {
            if let (Ok(pattern), Ok(path)) = (PathPattern::parse(&pattern), CanonicalPath::parse(path.as_bytes())) {
                let _ = pattern.fits(&Segments::of(path.as_str()), None);
            }
        }
    }
}

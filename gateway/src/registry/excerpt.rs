//! The line of a faulty file, for the operator's page to point at the mistake.
//!
//! In: the file's text and a place in it. Out: that line, or as much of it as fits, and where the
//! place is in it. Invariant: no value of `inject_headers` is in it, nor a password of an address.
//! Where a broken line begins and ends cannot be known, so that in a file with injected headers
//! every word is hidden that is none of the registry's own.

use gapura_settings::json::Position;

use super::fields::is_word;

/// A line with a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Excerpt {
    /// The line, or a part of it.
    pub(crate) text: String,
    /// How many characters stand before the place.
    pub(crate) caret: usize,
}

/// What fits on a screen.
const BEFORE: usize = 48;
const AFTER: usize = 72;

/// Stands for each character that is not shown.
const HIDDEN: char = '\u{2022}';

impl Excerpt {
    /// The line of `text` at a place; none where there is no such line.
    pub(super) fn of(text: &[u8], at: Position) -> Option<Self> {
        let text = String::from_utf8_lossy(text);
        let line = text.split('\n').nth(at.line.checked_sub(1)?)?;
        let caret = at.column.checked_sub(1)?;
        let from = caret.saturating_sub(BEFORE);
        // A name may be spelt by escapes.
        let injects = text.contains("inject_headers") || text.contains("\\u");
        let shown = shown(line, injects);
        let part: String = shown
            .chars()
            .skip(from)
            .take(BEFORE + AFTER)
            .map(|one| if one.is_control() { ' ' } else { one })
            .collect();
        Some(Self {
            text: part.trim_end().to_owned(),
            caret: caret - from,
        })
    }
}

/// The line with what must not be seen hidden; as many characters as before.
fn shown(line: &str, injects: bool) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut word = String::new();
    let put = |word: &mut String, shown: &mut String| {
        if word.contains('@') || (injects && !is_plain(word)) {
            shown.extend(word.chars().map(|_| HIDDEN));
        } else {
            shown.push_str(word);
        }
        word.clear();
    };
    for one in line.chars() {
        if one.is_whitespace() || matches!(one, '"' | '{' | '}' | '[' | ']' | ',') {
            put(&mut word, &mut shown);
            shown.push(one);
        } else {
            word.push(one);
        }
    }
    put(&mut word, &mut shown);
    shown
}

/// Whether a word is the registry's own, or says nothing.
fn is_plain(word: &str) -> bool {
    let bare = word.trim_end_matches(':');
    bare.is_empty() || matches!(bare, "true" | "false" | "null") || is_word(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize) -> Position {
        Position { line, column }
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        let text = b"{\n  \"name\": \"lab\",\n\t\"mount\": 7\n}";
        let excerpt = Excerpt::of(text, at(3, 11)).unwrap();
        assert_eq!(
            (excerpt.text.as_str(), excerpt.caret),
            (" \"mount\": 7", 10)
        );
        assert_eq!(excerpt.text.chars().nth(10), Some('7'));
        assert_eq!(Excerpt::of(text, at(9, 1)), None);
        assert_eq!(Excerpt::of(b"", at(1, 1)).unwrap().text, "");
    }

    #[test]
    fn of_a_long_line_a_part_is_shown() {
        let text = format!("{}x{}", "a".repeat(5000), "b".repeat(5000));
        let excerpt = Excerpt::of(text.as_bytes(), at(1, 5001)).unwrap();
        assert_eq!(excerpt.text.chars().nth(excerpt.caret), Some('x'));
        assert_eq!(excerpt.text.chars().count(), BEFORE + AFTER);
    }

    #[test]
    fn neither_an_injected_value_nor_a_password_is_shown_whatever_is_broken() {
        for text in [
            r#"{"inject_headers": {"X-Plugin-Key": "hush-hush"}, "mount": 7}"#,
            r#"{"inject_headers": {"X-Plugin-Key": "hush-hush}, "mount": 7}"#,
            r#"{"inject_headers": {"X-Plugin-Key: hush-hush", "mount": 7}"#,
            r#"{"inj\u0065ct_headers": {"X-Plugin-Key": "hush-hush"}, "mount": 7}"#,
            r#"{"upstream": "https://lab:hush-hush@lab:1", "mount": 7}"#,
        ] {
            let excerpt = Excerpt::of(text.as_bytes(), at(1, 20)).unwrap();
            assert!(!excerpt.text.contains("hush"), "{}", excerpt.text);
            assert!(excerpt.text.contains("\"mount\""), "{}", excerpt.text);
        }
        let text = br#"{"name": "lab", "mount": 7}"#;
        assert!(
            Excerpt::of(text, at(1, 2))
                .unwrap()
                .text
                .contains("\"lab\"")
        );
    }
}

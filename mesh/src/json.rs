//! JSON that a person wrote, read so that every mistake can be shown where it stands.
//!
//! In: the bytes of a file. Out: a tree whose every value knows its line and column, and [`Fault`]s for what is not JSON or is
//! named twice. serde's derived readers stop at the first mistake, point behind a wrong value, and cannot place a fault of
//! meaning (`"mount"` taken by another file) at all; so settings are read from this tree through [`Fields`], which lists
//! everything that is wrong at once. Whether a text is JSON is for serde_json to say; the scan here follows only after that.

mod fields;
mod scan;

use std::fmt;

use serde_json::Number;

pub use fields::Fields;

/// Where something stands in a text, both counted from 1; columns count characters, as editors do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The character within the line.
    pub column: usize,
}

/// One mistake: where, what, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands.
    pub position: Position,
    /// What is wrong, in lower case and without a full stop.
    pub message: String,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its first character.
    pub position: Position,
    /// What it is.
    pub value: Value,
}

/// The six kinds of JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// An object, in the order of the file.
    Object(Vec<Member>),
}

/// One name of an object with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The name.
    pub name: String,
    /// Where the name begins.
    pub position: Position,
    /// The value.
    pub value: Node,
}

/// Reads a whole file. A text that is not JSON gives one fault and no tree; a name that stands twice in one object gives a fault
/// each, and the tree keeps the first.
#[must_use]
pub fn parse(bytes: &[u8], faults: &mut Vec<Fault>) -> Option<Node> {
    match checked(bytes) {
        Ok(text) => scan::scan(text, faults),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// The valid name that `name` was most likely meant to be; `None` only where nothing is valid. Case and the choice between `-`,
/// `_` and none do not count as a difference.
#[must_use]
pub fn nearest<'k>(name: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = fold(name);
    known
        .into_iter()
        .min_by_key(|known| distance(&folded, &fold(known)))
}

impl Position {
    /// The first character of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.position, self.message)
    }
}

impl Node {
    /// The kind of the value, as a person would say it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "null",
            Value::Bool(true) => "true",
            Value::Bool(false) => "false",
            Value::Number(_) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Object(_) => "an object",
        }
    }

    /// The text of a string.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        if let Value::Text(text) = &self.value {
            Some(text)
        } else {
            None
        }
    }

    /// The value at a JSON pointer (RFC 6901) below this one.
    #[must_use]
    pub fn find(&self, pointer: &str) -> Option<&Self> {
        let mut node = self;
        for step in pointer.split('/').skip(1) {
            let step = step.replace("~1", "/").replace("~0", "~");
            node = match &node.value {
                Value::Object(members) => &members.iter().find(|member| member.name == step)?.value,
                Value::List(nodes) => nodes.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(node)
    }
}

/// The text of a file, once it is known to be JSON.
fn checked(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes).map_err(|err| {
        let good = bytes
            .get(..err.valid_up_to())
            .and_then(|good| std::str::from_utf8(good).ok())
            .unwrap_or_default();
        let position = Position {
            line: good.matches('\n').count() + 1,
            column: last_line(good).chars().count() + 1,
        };
        Fault {
            position,
            message: "not UTF-8; save the file in that encoding".to_owned(),
        }
    })?;
    if text.starts_with('\u{feff}') {
        let message =
            "begins with a byte order mark; save the file as UTF-8 without one".to_owned();
        return Err(Fault {
            position: Position::START,
            message,
        });
    }
    if text.trim_ascii().is_empty() {
        return Err(Fault {
            position: Position::START,
            message: "the file is empty; expected a JSON object".to_owned(),
        });
    }
    // Into a whole value rather than `IgnoredAny`: only this checks every escape and number, and how deep the text is nested.
    serde_json::from_str::<serde_json::Value>(text)
        .map(|_| text)
        .map_err(|err| syntax_fault(text, &err))
}

/// serde_json counts columns in bytes, and says 0 for an end of line.
fn syntax_fault(text: &str, err: &serde_json::Error) -> Fault {
    let line = text
        .split('\n')
        .nth(err.line().saturating_sub(1))
        .unwrap_or_default();
    let before = line
        .bytes()
        .take(err.column().saturating_sub(1))
        .filter(|byte| byte & 0xc0 != 0x80)
        .count();
    let whole = err.to_string();
    let message = whole
        .split_once(" at line ")
        .map_or(whole.as_str(), |(message, _)| message)
        .to_owned();
    Fault {
        position: Position {
            line: err.line().max(1),
            column: before + 1,
        },
        message: format!("not JSON: {message}"),
    }
}

fn last_line(text: &str) -> &str {
    text.rsplit('\n').next().unwrap_or_default()
}

fn fold(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '-' | '_'))
        .take(64)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

/// How many single letters must be put in, taken out or changed to make one name of the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (to, above) in b.iter().zip(row.iter_mut().skip(1)) {
            let changed = diagonal + usize::from(from != to);
            diagonal = *above;
            left = changed.min(*above + 1).min(left + 1);
            *above = left;
        }
    }
    // The first entry of the row stands for an empty `b` and is not kept up to date.
    if b.is_empty() {
        a.len()
    } else {
        row.last().copied().unwrap_or(a.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> String {
        let mut faults = Vec::new();
        assert!(parse(bytes, &mut faults).is_none());
        assert_eq!(faults.len(), 1);
        faults[0].to_string()
    }

    #[test]
    fn says_where_a_text_stops_being_json() {
        assert_eq!(fault(b""), "1:1: the file is empty; expected a JSON object");
        assert_eq!(
            fault(b" \n "),
            "1:1: the file is empty; expected a JSON object"
        );
        assert_eq!(fault(b"{\n  \"a\": 1,\n}"), "3:1: not JSON: trailing comma");
        assert_eq!(
            fault("{\"é\": nope}".as_bytes()),
            "1:8: not JSON: expected ident"
        );
        assert_eq!(
            fault(b"{\"a\": \xff}"),
            "1:7: not UTF-8; save the file in that encoding"
        );
        assert_eq!(
            fault("\u{feff}{}".as_bytes()),
            "1:1: begins with a byte order mark; save the file as UTF-8 without one"
        );
        assert_eq!(fault(b"{} {}"), "1:4: not JSON: trailing characters");
        assert!(fault(b"{\n").contains("not JSON: EOF while parsing an object"));
        assert!(fault(b"{\"a\": \"\\ud800\"}").contains("not JSON"));
        assert!(fault(b"{\"a\": 1e999}").contains("not JSON: number out of range"));
        assert!(fault("[".repeat(100_000).as_bytes()).contains("recursion limit"));
    }

    #[test]
    fn names_the_nearest() {
        let known = ["name", "mount", "upstream", "timeout_ms", "forward_headers"];
        for (wrong, right) in [
            ("nmae", "name"),
            ("upstreams", "upstream"),
            ("timeoutMs", "timeout_ms"),
            ("timeout", "timeout_ms"),
            ("Forward-Headers", "forward_headers"),
            ("", "name"),
        ] {
            assert_eq!(nearest(wrong, known), Some(right), "{wrong}");
        }
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn counts_the_letters_between_two_names() {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        for (a, b, far) in [
            ("", "", 0),
            ("a", "", 1),
            ("", "ab", 2),
            ("kitten", "sitting", 3),
            ("flaw", "lawn", 2),
            ("same", "same", 0),
        ] {
            assert_eq!(distance(&letters(a), &letters(b)), far, "{a} {b}");
            assert_eq!(distance(&letters(b), &letters(a)), far, "{b} {a}");
        }
    }

    #[test]
    fn finds_by_pointer() {
        let node = parse(b"{\"a\": [1, {\"b/c\": 2}]}", &mut Vec::new()).unwrap();
        assert_eq!(
            node.find("/a/1/b~1c").unwrap().position,
            Position {
                line: 1,
                column: 19
            }
        );
        assert_eq!(node.find("").unwrap().position, Position::START);
        assert!(node.find("/a/2").is_none() && node.find("/b").is_none());
    }
}

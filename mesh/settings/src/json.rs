//! JSON that a person wrote, read so that every mistake can be shown where it stands.
//!
//! In: the bytes of a file. Out: a tree whose every value knows its line and column, and
//! [`JsonFault`]s for what is not JSON or is named twice. serde's derived readers stop at the first
//! mistake, point behind a wrong value, and cannot place a fault of meaning (`"mount"` taken by
//! another file) at all; so settings are read from this tree through [`Fields`], which lists
//! everything that is wrong at once. Whether a text is JSON is for serde_json to say; the scan here
//! follows only after that.

mod fields;
mod nearest;
mod node;
mod scan;

pub use fields::Fields;
pub use nearest::nearest;
pub use node::{JsonFault, Member, Node, Position, Value};

/// Reads a whole file. A text that is not JSON gives one fault and no tree; a name that stands
/// twice in one object gives a fault each, and the tree keeps the first.
#[must_use]
pub fn parse(bytes: &[u8], faults: &mut Vec<JsonFault>) -> Option<Node> {
    match checked(bytes) {
        Ok(text) => scan::scan(text, faults),
        Err(fault) => {
            faults.push(fault);
            None
        }
    }
}

/// The text of a file, once it is known to be JSON.
fn checked(bytes: &[u8]) -> Result<&str, JsonFault> {
    let text = std::str::from_utf8(bytes).map_err(|err| {
        let good = bytes
            .get(..err.valid_up_to())
            .and_then(|good| std::str::from_utf8(good).ok())
            .unwrap_or_default();
        let position = Position {
            line: good.matches('\n').count() + 1,
            column: last_line(good).chars().count() + 1,
        };
        JsonFault {
            position,
            message: "not UTF-8; save the file in that encoding".to_owned(),
        }
    })?;
    if text.starts_with('\u{feff}') {
        let message =
            "begins with a byte order mark; save the file as UTF-8 without one".to_owned();
        return Err(JsonFault {
            position: Position::START,
            message,
        });
    }
    if text.trim_ascii().is_empty() {
        return Err(JsonFault {
            position: Position::START,
            message: "the file is empty; expected a JSON object".to_owned(),
        });
    }
    // Into a whole value rather than `IgnoredAny`: only this checks every escape and number, and
    // how deep the text is nested.
    serde_json::from_str::<serde_json::Value>(text)
        .map(|_| text)
        .map_err(|err| syntax_fault(text, &err))
}

/// serde_json counts columns in bytes, and says 0 for an end of line.
fn syntax_fault(text: &str, err: &serde_json::Error) -> JsonFault {
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
    JsonFault {
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

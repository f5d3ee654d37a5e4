//! Turns a text that is known to be JSON into a tree with positions.
//!
//! It leans on that knowledge: braces match, nesting is at most serde_json's 128, line feeds stand
//! between values only. Were it ever wrong, a fault is the answer, not a panic.

use serde_json::Number;

use super::node::{JsonFault, Member, Node, Position, Value};

struct Scan<'t, 'f> {
    text: &'t str,
    at: usize,
    /// What `position` has counted so far, so that one long line costs one count in all.
    counted: usize,
    position: Position,
    faults: &'f mut Vec<JsonFault>,
}

pub(super) fn scan(text: &str, faults: &mut Vec<JsonFault>) -> Option<Node> {
    let mut scan = Scan {
        text,
        at: 0,
        counted: 0,
        position: Position::START,
        faults,
    };
    let node = scan.value();
    if node.is_none() {
        let position = scan.position();
        scan.faults.push(JsonFault {
            position,
            message: "not JSON".to_owned(),
        });
    }
    node
}

impl<'t> Scan<'t, '_> {
    fn value(&mut self) -> Option<Node> {
        self.space();
        let position = self.position();
        let value = match self.peek()? {
            b'{' => Value::Object(self.object()?),
            b'[' => Value::List(self.list()?),
            b'"' => Value::Text(self.string()?),
            _ => match self.word() {
                "null" => Value::Null,
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                number => Value::Number(serde_json::from_str::<Number>(number).ok()?),
            },
        };
        Some(Node { position, value })
    }

    fn object(&mut self) -> Option<Vec<Member>> {
        let mut members: Vec<Member> = Vec::new();
        let mut names = std::collections::HashMap::new();
        self.at += 1;
        loop {
            self.space();
            match self.peek()? {
                b'}' => break,
                b',' => self.at += 1,
                _ => {
                    let position = self.position();
                    let name = self.string()?;
                    self.space();
                    if self.peek()? != b':' {
                        return None;
                    }
                    self.at += 1;
                    let value = self.value()?;
                    if let Some(first) = names.get(&name) {
                        self.faults.push(JsonFault {
                            position,
                            message: format!("{name:?} is named twice, first at {first}; keep one"),
                        });
                    } else {
                        names.insert(name.clone(), position);
                        members.push(Member {
                            name,
                            position,
                            value,
                        });
                    }
                }
            }
        }
        self.at += 1;
        Some(members)
    }

    fn list(&mut self) -> Option<Vec<Node>> {
        let mut nodes = Vec::new();
        self.at += 1;
        loop {
            self.space();
            match self.peek()? {
                b']' => break,
                b',' => self.at += 1,
                _ => nodes.push(self.value()?),
            }
        }
        self.at += 1;
        Some(nodes)
    }

    fn string(&mut self) -> Option<String> {
        let from = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            match self.peek()? {
                b'\\' => self.at += 2,
                b'"' => break,
                _ => self.at += 1,
            }
        }
        self.at += 1;
        serde_json::from_str(self.text.get(from..self.at)?).ok()
    }

    /// A number or one of the three words.
    fn word(&mut self) -> &'t str {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let end = rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
            .unwrap_or(rest.len());
        self.at += end;
        rest.get(..end).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn position(&mut self) -> Position {
        for c in self
            .text
            .get(self.counted..self.at)
            .unwrap_or_default()
            .chars()
        {
            if c == '\n' {
                self.position = Position {
                    line: self.position.line + 1,
                    column: 1,
                };
            } else {
                self.position.column += 1;
            }
        }
        self.counted = self.at;
        self.position
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;
    use proptest::prelude::*;

    /// The tree without its positions.
    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(is) => (*is).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(nodes) => nodes.iter().map(plain).collect::<Vec<_>>().into(),
            Value::Object(members) => members
                .iter()
                .map(|member| (member.name.clone(), plain(&member.value)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        }
    }

    #[test]
    fn every_value_knows_where_it_begins() {
        let text = "{\n  \"é\": [true, null,\r\n\t-1.5e3],\n  \"x\\\"\": {\"y\": \"}\"}\n}";
        let mut faults = Vec::new();
        let node = parse(text.as_bytes(), &mut faults).unwrap();
        assert!(faults.is_empty());
        let at = |pointer: &str| node.find(pointer).unwrap().position.to_string();
        assert_eq!(
            [
                at(""),
                at("/é"),
                at("/é/0"),
                at("/é/1"),
                at("/é/2"),
                at("/x\""),
                at("/x\"/y")
            ],
            ["1:1", "2:8", "2:9", "2:15", "3:2", "4:10", "4:16"]
        );
    }

    #[test]
    fn a_name_that_stands_twice_is_a_fault_and_the_first_is_kept() {
        let mut faults = Vec::new();
        let node = parse(
            b"{\"a\": 1,\n \"b\": {\"c\": 1, \"\\u0063\": 2}, \"a\": 3}",
            &mut faults,
        )
        .unwrap();
        let said: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "2:16: \"c\" is named twice, first at 2:8; keep one",
                "2:30: \"a\" is named twice, first at 1:2; keep one"
            ]
        );
        assert_eq!(node.find("/a").unwrap().value, Value::Number(1.into()));
    }

    #[test]
    fn one_long_line_is_read_in_one_go() {
        let text = format!("[{}1]", "\"é\",".repeat(200_000));
        let node = parse(text.as_bytes(), &mut Vec::new()).unwrap();
        assert_eq!(node.find("/200000").unwrap().position.column, 800_002);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::hash_map(".{0,6}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(value in json(), pretty in any::<bool>()) {
            let text = if pretty { format!("{value:#}") } else { value.to_string() };
            // Through serde_json and not `value` itself: reading a float back may differ from it in
            // the last digit.
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            let mut faults = Vec::new();
            let node = parse(text.as_bytes(), &mut faults);
            prop_assert_eq!(node.as_ref().map(plain), Some(expected));
            prop_assert!(faults.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..64),
            "[\\[\\]{}:,\"\\\\u0-9a-f.eE+ \n-]{0,40}".prop_map(String::into_bytes),
        ]) {
            let mut faults = Vec::new();
            let node = parse(&bytes, &mut faults);
            prop_assert_eq!(node.is_some(), serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
    }
}

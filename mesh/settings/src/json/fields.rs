//! Reads the fields of one object by name and type, and notes everything that does not fit.
//!
//! In: an object of the tree and the names it may have. Out: each field's value, or nothing and a
//! [`JsonFault`] that names the field by its whole way from the top, what was found and what was
//! wanted. A name nobody knows is a fault with the nearest valid one.

use std::fmt::Display;
use std::ops::RangeInclusive;

use super::nearest::nearest;
use super::node::{JsonFault, Member, Node, Position, Value};

/// The fields of one object.
pub struct Fields<'n, 'f> {
    node: &'n Node,
    members: &'n [Member],
    /// `health.` for the fields of `health`, empty at the top.
    prefix: String,
    faults: &'f mut Vec<JsonFault>,
}

impl<'n, 'f> Fields<'n, 'f> {
    /// Opens the object that stands in the field `at` (empty at the top); `None` with a fault if it
    /// is not an object.
    pub fn open(
        node: &'n Node,
        at: &str,
        known: &[&str],
        faults: &'f mut Vec<JsonFault>,
    ) -> Option<Self> {
        Self::open_but(node, at, known, &[], faults)
    }

    /// The same for an object that may have further names which the caller refuses by itself, and
    /// which are therefore never proposed as the nearest valid one.
    pub fn open_but(
        node: &'n Node,
        at: &str,
        known: &[&str],
        refused: &[&str],
        faults: &'f mut Vec<JsonFault>,
    ) -> Option<Self> {
        let Value::Object(members) = &node.value else {
            let what = if at.is_empty() {
                "expected".to_owned()
            } else {
                format!("\"{at}\" must be")
            };
            faults.push(JsonFault {
                position: node.position,
                message: format!("{what} an object, found {}", node.kind()),
            });
            return None;
        };
        let prefix = if at.is_empty() {
            String::new()
        } else {
            format!("{at}.")
        };
        let is_unknown =
            |member: &&Member| ![known, refused].concat().contains(&member.name.as_str());
        for member in members.iter().filter(is_unknown) {
            let name = shortened(&member.name);
            let hint = nearest(&member.name, known.iter().copied())
                .map(|known| format!("; the nearest valid name is \"{prefix}{known}\""));
            let message = format!(
                "unknown field \"{prefix}{name}\"{}",
                hint.unwrap_or_default()
            );
            faults.push(JsonFault {
                position: member.position,
                message,
            });
        }
        Some(Self {
            node,
            members,
            prefix,
            faults,
        })
    }

    /// The field's value, whatever it is.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&'n Node> {
        self.member(name).map(|member| &member.value)
    }

    /// Where the field's value begins, or the object where it has none.
    #[must_use]
    pub fn position(&self, name: &str) -> Position {
        self.node(name).unwrap_or(self.node).position
    }

    /// Where the field's name begins, or the object where it has none.
    #[must_use]
    pub fn name_position(&self, name: &str) -> Position {
        self.member(name)
            .map_or(self.node.position, |member| member.position)
    }

    /// Notes what is wrong with the value of a field.
    pub fn fault(&mut self, name: &str, message: impl Display) {
        let position = self.position(name);
        self.fault_at(position, name, message);
    }

    /// Notes what is wrong with a part of a field's value.
    pub fn fault_at(&mut self, position: Position, name: &str, message: impl Display) {
        self.faults.push(JsonFault {
            position,
            message: format!("\"{}{name}\" {message}", self.prefix),
        });
    }

    /// The list of faults, for a reader of something inside a field.
    pub fn faults(&mut self) -> &mut Vec<JsonFault> {
        self.faults
    }

    /// Notes that the field is missing, unless it is there.
    pub fn require(&mut self, name: &str) -> bool {
        let there = self.member(name).is_some();
        if !there {
            let message = format!("the field \"{}{name}\" is missing", self.prefix);
            self.faults.push(JsonFault {
                position: self.node.position,
                message,
            });
        }
        there
    }

    /// Notes each of `names` that is there, with what is to be said of it.
    pub fn refuse(&mut self, names: &[&str], message: &str) {
        for member in self
            .members
            .iter()
            .filter(|member| names.contains(&member.name.as_str()))
        {
            self.fault_at(member.position, &member.name, message);
        }
    }

    /// A string.
    pub fn text(&mut self, name: &str) -> Option<&'n str> {
        let node = self.node(name)?;
        node.text()
            .or_else(|| self.wrong_kind(name, node, "a string"))
    }

    /// `true` or `false`.
    pub fn flag(&mut self, name: &str) -> Option<bool> {
        let node = self.node(name)?;
        if let Value::Bool(flag) = node.value {
            Some(flag)
        } else {
            self.wrong_kind(name, node, "true or false")
        }
    }

    /// A whole number within bounds.
    pub fn whole(&mut self, name: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let node = self.node(name)?;
        let number = if let Value::Number(number) = &node.value {
            number.as_u64()
        } else {
            None
        };
        let wanted = match (*bounds.start(), *bounds.end()) {
            (least, u64::MAX) => format!("a whole number from {least}"),
            (least, most) => format!("a whole number from {least} to {most}"),
        };
        match (number, &node.value) {
            (Some(number), _) if bounds.contains(&number) => Some(number),
            (_, Value::Number(found)) => self.wrong(name, node, &wanted, &found.to_string()),
            _ => self.wrong(name, node, &wanted, node.kind()),
        }
    }

    /// A list.
    pub fn list(&mut self, name: &str) -> Option<&'n [Node]> {
        let node = self.node(name)?;
        if let Value::List(nodes) = &node.value {
            Some(nodes)
        } else {
            self.wrong_kind(name, node, "a list")
        }
    }

    /// A list of strings, each with its place; those that are not strings become faults and are
    /// left out.
    pub fn texts(&mut self, name: &str) -> Vec<(&'n str, Position)> {
        let mut texts = Vec::new();
        for node in self.list(name).unwrap_or_default() {
            match node.text() {
                Some(text) => texts.push((text, node.position)),
                None => self.fault_at(
                    node.position,
                    name,
                    format_args!("must be a list of strings, found {}", node.kind()),
                ),
            }
        }
        texts
    }

    /// The members of an object.
    pub fn object(&mut self, name: &str) -> Option<&'n [Member]> {
        let node = self.node(name)?;
        if let Value::Object(members) = &node.value {
            Some(members)
        } else {
            self.wrong_kind(name, node, "an object")
        }
    }

    /// Notes that a value is of the wrong kind.
    pub fn wrong_kind<T>(&mut self, name: &str, node: &Node, wanted: &str) -> Option<T> {
        self.wrong(name, node, wanted, node.kind())
    }

    fn wrong<T>(&mut self, name: &str, node: &Node, wanted: &str, found: &str) -> Option<T> {
        self.fault_at(
            node.position,
            name,
            format_args!("must be {wanted}, found {found}"),
        );
        None
    }

    fn member(&self, name: &str) -> Option<&'n Member> {
        self.members.iter().find(|member| member.name == name)
    }
}

/// A name from a file, fit for a sentence: no control characters, not endless.
fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(64).flat_map(char::escape_debug).collect();
    if name.chars().nth(64).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    fn faults_of(text: &str, read: impl FnOnce(&mut Fields<'_, '_>)) -> Vec<String> {
        let mut faults = Vec::new();
        let node = parse(text.as_bytes(), &mut faults).unwrap();
        if let Some(mut fields) =
            Fields::open(&node, "", &["name", "port", "on", "list"], &mut faults)
        {
            read(&mut fields);
        }
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn reads_what_fits() {
        let faults = faults_of(
            "{\"name\": \"a\", \"port\": 80, \"on\": true, \"list\": [\"x\"]}",
            |fields| {
                assert_eq!(fields.text("name"), Some("a"));
                assert_eq!(fields.whole("port", 1..=80), Some(80));
                assert_eq!(fields.flag("on"), Some(true));
                assert_eq!(
                    fields.texts("list"),
                    [(
                        "x",
                        Position {
                            line: 1,
                            column: 48
                        }
                    )]
                );
                assert!(fields.require("name"));
            },
        );
        assert!(faults.is_empty(), "{faults:?}");
    }

    #[test]
    fn notes_everything_that_does_not() {
        let faults = faults_of(
            "{\n\"nmae\": 1,\n\"port\": 81.0, \"on\": \"yes\", \"list\": [1]}",
            |fields| {
                assert_eq!(fields.text("name"), None);
                assert_eq!(fields.whole("port", 1..=80), None);
                assert_eq!(fields.flag("on"), None);
                assert!(fields.texts("list").is_empty());
                assert!(!fields.require("name"));
            },
        );
        assert_eq!(
            faults,
            [
                "2:1: unknown field \"nmae\"; the nearest valid name is \"name\"",
                "3:9: \"port\" must be a whole number from 1 to 80, found 81.0",
                "3:21: \"on\" must be true or false, found a string",
                "3:37: \"list\" must be a list of strings, found a number",
                "1:1: the field \"name\" is missing",
            ]
        );
        assert_eq!(
            faults_of("[]", |_| panic!("not an object")),
            ["1:1: expected an object, found a list"]
        );
    }

    #[test]
    fn a_name_from_a_file_cannot_break_a_line() {
        let faults = faults_of(&format!("{{\"a\\n{}\": 1}}", "x".repeat(100)), |_| {});
        assert!(
            faults[0].starts_with("1:2: unknown field \"a\\nx")
                && faults[0].contains('…')
                && !faults[0].contains('\n')
        );
    }
}

//! What a command has to say: the same facts as a JSON object and as text for people.

use std::fmt::Write;

use gapura_pki::unknown::Adopted;
use gapura_pki::{Error, Outcome, Republished};
use serde_json::{Value, json};

/// One command's outcome.
pub(crate) struct Report {
    /// The facts; an object.
    pub(crate) json: Value,
    /// The same for people, ending in a newline.
    pub(crate) text: String,
    /// The exit code.
    pub(crate) exit: u8,
}

impl Report {
    /// A success.
    pub(crate) fn done(json: Value, text: String) -> Self {
        Self {
            json,
            text,
            exit: 0,
        }
    }

    /// Adds what our own CA signed and the inventory did not know. A warning (3) where no restored
    /// backup accounts for it: then another copy of the CA is at work.
    pub(crate) fn add_adopted(&mut self, all: &[Adopted]) {
        for met in all {
            let sort = if met.expected {
                "adopted  "
            } else {
                "WARNING  "
            };
            line(
                &mut self.text,
                format_args!(
                    "  {sort}  a {} that the inventory did not know, met in {}: {}",
                    met.what,
                    met.found_in.display(),
                    met.which
                ),
            );
        }
        let strange = all.iter().any(|met| !met.expected);
        if strange {
            line(
                &mut self.text,
                format_args!(
                    "  WARNING    taken in; but no backup was restored since, so another copy of this CA is at work, or an older state was put back by hand: keep one, and run `gapura-pki check`"
                ),
            );
        }
        if strange && self.exit == 0 {
            self.exit = 3;
        }
        if let Some(object) = self.json.as_object_mut() {
            object.insert("adopted".to_owned(), json!(all));
        }
    }

    /// One line of JSON: the facts, the command and the exit code.
    pub(crate) fn to_json(&self, command: &str) -> Value {
        let mut whole = self.json.clone();
        if let Some(object) = whole.as_object_mut() {
            object.insert("command".to_owned(), command.into());
            object.insert("exit".to_owned(), self.exit.into());
        }
        whole
    }
}

/// A failure as JSON.
pub(crate) fn error_to_json(command: &str, error: &Error) -> Value {
    json!({ "command": command, "exit": error.exit_code(), "error": { "kind": error.kind(), "message": error.to_string() } })
}

/// Mesh directories that got new trust files, as JSON.
pub(crate) fn republished_json(all: &[Republished]) -> Value {
    let one = |done: &Republished| match &done.outcome {
        Outcome::Published(generation) => {
            json!({ "out": done.out, "name": done.label, "result": "published", "generation": generation })
        }
        Outcome::Gone => json!({ "out": done.out, "name": done.label, "result": "gone" }),
        Outcome::Missing => json!({ "out": done.out, "name": done.label, "result": "missing" }),
        Outcome::Foreign => json!({ "out": done.out, "name": done.label, "result": "foreign" }),
        Outcome::Failed(why) => {
            json!({ "out": done.out, "name": done.label, "result": "failed", "why": why })
        }
    };
    all.iter().map(one).collect()
}

/// The same in a few lines.
pub(crate) fn republished_text(all: &[Republished]) -> String {
    let published = all
        .iter()
        .filter(|done| matches!(done.outcome, Outcome::Published(_)))
        .count();
    let mut text = format!(
        "  published  roots and CRLs in {published} mesh director{}\n",
        if published == 1 { "y" } else { "ies" }
    );
    for done in all {
        match &done.outcome {
            Outcome::Published(_) => {}
            Outcome::Gone => line(
                &mut text,
                format_args!(
                    "  passed over {} ({}): gone",
                    done.out.display(),
                    done.label
                ),
            ),
            Outcome::Missing => line(
                &mut text,
                format_args!(
                    "  MISSING    {0} ({1}): it is not there and got nothing, although its certificate still counts; mount it, or say `gapura-pki adopt NEW-PLACE` or `gapura-pki forget {1} --reason WHY`",
                    done.out.display(),
                    done.label
                ),
            ),
            Outcome::Foreign => line(
                &mut text,
                format_args!(
                    "  NOT OURS   {} ({}): it holds a certificate that this CA did not issue, and got no CRL; see `gapura-pki check`",
                    done.out.display(),
                    done.label
                ),
            ),
            Outcome::Failed(why) => line(
                &mut text,
                format_args!(
                    "  FAILED     {} ({}): {why}",
                    done.out.display(),
                    done.label
                ),
            ),
        }
    }
    text
}

/// 3 where a mesh directory that somebody may still read was not written: they go on with the old
/// CRL.
pub(crate) fn republished_exit(all: &[Republished]) -> u8 {
    if all.iter().any(|done| {
        matches!(
            done.outcome,
            Outcome::Failed(_) | Outcome::Foreign | Outcome::Missing
        )
    }) {
        3
    } else {
        0
    }
}

/// Adds a line; writing to a string can't fail.
pub(crate) fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{what}");
}

/// A table with a head; columns are as wide as their widest cell.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|cell| cell.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (cell, width) in cells.zip(&widths) {
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    };
    let mut text = print(&mut head.iter().copied());
    for row in rows {
        text.push_str(&print(&mut row.iter().map(String::as_str)));
    }
    text
}

//! What is said at the end: a row an attack, as a table for people or as JSON for programs.
//!
//! In: findings. Out: texts. Of several findings of one attack the worst is its row's, and what
//! nobody could tell spoils no praise of what somebody could: the row says how many of its shots
//! were told.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::judge::{Finding, Verdict};

/// One shot's part of a row.
pub(super) struct Tried {
    pub(super) what: &'static str,
    pub(super) over: &'static str,
    pub(super) finding: Finding,
}

/// One attack's row.
pub(super) struct Row {
    pub(super) id: &'static str,
    pub(super) tries: &'static str,
    pub(super) tried: Vec<Tried>,
}

/// All of it.
pub(super) struct Report {
    pub(super) door: String,
    pub(super) plugin: bool,
    pub(super) rows: Vec<Row>,
}

impl Row {
    pub(super) fn verdict(&self) -> Verdict {
        let has = |verdict| {
            self.tried
                .iter()
                .any(|tried| tried.finding.verdict == verdict)
        };
        if has(Verdict::NotHeld) {
            Verdict::NotHeld
        } else if has(Verdict::Held) {
            Verdict::Held
        } else {
            Verdict::CannotTell
        }
    }

    /// What was seen: of what did not hold the first, else each kind with its number.
    fn seen(&self) -> String {
        let verdict = self.verdict();
        let of_kind: Vec<&Tried> = self
            .tried
            .iter()
            .filter(|tried| tried.finding.verdict == verdict)
            .collect();
        let Some(first) = of_kind.first() else {
            return String::new();
        };
        if verdict == Verdict::NotHeld {
            let mut text = format!(
                "{} of {}: {}: {}",
                of_kind.len(),
                self.tried.len(),
                first.what,
                first.finding.seen
            );
            if first.what.is_empty() {
                text.clone_from(&first.finding.seen);
            }
            return text;
        }
        let mut kinds: Vec<(&str, usize)> = Vec::new();
        for tried in &of_kind {
            match kinds
                .iter_mut()
                .find(|(seen, _)| *seen == tried.finding.seen)
            {
                Some((_, count)) => *count += 1,
                None => kinds.push((&tried.finding.seen, 1)),
            }
        }
        let told = |(seen, count): &(&str, usize)| {
            if *count == 1 {
                (*seen).to_owned()
            } else {
                format!("{count} × {seen}")
            }
        };
        let mut text = kinds.iter().map(told).collect::<Vec<_>>().join("; ");
        let untold = self.tried.len() - of_kind.len();
        if untold > 0 {
            let _ = write!(text, "; {untold} can't tell");
        }
        text
    }
}

impl Report {
    /// Held, not held, can't tell.
    pub(super) fn counts(&self) -> [usize; 3] {
        [Verdict::Held, Verdict::NotHeld, Verdict::CannotTell].map(|verdict| {
            self.rows
                .iter()
                .filter(|row| row.verdict() == verdict)
                .count()
        })
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        let wide = self
            .rows
            .iter()
            .map(|row| row.tries.chars().count())
            .max()
            .unwrap_or_default();
        let mut text = format!(
            "{:<4} {:<wide$}  {:<10}  what was seen\n",
            "id", "what it tries", ""
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:<4} {:<wide$}  {:<10}  {}",
                row.id,
                row.tries,
                row.verdict().as_str(),
                row.seen()
            );
        }
        let [held, not_held, cannot_tell] = self.counts();
        let _ = write!(
            text,
            "\n{held} held, {not_held} did not hold, {cannot_tell} can't be told"
        );
        if !self.plugin {
            text += "; with `gapura prove --plugin` behind the door more could be";
        }
        text + "\n"
    }

    /// For programs.
    pub(super) fn json(&self) -> Value {
        let word = |verdict: Verdict| match verdict {
            Verdict::Held => "held",
            Verdict::NotHeld => "not_held",
            Verdict::CannotTell => "cannot_tell",
        };
        let rows: Vec<Value> = self
            .rows
            .iter()
            .map(|row| {
                let tried: Vec<Value> = row
                    .tried
                    .iter()
                    .map(|tried| json!({"what": tried.what, "over": tried.over, "result": word(tried.finding.verdict), "seen": tried.finding.seen}))
                    .collect();
                json!({"id": row.id, "tries": row.tries, "result": word(row.verdict()), "seen": row.seen(), "shots": tried})
            })
            .collect();
        let [held, not_held, cannot_tell] = self.counts();
        json!({"door": self.door, "plugin": self.plugin, "held": held, "not_held": not_held, "cannot_tell": cannot_tell, "rows": rows})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prove::judge::{cannot_tell, held, not_held};

    fn row(findings: Vec<Finding>) -> Row {
        let tried = findings
            .into_iter()
            .map(|finding| Tried {
                what: "w",
                over: "HTTP/1.1",
                finding,
            })
            .collect();
        Row {
            id: "H1",
            tries: "t",
            tried,
        }
    }

    #[test]
    fn the_worst_counts_and_what_was_not_seen_is_said() {
        let good = row(vec![
            held("400"),
            held("400"),
            held("passed clean"),
            cannot_tell("x"),
        ]);
        assert_eq!(
            (good.verdict(), good.seen().as_str()),
            (Verdict::Held, "2 × 400; passed clean; 1 can't tell")
        );
        let bad = row(vec![held("400"), not_held("x-role reached the plugin")]);
        assert_eq!(
            (bad.verdict(), bad.seen().as_str()),
            (Verdict::NotHeld, "1 of 2: w: x-role reached the plugin")
        );
        let untold = row(vec![cannot_tell("takes the plugin")]);
        assert_eq!(untold.verdict(), Verdict::CannotTell);
        let report = Report {
            door: "d".to_owned(),
            plugin: false,
            rows: vec![good, bad, untold],
        };
        assert_eq!(report.counts(), [1, 1, 1]);
        assert!(report.table().contains("NOT HELD") && report.table().contains("1 did not hold"));
        let json = report.json();
        assert_eq!(
            (
                json["not_held"].as_u64(),
                json["rows"][1]["result"].as_str()
            ),
            (Some(1), Some("not_held"))
        );
    }
}

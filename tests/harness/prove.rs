//! `gapura prove` at some door, and the plugin of it behind the door.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::certs::write_private;
use crate::program::{Invocation, Program};
use crate::tokens::Signer;
use crate::{eventually, within};

/// A run ends by itself after this at the latest; the rest is the machine's.
const LONGEST: Duration = Duration::from_secs(400);

/// The plugin of `gapura prove`, running.
pub struct Witness {
    program: Program,
    url: String,
}

/// What a run said.
pub struct Proof {
    /// The exit code.
    pub code: Option<i32>,
    /// The report, if there is one.
    pub report: Value,
    /// What stood on standard error.
    pub said: String,
}

impl Witness {
    /// Starts it on a port that the system chooses.
    #[must_use]
    pub fn start() -> Self {
        let program = Invocation::new()
            .args(&["prove", "--plugin", "--listen", "127.0.0.1:0"])
            .start("gapura");
        let url = eventually("the plugin says where it listens", || {
            let said = program.errors();
            let (_, rest) = said.split_once("listens on ")?;
            Some(rest.split(';').next()?.to_owned())
        });
        Self { program, url }
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Whether it still runs.
    #[must_use]
    pub fn runs(&mut self) -> bool {
        self.program.runs()
    }
}

/// The files a run is given, in `dir`: a token, another caller's, and the key that signs both.
#[must_use]
pub fn files(dir: &Path, signer: &Signer) -> Vec<(&'static str, PathBuf)> {
    let kept = |name: &str, text: &str| {
        let path = dir.join(name);
        write_private(&path, text);
        path
    };
    vec![
        (
            "--token-file",
            kept("prove-token", &signer.token_of("7", "42")),
        ),
        (
            "--other-token-file",
            kept("prove-other", &signer.token_of("8", "43")),
        ),
        ("--token-key", kept("prove-key", &signer.private_pem())),
    ]
}

/// Runs it with these flags beside `--json`.
#[must_use]
pub fn prove(url: &str, files: &[(&str, PathBuf)], more: &[&str]) -> Proof {
    let mut invocation = Invocation::new().args(&["prove", url, "--json"]).args(more);
    for (flag, file) in files {
        invocation = invocation.flag(flag, file);
    }
    let mut program = invocation.start("gapura");
    let code = program.wait_for_end(LONGEST).code();
    let report = if matches!(code, Some(0 | 1)) {
        within(Duration::from_secs(20), "a whole report, or none", || {
            let text = program.log_text();
            if text.is_empty() && !program.errors().is_empty() {
                return Some(Value::Null);
            }
            serde_json::from_str(&text).ok()
        })
    } else {
        Value::Null
    };
    Proof {
        code,
        report,
        said: program.errors(),
    }
}

impl Proof {
    /// The ids of the rows with this result.
    #[must_use]
    pub fn rows(&self, result: &str) -> Vec<&str> {
        let rows = self.report["rows"].as_array().into_iter().flatten();
        rows.filter(|row| row["result"] == result)
            .map(|row| row["id"].as_str().unwrap())
            .collect()
    }

    /// What was seen of one attack.
    #[must_use]
    pub fn row(&self, id: &str) -> &Value {
        let rows = self.report["rows"].as_array().unwrap();
        rows.iter().find(|row| row["id"] == id).unwrap()
    }

    /// Keeps the report as `target/world/prove-NAME.json`: the columns of the table in
    /// docs/prove.md.
    pub fn keep(&self, name: &str, version: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/world");
        std::fs::create_dir_all(&folder).unwrap();
        let mut report = self.report.clone();
        report["name"] = name.into();
        report["version"] = version.into();
        let file = folder.join(format!("prove-{name}.json"));
        std::fs::write(file, format!("{report:#}\n")).unwrap();
    }

    /// Holds the column `title` of the table in docs/prove.md to this report; a page that speaks of
    /// another version is said and let be. How long others wait in a flood depends on the machine,
    /// and is not compared.
    #[allow(clippy::print_stdout)]
    pub fn assert_page(&self, title: &str) {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/prove.md");
        let text = std::fs::read_to_string(page).unwrap();
        let table: Vec<Vec<&str>> = text
            .lines()
            .skip_while(|line| !line.starts_with("| id | what it tries |"))
            .take_while(|line| line.starts_with('|'))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let Some(column) = table[0].iter().position(|head| *head == title) else {
            println!("not compared: docs/prove.md does not speak of {title}");
            return;
        };
        let said = |id: &str| {
            let row = table.iter().find(|row| row.get(1) == Some(&id));
            row.unwrap_or_else(|| panic!("docs/prove.md has no row {id}"))[column]
        };
        for row in self.report["rows"].as_array().unwrap() {
            let id = row["id"].as_str().unwrap();
            let told = match row["result"].as_str().unwrap() {
                "held" => "held",
                "not_held" => "**not held**",
                _ => "can't tell",
            };
            if !matches!(id, "F9" | "F10") {
                assert_eq!(said(id), told, "{title}, {id}: {row:#}");
            }
        }
    }

    /// The rows that did not hold, with their shots, for a failing test's message.
    #[must_use]
    pub fn faults(&self) -> String {
        let rows = self.report["rows"].as_array().into_iter().flatten();
        let bad = rows.filter(|row| row["result"] == "not_held");
        bad.map(|row| format!("{row:#}\n")).collect()
    }
}

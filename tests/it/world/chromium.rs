//! A real browser without a window: Chromium, driven by Selenium, where both are installed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::Value;

/// What each script begins with: how the browser starts, and how wishes come.
const START: &str = include_str!("chromium.py");

/// The browser and the script that drives it; both end with the test.
pub(super) struct Browser {
    child: Child,
    answers: BufReader<ChildStdout>,
}

/// The Python that can drive the browser; that one of them is not here is said.
pub(super) fn driver() -> Option<PathBuf> {
    let python = super::python("selenium")?;
    for program in ["/usr/bin/chromium", "/usr/bin/chromedriver"] {
        if !Path::new(program).exists() {
            println!("not tried: no {program} here");
            return None;
        }
    }
    Some(python)
}

/// The whole of a script that drives the browser.
pub(super) fn whole(script: &str) -> String {
    [START, script].concat()
}

impl Browser {
    pub(super) fn start(script: &str) -> Option<Self> {
        let mut child = Command::new(driver()?)
            .args(["-c", &whole(script)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        Some(Self { child, answers })
    }

    pub(super) fn read(&mut self) -> Value {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    pub(super) fn wish(&mut self, wish: &Value) -> Value {
        writeln!(self.child.stdin.as_mut().unwrap(), "{wish}").unwrap();
        self.read()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser, and itself, when nobody wishes for more.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

//! Where the programs' lines go: each into its own file in the state folder, or all to standard
//! output with `--logs`.
//!
//! The screen stays readable, yet a fault must not hide in a file: a line that says `warn` or
//! `error`, and is no request's, is told on standard error as well, as a sentence.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::Value;

use crate::error::Error;
use crate::state::State;

/// Where lines go.
pub(crate) enum Logs {
    /// One file a program, in this folder.
    Files(PathBuf),
    /// Standard output.
    Stdout,
}

struct LogFile<E> {
    name: String,
    file: File,
    stderr: E,
}

impl Logs {
    /// Files in the state folder, or standard output.
    pub(crate) fn new(state: &State, to_stdout: bool) -> Result<Self, Error> {
        if to_stdout {
            Ok(Self::Stdout)
        } else {
            Ok(Self::Files(state.folder("log")?))
        }
    }

    /// The writer for one program. The file of the run before is kept as `NAME.log.1`.
    pub(crate) fn writer(&self, name: &str) -> Result<Box<dyn Write + Send>, Error> {
        let Self::Files(folder) = self else {
            return Ok(Box::new(std::io::stdout()));
        };
        let path = folder.join(format!("{name}.log"));
        let _ = std::fs::rename(&path, folder.join(format!("{name}.log.1"))); // there is none at the first run
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path);
        let file = file.map_err(|err| {
            Error::Refused(format!("can't write the log {}: {err}", path.display()))
        })?;
        Ok(Box::new(LogFile {
            name: name.to_owned(),
            file,
            stderr: std::io::stderr(),
        }))
    }
}

impl<E: Write> Write for LogFile<E> {
    fn write(&mut self, lines: &[u8]) -> std::io::Result<usize> {
        for sentence in lines.split(|byte| *byte == b'\n').filter_map(fault) {
            let _ = writeln!(self.stderr, "{} {sentence}", self.name); // nobody may be reading
        }
        self.file.write_all(lines)?;
        Ok(lines.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The sentence of a line that somebody should see now.
fn fault(line: &[u8]) -> Option<String> {
    // Most lines are requests' and need no parsing.
    let marked = |mark: &[u8]| line.windows(mark.len()).any(|part| part == mark);
    if !(marked(b"\"level\":\"warn\"") || marked(b"\"level\":\"error\""))
        || marked(b"\"event\":\"request\"")
    {
        return None;
    }
    let line: Value = serde_json::from_slice(line).ok()?;
    let text = |name: &str| line[name].as_str().unwrap_or_default();
    Some(format!("{}: {}", text("level"), text("message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_told_and_requests_are_not() {
        let mut log = LogFile {
            name: "sidecar-lab".to_owned(),
            file: tempfile::tempfile().unwrap(),
            stderr: Vec::new(),
        };
        let lines = concat!(
            r#"{"ts":"t","level":"error","service":"sidecar","event":"alarm","message":"the key is gone"}"#,
            "\n",
            r#"{"ts":"t","level":"error","service":"sidecar","event":"request","status":502}"#,
            "\n",
            r#"{"ts":"t","level":"info","service":"sidecar","event":"started","message":"hello"}"#,
            "\n",
            r#"{"ts":"t","level":"warn","service":"sidecar","event":"handshake_failed","message":"no certificate"}"#,
            "\nnot json \"level\":\"warn\"\n"
        );
        assert_eq!(log.write(lines.as_bytes()).unwrap(), lines.len());
        assert_eq!(
            String::from_utf8(log.stderr).unwrap(),
            "sidecar-lab error: the key is gone\nsidecar-lab warn: no certificate\n"
        );
    }

    #[test]
    fn the_run_before_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let logs = Logs::new(&state, false).unwrap();
        logs.writer("gateway")
            .unwrap()
            .write_all(b"first\n")
            .unwrap();
        logs.writer("gateway")
            .unwrap()
            .write_all(b"second\n")
            .unwrap();
        assert_eq!(state.read("log/gateway.log").unwrap().unwrap(), "second\n");
        assert_eq!(state.read("log/gateway.log.1").unwrap().unwrap(), "first\n");
    }
}

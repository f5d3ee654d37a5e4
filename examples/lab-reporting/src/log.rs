//! Log lines: JSON, one object a line, with the request's id and company but no patient, no title
//! and no user.
//!
//! A thread of its own writes them, so that a log nobody reads delays no answer; lines that don't
//! fit are forgotten.

use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Where the lines go. Cheap to clone; when the last clone goes, what was logged is written.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
}

/// Lines that wait for the writer.
const WAITING_LINES: usize = 1024;

/// How long the end of the service waits for a reader that has stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Log {
    /// Lines on standard output.
    ///
    /// # Errors
    /// If the writing thread can't be started.
    pub fn stdout() -> std::io::Result<Self> {
        Self::to(Box::new(std::io::stdout()))
    }

    /// Lines on any writer.
    ///
    /// # Errors
    /// If the writing thread can't be started.
    pub fn to(writer: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let (lines, waiting) = sync_channel(WAITING_LINES);
        let thread = std::thread::Builder::new()
            .name("lab-log".into())
            .spawn(move || write(&waiting, writer))?;
        Ok(Self(Arc::new(Inner {
            lines: Some(lines),
            writer: Some(thread),
        })))
    }

    /// One line: `ts`, `level`, `service`, `event`, then the fields.
    pub(crate) fn event(&self, level: &str, event: &str, fields: &[(&str, Value)]) {
        let ts = OffsetDateTime::now_utc()
            .format(&Rfc3339)
            .unwrap_or_default();
        let head = [
            ("ts", ts.into()),
            ("level", level.into()),
            ("service", crate::NAME.into()),
            ("event", event.into()),
        ];
        let members: Vec<String> = head
            .iter()
            .chain(fields)
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        if let Some(lines) = &self.0.lines {
            let _ = lines.try_send(format!("{{{}}}\n", members.join(",")));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.lines = None; // ends the writer, once it has written what waits
        let Some(writer) = self.writer.take() else {
            return;
        };
        let asked = Instant::now();
        while !writer.is_finished() && asked.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn write(waiting: &Receiver<String>, mut writer: Box<dyn Write + Send>) {
    while let Ok(line) = waiting.recv() {
        // A closed pipe or a full disk is no reason to stop serving.
        let _ = writer
            .write_all(line.as_bytes())
            .and_then(|()| writer.flush());
    }
}

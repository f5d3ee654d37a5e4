//! Log lines: JSON, one object a line, written by a thread of their own.
//!
//! In: events (rare, through [`Log::event`]) and batches of finished access lines. Out: bytes on a
//! writer, usually stdout. A log nobody reads, a closed pipe or a full disk never stops traffic:
//! what waits for the writing thread is bounded, and what does not fit, or what the writer refuses,
//! is counted in [`Log::dropped`] and forgotten. A program that ends without [`Log::close`] takes
//! the last two milliseconds of its lines with it. One `Log` belongs to one running program;
//! nothing here is global, since `gapura up` and the tests run several programs in one process.

use std::borrow::Cow;
use std::io::Write;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use gapura_protocol::clock::{Clock, Rfc3339};

/// How urgent a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Somebody must act.
    Error,
    /// Something is degraded.
    Warn,
    /// Worth knowing.
    Info,
}

/// One value of a line.
#[derive(Clone, Debug)]
pub enum Field<'a> {
    /// A text; escaped as JSON wants it.
    Text(Cow<'a, str>),
    /// A whole number.
    Number(u64),
    /// Nothing.
    Null,
}

/// Where one program's lines go. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    service: &'static str,
    clock: Clock,
    batches: Sender<Batch>,
    sums: Arc<Sums>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Sums {
    /// Bytes that wait for the writer.
    waiting: AtomicUsize,
    /// Lines that reached nobody.
    dropped: AtomicU64,
}

enum Batch {
    Lines(Vec<u8>, u64),
    End,
}

/// Lines of requests go to the writer when they are so many bytes: each time costs a worker the
/// waking of a thread, and the system a call.
pub(crate) const BATCH: usize = 64 * 1024;

/// So many bytes of log may wait for the writer.
const WAITING: usize = 4 * 1024 * 1024;

/// Lines that come so soon behind another are written with it: a folder of a thousand files that is
/// read anew has a thousand lines to tell, and each call of the system's takes time from requests.
const TOGETHER: Duration = Duration::from_millis(2);

/// How long the end of a program waits for a reader of its log that has stopped reading.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Level {
    /// The word in the line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
        }
    }
}

impl Log {
    /// A log of `service` on standard output.
    ///
    /// # Errors
    /// If the writing thread cannot be started.
    pub fn stdout(service: &'static str, clock: Clock) -> std::io::Result<Self> {
        Self::to(service, clock, Box::new(std::io::stdout()))
    }

    /// A log of `service` on any writer.
    ///
    /// # Errors
    /// If the writing thread cannot be started.
    pub fn to(
        service: &'static str,
        clock: Clock,
        writer: Box<dyn Write + Send>,
    ) -> std::io::Result<Self> {
        let (batches, waiting) = channel();
        let sums = Arc::<Sums>::default();
        let counted = sums.clone();
        let thread = std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write_batches(&waiting, writer, &counted))?;
        Ok(Self {
            inner: Arc::new(Inner {
                service,
                clock,
                batches,
                sums,
                writer: Mutex::new(Some(thread)),
            }),
        })
    }

    /// `gateway` or `sidecar`: the line's `service`.
    #[must_use]
    pub fn service(&self) -> &'static str {
        self.inner.service
    }

    /// The clock that dates the lines.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// Writes one line: `ts`, `level`, `service`, `event`, `message`, then the fields. The message
    /// reads alone; the fields are for queries. Neither may hold a token, a key, a cookie, a body
    /// or a query string.
    pub fn event(&self, level: Level, event: &str, message: &str, fields: &[(&str, Field<'_>)]) {
        let mut line = Vec::with_capacity(256);
        line.extend_from_slice(b"{\"ts\":\"");
        let _ = write!(line, "{}", Rfc3339(self.inner.clock.now()));
        line.extend_from_slice(b"\",\"level\":\"");
        line.extend_from_slice(level.as_str().as_bytes());
        line.extend_from_slice(b"\",\"service\":\"");
        line.extend_from_slice(self.inner.service.as_bytes());
        line.push(b'"');
        for (name, value) in [
            ("event", Field::from(event)),
            ("message", Field::from(message)),
        ]
        .iter()
        .chain(fields)
        {
            line.extend_from_slice(b",\"");
            line.extend_from_slice(name.as_bytes());
            line.extend_from_slice(b"\":");
            match value {
                Field::Text(text) => push_json_text(&mut line, text),
                Field::Number(number) => {
                    let _ = write!(line, "{number}");
                }
                Field::Null => line.extend_from_slice(b"null"),
            }
        }
        line.extend_from_slice(b"}\n");
        self.send(line, 1);
    }

    /// Hands whole lines, each ended by a line feed, to the writer; counts them as dropped where it
    /// cannot keep up.
    pub fn send(&self, lines: Vec<u8>, count: u64) {
        let (sums, length) = (&self.inner.sums, lines.len());
        let fits = sums.waiting.fetch_add(length, Ordering::Relaxed) + length <= WAITING;
        if !fits || self.inner.batches.send(Batch::Lines(lines, count)).is_err() {
            sums.waiting.fetch_sub(length, Ordering::Relaxed);
            sums.dropped.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Lines that reached nobody.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.inner.sums.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all lines so far are written, a second at most, and ends the writing thread.
    /// Later lines are dropped.
    pub fn close(&self) {
        let Some(writer) = self
            .inner
            .writer
            .lock()
            .ok()
            .and_then(|mut writer| writer.take())
        else {
            return;
        };
        let _ = self.inner.batches.send(Batch::End);
        let step = Duration::from_millis(5);
        let mut waited = Duration::ZERO;
        while !writer.is_finished() && waited < LAST_WORDS {
            std::thread::sleep(step);
            waited += step;
        }
    }
}

impl<'a> From<&'a str> for Field<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Field<'_> {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<u64> for Field<'_> {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl<'a, T: Into<Field<'a>>> From<Option<T>> for Field<'a> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// An error and all its causes in one sentence.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// Writes `text` as a JSON string (RFC 8259, section 7), quotes included.
pub(crate) fn push_json_text(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    push_json_inner(line, text);
    line.push(b'"');
}

/// The same without the quotes.
pub(crate) fn push_json_inner(line: &mut Vec<u8>, text: &str) {
    // Without an early end, so that many bytes are looked at in one step: hardly any text needs an
    // escape.
    let needs = |any: bool, byte: &u8| any | (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    if !text.as_bytes().iter().fold(false, needs) {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    let mut rest = text.as_bytes();
    while let Some(at) = rest
        .iter()
        .position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\')
    {
        line.extend_from_slice(&rest[..at]);
        match rest[at] {
            byte @ (b'"' | b'\\') => line.extend_from_slice(&[b'\\', byte]),
            control => {
                let _ = write!(line, "\\u{control:04x}");
            }
        }
        rest = &rest[at + 1..];
    }
    line.extend_from_slice(rest);
}

/// Writes a whole number in digits.
pub(crate) fn push_decimal(line: &mut Vec<u8>, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut first = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        (number, first) = (number / 10, first - 1);
        if number == 0 {
            break;
        }
    }
    line.extend_from_slice(&digits[first..]);
}

/// Writes what comes until the end is told.
fn write_batches(waiting: &Receiver<Batch>, mut writer: Box<dyn Write + Send>, sums: &Sums) {
    while let Ok(Batch::Lines(mut lines, mut count)) = waiting.recv() {
        let mut ends = false;
        if lines.len() < BATCH {
            std::thread::sleep(TOGETHER);
            while lines.len() < BATCH {
                match waiting.try_recv() {
                    Ok(Batch::Lines(more, of)) => {
                        lines.extend_from_slice(&more);
                        count += of;
                    }
                    Ok(Batch::End) => {
                        ends = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        let written = writer.write_all(&lines).and_then(|()| writer.flush());
        if written.is_err() {
            sums.dropped.fetch_add(count, Ordering::Relaxed);
        }
        sums.waiting.fetch_sub(lines.len(), Ordering::Relaxed);
        if ends {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Takes nothing before it is told to.
    struct Stuck(std::sync::mpsc::Receiver<()>, Memory);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_of_json_whatever_its_texts_hold() {
        let memory = Memory::default();
        let log = Log::to("gateway", Clock::system(), Box::new(memory.clone())).unwrap();
        let nasty = "a \"quote\", a \\, a line\nfeed, a \u{1} and é";
        log.event(
            Level::Warn,
            "alarm",
            nasty,
            &[
                ("name", nasty.into()),
                ("count", 3.into()),
                ("none", Option::<&str>::None.into()),
            ],
        );
        log.close();
        let written = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        assert_eq!(written.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&written).unwrap();
        assert_eq!(line["message"], nasty);
        assert_eq!(line["name"], nasty);
        assert_eq!(line["count"], 3);
        assert_eq!(line["none"], serde_json::Value::Null);
        assert_eq!(line["level"], "warn");
        assert_eq!(line["service"], "gateway");
    }

    #[test]
    fn a_number_is_its_digits() {
        for number in [0, 7, 10, 1_700_000_000_123_456_789, u64::MAX] {
            let mut line = Vec::new();
            push_decimal(&mut line, number);
            assert_eq!(line, number.to_string().into_bytes());
        }
    }

    struct Counting(Memory, Arc<AtomicU64>);

    impl Write for Counting {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_that_come_close_together_are_written_together() {
        let (memory, writes) = (Memory::default(), Arc::new(AtomicU64::new(0)));
        let writer = Box::new(Counting(memory.clone(), writes.clone()));
        let log = Log::to("gateway", Clock::system(), writer).unwrap();
        for _ in 0..1000 {
            log.event(Level::Info, "registry_change", "a plugin is in force", &[]);
        }
        log.close();
        let lines = memory
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        assert_eq!((lines, log.dropped()), (1000, 0));
        let writes = writes.load(Ordering::Relaxed);
        assert!(writes < 100, "{writes}");
    }

    #[test]
    fn what_nobody_reads_is_dropped_beyond_four_mebibytes_and_the_rest_arrives_whole() {
        let (memory, (go, stuck)) = (Memory::default(), channel());
        let writer = Box::new(Stuck(stuck, memory.clone()));
        let log = Log::to("gateway", Clock::system(), writer).unwrap();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        for _ in 0..5000 {
            log.send(line.clone(), 1);
        }
        let dropped = log.dropped();
        assert_eq!(dropped, 5000 - WAITING as u64 / 1024);
        drop(go);
        log.close();
        assert_eq!(memory.0.lock().unwrap().len(), WAITING);
        assert_eq!(log.dropped(), dropped);
    }

    #[test]
    fn a_full_disk_drops_and_counts() {
        let log = Log::to("gateway", Clock::system(), Box::new(Full)).unwrap();
        log.event(Level::Info, "started", "hello", &[]);
        log.send(b"{}\n{}\n".to_vec(), 2);
        log.close();
        assert_eq!(log.dropped(), 3);
    }
}

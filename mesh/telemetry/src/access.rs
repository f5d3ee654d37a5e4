//! One line for each finished request, and its place in the counters; one more where a WebSocket
//! begins, since its end may be days away.
//!
//! In: a [`Record`], filled in as the request goes on. Out: when it is dropped, whatever became of
//! the answer, the counters move, a JSON line joins the worker's batch, and the spans of a request
//! that is sampled join theirs. No token, no query string, no user stands in it.

#[cfg(test)]
mod figures;
mod line;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_protocol::clock::Stamp;
use gapura_protocol::context::{RequestId, TenantId};
use gapura_protocol::envelope::Code;
use gapura_protocol::headers::Stripped;
use gapura_protocol::random::Random;
use gapura_protocol::trace::{Trace, TraceId};
use http::Method;
use http::uri::PathAndQuery;

use crate::busiest::Busiest;
use crate::log::{BATCH, Log};
use crate::metrics::{Meters, PluginMeters};
use crate::span::{Asked, Served, Spans, Tracer, TracerSpec};
use crate::tap::{Facts, Source, Tap};
use line::Line;

/// Which finished requests leave a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// All of them.
    On,
    /// Those that ended with a status from 400.
    Errors,
    /// None.
    Off,
}

/// Where one worker's records end.
pub struct Sink {
    log: Log,
    mode: AccessLog,
    meters: Arc<Meters>,
    worker: usize,
    batch: RefCell<Batch>,
    stamp: Cell<Stamp>,
    busiest: RefCell<Busiest>,
    tap: Source,
    tracer: Option<Tracer>,
    /// Whatever is under way is being cut.
    cut: Cell<bool>,
}

#[derive(Default)]
struct Batch {
    lines: Vec<u8>,
    count: u64,
}

/// A path for the log: shared with the request where it was canonical as it came.
#[derive(Clone, Debug, Default)]
pub enum LoggedPath {
    /// Nothing to tell: the target could not be read.
    #[default]
    None,
    /// As it came.
    Same(PathAndQuery),
    /// Made canonical.
    Changed(Box<str>),
}

impl LoggedPath {
    /// Of a target that may be anything: what stands before its query, shown and never trusted.
    #[must_use]
    pub fn of_target(target: &[u8]) -> Self {
        let end = target.iter().position(|byte| *byte == b'?');
        let path = &target[..end.unwrap_or(target.len())];
        Self::Changed(String::from_utf8_lossy(path).into())
    }

    /// The path without a query.
    fn as_str(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Same(path) => Some(path.path()),
            Self::Changed(path) => Some(path),
        }
    }
}

/// What is known of one request.
pub struct Record {
    sink: Rc<Sink>,
    started: Instant,
    /// Its name everywhere.
    pub request_id: RequestId,
    /// Its trace.
    pub trace_id: Option<TraceId>,
    /// Its spans, if it is sampled.
    pub spans: Option<Rc<Spans>>,
    /// Its method.
    pub method: Method,
    /// Its canonical path, without the query.
    pub path: LoggedPath,
    /// Whom it acts for.
    pub tenant: Option<TenantId>,
    /// Whether somebody acts for its user; never who.
    pub actor: bool,
    /// The plugin it was meant for: already counted as in flight.
    pub plugin: Option<Arc<PluginMeters>>,
    /// The client's address, or the peer's identity.
    pub peer: Rc<str>,
    /// How long the next program took to begin its answer.
    pub upstream: Option<Duration>,
    /// How long it took until the connection switched to another protocol.
    switched: Option<Duration>,
    /// The status that was answered; 499 until there is one: the client went away first.
    pub status: u16,
    /// Why we answered ourselves.
    pub code: Option<Code>,
    /// What was wrong, where the code alone does not tell: of a fixed list, never from a message.
    pub reason: Option<&'static str>,
    /// The headers that were taken.
    pub stripped: Stripped,
    /// Bytes of the request's body so far.
    pub bytes_in: u64,
    /// Bytes of the answer's body so far.
    pub bytes_out: u64,
}

/// How long a line may wait for others: its worker flushes as often.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);

/// Nobody was there any more to be answered; as nginx has it.
pub const CLIENT_GONE: u16 = 499;

impl AccessLog {
    /// Takes `on`, `errors` or `off`.
    ///
    /// # Errors
    /// A sentence that says what is accepted.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" => Ok(Self::On),
            "errors" => Ok(Self::Errors),
            "off" => Ok(Self::Off),
            _ => Err("must be on, errors or off".to_owned()),
        }
    }

    /// The word of the setting.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Errors => "errors",
            Self::Off => "off",
        }
    }
}

impl Sink {
    /// The end of worker `worker`'s records, which may be looked at through `tap`, and of their
    /// spans where a tracer is made from something.
    #[must_use]
    pub fn new(
        log: Log,
        mode: AccessLog,
        meters: Arc<Meters>,
        worker: usize,
        tap: Option<Tap>,
        tracer: Option<TracerSpec>,
    ) -> Rc<Self> {
        Rc::new(Self {
            log,
            mode,
            meters,
            worker,
            batch: RefCell::default(),
            stamp: Cell::default(),
            busiest: RefCell::new(Busiest::new(Instant::now())),
            tap: Source::new(tap),
            tracer: tracer.map(Tracer::new),
            cut: Cell::new(false),
        })
    }

    /// Begins a record.
    #[must_use]
    pub fn begin(self: &Rc<Self>, request_id: RequestId, method: Method, peer: Rc<str>) -> Record {
        Record {
            sink: self.clone(),
            started: Instant::now(),
            request_id,
            trace_id: None,
            spans: None,
            method,
            path: LoggedPath::None,
            tenant: None,
            actor: false,
            plugin: None,
            peer,
            upstream: None,
            switched: None,
            status: CLIENT_GONE,
            code: None,
            reason: None,
            stripped: Stripped::default(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// From here on whatever ends was cut by us.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    /// Whether paths and the like are worth keeping: a line may be made of them.
    #[must_use]
    pub fn logs(&self) -> bool {
        self.mode != AccessLog::Off || self.tap.is_watched()
    }

    /// Whether lines may ever gather here, for somebody to flush.
    #[must_use]
    pub fn gathers(&self) -> bool {
        self.mode != AccessLog::Off || self.tap.is_there()
    }

    /// Whether there may be spans.
    #[must_use]
    pub fn traces(&self) -> bool {
        self.tracer.is_some()
    }

    /// Hands over what has gathered of spans.
    pub fn flush_spans(&self) {
        if let Some(tracer) = &self.tracer {
            tracer.flush();
        }
    }

    /// Hands over what has gathered of lines.
    pub fn flush(&self) {
        let mut batch = self.batch.borrow_mut();
        if batch.count > 0 {
            // As much as was needed this time: where less goes on, it is less the next time.
            let next = Vec::with_capacity(batch.lines.len() + 1024);
            let full = std::mem::replace(&mut batch.lines, next);
            self.log.send(full, std::mem::take(&mut batch.count));
        }
        self.tap.flush();
    }

    /// Hands over what has been counted of companies; to be called about once a second.
    pub fn tell_companies(&self) {
        if let Some(companies) = self.meters.companies() {
            let mut busiest = self.busiest.borrow_mut();
            busiest.hand_over(companies, self.worker, Instant::now());
        }
    }

    fn finish(&self, record: &Record) {
        let took = record.started.elapsed();
        let worker = self.meters.worker(self.worker);
        worker.stripped(&record.stripped);
        if let Some(code) = record.code {
            worker.rejected(code);
        }
        if let Some(plugin) = &record.plugin {
            let slot = plugin.slot(self.worker);
            slot.in_flight.less();
            // How long a WebSocket lasts says nothing of how fast anybody is.
            slot.finish(
                &record.method,
                record.status,
                record.switched.unwrap_or(took),
                record.upstream,
            );
        }
        if let (Some(company), Some(companies)) = (&record.tenant, self.meters.companies()) {
            let mut busiest = self.busiest.borrow_mut();
            busiest.count(companies, company, record.code);
        }
        let wanted = match self.mode {
            AccessLog::On => true,
            AccessLog::Errors => record.status >= 400 || record.is_wrong(),
            AccessLog::Off => false,
        };
        if wanted {
            self.tell("request", record, took);
        }
        if let (Some(tracer), Some(spans)) = (&self.tracer, &record.spans) {
            tracer.finish(&record.served(), spans, self.log.clock().now());
        }
        if self.tap.is_watched() {
            let facts = Facts {
                plugin: record
                    .plugin
                    .as_ref()
                    .map_or(UNROUTED, |plugin| plugin.name()),
                company: record.tenant.as_ref().map(TenantId::as_str),
                status: record.status,
                took,
            };
            self.tap
                .offer(&facts, |line| record.write(line, "request", took));
        }
    }

    fn tell(&self, event: &str, record: &Record, took: Duration) {
        let mut batch = self.batch.borrow_mut();
        record.write(&mut batch.lines, event, took);
        batch.count += 1;
        if batch.lines.len() >= BATCH {
            drop(batch);
            self.flush();
        }
    }
}

impl Record {
    /// Whether we are cutting whatever is under way.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.sink.cut.get()
    }

    /// Gives it its place in its trace: as it was given, or a new one. If it is sampled, its spans
    /// begin.
    pub fn traced(
        &mut self,
        given: Option<Trace>,
        random: &Random,
        asked: impl FnOnce() -> Asked,
    ) -> Trace {
        let mut trace = given.unwrap_or_else(|| Trace::begin(random.next_wide()));
        if let Some(tracer) = &self.sink.tracer {
            self.spans = tracer.begin(&mut trace, random, asked);
        }
        self.trace_id = Some(trace.id);
        trace
    }

    /// It asks how the program itself is: nobody wants to see that of each probe.
    pub fn untraced(&mut self) {
        self.spans = None;
    }

    /// Counts the request as one of `plugin`'s.
    pub fn belongs_to(&mut self, plugin: &Arc<PluginMeters>) {
        if let Some(before) = &self.plugin {
            before.slot(self.sink.worker).in_flight.less();
        }
        plugin.slot(self.sink.worker).in_flight.add(1);
        self.plugin = Some(plugin.clone());
    }

    /// Its answer has been 101: a line says that a WebSocket begins, and the request's own follows
    /// when it ends.
    pub fn switches(&mut self) {
        let took = self.started.elapsed();
        self.switched = Some(took);
        if self.sink.mode == AccessLog::On {
            self.sink.clone().tell("websocket", self, took);
        }
    }

    /// What its span says.
    fn served(&self) -> Served<'_> {
        Served {
            began: self.started,
            method: &self.method,
            path: self.path.as_str(),
            status: Some(self.status).filter(|status| *status != CLIENT_GONE),
            code: self.code,
            request_id: self.request_id.as_str(),
            company: self.tenant.as_ref().map(TenantId::as_str),
            plugin: self.plugin_name(),
            peer: &self.peer,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        }
    }

    /// None for what no plugin takes.
    fn plugin_name(&self) -> Option<&str> {
        let name = self.plugin.as_ref().map(|plugin| plugin.name());
        name.filter(|name| *name != UNROUTED)
    }

    fn write(&self, line: &mut Vec<u8>, event: &str, took: Duration) {
        let sink = &self.sink;
        let mut stamp = sink.stamp.get();
        let says = Line {
            ts: stamp.at(sink.log.clock().now()),
            is_wrong: self.is_wrong(),
            service: sink.log.service(),
            event,
            request_id: &self.request_id,
            trace_id: self.trace_id.as_ref(),
            method: &self.method,
            path: self.path.as_str(),
            status: self.status,
            latency: took,
            upstream: self.upstream,
            company: self.tenant.as_ref().map(TenantId::as_str),
            plugin: self.plugin_name(),
            peer: &self.peer,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
            stripped: self.stripped.total(),
            actor: self.actor,
            code: self.code,
            reason: self.reason,
        };
        says.write(line);
        sink.stamp.set(stamp);
    }

    /// Whether the fault is on our side or the plugin's.
    fn is_wrong(&self) -> bool {
        self.status >= 500 || self.code == Some(Code::AnswerCut)
    }
}

/// The name under which requests are counted that no plugin takes.
pub const UNROUTED: &str = "none";

impl Drop for Record {
    fn drop(&mut self) {
        if self.status == CLIENT_GONE {
            self.code.get_or_insert(Code::ClientGone);
        }
        self.sink.clone().finish(self);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Mutex;

    use super::*;
    use gapura_protocol::clock::Clock;

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

    fn written(mode: AccessLog, status: u16) -> Vec<serde_json::Value> {
        written_by(mode, status, |_| {})
    }

    fn written_by(
        mode: AccessLog,
        status: u16,
        change: impl FnOnce(&mut Record),
    ) -> Vec<serde_json::Value> {
        let memory = Memory::default();
        let log = Log::to("gateway", Clock::system(), Box::new(memory.clone())).unwrap();
        let meters = Arc::new(Meters::new(1, &[]));
        let sink = Sink::new(log.clone(), mode, meters.clone(), 0, None, None);
        let mut record = sink.begin(
            RequestId::parse(b"r-1").unwrap(),
            Method::GET,
            "127.0.0.1".into(),
        );
        record.path = LoggedPath::Same("/v1/lab?token=secret".parse().unwrap());
        record.tenant = Some(TenantId::parse(b"42").unwrap());
        record.belongs_to(&meters.plugin("lab"));
        record.status = status;
        change(&mut record);
        drop(record);
        sink.flush();
        log.close();
        let bytes = memory.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn a_finished_request_is_one_line_without_its_query() {
        let lines = written(AccessLog::On, 200);
        let [line] = lines.as_slice() else {
            panic!("{lines:?}")
        };
        for (name, value) in [
            ("event", serde_json::json!("request")),
            ("request_id", "r-1".into()),
            ("path", "/v1/lab".into()),
            ("status", 200.into()),
            ("company_id", "42".into()),
            ("plugin", "lab".into()),
            ("peer", "127.0.0.1".into()),
            ("bytes_in", 0.into()),
            ("code", serde_json::Value::Null),
            ("upstream_ms", serde_json::Value::Null),
        ] {
            assert_eq!(line[name], value, "{name}");
        }
        assert!(line["latency_ms"].is_number());
        assert!(!line.to_string().contains("secret"));
    }

    #[test]
    fn the_words_of_the_setting_are_three() {
        for text in ["on", "errors", "off"] {
            assert_eq!(AccessLog::parse(text).map(AccessLog::as_str), Ok(text));
        }
        assert!(AccessLog::parse("ON").is_err());
    }

    #[test]
    fn that_somebody_acts_for_the_user_is_told_only_where_it_is_so() {
        let told = |actor| {
            let lines = written_by(AccessLog::On, 200, |record| record.actor = actor);
            lines[0].get("actor").cloned()
        };
        assert_eq!(told(true), Some(true.into()));
        assert_eq!(told(false), None);
    }

    #[test]
    fn a_websocket_has_a_line_when_it_begins_and_one_when_it_ends() {
        let switched = |mode| {
            written_by(mode, 101, |record| {
                record.switches();
                record.bytes_in = 7;
            })
        };
        let lines = switched(AccessLog::On);
        let told: Vec<_> = lines
            .iter()
            .map(|line| {
                (
                    line["event"].as_str().unwrap(),
                    line["bytes_in"].as_u64().unwrap(),
                )
            })
            .collect();
        assert_eq!(told, [("websocket", 0), ("request", 7)]);
        assert!(
            lines
                .iter()
                .all(|line| line["status"] == 101 && line["request_id"] == "r-1")
        );
        assert!(switched(AccessLog::Errors).is_empty() && switched(AccessLog::Off).is_empty());
    }

    #[test]
    fn errors_alone_or_nothing_is_logged_where_asked_for() {
        assert_eq!(written(AccessLog::Errors, 200).len(), 0);
        assert_eq!(written(AccessLog::Errors, 404).len(), 1);
        assert_eq!(written(AccessLog::Off, 500).len(), 0);
    }
}

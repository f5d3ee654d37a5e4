//! A gateway, a sidecar or an agent inside the test's own process, with a clock that the test can
//! move.
//!
//! Started from the same words as the built program, so that what is tested is what an operator
//! gets but for the clock.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use gapura_protocol::clock::Clock;
use gapura_runtime::cli::Program as _;
use gapura_runtime::program::{Running, StartError};
use gapura_telemetry::log::Log;
use serde_json::Value;

use crate::wire::{Response, Wire};

/// A running program. It ends when this is dropped.
pub struct Inside {
    /// Its clock.
    pub clock: Clock,
    running: Option<Running>,
    written: Written,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Inside {
    /// A gateway with these words on its command line.
    #[must_use]
    pub fn gateway(args: &[(&str, &str)]) -> Self {
        use gapura_gateway::config::Invocation;
        Self::start("gateway", |log, clock| {
            match Invocation::load(words(args), &BTreeMap::new()) {
                Ok(Invocation::Run(config)) => config.start(log, clock),
                _ => panic!("no good command line: {args:?}"),
            }
        })
    }

    /// A sidecar with these words on its command line.
    #[must_use]
    pub fn sidecar(args: &[(&str, &str)]) -> Self {
        use gapura_sidecar::config::Invocation;
        Self::start("sidecar", |log, clock| {
            match Invocation::load(words(args), &BTreeMap::new()) {
                Ok(Invocation::Run(config)) => config.start(log, clock),
                _ => panic!("no good command line: {args:?}"),
            }
        })
    }

    /// An agent with these words on its command line, whose clock is off by `seconds` from the
    /// start.
    #[must_use]
    pub fn agent(args: &[(&str, &str)], seconds: i64) -> Self {
        use gapura_agent::config::Invocation;
        Self::start("agent", |log, clock| {
            clock.shift(seconds);
            match Invocation::load(words(args), &BTreeMap::new()) {
                Ok(Invocation::Run(config)) => config.start(log, clock),
                _ => panic!("no good command line: {args:?}"),
            }
        })
    }

    fn start(
        service: &'static str,
        start: impl FnOnce(Log, Clock) -> Result<Running, StartError>,
    ) -> Self {
        let (clock, written) = (Clock::system(), Written::default());
        let log = Log::to(service, clock.clone(), Box::new(written.clone())).unwrap();
        let running = start(log, clock.clone())
            .unwrap_or_else(|error| panic!("the {service} does not start: {error:?}"));
        Self {
            clock,
            running: Some(running),
            written,
        }
    }

    /// Where `listener` listens.
    #[must_use]
    pub fn address(&self, listener: &str) -> SocketAddr {
        self.running
            .as_ref()
            .and_then(|running| running.address(listener))
            .unwrap()
    }

    /// Every line of its log so far.
    #[must_use]
    pub fn log(&self) -> Vec<Value> {
        let written = self.written.0.lock().unwrap();
        written
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    /// A whole answer of its admin side.
    #[must_use]
    pub fn admin(&self, path: &str) -> Response {
        let mut wire = Wire::plain(self.address("admin"));
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        wire.response()
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().signal();
            running.stop().signal(); // at once: what is in flight is the test's own
            let _ = running.wait();
        }
    }
}

fn words(args: &[(&str, &str)]) -> Vec<OsString> {
    let flags = args
        .iter()
        .flat_map(|(flag, value)| [flag, value])
        .filter(|word| !word.is_empty());
    std::iter::once(&"gapura")
        .chain(flags)
        .map(OsString::from)
        .collect()
}

//! The running service: its connections, one line a request, and its end.
//!
//! `start` gives back once the service can be reached; `Running::stop` refuses new connections,
//! lets requests in flight finish for a while and then drops the rest.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::company::Company;
use crate::envelope::Answer;
use crate::io::{Io, TokioTimer};
use crate::listen::{Address, Listen, Listener, Stream};
use crate::log::Log;
use crate::routes;
use crate::store::{Database, Store, StoreError};

/// What the service is to do.
pub struct Config {
    /// Where it listens.
    pub listen: Listen,
    /// Where it keeps the reports.
    pub database: Database,
    /// Whether a few reports of companies 42 and 7 are added, to try things with.
    pub seed: bool,
    /// Where its lines go.
    pub log: Log,
}

/// The running service. Dropped, it ends without waiting for anybody.
pub struct Running {
    address: Address,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

/// Why the service did not start.
#[derive(Debug)]
pub enum StartError {
    /// The address can't be listened on.
    Listen(Listen, std::io::Error),
    /// The database can't be opened.
    Database(Database, String),
}

struct App {
    store: Store,
    log: Log,
}

/// Connections at once; a sidecar keeps a handful.
const CONNECTIONS: usize = 512;

/// How long a request's head may take.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// How long requests in flight may take once the service is told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Starts the service on the current runtime.
///
/// # Errors
/// If the address can't be listened on or the database can't be opened; then nothing runs.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let Config {
        listen,
        database,
        seed,
        log,
    } = config;
    let store =
        Store::open(&database, seed).map_err(|err| StartError::Database(database, detail(&err)))?;
    let (listener, address) = Listener::bind(&listen)
        .await
        .map_err(|err| StartError::Listen(listen, err))?;
    log.event(
        "info",
        "listening",
        &[
            ("address", address.to_string().into()),
            ("version", crate::VERSION.into()),
        ],
    );
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(serve(listener, Arc::new(App { store, log }), stopped));
    Ok(Running {
        address,
        stop,
        server,
    })
}

/// Starts the service, and ends it when `stop` does.
///
/// # Errors
/// As [`start`].
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), StartError> {
    let running = start(config).await?;
    stop.await;
    running.stop().await;
    Ok(())
}

impl Running {
    /// Where it listens, with the port that was free.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Ends the service: no new connection, ten seconds at most for what is in flight.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        let _ = (&mut self.server).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(listen, err) if err.kind() == std::io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "{listen} is in use by another program; choose another address with --listen"
                )
            }
            Self::Listen(listen, err) => write!(
                f,
                "can't listen on {listen}: {err}; choose another address with --listen"
            ),
            Self::Database(Database::Memory, why) => {
                write!(f, "can't make a database in memory: {why}")
            }
            Self::Database(Database::File(path), why) => {
                write!(
                    f,
                    "can't open the database {}: {why}; name a file in a folder that exists and is yours with --database",
                    path.display()
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

async fn serve(listener: Listener, app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut connections = JoinSet::new(); // dropping it ends whatever outlives the grace period
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = async {
            let slot = slots.clone().acquire_owned().await.ok()?;
            Some((listener.accept().await, slot))
        };
        tokio::select! {
            () = told(&mut stop) => break,
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = accepted => match accepted {
                Some((Ok(stream), slot)) => {
                    let connection = connection(app.clone(), stream, stop.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Some((Err(err), _)) => {
                    app.log.event("warn", "accept_failed", &[("message", err.to_string().into())]);
                    tokio::time::sleep(Duration::from_millis(100)).await; // out of files must not become a busy loop
                }
                None => break,
            },
        }
    }
    drop(listener);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, all_ended).await;
    app.log.event("info", "stopped", &[]);
}

async fn connection(app: Arc<App>, stream: Box<dyn Stream>, mut stop: watch::Receiver<bool>) {
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer)
        .header_read_timeout(HEAD_TIME)
        .serve_connection(Io(stream), service);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        _ = served.as_mut() => {}
        () = told(&mut stop) => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

/// Waits until the service is told to stop, or nobody is left who could tell it.
async fn told(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let began = Instant::now();
        let method = request.method().to_string();
        let request_id = request_id(request.headers());
        let answered = routes::answer(&self.store, request).await;
        let status = answered.answer.status().as_u16();
        let level = if status >= 500 { "error" } else { "info" };
        let latency_ms =
            u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX) as f64 / 1000.0;
        let mut fields = vec![
            ("request_id", request_id.into()),
            ("method", method.into()),
            ("route", answered.route.into()),
            ("status", status.into()),
            ("latency_ms", latency_ms.into()),
            (
                "company_id",
                answered.company.as_ref().map(Company::as_str).into(),
            ),
        ];
        if let Some(fault) = &answered.fault {
            fields.push(("message", fault.to_string().into()));
        }
        self.log.event(level, "request", &fields);
        answered.answer
    }
}

/// The id that the door gave the request; nothing that is none, since it goes into the log.
fn request_id(headers: &HeaderMap) -> Option<String> {
    let text = headers.get("x-request-id")?.to_str().ok()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    ((1..=128).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
}

fn detail(err: &StoreError) -> String {
    match err {
        // At the start no row is involved, so SQLite's own words may be told.
        StoreError::Sqlite(err) => err.to_string(),
        StoreError::Busy | StoreError::Gone => err.to_string(),
    }
}

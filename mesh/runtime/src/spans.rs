//! Sends the spans of all workers to a collector, as OTLP over HTTP in JSON.
//!
//! In: what the settings say of the collector, and batches of spans from the workers. Out: posts,
//! one at a time, each of a bounded size; `verdict` says what an answer means for it. Everything is
//! bounded: what waits, each post, how often it is tried, and the last of them at the end of the
//! program. What finds no room or no taker is counted and forgotten: nobody waits for a collector.

mod verdict;

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use gapura_fetch::{Client, Url};
use gapura_protocol::identity::PeerId;
use gapura_protocol::random::Random;
use gapura_settings::Traces;
use gapura_telemetry::log::{Level, Log};
use gapura_telemetry::span::{Batch, Counts, Sampler, TracerSpec, push_attribute};
use http::header::HeaderMap;
use tokio::sync::{mpsc, oneshot};

use verdict::Verdict;

/// Where spans go, read and judged, before anything runs.
pub(crate) struct Collector {
    client: Client,
    url: Url,
    headers: HeaderMap,
    timeout: Duration,
    sampler: Sampler,
    /// The post up to the first span.
    opening: Vec<u8>,
}

/// The one task that posts.
pub(crate) struct Exporter {
    collector: Collector,
    waiting: mpsc::Receiver<Batch>,
    counts: Arc<Counts>,
    log: Log,
    random: Random,
    /// The collector did not take what it was sent last.
    is_away: bool,
    /// The program ends.
    is_hurried: bool,
}

/// Asks the exporter to come to its end.
pub(crate) struct Ending {
    begins: oneshot::Sender<()>,
    ended: oneshot::Receiver<()>,
}

/// Batches of 48 KiB that wait for the collector: 6 MiB at most.
const WAITING_MOST: usize = 128;

/// A post is as long as this and one batch more at most; collectors take 4 MiB and more.
const POST_MOST: usize = 512 * 1024;

/// How often one post is tried.
const TRIES: u32 = 5;

/// Between the first try and the second, doubled each time and jittered by half.
const BACKOFF: Duration = Duration::from_millis(500);

/// A collector that wants to be left alone for longer is asked again all the same.
const LEFT_ALONE_MOST: Duration = Duration::from_secs(300);

/// At the end of the program the collector is waited for so long.
pub(crate) const LAST_FLUSH: Duration = Duration::from_secs(2);

const CLOSING: &[u8] = b"]}]}]}";

impl Collector {
    /// Judges the address and reads the roots; `own` is who the program proves to be. A warning
    /// goes to `warn`.
    ///
    /// # Errors
    /// What is wrong, a sentence each.
    pub(crate) fn load(
        traces: &Traces,
        own: Option<&PeerId>,
        mut warn: impl FnMut(String),
    ) -> Result<Self, Vec<String>> {
        let variable = traces.variable;
        let url = Url::parse_plain(&traces.endpoint)
            .map_err(|why| vec![format!("{variable}: the address {why}")])?;
        let is_readable = !url.is_tls() && !url.is_here();
        if is_readable && !traces.headers.is_empty() {
            return Err(vec![format!(
                "{variable}: is plain http to another machine, where anybody on the way could read the headers that OTEL_EXPORTER_OTLP_HEADERS adds; use https, or leave them out"
            )]);
        }
        if is_readable {
            warn(format!(
                "{variable}: spans go to {} in plain http, and whoever is on the way can read them; use https where that is not your own network",
                url.without_query()
            ));
        }
        let roots = traces.certificate.as_deref();
        let client = Client::trusting(roots, "OTEL_EXPORTER_OTLP_CERTIFICATE");
        if roots.is_some() || url.is_tls() {
            check(&client, roots, &url)?;
        }
        Ok(Self {
            client,
            url,
            headers: traces.headers.clone(),
            timeout: traces.timeout,
            sampler: traces.sampler,
            opening: opening(&traces.resource, own),
        })
    }
}

/// Roots that were named must be good, whether the address needs them or not.
fn check(client: &Client, roots: Option<&Path>, url: &Url) -> Result<(), Vec<String>> {
    let probe = match roots {
        Some(_) => Url::parse_plain("https://localhost/").unwrap_or_else(|_| url.clone()),
        None => url.clone(),
    };
    client.check(&probe).map_err(|why| vec![why])
}

/// A post up to its first span: whose spans they are.
fn opening(resource: &[(String, String)], own: Option<&PeerId>) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let own = own.map(ToString::to_string).unwrap_or_default();
    let ours = [
        ("service.version", version),
        ("gapura.identity", own.as_str()),
        ("telemetry.sdk.name", "gapura"),
        ("telemetry.sdk.language", "rust"),
        ("telemetry.sdk.version", version),
    ];
    let mut json = br#"{"resourceSpans":[{"resource":{"attributes":["#.to_vec();
    for (name, value) in resource {
        push_attribute(&mut json, name, value);
    }
    // What the operator says of a name stands.
    let is_said = |name: &str| resource.iter().any(|(said, _)| said == name);
    for (name, value) in ours {
        if !value.is_empty() && !is_said(name) {
            push_attribute(&mut json, name, value);
        }
    }
    if json.last() == Some(&b',') {
        json.pop();
    }
    json.extend_from_slice(br#"]},"scopeSpans":[{"scope":{"name":"gapura","version":""#);
    json.extend_from_slice(version.as_bytes());
    json.extend_from_slice(br#""},"spans":["#);
    json
}

impl Exporter {
    /// The task, and what each worker's tracer is made from; `peer` is what those are called who
    /// send requests.
    pub(crate) fn new(
        collector: Collector,
        peer: &'static str,
        log: Log,
        random: Random,
    ) -> (Self, TracerSpec) {
        let (sender, waiting) = mpsc::channel(WAITING_MOST);
        let counts = Arc::new(Counts::default());
        let spec = TracerSpec {
            sampler: collector.sampler,
            peer,
            hand_over: Arc::new(move |batch| {
                sender
                    .try_send(batch)
                    .map_err(mpsc::error::TrySendError::into_inner)
            }),
            counts: counts.clone(),
        };
        let exporter = Self {
            collector,
            waiting,
            counts,
            log,
            random,
            is_away: false,
            is_hurried: false,
        };
        (exporter, spec)
    }

    /// The task itself, and how to bring it to its end once no worker is left.
    pub(crate) fn begin(self) -> (impl Future<Output = ()>, Ending) {
        let (begins, mut hurry) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        let run = async move {
            // Dropped with the task, however that ends.
            let _alive = alive;
            self.run(&mut hurry).await;
        };
        (run, Ending { begins, ended })
    }

    async fn run(mut self, hurry: &mut oneshot::Receiver<()>) {
        while let Some(Batch {
            mut json,
            mut count,
        }) = self.next(hurry).await
        {
            let mut post = self.collector.opening.clone();
            post.append(&mut json);
            while post.len() < POST_MOST
                && let Ok(mut more) = self.waiting.try_recv()
            {
                post.append(&mut more.json);
                count += more.count;
            }
            if post.last() == Some(&b',') {
                post.pop();
            }
            post.extend_from_slice(CLOSING);
            self.deliver(post.into(), count, hurry).await;
        }
    }

    /// What waits next; none once the program ends and nothing does.
    async fn next(&mut self, hurry: &mut oneshot::Receiver<()>) -> Option<Batch> {
        if !self.is_hurried {
            tokio::select! {
                biased;
                batch = self.waiting.recv() => return batch,
                _ = hurry => self.is_hurried = true,
            }
        }
        self.waiting.try_recv().ok()
    }

    /// Posts until it is taken, refused, or tried often enough.
    async fn deliver(&mut self, post: Bytes, count: u64, hurry: &mut oneshot::Receiver<()>) {
        let mut wait = BACKOFF;
        for tried in 1..=TRIES {
            let Collector {
                client,
                url,
                headers,
                timeout,
                ..
            } = &self.collector;
            let posted = client.post(url, headers, post.clone(), *timeout).await;
            let (after, why) = match Verdict::of(posted, count) {
                Verdict::Taken { refused, why } => {
                    self.counts.exported(count - refused);
                    self.counts.dropped(refused);
                    self.tell(why);
                    return;
                }
                Verdict::Refused(why) => {
                    self.counts.dropped(count);
                    self.tell(Some(why));
                    return;
                }
                Verdict::Later { after, why } => (after, why),
            };
            self.tell(Some(why));
            if tried == TRIES || self.is_hurried {
                break;
            }
            let pause = after.map_or_else(|| self.jittered(wait), |it| it.min(LEFT_ALONE_MOST));
            wait *= 2;
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // The program ends: once more at once, but not where it was asked to stay away.
                _ = &mut *hurry => {
                    self.is_hurried = true;
                    if after.is_some() {
                        break;
                    }
                }
            }
        }
        self.counts.dropped(count);
    }

    fn jittered(&self, wait: Duration) -> Duration {
        let spread = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        let half = wait / 2;
        half + Duration::from_millis(self.random.next() % spread)
    }

    /// Tells of a collector once when it begins to take nothing, and once when it takes spans
    /// again.
    fn tell(&mut self, trouble: Option<String>) {
        let at = self.collector.url.without_query();
        let fields = [("collector", at.as_str().into())];
        match trouble {
            Some(why) if !self.is_away => {
                let message = format!(
                    "spans do not reach the collector and are dropped where they find no room; nothing else is slower for that: {why}"
                );
                self.log.event(Level::Warn, "spans_lost", &message, &fields);
                self.is_away = true;
            }
            None if self.is_away => {
                let message = "spans reach the collector again";
                self.log.event(Level::Info, "spans_taken", message, &fields);
                self.is_away = false;
            }
            _ => {}
        }
    }
}

impl Ending {
    /// Waits until what is left was sent, or [`LAST_FLUSH`] is over.
    pub(crate) async fn flushed(self) {
        let _ = self.begins.send(());
        let _ = tokio::time::timeout(LAST_FLUSH, self.ended).await;
    }
}

#[cfg(test)]
mod tests;

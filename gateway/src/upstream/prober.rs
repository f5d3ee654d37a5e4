//! Asks each instance how it is and what it runs, one prober a program.
//!
//! In: the plugins in force. Out: each instance's health and version, as far as it tells: `health.path` at each interval, give or
//! take a tenth, and `/version` every five seconds or as soon as it is back. The questions go over the very connections that
//! requests take, marked as the gateway's own. Whoever answers is well, whatever the answer says, but for a 503 of its own, by
//! which a plugin says that it is not, and for an answer that the sidecar made because there is no plugin.
//! Invariant: of one instance one question is under way at a time, and each has an end.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gapura_protocol::context::RequestId;
use gapura_protocol::headers::{X_GAPURA_MADE, X_GAPURA_PROBE, X_REQUEST_ID};
use gapura_runtime::worker::Worker;
use gapura_telemetry::log::Level;
use gapura_transport::body::{Body, Upload};
use http::header::{HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use serde_json::Value;

use super::cluster::{Cluster, Running};
use super::health::{Change, Reason};
use super::instance::{Address, Asking, Instance};
use super::{Error, Upstreams};
use crate::registry::{HealthCheck, Plugin, Registry, SemVer};

/// What is asked of one instance.
struct Question {
    upstreams: Rc<Upstreams>,
    worker: Rc<Worker>,
    plugin: Arc<Plugin>,
    cluster: Arc<Cluster>,
    instance: Arc<Instance>,
    /// What the operator believes runs there matters.
    is_main: bool,
    health: bool,
    version: bool,
}

/// An answer to a question.
struct Told {
    status: StatusCode,
    /// The sidecar made it.
    made: bool,
    body: Bytes,
}

/// How often it is looked whose time has come.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A question without an answer ends after its interval, but within these.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(5);

/// How often an instance is asked what it runs.
const VERSION_EVERY_MS: u64 = 5_000;

/// More of an answer is not read.
const ANSWER_MAX: usize = 64 * 1024;

/// Asks the instances of all plugins of `registry`, for ever.
pub(crate) async fn run(upstreams: Rc<Upstreams>, worker: Rc<Worker>, registry: Registry) {
    loop {
        worker.timers.sleep(LOOK_EVERY).await;
        let table = registry.table();
        for (plugin, running) in table.running().filter(|(plugin, _)| plugin.enabled) {
            look(&upstreams, &worker, plugin, running);
        }
    }
}

fn look(upstreams: &Rc<Upstreams>, worker: &Rc<Worker>, plugin: &Arc<Plugin>, running: &Running) {
    let main = std::iter::once((plugin, &running.main, true));
    let canary = running.canary.iter();
    let all = main.chain(canary.map(|canary| (&canary.plugin, &canary.cluster, false)));
    for (plugin, cluster, is_main) in all {
        let is_asked = plugin.health.is_some() || plugin.min_version.is_some();
        let now = cluster.epoch().now();
        for instance in cluster.instances().iter() {
            judge(plugin, cluster, instance, worker);
            if !is_asked {
                continue;
            }
            let (health, version) = due(instance, plugin, worker, now);
            if (health || version) && !instance.asking.busy.swap(true, Relaxed) {
                let question = Question {
                    upstreams: upstreams.clone(),
                    worker: worker.clone(),
                    plugin: plugin.clone(),
                    cluster: cluster.clone(),
                    instance: instance.clone(),
                    is_main,
                    health,
                    version,
                };
                worker.tasks.spawn("a probe", question.ask());
            }
        }
    }
}

/// Holds an instance out that does not say that it is as new as it must be, and lets it in as soon as it does, or need not.
fn judge(plugin: &Plugin, cluster: &Cluster, instance: &Instance, worker: &Worker) {
    let fits = plugin.min_version.as_ref().is_none_or(|least| {
        let said = instance.version();
        let read = said.and_then(|said| SemVer::parse(&said));
        read.is_some_and(|said| said >= *least)
    });
    let health = &instance.health;
    if fits == health.is_out_for(Reason::Version)
        && let Some(change) = health.version_fits(fits, cluster.epoch().now())
    {
        cluster.changed(instance, change, &worker.spec.log);
    }
}

/// Which of the two questions it is time for.
fn due(instance: &Instance, plugin: &Plugin, worker: &Worker, now: u64) -> (bool, bool) {
    let asking = &instance.asking;
    let health = plugin.health.as_ref().is_some_and(|check| {
        let every = u64::try_from(check.interval.as_millis()).unwrap_or(u64::MAX / 2);
        // Jittered: the first time anywhere in the interval, then by a tenth of it.
        if asking.next_health.load(Relaxed) == 0 {
            let first = now + worker.random.next() % every.max(1);
            asking.next_health.store(first, Relaxed);
        }
        let spread = worker.random.next() % (every / 5).max(1);
        Asking::is_due(&asking.next_health, now, every - every / 10 + spread)
    });
    let version = Asking::is_due(&asking.next_version, now, VERSION_EVERY_MS);
    (health, version)
}

impl Question {
    async fn ask(self) {
        let mut is_there = true;
        if self.health
            && let Some(check) = &self.plugin.health
        {
            is_there = self.ask_how(check).await;
        }
        if self.version && is_there {
            self.ask_version().await;
        }
    }

    /// Asks how it is; whether anybody answered.
    async fn ask_how(&self, check: &HealthCheck) -> bool {
        let told = self.get(&check.path).await;
        let (there, well) = match &told {
            Ok(told) if told.made => {
                let is_gone = told.status.is_server_error();
                (!is_gone, !is_gone)
            }
            Ok(told) => (true, told.status != StatusCode::SERVICE_UNAVAILABLE),
            Err(_) => (false, false),
        };
        if told.is_err() {
            self.cluster.look_soon();
        }
        let health = &self.instance.health;
        let was_in = health.is_in();
        let change = if well {
            health.probe_passed(self.cluster.epoch().now(), check.healthy_after)
        } else {
            health.probe_failed(check.unhealthy_after)
        };
        self.changed(change);
        if !was_in || !there {
            // What comes back may be another version.
            self.instance.asking.next_version.store(0, Relaxed);
        }
        there
    }

    async fn ask_version(&self) {
        let told = self.get("/version").await;
        let said = match &told {
            Ok(told) if told.status == StatusCode::OK && !told.made => version_of(&told.body),
            // An answer that tells none is an answer; without one, what it said last is all that is known.
            Ok(told) if !told.made => None,
            Ok(_) | Err(_) => return,
        };
        let is_new = self.instance.says_version(said.clone());
        judge(&self.plugin, &self.cluster, &self.instance, &self.worker);
        if is_new {
            self.compare(said.as_deref());
        }
    }

    /// Tells of an instance that does not run what its plugin's file says.
    fn compare(&self, said: Option<&str>) {
        let Some(said) = said.filter(|said| self.is_main && *said != self.plugin.version) else {
            return;
        };
        let (plugin, at) = (self.plugin.name.as_str(), self.instance.at().to_string());
        let believed = self.plugin.version.as_str();
        let message = format!(
            "the instance of plugin {plugin} at {at} says that it runs {said}, and its file says {believed}"
        );
        let fields = [
            ("plugin", plugin.into()),
            ("instance", at.as_str().into()),
            ("version", said.into()),
            ("believed", believed.into()),
        ];
        let log = &self.worker.spec.log;
        log.event(Level::Warn, "version_mismatch", &message, &fields);
    }

    fn changed(&self, change: Option<Change>) {
        if let Some(change) = change {
            let log = &self.worker.spec.log;
            self.cluster.changed(&self.instance, change, log);
        }
    }

    /// The answer to a GET of the gateway's own.
    async fn get(&self, path: &str) -> Result<Told, Error> {
        let wait = self.plugin.health.as_ref().map(|check| check.interval);
        let wait = wait.unwrap_or(LEAST_WAIT).clamp(LEAST_WAIT, MOST_WAIT);
        let request = self.request(path)?;
        let upload = Rc::new(Upload::finished());
        let asked = self
            .upstreams
            .ask(&self.cluster, &self.instance, request, &upload, wait);
        let answer = asked.await?.response;
        let (head, mut body) = answer.into_parts();
        let mut all = BytesMut::new();
        let deadline = self.worker.timers.sleep(wait);
        loop {
            let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                std::task::Poll::Pending => deadline.poll_passed(cx).map(|()| Err(Error::Timeout)),
                ready => ready.map(Ok),
            });
            match frame.await? {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        all.extend_from_slice(&data);
                    }
                }
                Some(Err(_)) => return Err(Error::Protocol),
                None => break,
            }
            if all.len() > ANSWER_MAX {
                break;
            }
        }
        Ok(Told {
            status: head.status,
            made: head.headers.contains_key(X_GAPURA_MADE) && !self.plugin.upstream.is_plaintext(),
            body: all.freeze(),
        })
    }

    fn request(&self, path: &str) -> Result<Request<Body>, Error> {
        let host = match self.instance.at() {
            Address::Tcp(at) => at.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        };
        let id = RequestId::new_v7(
            self.worker.spec.clock.unix_millis(),
            self.worker.random.next_wide(),
        );
        let request = Request::builder()
            .method(Method::GET)
            .header(X_REQUEST_ID, id.header());
        let request = if self.plugin.upstream.is_plaintext() {
            request
                .version(Version::HTTP_11)
                .uri(path)
                .header(HOST, host)
        } else {
            let uri = Uri::builder()
                .scheme("https")
                .authority(host)
                .path_and_query(path)
                .build();
            request
                .version(Version::HTTP_2)
                .uri(uri.map_err(|_| Error::Unwritable)?)
                .header(X_GAPURA_PROBE, HeaderValue::from_static("1"))
        };
        request.body(Body::empty()).map_err(|_| Error::Unwritable)
    }
}

impl Drop for Question {
    /// However it ended, the next one may be asked.
    fn drop(&mut self) {
        self.instance.asking.busy.store(false, Relaxed);
    }
}

/// What an answer says runs there: the field `version` of its JSON, as a plugin's file could write it.
fn version_of(body: &[u8]) -> Option<String> {
    let told: Value = serde_json::from_slice(body).ok()?;
    let inner = told
        .get("data")
        .filter(|data| data.get("version").is_some());
    let version = inner.unwrap_or(&told).get("version")?.as_str()?;
    let fits =
        (1..=128).contains(&version.len()) && version.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_a_short_text_by_that_name() {
        for (body, version) in [
            (r#"{"version": "1.2.3"}"#, Some("1.2.3")),
            (
                r#"{"name": "lab", "version": "1.2.3-rc.1"}"#,
                Some("1.2.3-rc.1"),
            ),
            (
                r#"{"ok": true, "data": {"version": "2.0.0"}}"#,
                Some("2.0.0"),
            ),
            (r#"{"version": 1}"#, None),
            (r#"{"version": ""}"#, None),
            (r#"{"version": "1\n2"}"#, None),
            ("1.2.3", None),
            ("", None),
        ] {
            assert_eq!(version_of(body.as_bytes()).as_deref(), version, "{body}");
        }
    }
}

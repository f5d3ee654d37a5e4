//! One question of the gateway's own to one instance.
//!
//! In: an instance, and a path. Out: what it answers there, bounded in time and in bytes, or that
//! it does not. The question goes over the connection that requests take, if one stands, marked as
//! the gateway's own, and has neither body nor caller.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use gapura_protocol::context::RequestId;
use gapura_protocol::headers::{X_GAPURA_MADE, X_GAPURA_PROBE, X_REQUEST_ID};
use gapura_runtime::worker::Worker;
use gapura_transport::body::{Body, Upload};
use http::header::{HOST, HeaderValue};
use http::{Method, Request, StatusCode, Uri, Version};
use http_body::Body as _;

use super::cluster::Cluster;
use super::health::Reason;
use super::instance::{Address, Instance};
use super::{Error, Upstreams};
use crate::registry::{Plugin, SemVer};

/// Whom a question is for.
pub(super) struct Question {
    pub(super) upstreams: Rc<Upstreams>,
    pub(super) worker: Rc<Worker>,
    pub(super) plugin: Arc<Plugin>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) instance: Arc<Instance>,
    /// What the operator believes runs there matters.
    pub(super) is_main: bool,
}

/// An answer to a question.
pub(super) struct Told {
    pub(super) status: StatusCode,
    /// The sidecar made it.
    pub(super) made: bool,
    pub(super) body: Bytes,
    /// There was more of it than is read.
    pub(super) cut: bool,
}

/// A question without an answer ends after its interval, but within these.
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(5);

/// More of an answer is not read.
const ANSWER_MAX: usize = 64 * 1024;

impl Question {
    /// The answer to a GET of the gateway's own.
    pub(super) async fn get(&self, path: &str) -> Result<Told, Error> {
        let wait = self.plugin.health.as_ref().map(|check| check.interval);
        let wait = wait.unwrap_or(LEAST_WAIT).clamp(LEAST_WAIT, MOST_WAIT);
        self.get_within(path, wait, ANSWER_MAX).await
    }

    /// The same, `most` bytes of it, with `wait` for its head and as long again for the rest.
    pub(super) async fn get_within(
        &self,
        path: &str,
        wait: Duration,
        most: usize,
    ) -> Result<Told, Error> {
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
                Poll::Pending => deadline.poll_passed(cx).map(|()| Err(Error::Timeout)),
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
            if all.len() > most {
                break;
            }
        }
        Ok(Told {
            status: head.status,
            made: head.headers.contains_key(X_GAPURA_MADE) && !self.plugin.upstream.is_plaintext(),
            cut: all.len() > most,
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

/// Holds an instance out that does not say that it is as new as it must be, or whose contract
/// breaks the one in force, and lets it in as soon as that is over, or need not be.
pub(super) fn judge(plugin: &Plugin, cluster: &Cluster, instance: &Instance, worker: &Worker) {
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
    let contract =
        !plugin.keeps_breaking_out() || instance.contract().is_some_and(|contract| contract.fits);
    if contract == health.is_out_for(Reason::Contract)
        && let Some(change) = health.contract_fits(contract, cluster.epoch().now())
    {
        cluster.changed(instance, change, &worker.spec.log);
    }
}

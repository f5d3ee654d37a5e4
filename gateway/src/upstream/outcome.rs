//! What one try says about the instance that it was sent to.
//!
//! In: how it ended. Out: that instance's health and load as they are from then on, and whether the
//! answer is one that another instance would not have given. What a client is to blame for says
//! nothing, nor does a status that the plugin itself chose. Who could not be reached is taken out
//! in any case; who broke off only while another is in, since a request that breaks a plugin would
//! break the next one too.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gapura_protocol::envelope::Code;
use gapura_protocol::headers::X_GAPURA_MADE;
use gapura_runtime::worker::Worker;
use gapura_transport::body::{Attachment, BodyFault, End};
use gapura_transport::upstream::Answer;
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use super::balance::Rank;
use super::cluster::Cluster;
use super::error::Error;
use super::load::UnderWay;

/// Watches one try.
pub(super) struct Watch<'a> {
    cluster: &'a Arc<Cluster>,
    rank: Rc<Rank>,
    worker: &'a Rc<Worker>,
    /// None where there is nothing to choose.
    under_way: Option<UnderWay>,
}

/// Watches the body of an answer, which is good only once it is whole, or has flowed for a while.
struct Rest {
    cluster: Arc<Cluster>,
    rank: Rc<Rank>,
    worker: Rc<Worker>,
    under_way: UnderWay,
    begun: Instant,
    /// It counts as a good answer already.
    is_good: bool,
}

/// A body that has flowed for so long is no half answer any more, whatever becomes of it.
const LONG: Duration = Duration::from_secs(1);

impl<'a> Watch<'a> {
    /// Begins with the try. `several` says whether there is a choice.
    pub(super) fn new(
        cluster: &'a Arc<Cluster>,
        rank: &Rc<Rank>,
        worker: &'a Rc<Worker>,
        several: bool,
        begun: Instant,
    ) -> Self {
        let under_way = several.then(|| rank.load.begin(cluster.epoch(), begun));
        Self {
            cluster,
            rank: rank.clone(),
            worker,
            under_way,
        }
    }

    /// The head of an answer came. True if it is the sidecar's and says that the plugin gave none.
    pub(super) fn answered(&mut self, answer: &Answer, sidecar: bool) -> bool {
        let (status, headers) = (answer.response.status(), answer.response.headers());
        if status == StatusCode::BAD_GATEWAY && sidecar {
            let made = headers.get(X_GAPURA_MADE);
            match made.and_then(|word| Code::from_word(word.as_bytes())) {
                Some(Code::UpstreamUnreachable) => {
                    self.failed(true);
                    return true;
                }
                Some(Code::UpstreamProtocol) => {
                    self.failed(self.another_is_in());
                    return true;
                }
                _ => {}
            }
        }
        let health = &self.rank.instance.health;
        if let Some(under_way) = &mut self.under_way {
            under_way.answered(Instant::now());
            if let Some(after) = asks_to_be_spared(status, headers) {
                health.spare(self.cluster.epoch().now(), after);
            }
        }
        let is_whole = answer.response.body().is_ended() || answer.switched.is_some();
        if is_whole || self.under_way.is_none() {
            good(self.cluster, &self.rank, self.worker);
        }
        false
    }

    /// Nothing of the request was written.
    pub(super) fn unsent(&mut self, why: &Error) {
        // That we have too many requests under way is no fault of the instance's.
        if !matches!(why, Error::Overloaded) {
            self.failed(true);
        }
    }

    /// No connection stood in time, and another instance was asked instead. On a busy machine all
    /// may be late at once.
    pub(super) fn late(&mut self) {
        self.failed(self.another_is_in());
    }

    /// The request may have been written, and there is no answer.
    pub(super) fn lost(&mut self, why: &Error) {
        match why {
            Error::Identity(_) => self.failed(true),
            Error::Unreachable(_) | Error::Protocol => self.failed(self.another_is_in()),
            // Slow is not out: what it took is counted when this is dropped. The others are
            // nobody's or the client's.
            Error::Timeout
            | Error::Overloaded
            | Error::AllOut
            | Error::Body(_)
            | Error::Unwritable => {}
        }
    }

    /// The answer, watched to its end.
    pub(super) fn carried(self, mut answer: Answer) -> Answer {
        let Some(under_way) = self.under_way else {
            return answer;
        };
        if let Some(switched) = &mut answer.switched {
            let held = std::mem::replace(&mut switched.held, Box::new(()));
            switched.held = Box::new((held, under_way));
        } else if !answer.response.body().is_ended() {
            let rest = Rest {
                cluster: self.cluster.clone(),
                rank: self.rank,
                worker: self.worker.clone(),
                under_way,
                begun: Instant::now(),
                is_good: false,
            };
            answer.response = answer.response.map(|body| body.with(Box::new(rest)));
        }
        answer
    }

    fn another_is_in(&self) -> bool {
        let here = &self.rank.instance;
        self.cluster.has_another(|one| Arc::ptr_eq(one, here))
    }

    fn failed(&mut self, ejects: bool) {
        let at = Instant::now();
        if let Some(under_way) = &mut self.under_way {
            under_way.failed(at);
        }
        let instance = &self.rank.instance;
        let now = self.cluster.epoch().at(at);
        if let Some(change) = instance.health.failed(now, ejects) {
            self.cluster
                .changed(instance, change, &self.worker.spec.log);
        }
    }
}

impl Attachment for Rest {
    fn bytes(&mut self, _: u64) {
        if !self.is_good && self.begun.elapsed() > LONG {
            self.is_good = true;
            good(&self.cluster, &self.rank, &self.worker);
        }
    }

    fn ended(&mut self, end: End) {
        match end {
            End::Whole | End::CutShort if !self.is_good => {
                good(&self.cluster, &self.rank, &self.worker);
            }
            End::Broken(
                BodyFault::Cut | BodyFault::Short | BodyFault::Gone | BodyFault::Malformed(_),
            ) => {
                self.under_way.failed(Instant::now());
                let (instance, now) = (&self.rank.instance, self.cluster.epoch().now());
                let ejects = self.cluster.has_another(|one| Arc::ptr_eq(one, instance));
                if let Some(change) = instance.health.failed(now, ejects) {
                    self.cluster
                        .changed(instance, change, &self.worker.spec.log);
                }
            }
            // Nobody took it, or it was silent as a slow plugin is.
            _ => {}
        }
    }
}

fn good(cluster: &Cluster, rank: &Rank, worker: &Worker) {
    let health = &rank.instance.health;
    if !health.is_spotless()
        && let Some(change) = health.answered(cluster.epoch().now())
    {
        cluster.changed(&rank.instance, change, &worker.spec.log);
    }
}

/// A date would need a clock that both agree on: it counts as a second.
fn asks_to_be_spared(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    if status != StatusCode::TOO_MANY_REQUESTS && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    Some(Duration::from_secs(text.trim().parse().unwrap_or(1)))
}

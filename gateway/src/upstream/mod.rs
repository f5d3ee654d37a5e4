//! Sends a permitted request to its plugin, over mTLS to a sidecar or in plain HTTP.
//!
//! In: an [`Outgoing`] request and the [`Cluster`] that takes it. Out: the plugin's answer, its
//! body under way, or an [`Error`] that says what went wrong on the way. Each worker keeps its own
//! connections; one belongs to an address, an identity and a protocol, whichever clusters lead
//! there, and the trust set in force may end it at any time.
//!
//! `cluster` says where to, `resolve` keeps that true, `prober` asks each `instance` how it is
//! (`question`), `contracts` what it serves, and `health` remembers; `balance` chooses by `load`,
//! `retry` says what may go again and `budget` how much of it; `hop` keeps the connections to one
//! address, `dial` opens them.

pub(crate) mod admission;
mod allowance;
mod attempt;
mod balance;
mod budget;
pub(crate) mod carrier;
pub(crate) mod cluster;
mod contracts;
mod dial;
pub(crate) mod error;
pub(crate) mod health;
pub(crate) mod holding;
mod hop;
pub(crate) mod instance;
mod load;
mod loads;
mod lookup;
pub(crate) mod mirror;
mod outcome;
mod outgrown;
mod place;
pub(crate) mod prober;
mod question;
pub(crate) mod resolve;
mod retry;
mod shared;
mod tied;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gapura_http2::Owner;
use gapura_http2::client::Remake;
use gapura_protocol::grpc::is_grpc;
use gapura_protocol::headers::TRACEPARENT;
use gapura_runtime::worker::Worker;
use gapura_telemetry::span::Spans;
use gapura_transport::body::{Body, Upload};
use gapura_transport::live::LiveConnections;
use gapura_transport::upstream::{Answer, Hint, Patience};
use gapura_trust::set::TrustStore;
use http::Request;
use http::header::CONTENT_LENGTH;

use crate::outgoing::Outgoing;
use crate::registry::Retry;
use balance::Choice;
use carrier::Carrier;
use cluster::Cluster;
use hop::Way;
use instance::Instance;
use outcome::Watch;
use place::{Place, Seat, Ways};
use retry::Tries;

pub(crate) use error::Error;

/// One worker's way to all plugins.
pub(crate) struct Upstreams {
    worker: Rc<Worker>,
    ways: Ways,
    /// By the clusters' seats.
    places: RefCell<Vec<Option<Rc<Place>>>>,
}

/// One request on its way, and all that stays the same however often it is tried.
struct Sending<'a> {
    place: Rc<Place>,
    cluster: &'a Arc<Cluster>,
    /// For whom streams hold what of the answer is not taken.
    owner: &'a Rc<Owner>,
    patience: Patience<'a>,
    carrier: Carrier,
    /// Its answer is a sidecar's.
    sidecar: bool,
    retry: Retry,
    /// Whether there is another instance that could do it.
    several: bool,
    /// Where it is told how each try went, if the request is sampled.
    spans: Option<Rc<Spans>>,
    /// Makes its head once more, as it was first.
    again: Option<&'a Remake<'a>>,
}

/// One try, at one instance.
struct Try<'a> {
    seat: &'a Seat,
    begun: Instant,
    /// Where it has been already, if it may still go on from here without having been sent.
    beyond: Option<&'a [Arc<Instance>]>,
    /// Makes its head once more, as it is in this try.
    again: Option<&'a Remake<'a>>,
    /// Its body, if all of it may be sent once more to another.
    spare: Option<Bytes>,
}

/// How one try ended.
enum Tried {
    Done(Answer),
    /// Another may try: nothing was written, or doing it twice does no harm. Boxed, since it is
    /// rare.
    Again(Box<Again>),
    Over(Error),
}

/// A request that may go once more.
struct Again {
    request: Box<Request<Body>>,
    failed: Failed,
}

/// Why a request is to be tried again: the answer or the error that stands if it is not.
enum Failed {
    Unsent(Error),
    Lost(Error),
    Refused(Answer),
}

impl Upstreams {
    /// A way without any connection yet.
    #[must_use]
    pub(crate) fn new(worker: Rc<Worker>, trust: TrustStore, live: LiveConnections) -> Self {
        Self {
            ways: Ways::new(worker.clone(), trust, live),
            worker,
            places: RefCell::default(),
        }
    }

    /// Sends a request of `owner` and waits for the head of its answer; `hint` hears of interim
    /// ones. Where nothing was written yet, another instance or a fresh connection is tried; what
    /// may have arrived goes to another one only as `retry` allows it, its head made once more by
    /// `again`.
    ///
    /// # Errors
    /// [`Error`]
    pub(crate) async fn send(
        &self,
        cluster: &Arc<Cluster>,
        (mut outgoing, again): (Outgoing, &Remake<'_>),
        body: Body,
        upload: &Rc<Upload>,
        (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    ) -> Result<Answer, Error> {
        let leave = match outgoing.carrier {
            Carrier::Shared => None,
            Carrier::Alone => Some(cluster.alone().ok_or(Error::Overloaded)?),
        };
        *outgoing.request.body_mut() = body;
        let by = (owner, hint);
        let sent = self.send_on(cluster, (outgoing, again), upload, by).await;
        match leave {
            None => sent,
            Some(leave) => sent.map(|answer| answer.with(Box::new(leave))),
        }
    }

    async fn send_on(
        &self,
        cluster: &Arc<Cluster>,
        (outgoing, again): (Outgoing, &Remake<'_>),
        upload: &Rc<Upload>,
        (owner, hint): (&Rc<Owner>, &mut Hint<'_>),
    ) -> Result<Answer, Error> {
        let place = self.place(cluster);
        place.budget.request(self.second());
        let Outgoing {
            plugin,
            mut request,
            carrier,
            spans,
        } = outgoing;
        let several = place.is_several(cluster, &self.ways);
        let repeatable = several
            && plugin.retry.attempts > 0
            && carrier == Carrier::Shared
            && retry::may_repeat(&request);
        let small = match repeatable && !request.body().is_ended() {
            true => {
                let body = std::mem::replace(request.body_mut(), Body::empty());
                let bytes = Box::pin(retry::collect(body)).await.map_err(Error::Body)?;
                *request.body_mut() = Body::full(bytes.clone());
                bytes
            }
            false => Bytes::new(),
        };
        let sending = Sending {
            place,
            cluster,
            owner,
            patience: Patience::new(upload, &self.worker.timers, plugin.timeout),
            carrier,
            sidecar: !plugin.upstream.is_plaintext(),
            retry: plugin.retry,
            several,
            spans,
            again: Some(again),
        };
        let begun = Instant::now();
        let seat = self.first(&sending, repeatable, begun)?;
        let first = Try {
            seat: &seat,
            begun,
            beyond: several.then_some(&[]),
            again: Some(again),
            spare: repeatable.then(|| small.clone()),
        };
        match self.try_at(&sending, first, request, hint).await {
            Tried::Done(answer) => Ok(answer),
            Tried::Over(error) => Err(error),
            // Boxed: nothing is wrong as a rule, and the frame would be part of every request's.
            Tried::Again(again) => {
                let small = repeatable.then_some(small);
                let tries = Tries::new(begun);
                let rest = self.go_on(&sending, seat, tries, (*again, small), hint);
                Box::pin(rest).await
            }
        }
    }

    /// Tries again, elsewhere while another is well, until one answers, nothing is allowed any
    /// more, or all have been tried.
    async fn go_on(
        &self,
        sending: &Sending<'_>,
        mut seat: Seat,
        mut tries: Tries,
        (again, small): (Again, Option<Bytes>),
        hint: &mut Hint<'_>,
    ) -> Result<Answer, Error> {
        let Again {
            mut request,
            mut failed,
        } = again;
        loop {
            let unsent = matches!(failed, Failed::Unsent(_));
            tries.tried.push(seat.rank.instance.clone());
            let next = if self.may_go_again(sending, &mut tries, unsent) {
                self.next(sending, &tries.tried, unsent)
            } else {
                None
            };
            let Some(next) = next else {
                return failed.into_result();
            };
            tries.once_more(request.headers_mut());
            seat = next;
            let more = sending.several && tries.unsent < sending.retry.attempts.max(1);
            let again = || {
                let mut head = sending.again?()?;
                tries.once_more(head.headers_mut());
                Some(head)
            };
            let next = Try {
                seat: &seat,
                begun: Instant::now(),
                beyond: more.then_some(&tries.tried),
                again: Some(&again),
                spare: small.clone(),
            };
            match self.try_at(sending, next, request, hint).await {
                Tried::Done(answer) => return Ok(answer),
                Tried::Over(error) => return Err(error),
                Tried::Again(again) => (request, failed) = (again.request, again.failed),
            }
        }
    }

    /// Whether one more try is allowed, which counts it.
    fn may_go_again(&self, sending: &Sending<'_>, tries: &mut Tries, unsent: bool) -> bool {
        let Retry {
            attempts,
            budget_percent,
        } = sending.retry;
        if unsent {
            tries.unsent += 1;
            // In vain at a sole instance is in vain.
            return tries.unsent <= if sending.several { attempts.max(1) } else { 1 };
        }
        tries.again += 1;
        tries.again <= attempts && sending.place.budget.take(self.second(), budget_percent)
    }

    /// Tries one instance.
    async fn try_at(
        &self,
        sending: &Sending<'_>,
        Try {
            seat,
            begun,
            beyond,
            again,
            spare,
        }: Try<'_>,
        mut request: Box<Request<Body>>,
        hint: &mut Hint<'_>,
    ) -> Tried {
        let cluster = sending.cluster;
        let mut call = sending.spans.as_ref().map(|spans| {
            let callee = seat.rank.instance.at().callee(sending.sidecar);
            let path = request.uri().path_and_query();
            let call = spans.call(callee, path, request.version());
            request.headers_mut().insert(TRACEPARENT, call.header());
            call
        });
        let mut watch = Watch::new(cluster, &seat.rank, &self.worker, sending.several, begun);
        let here = &seat.rank.instance;
        let elsewhere = || {
            beyond.is_some_and(|tried| {
                let is_known =
                    |one: &Arc<Instance>| tried.iter().any(|known| Arc::ptr_eq(known, one));
                cluster.has_another(|one| Arc::ptr_eq(one, here) || is_known(one))
            })
        };
        let as_here = || {
            let mut head = again?()?;
            if let Some(call) = &call {
                head.headers_mut().insert(TRACEPARENT, call.header());
            }
            Some(head)
        };
        let way = Way {
            carrier: sending.carrier,
            question: false,
            elsewhere: &elsewhere,
            outgrows: says_no_length(&request).then_some(cluster),
            again: again.is_some().then_some(&as_here),
        };
        let by = (sending.owner, hint);
        let sent = seat.hop.send(request, way, &sending.patience, by).await;
        let elsewhere = |spare: Bytes| {
            let head = sending.again?()?;
            Some(head.map(|()| Body::full(spare)))
        };
        if let Some(call) = &mut call {
            match &sent {
                Ok(Answer { response, .. }) => call.answered(response.status(), response.version()),
                Err(hop::Error::Unsent(_, why) | hop::Error::Final(why)) => {
                    call.failed(why.code().as_str());
                }
                Err(hop::Error::Late(_)) => call.failed(Error::Timeout.code().as_str()),
            }
        }
        match sent {
            Ok(answer) => {
                let bad = watch.answered(&answer, sending.sidecar);
                let answer = watch.carried(answer);
                match spare.filter(|_| bad).and_then(elsewhere) {
                    Some(request) => Tried::again(Box::new(request), Failed::Refused(answer)),
                    None => Tried::Done(answer),
                }
            }
            Err(hop::Error::Unsent(unsent, why)) => {
                watch.unsent(&why);
                cluster.look_soon();
                Tried::again(unsent, Failed::Unsent(why))
            }
            Err(hop::Error::Late(unsent)) => {
                watch.late();
                cluster.look_soon();
                Tried::again(unsent, Failed::Unsent(Error::Timeout))
            }
            Err(hop::Error::Final(error)) => {
                watch.lost(&error);
                let lost = matches!(error, Error::Unreachable(_) | Error::Identity(_));
                match spare.filter(|_| lost).and_then(elsewhere) {
                    Some(request) => Tried::again(Box::new(request), Failed::Lost(error)),
                    None => Tried::Over(error),
                }
            }
        }
    }

    /// The instance for a request's first try. One that can be repeated may find out whether an
    /// instance is back that was out.
    fn first(
        &self,
        sending: &Sending<'_>,
        repeatable: bool,
        begun: Instant,
    ) -> Result<Seat, Error> {
        let (cluster, now) = (sending.cluster, sending.cluster.epoch().at(begun));
        let random = || self.worker.random.next();
        let choice = sending.place.with(cluster, &self.ways, |rota| {
            rota.choose(cluster.generation(), repeatable, now, random)
        });
        match choice {
            Choice::One(at) => sending.place.seat(at).ok_or_else(Error::nowhere),
            Choice::AllOut => Err(Error::AllOut),
            Choice::NoneKnown => Err(Error::nowhere()),
        }
    }

    fn next(&self, sending: &Sending<'_>, tried: &[Arc<Instance>], again: bool) -> Option<Seat> {
        let (cluster, random) = (sending.cluster, self.worker.random.next());
        let choice = sending.place.with(cluster, &self.ways, |rota| {
            rota.choose_other(cluster.generation(), tried, again, random)
        });
        match choice {
            Choice::One(at) => sending.place.seat(at),
            Choice::AllOut | Choice::NoneKnown => None,
        }
    }

    /// Sends the copy of a request, once and to whoever's turn it is, and waits `wait` at most for
    /// the head of its answer.
    async fn send_once(
        &self,
        cluster: &Arc<Cluster>,
        outgoing: Outgoing,
        upload: &Rc<Upload>,
        wait: Duration,
    ) -> Result<Answer, Error> {
        let place = self.place(cluster);
        // The gateway's own: what it holds is nobody's who waits for it.
        let owner = self.worker.held.owner(None);
        let sending = Sending {
            owner: &owner,
            several: place.is_several(cluster, &self.ways),
            place,
            cluster,
            patience: Patience::new(upload, &self.worker.timers, wait),
            carrier: outgoing.carrier,
            sidecar: !outgoing.plugin.upstream.is_plaintext(),
            retry: outgoing.plugin.retry,
            spans: None,
            again: None,
        };
        let begun = Instant::now();
        let seat = self.first(&sending, false, begun)?;
        let nobody = &mut |_, _| {};
        let once = Try {
            seat: &seat,
            begun,
            beyond: None,
            again: None,
            spare: None,
        };
        let tried = self.try_at(&sending, once, outgoing.request, nobody);
        match tried.await {
            Tried::Done(answer) => Ok(answer),
            Tried::Over(error) => Err(error),
            Tried::Again(again) => again.failed.into_result(),
        }
    }

    /// Asks one instance a question of the gateway's own, and waits `wait` at most for the head of
    /// its answer.
    async fn ask(
        &self,
        cluster: &Arc<Cluster>,
        instance: &Instance,
        request: Request<Body>,
        upload: &Rc<Upload>,
        wait: Duration,
    ) -> Result<Answer, Error> {
        let hop = self.place(cluster).hop(instance, cluster, &self.ways);
        let hop = hop.ok_or_else(Error::nowhere)?;
        let patience = Patience::new(upload, &self.worker.timers, wait);
        let owner = self.worker.held.owner(None);
        let nobody = &mut |_, _| {};
        let way = Way {
            carrier: Carrier::Shared,
            question: true,
            elsewhere: &|| false,
            outgrows: None,
            again: None,
        };
        let sent = hop.send(Box::new(request), way, &patience, (&owner, nobody));
        sent.await.map_err(|error| match error {
            hop::Error::Unsent(_, error) | hop::Error::Final(error) => error,
            hop::Error::Late(_) => Error::Timeout,
        })
    }

    /// Forgets clusters that are gone, and connections that nobody needs any more. Called about
    /// once a second.
    pub(crate) fn sweep(&self) {
        for place in self.places.borrow_mut().iter_mut() {
            if place.as_ref().is_some_and(|place| !place.sweep(&self.ways)) {
                *place = None;
            }
        }
        self.ways.sweep();
    }

    fn place(&self, cluster: &Arc<Cluster>) -> Rc<Place> {
        let mut places = self.places.borrow_mut();
        if places.len() <= cluster.seat() {
            places.resize_with(cluster.seat() + 1, || None);
        }
        let fresh = || Rc::new(Place::new(cluster));
        let Some(place) = places.get_mut(cluster.seat()) else {
            return fresh();
        };
        // Whoever had the seat before may not be forgotten yet.
        if let Some(known) = place.as_ref().filter(|known| known.is_of(cluster)) {
            return known.clone();
        }
        place.insert(fresh()).clone()
    }

    fn second(&self) -> u64 {
        self.worker.timers.now() / TICKS_A_SECOND
    }
}

/// Whether a body comes that may become any size. gRPC's calls last, and are many small messages.
fn says_no_length(request: &Request<Body>) -> bool {
    let headers = request.headers();
    !request.body().is_ended() && !headers.contains_key(CONTENT_LENGTH) && !is_grpc(headers)
}

/// Steps of the worker's timers.
const TICKS_A_SECOND: u64 = 10;

impl Tried {
    fn again(request: Box<Request<Body>>, failed: Failed) -> Self {
        Self::Again(Box::new(Again { request, failed }))
    }
}

impl Failed {
    fn into_result(self) -> Result<Answer, Error> {
        match self {
            Self::Unsent(error) | Self::Lost(error) => Err(error),
            Self::Refused(answer) => Ok(answer),
        }
    }
}

#[cfg(test)]
mod figures;

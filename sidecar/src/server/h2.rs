//! HTTP/2 on the hop: all requests of one worker of the gateway over one connection. A gateway that
//! takes a request back takes it from the plugin too.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use gapura_http2::server::{End, Settings, serve as serve_http2};
use gapura_runtime::places::Place;
use gapura_transport::shutdown::Phase;

use super::proven::Proven;
use super::service::{Hop, cut, told_to_go};
use crate::pipeline::Pipeline;

/// Serves one connection to its end.
pub(super) async fn serve(pipeline: &Rc<Pipeline>, proven: Proven, place: &Arc<Place>) {
    let Proven {
        stream,
        peer,
        name,
        guard,
        ..
    } = proven;
    let worker = &pipeline.worker;
    // A connection that was there is told to go elsewhere at once. One that comes during the delay
    // is served until the listener closes: told at once, it would carry nothing.
    let goes_at = if worker.spec.stopping.phase() == Phase::Run {
        Phase::Draining
    } else {
        Phase::Closing
    };
    let owner = worker.held.owner(None);
    let share = worker.held.open_for(&owner);
    let hop = Rc::new(Hop {
        pipeline: pipeline.clone(),
        peer,
        name: name.clone(),
        place: place.clone(),
        owner,
        tunnel: RefCell::default(),
    });
    let settings = Settings::hop();
    let mut stopping = worker.spec.stopping.clone();
    let stop = told_to_go(&guard, stopping.reached(goes_at));
    let served = serve_http2(
        stream,
        Bytes::new(),
        hop,
        &settings,
        &worker.timers,
        &share,
        stop,
    );
    tokio::select! {
        biased;
        () = cut(&guard) => {}
        end = served => if let End::Protocol(reason) = end {
            worker.broke_http2("hop", &name, &reason);
        },
    }
}

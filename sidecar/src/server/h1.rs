//! HTTP/1.1 on the hop: bulk, upgrades, and whoever does not speak HTTP/2.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use gapura_http::http1::server::{End, Settings, serve as serve_http1};
use gapura_runtime::places::Place;
use gapura_transport::tunnel::TunnelEnd;

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
    let hop = Hop {
        pipeline: pipeline.clone(),
        peer,
        name,
        place: place.clone(),
        owner: worker.held.owner(None),
        tunnel: RefCell::default(),
    };
    let whole = async {
        // Each answer says that we go as soon as we do; an idle connection closes soon after the
        // listener.
        let stop = told_to_go(&guard, worker.idle_ends());
        let settings = Settings::hop();
        let served = serve_http1(
            stream,
            &hop,
            &settings,
            &worker.timers,
            &worker.buffers,
            stop,
        );
        let End::Upgraded { io, read } = served.await else {
            return;
        };
        let tunnel = hop.tunnel.borrow_mut().take();
        if let Some(tunnel) = tunnel {
            let client = TunnelEnd {
                io: Box::new(io),
                read,
                held: Box::new(()),
            };
            // A tunnel outlives a retirement: nothing tells its ends to come again.
            tunnel.carry(client).await;
        }
    };
    tokio::select! {
        biased;
        () = cut(&guard) => {}
        () = whole => {}
    }
}

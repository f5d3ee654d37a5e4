//! HTTP/1.1 on the hop: bulk, upgrades, and whoever does not speak HTTP/2.

use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;

use gapura_transport::body::Body;
use gapura_transport::inbound::{Link, StrictIo, drive};
use gapura_transport::live::LiveGuard;
use gapura_transport::shutdown::Phase;
use gapura_transport::tunnel::Upgraded;
use gapura_transport::verdict::Verdict;
use http::header::{CONNECTION, HeaderValue};
use http::{Request, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::proven::Proven;
use crate::pipeline::{Arrived, Pipeline};

/// The hop takes 128 fields (CONTRACT section 5).
const FIELDS: usize = 128;

/// A head of 64 KiB, and room for what follows it in the same read.
const BUFFER: usize = 128 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(pipeline: &Rc<Pipeline>, proven: Proven) {
    let Proven {
        stream,
        peer,
        name,
        guard,
    } = proven;
    let upgraded = Upgraded::default();
    let link = Arc::new(Link::default());
    let core = &pipeline.core;
    let service = service_fn(|request: Request<Incoming>| {
        let (pipeline, upgraded, name) = (pipeline.clone(), upgraded.clone(), name.clone());
        let arrived = Arrived {
            under_way: Some(link.begin()),
            ambiguous: link.is_ambiguous(),
        };
        async move {
            let mut response = pipeline
                .handle(
                    &peer,
                    &name,
                    request.map(Body::incoming),
                    arrived,
                    &upgraded,
                )
                .await;
            let goes = peer.is_err() || pipeline.core.seed.stopping.phase() != Phase::Run;
            if goes && response.status() != StatusCode::SWITCHING_PROTOCOLS {
                response
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let io = TokioIo::new(StrictIo::http1(Box::new(stream), link.clone()));
    let connection = http1::Builder::new()
        .max_headers(FIELDS)
        .max_buf_size(BUFFER)
        .serve_connection(io, service)
        .with_upgrades();
    let driven = drive(
        connection,
        http1::UpgradeableConnection::graceful_shutdown,
        retired(&guard),
        &link,
        &core.timers,
        core.seed.stopping.clone(),
        true,
    );
    let whole = async {
        if let (true, Some(tunnel)) = (driven.await, upgraded.take()) {
            // A tunnel outlives a retirement: nothing tells its ends to come again.
            tunnel.await;
        }
    };
    tokio::select! {
        biased;
        () = cut(&guard) => {}
        () = whole => {}
    }
}

/// Ready when the trust in force wants the connection to take no further request.
async fn retired(guard: &LiveGuard) {
    let _ = guard
        .verdict()
        .wait_for(|verdict| *verdict != Verdict::Run)
        .await;
}

/// Ready when the trust in force ends the connection.
async fn cut(guard: &LiveGuard) {
    let _ = guard
        .verdict()
        .wait_for(|verdict| matches!(verdict, Verdict::Cut(_)))
        .await;
}

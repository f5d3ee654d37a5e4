//! HTTP/1.1 on the hop: bulk, upgrades, and whoever does not speak HTTP/2.

use std::convert::Infallible;
use std::pin::pin;
use std::rc::Rc;

use gapura_mesh::body::Body;
use gapura_mesh::shutdown::Phase;
use gapura_mesh::tls::live::Verdict;
use gapura_mesh::tunnel::Upgraded;
use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::{Proven, Server};

/// The hop takes 128 fields (CONTRACT section 5).
const FIELDS: usize = 128;

/// A head of 64 KiB, and room for what follows it in the same read.
const BUFFER: usize = 128 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve(server: &Rc<Server>, proven: Proven) {
    let Proven { stream, peer, name, guard } = proven;
    let upgraded = Upgraded::default();
    let mut stopping = server.pipeline.core.seed.stopping.clone();
    let mut verdict = guard.verdict();
    let denied = peer.is_err();
    let following = stopping.clone();
    let service = service_fn(|request: Request<Incoming>| {
        let (server, upgraded, stopping) = (server.clone(), upgraded.clone(), following.clone());
        let (peer, name) = (peer.clone(), name.clone());
        async move {
            let mut response = server.pipeline.handle(&peer, &name, request.map(Body::incoming), &upgraded).await;
            if denied || stopping.phase() != Phase::Run {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let connection =
        http1::Builder::new().max_headers(FIELDS).max_buf_size(BUFFER).serve_connection(TokioIo::new(stream), service).with_upgrades();
    let mut connection = pin!(connection);
    let mut phase = Phase::Run;
    loop {
        tokio::select! {
            biased;
            changed = verdict.changed() => match (changed, *verdict.borrow_and_update()) {
                (Ok(()), Verdict::Run) => {}
                (Ok(()), Verdict::Retire) => connection.as_mut().graceful_shutdown(),
                (Ok(()), Verdict::Cut(_)) | (Err(_), _) => return,
            },
            rose = stopping.rises(), if phase < Phase::Closing => {
                phase = rose;
                if phase >= Phase::Closing {
                    connection.as_mut().graceful_shutdown();
                }
            }
            _ = &mut connection => break,
        }
    }
    let Some(tunnel) = upgraded.take() else { return };
    tokio::select! {
        () = tunnel => {}
        () = cut(&mut verdict) => {}
    }
}

/// Ready when the connection is to end at once. A tunnel outlives a retirement: nothing tells its ends to come again.
async fn cut(verdict: &mut tokio::sync::watch::Receiver<Verdict>) {
    let _ = verdict.wait_for(|verdict| matches!(verdict, Verdict::Cut(_))).await;
}

//! A request's body on its way to a plugin: bounded as the plugin wants it, counted, and no slower
//! than a client may be.
//!
//! In: what comes behind a head. Out: the body, how far it has come, whether it is bulk, and for
//! how long a caller of gRPC waits. Nothing here sends it.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use gapura_http::http1::{Incoming, Interim};
use gapura_http::pace::Rate;
use gapura_protocol::envelope::Code;
use gapura_protocol::grpc::is_grpc;
use gapura_transport::body::{Body, Trailers, Upload as Progress};
use http::header::{CONTENT_LENGTH, HeaderMap};
use http::request::Parts;

use crate::ahead;
use crate::grpc;
use crate::registry::Plugin;
use crate::rejection::Rejection;

/// A request's body on its way.
pub(crate) struct Upload {
    /// The body.
    pub(crate) body: Body,
    /// How far it has come.
    pub(crate) progress: Rc<Progress>,
    /// Where hints before the answer go.
    pub(crate) interim: Option<Interim>,
    /// How long the caller waits for the answer, where it says so.
    pub(crate) waits: Option<Duration>,
    /// It says no length and has proven to be large.
    pub(crate) large: bool,
}

/// Takes the body of a request to `plugin`, of which its client moves `rate` at least.
///
/// # Errors
/// If it is announced to be too large, or what it says of its caller's patience cannot be read.
pub(crate) async fn take(
    incoming: Incoming,
    head: &Parts,
    plugin: &Arc<Plugin>,
    rate: Option<Rate>,
) -> Result<Upload, Rejection> {
    let grpc = is_grpc(&head.headers);
    let waits = match grpc {
        true => grpc::timeout(&head.headers).map_err(|_| Code::BadRequest)?,
        false => None,
    };
    let interim = incoming.interim();
    let body = Body::message(incoming);
    let mut upload = Upload {
        body: Body::empty(),
        progress: Rc::new(Progress::finished()),
        interim,
        waits,
        large: false,
    };
    if !body.is_ended() {
        (upload.body, upload.progress) = bounded(body, &head.headers, plugin)?;
        upload.body = upload.body.no_slower(rate.filter(|_| !grpc));
        upload.large = ahead::is_large(&mut upload.body, head).await;
    }
    Ok(upload)
}

/// The body, and how far it has come.
fn bounded(
    body: Body,
    headers: &HeaderMap,
    plugin: &Arc<Plugin>,
) -> Result<(Body, Rc<Progress>), Rejection> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if let (Some(most), Some(length)) = (plugin.max_body, length)
        && length > most
    {
        return Err(Rejection::TooLarge);
    }
    let progress = Rc::new(Progress::default());
    let owner = plugin.clone();
    let body = body
        .limited(plugin.max_body)
        .trailers(Trailers::Request(Rc::new(move |name| {
            // Nobody tells who somebody is behind a body.
            owner.forward_headers.takes_from(name, false)
                && !owner.strip_headers.names_it(name.as_str())
        })))
        .watched(progress.clone());
    Ok((body, progress))
}

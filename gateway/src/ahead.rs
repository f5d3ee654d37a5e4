//! How large an upload that says no length proves to be, before it is decided how it travels.
//!
//! In: a body, and the head it came with. Out: whether so much of it was there at once that it
//! keeps off the connection that others share. What was read is kept in the body, and its reader
//! takes it from there. An upload that comes in small parts is not held up for more than a moment,
//! and one whose sender waits to be asked is not asked.

use std::future::poll_fn;
use std::time::Duration;

use gapura_protocol::grpc::is_grpc;
use gapura_transport::body::Body;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::request::Parts;

/// As much as a stream of the hop holds on its own: beyond that an upload is bulk.
const LARGE: usize = 64 * 1024;

/// For so long: a sender that takes longer for that much does not crowd anybody.
const MOMENT: Duration = Duration::from_millis(20);

/// Whether an upload has proven to be large.
pub(crate) async fn is_large(body: &mut Body, head: &Parts) -> bool {
    let headers = &head.headers;
    let says = headers.contains_key(CONTENT_LENGTH) || headers.contains_key(EXPECT);
    if body.is_ended() || says || is_grpc(headers) {
        return false;
    }
    let ahead = poll_fn(|cx| body.poll_ahead(LARGE, cx));
    tokio::time::timeout(MOMENT, ahead).await.unwrap_or(false)
}

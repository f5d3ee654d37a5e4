//! The parsers, by the names their folders and fuzz targets have.

use crate::{
    headers, http1_request, http1_response, http2_frames, path, peer_id, pem, registry, token,
};

/// Panics when what a parser promises does not hold for an input.
pub type Check = fn(&[u8]);

/// A parser's name, as its folder in `fuzz/seeds` and its target have it, and what its input must hold.
pub const TARGETS: [(&str, Check); 9] = [
    ("headers", headers::check),
    ("http1_request", http1_request::check),
    ("http1_response", http1_response::check),
    ("http2_frames", http2_frames::check),
    ("path", path::check),
    ("peer_id", peer_id::check),
    ("pem", pem::check),
    ("registry", registry::check),
    ("token", token::check),
];

//! The parsers, by the names their folders and fuzz targets have.

use crate::{
    crl, enrol, headers, http1_request, http1_response, http2_frames, jwks, mesh_dir, openapi,
    path, peer_id, pem, registry, rules, token, whole,
};

/// Panics when what a parser promises does not hold for an input.
pub type Check = fn(&[u8]);

/// A parser's name, as its folder in `fuzz/seeds` and its target have it, and what its input must
/// hold.
pub const TARGETS: [(&str, Check); 16] = [
    ("crl", crl::check),
    ("enrol", enrol::check),
    ("headers", headers::check),
    ("http1_request", http1_request::check),
    ("http1_response", http1_response::check),
    ("http2_frames", http2_frames::check),
    ("jwks", jwks::check),
    ("mesh_dir", mesh_dir::check),
    ("openapi", openapi::check),
    ("path", path::check),
    ("peer_id", peer_id::check),
    ("pem", pem::check),
    ("registry", registry::check),
    ("rules", rules::check),
    ("token", token::check),
    ("whole", whole::check),
];

//! Requests that we take, hyper takes too, and the same: method, target, fields and body of each.

use crate::oracle;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let _ = oracle::compare_requests(bytes);
}

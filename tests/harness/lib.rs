//! What the promises in `tests/it` are held to the product with: the built programs, as an operator
//! starts them, between a client that sends exactly the bytes it is given and a plugin that keeps
//! every byte it gets.
//!
//! Nothing here knows how the product does its work: certificates, tokens and HTTP are made and
//! read by code of its own, so that a mistake of the product is not repeated by its test.
//! Everything listens on a port the system chooses, waits for conditions with a deadline, and ends
//! when it is dropped.
//!
//! A fault in a test is a panic: that is how a test fails, so the lints against panics do not hold
//! here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod certs; // authorities, leaves, CRLs; mesh directories on disk
pub mod collector; // where spans are sent
pub mod h2; // HTTP/2: a well-behaved client, and one that writes any frame
pub mod inside; // programs inside the test's own process, with a clock to move
pub mod load; // so many requests a second, whatever else happens
pub mod mesh; // gateway + sidecar + plugin, put together
pub mod pair; // gateway + sidecar on mesh directories that somebody else writes
pub mod plugin; // the scripted plugin
pub mod program; // a built program: started, read, signalled, ended
pub mod prove; // `gapura prove`, and its plugin
pub mod provider; // where keys are published on the network
pub mod tokens; // keys, JWK sets, tokens of any header and claims
pub mod wire; // HTTP/1.1 as exact bytes over TCP or TLS

use std::time::{Duration, Instant};

/// Long enough for a debug build on a busy machine, short enough that a hang is noticed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `condition` again and again until it yields a value; fails with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// Asks `condition` again and again until it yields a value; fails with `what` after `limit`.
pub fn within<T>(limit: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < until, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5)); // between two looks at a condition, never instead of one
    }
}

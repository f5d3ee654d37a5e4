//! A connection that others open to us and speak HTTP on with hyper: what hyper does not tell of it, and how long it may last.
//!
//! In: a stream, and a connection of hyper's on the [`StrictIo`] around it. Out: the connection driven to its end, within the
//! deadlines of CONTRACT section 5 between its requests and through the program's drain; and for each request whether its head can be
//! read in one way only. Both programs take HTTP/1.1 this way, and the gateway HTTP/2. Deadlines within a request are the pipeline's.

mod drive;
mod messages;
mod strict_io;

pub use drive::drive;
pub use strict_io::{Link, StrictIo, UnderWay};

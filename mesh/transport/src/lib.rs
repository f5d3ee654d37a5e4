//! Messages under way on one worker: bodies, connections in both directions, deadlines, tunnels, and how a drain reaches them.
//!
//! All of it lives on one thread and shares nothing with another. It refuses to know logs, counters, routes and certificates: what
//! wants to hear of a body attaches itself, what counts a connection is held by it, what may end one is a verdict that it watches.

pub mod body;
pub mod caught;
pub mod coalesce;
pub mod inbound;
pub mod io;
pub mod pump;
pub mod shutdown;
pub mod streams;
pub mod tasks;
pub mod timers;
pub mod tunnel;
pub mod upstream;
pub mod verdict;

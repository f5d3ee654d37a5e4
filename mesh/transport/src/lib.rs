//! Messages under way on one worker: bodies and who is attached to them, connections that are kept,
//! deadlines, tunnels, and how a drain reaches them.
//!
//! All of it lives on one thread and shares nothing with another, but for the registry of live
//! connections ([`live`]), which the control thread sweeps. It refuses to know logs, counters and
//! routes, and judges no certificate: what wants to hear of a body attaches itself, what counts a
//! connection is held by it, what may end one is a verdict that it watches.

pub mod accept;
pub mod alive;
pub mod body;
pub mod catch_panic;
pub mod fair_queue;
pub mod live;
pub mod secured;
pub mod session;
pub mod shutdown;
pub mod tasks;
pub mod timers;
pub mod tunnel;
pub mod turns;
pub mod upstream;
pub mod verdict;

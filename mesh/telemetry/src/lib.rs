//! What is seen of a running program: its log, a line for each request, spans of those that are
//! sampled, its counters, and what someone must mend.
//!
//! In: facts, from whoever has them. Out: JSON lines and a page for Prometheus. It refuses to know
//! connections, certificates and runtimes: those tell it what happened, it asks nobody.

pub mod access;
pub mod alarms;
pub mod busiest;
pub mod log;
pub mod metrics;
pub mod span;
pub mod tap;

//! The operator's side of a program: what can be asked of it while it runs, by whom, and how it is
//! asked from outside.
//!
//! In: what the parts of a program share, what each program has to say besides
//! ([`report::Report`]), and a listener. Out: pages, the page for people as it changes, finished
//! requests as they end; nothing is changed by any of them. [`ask`] is the other end, for the
//! commands that look at a running program. It serves on the control thread alone and refuses to
//! know workers, the listeners of clients and peers, and how a program starts or ends.

pub mod admin;
pub mod ask;
mod feed;
pub mod healthcheck;
pub mod pages;
pub mod report;
pub mod shared;
mod tap;
mod trust_metrics;

//! `gapura prove`: the known attacks, fired at one's own door, and which of them it held.
//!
//! Read `run.rs` first. The attacks are data (`catalogue/`); what makes bytes of them, sends them
//! and reads what comes back knows no attack; `judge.rs` is a pure function of what was seen.
//! Behind the door stands the plugin of `gapura prove --plugin` (`plugin.rs`), which keeps what
//! reached it; without it much can't be told, and then the table says so.
//!
//! Nothing is sent to anybody but the one address that was given, and beyond loopback only with
//! leave (`leave.rs`).

mod answer; // HTTP/1.1 answers, read leniently
mod asked; // the flags, read and checked
mod attack; // what an attack is
mod catalogue; // all of them, as data
mod exchange; // one shot and what came of it
mod fill; // from a probe to bytes
mod flags; // the command line
mod floods; // those that take --floods
mod forge; // tokens that should not be taken
mod frames; // HTTP/2 by hand
mod good; // good requests, before and after
mod judge; // held or not
mod leave; // to whom it may be sent
mod mark; // what a request is known by
mod plugin; // the one behind the door
mod report; // rows, table, JSON
mod run; // the order of it all
mod seen; // what reached the plugin
mod sidecar; // from the sidecar's other side
mod slow; // who never gets done
mod target; // the address that was given
mod wire; // one connection

pub use flags::ProveFlags;
pub use run::prove;

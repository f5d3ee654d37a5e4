//! The plugins' contracts: OpenAPI documents read, merged into one, and compared.
//!
//! In: the bytes that a plugin serves, and where it is mounted. Out: a [`Document`] that is known
//! to be one, a [`Part`] of the document of all plugins, the whole as text, and the breaking
//! changes between two documents. Pure functions: no socket, no file, no clock. Whatever the bytes
//! are, reading ends, in memory and time bounded by [`MAX_BYTES`], and says in one sentence what is
//! wrong with them.

mod check;
mod compare;
mod document;
mod fault;
mod hoist;
mod merge;
mod part;
mod pointer;
mod read;
mod regress;
mod rewrite;
mod shape;
mod site;
mod upgrade;
mod walk;
mod webhook;

pub use compare::{Finding, compare};
pub use document::Document;
pub use fault::Fault;
pub use merge::{About, Seen, merge};
pub use part::{Door, Operation, Part, Site};
pub use read::MAX_BYTES;

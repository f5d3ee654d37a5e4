//! The plugins' contracts: which one is in force for each, and the document of all of them.
//!
//! In: what instances serve where their plugin's file says that its contract is
//! (`upstream/prober.rs` asks), and the table of plugins. Out: whether an instance keeps to the
//! contract in force (`book`, by `entry`), and one document as a caller may see it (`portal`, from
//! `whole`); `kept` brings what is in force over a restart. What a document is, and how two are
//! merged or compared, the crate `gapura-openapi` knows. All of that is work for other threads than
//! the workers'.

mod book;
mod entry;
mod kept;
mod portal;
mod turns;
mod who;
mod whole;

pub(crate) use book::{Asked, Book};
pub(crate) use entry::{Digest, digest};
pub(crate) use portal::{Mode, Portal, limit};
pub(crate) use who::Who;

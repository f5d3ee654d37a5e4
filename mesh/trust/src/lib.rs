//! Whom a program believes: secrets nobody else may know, files nobody else may have put there, keys that are what they seem.
//!
//! In: paths and bytes. Out: what may be relied on, or one sentence that says why not. It reads files and never watches them; it
//! refuses to know runtimes, logs and pages.

pub mod ed25519;
pub mod file;
pub mod ownership;
pub mod secret;

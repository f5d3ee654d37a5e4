//! The one gate that every change to a mesh directory passes before it is made.
//!
//! In: what is about to be done, and where. Out: leave to do it. A program passes [`OPEN`], which
//! decides nothing; a test stands a gate of its own there and lets the program die, or the disk be
//! full, at any one of these steps. Invariant: neither `held_dir` nor `mesh_dir` makes, writes,
//! renames, links, gives away or removes a file without asking here first.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// What is about to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// A file, folder or link is made.
    Create,
    /// Bytes are written.
    Write,
    /// Bytes or names are made to outlive a power cut.
    Sync,
    /// One name takes the place of another.
    Rename,
    /// Another user gets it.
    Owner,
    /// A name goes.
    Remove,
}

/// Who is asked before each change.
pub trait Gate: Debug + Send + Sync {
    /// Gives leave, or says what the system would have said.
    ///
    /// # Errors
    /// The fault to be reported; nothing was done.
    fn before(&self, _operation: Operation, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Writes all of `bytes`.
    ///
    /// # Errors
    /// The system's, or the gate's; a part may be written.
    fn write_all(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.before(Operation::Write, path)?;
        file.write_all(bytes)
    }

    /// Makes what was written to `file` outlive a power cut.
    ///
    /// # Errors
    /// The system's, or the gate's.
    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        self.before(Operation::Sync, path)?;
        file.sync_all()
    }
}

/// A gate, for as long as the program lives.
pub type GateRef = &'static dyn Gate;

/// Lets everything pass.
pub const OPEN: GateRef = &Open;

#[derive(Debug)]
struct Open;

impl Gate for Open {}

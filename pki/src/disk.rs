//! The one gate that every change to a disk passes before it is made.
//!
//! In: what is about to be done, and where. Out: leave to do it. Nothing is decided here in the
//! program; in the library's own tests a [`faults::Plan`] stands behind the gate and lets the
//! program die, or the disk be full, at any one of these steps. Invariant: no other file of this
//! crate makes, writes, renames, links, gives away or removes a file without asking here first.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use gapura_files::gate::{Gate, GateRef};

pub(crate) use gapura_files::gate::Operation;

/// This gate, for the mesh directories that `gapura_files` writes.
pub(crate) const GATE: GateRef = &Disk;

#[derive(Debug)]
struct Disk;

impl Gate for Disk {
    fn before(&self, operation: Operation, path: &Path) -> io::Result<()> {
        before(operation, path)
    }

    fn write_all(&self, file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
        write_all(file, path, bytes)
    }

    fn sync(&self, file: &File, path: &Path) -> io::Result<()> {
        sync(file, path)
    }
}

/// Asks for leave.
pub(crate) fn before(operation: Operation, path: &Path) -> io::Result<()> {
    #[cfg(test)]
    crate::tests::faults::strike(operation, path)?;
    let _ = (operation, path);
    Ok(())
}

/// Writes all of `bytes`, or a part of them where the disk or the program fails in the middle.
pub(crate) fn write_all(file: &mut File, path: &Path, bytes: &[u8]) -> io::Result<()> {
    before(Operation::Write, path).inspect_err(|_| {
        // What a kill in the middle of a write leaves.
        #[cfg(test)]
        let _ = file.write_all(bytes.get(..bytes.len() / 2).unwrap_or_default());
    })?;
    file.write_all(bytes)
}

/// Makes what was written to `file` outlive a power cut.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    before(Operation::Sync, path)?;
    #[cfg(test)]
    if crate::tests::faults::spare_the_disk(path) {
        return Ok(());
    }
    file.sync_all()
}

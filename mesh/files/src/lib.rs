//! What others may have put where we look: files, whose they are, secrets nobody else may know,
//! PEM, and a mesh directory: read as one snapshot, published as one generation.
//!
//! In: paths and bytes. Out: what was read, or one sentence that says why not and what to do.
//! Nothing hangs, nothing is without an end, and what is written is whole or not there. It refuses
//! to know what a certificate or a key means, runtimes, logs and the network, and watches nothing.

pub mod directory;
pub mod file;
pub mod gate;
pub mod held_dir;
pub mod mesh_dir;
pub mod ownership;
pub mod pem;
pub mod secret;

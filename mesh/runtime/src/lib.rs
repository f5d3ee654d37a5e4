//! What makes a program of the libraries: its workers and listeners, how it starts, passes on what
//! it listens on, and ends.
//!
//! It brings together what the other libraries keep apart: an [`exchange`] ties a request's record
//! to its body, a worker's tasks tell the log how they ended. It refuses to know tokens, routes and
//! plugins: both programs run on it; what is read again and what an operator sees is begun and
//! ended here, and known elsewhere.

pub mod cli;
pub mod exchange;
pub mod listen;
mod listeners;
pub mod load;
mod memory;
pub mod places;
pub mod program;
pub mod room;
mod shedding;
mod signals;
mod spans;
pub mod start;
pub mod systemd;
mod takeover;
pub mod worker;

//! What a program reads while it runs, and when it reads it again: the trust it works under and the certificate it shows.

pub mod asked;
pub mod clients;
mod misfit;
pub mod public;
pub mod trust;
pub mod watch;

#[cfg(test)]
mod tests;

//! What a program reads while it runs, and when it reads it again: the trust it works under and the certificate it shows.

pub mod asked;
pub mod clients;
pub mod public;
pub mod trust;
mod watch;

#[cfg(test)]
mod tests;

//! What a program reads again while it runs: one way to follow files, and the followers that both
//! programs have.
//!
//! In: paths, what they held when the program began, and who may ask (SIGHUP). Out: what fits is in
//! force everywhere at once, what does not is an alarm, and connections whose peer is trusted no
//! longer end. [`watch`] is the one mechanism; what a plugin file, a key set or a deny list means
//! is known to whoever follows them. It refuses to know workers, listeners, HTTP and the operator's
//! side.

pub mod asked;
pub mod clients;
mod misfit;
pub mod public;
pub mod trust;
pub mod watch;

#[cfg(test)]
mod tests;

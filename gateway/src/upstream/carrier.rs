//! How a request travels: with all others, or on a connection of its own.
//!
//! Whoever prepares a request says it; whoever sends it keeps to it.

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// With all others.
    Shared,
    /// On a connection of its own while it lasts.
    Alone,
}

//! What the trust in force says of a connection that lives.

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Run,
    /// Take no new request, finish what is in flight, close.
    Retire,
    /// Close at once; the reason is a fixed label.
    Cut(&'static str),
}

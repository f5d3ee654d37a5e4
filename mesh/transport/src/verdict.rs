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

impl Verdict {
    /// A cut is final, and a second retirement is no news.
    pub fn retire(&mut self) -> bool {
        let news = *self == Self::Run;
        if news {
            *self = Self::Retire;
        }
        news
    }
}

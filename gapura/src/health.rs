//! How bad it is with a program, and the exit code that says so.

/// How bad it is; the worst of several counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// Nothing is to be done.
    #[default]
    Well,
    /// It serves, and something wants to be mended.
    Warning,
    /// It is not ready, or does not answer.
    Critical,
}

impl Health {
    /// The exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Warning => 3,
            Self::Critical => 4,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

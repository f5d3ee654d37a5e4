//! Which part of a request's way is meant: from the client, over the hop, to the plugin.

/// Which connection is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Between client and gateway.
    Client,
    /// Between gateway and sidecar.
    Hop,
    /// Between sidecar and plugin.
    Plugin,
}

impl Side {
    /// Every side, in the order of their discriminants.
    pub const ALL: [Self; 3] = [Self::Client, Self::Hop, Self::Plugin];

    /// The word in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Hop => "hop",
            Self::Plugin => "plugin",
        }
    }
}

//! Which part of a request's way is meant: from the client, over the hop, to the plugin.

crate::labelled! {
    /// Which connection is meant.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub enum Side {
        /// Between client and gateway.
        Client = "client",
        /// Between gateway and sidecar.
        Hop = "hop",
        /// Between sidecar and plugin.
        Plugin = "plugin",
    }
}

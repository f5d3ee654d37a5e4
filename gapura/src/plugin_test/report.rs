//! What came of a test of a plugin.

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Each place where a company met what was another's, a sentence that begins with the route.
    pub leaks: Vec<String>,
    /// The routes that were tried.
    pub tried: Vec<String>,
    /// The routes that were not, each with the reason.
    pub untried: Vec<String>,
}

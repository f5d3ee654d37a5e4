//! Who calls a plugin, and of whom the plugin is told.
//!
//! In: what a token said once it was verified. Out: the values that rules ask about. No token and
//! no rule is known here.

/// Who calls, as a verified token says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    /// The company the request acts for.
    pub company: &'a str,
    /// The user.
    pub user: &'a str,
    /// The roles, joined by `,`; empty for none.
    pub roles: &'a str,
    /// The scopes.
    pub scopes: &'a [&'a str],
    /// Whether somebody acts for the user.
    pub has_actor: bool,
}

/// Of whom a plugin is told in a way that it can believe.
#[derive(Clone, Copy, Debug)]
pub(in crate::registry) struct Told {
    /// Who calls.
    pub(in crate::registry) caller: bool,
    /// Who acts for the user.
    pub(in crate::registry) actor: bool,
}

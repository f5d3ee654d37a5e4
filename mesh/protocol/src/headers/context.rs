//! What a request on the hop says of its caller (CONTRACT section 4, rule 3).
//!
//! In: the headers of a request as the gateway wrote them. Out: [`HopContext`], or [`BadContext`]
//! for a set that the gateway would not write. Nothing is taken or changed here.

use http::header::{HeaderMap, HeaderValue};

use crate::context::{Invalid, RequestId, Roles, TenantId, UserId};
use crate::once::{Once, Several};

/// What the gateway proved of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// The token was verified.
    Verified,
    /// A token of an issuer the gateway does not know was passed on unread.
    Unverified,
    /// No token is needed.
    Public,
}

/// The context headers of a request as the sidecar found them: each at most once, each valid.
#[derive(Clone, Debug)]
pub struct HopContext {
    /// Always there.
    pub request_id: RequestId,
    /// There when the tenant is.
    pub user: Option<UserId>,
    /// None on a route without a verified token.
    pub tenant: Option<TenantId>,
    /// None where the token has none.
    pub roles: Option<Roles>,
    /// None where the user acts for itself.
    pub actor: Option<UserId>,
    /// None where the header is missing or is none of the three words; then it excuses nothing.
    pub auth: Option<Auth>,
    /// The gateway's own probe.
    pub probe: bool,
}

/// The context headers do not have the form that rule 3 of section 4 demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadContext;

impl Auth {
    /// The word on the hop.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Verified => "verified",
            Self::Unverified => "unverified",
            Self::Public => "public",
        })
    }

    fn from_word(word: &[u8]) -> Option<Self> {
        match word {
            b"verified" => Some(Self::Verified),
            b"unverified" => Some(Self::Unverified),
            b"public" => Some(Self::Public),
            _ => None,
        }
    }
}

/// Rule 3: reads the context from a request on the hop.
///
/// # Errors
/// [`BadContext`] if a header stands twice, does not have its form, the request id is missing, one
/// of the others has no user, or any of them stands beside a mark that says nothing was proven.
pub fn hop_context(headers: &HeaderMap) -> Result<HopContext, BadContext> {
    let mut lines = ContextLines::default();
    for (name, value) in headers {
        lines.note(name.as_str(), value);
    }
    let request_id = lines.request_id.value()?.ok_or(BadContext)?;
    let context = HopContext {
        request_id: RequestId::of_header(request_id)?,
        user: lines.user.value()?.map(UserId::of_header).transpose()?,
        tenant: lines.tenant.value()?.map(TenantId::of_header).transpose()?,
        roles: lines.roles.value()?.map(Roles::of_header).transpose()?,
        actor: lines.actor.value()?.map(UserId::of_header).transpose()?,
        auth: lines
            .auth
            .value()?
            .and_then(|value| Auth::from_word(value.as_bytes())),
        probe: lines.probe,
    };
    let of_a_user = context.tenant.is_some() || context.roles.is_some() || context.actor.is_some();
    let orphan = of_a_user && context.user.is_none();
    let unproven = matches!(context.auth, Some(Auth::Unverified | Auth::Public));
    let claimed = of_a_user || context.user.is_some();
    if orphan || (unproven && claimed) {
        Err(BadContext)
    } else {
        Ok(context)
    }
}

/// The lines of the context headers.
#[derive(Default)]
struct ContextLines<'h> {
    request_id: Once<'h>,
    user: Once<'h>,
    tenant: Once<'h>,
    roles: Once<'h>,
    actor: Once<'h>,
    auth: Once<'h>,
    probe: bool,
}

impl<'h> ContextLines<'h> {
    fn note(&mut self, name: &str, value: &'h HeaderValue) {
        let Some(rest) = name.strip_prefix("x-") else {
            return;
        };
        let lines = match rest {
            "request-id" => &mut self.request_id,
            "user-id" => &mut self.user,
            "company-id" => &mut self.tenant,
            "role" => &mut self.roles,
            "actor-id" => &mut self.actor,
            "gapura-auth" => &mut self.auth,
            "gapura-probe" => {
                self.probe = true;
                return;
            }
            _ => return,
        };
        lines.note(value);
    }
}

impl From<Several> for BadContext {
    fn from(_: Several) -> Self {
        Self
    }
}

impl From<Invalid> for BadContext {
    fn from(_: Invalid) -> Self {
        Self
    }
}

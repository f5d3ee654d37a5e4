//! Making a join token: one use, bound to one identity. What the CA keeps of it is the SHA-256 of
//! its secret.

use std::time::Duration;

use gapura_enrol::token::{JoinToken, Secret};
use gapura_protocol::identity::{Name, PeerId, Role};
use gapura_protocol::text::hex;

use crate::error::Error;
use crate::keys::{random, random_hex, unhex};
use crate::ledger::{AuthorityKind, AuthorityState, Event, Join};
use crate::pki::Pki;
use crate::timestamp::for_people;

/// What a join token is asked for.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// What its bearer may become: a gateway or a plugin.
    pub role: Role,
    /// Which one.
    pub name: Name,
    /// DNS names of its certificates beside the usual one.
    pub dns: Vec<String>,
    /// How long it may be used.
    pub ttl: Duration,
    /// Where the CA server is, for the agent.
    pub url: Option<String>,
}

/// A token that is carried for longer is lost on the way.
const TTL_MAX: Duration = Duration::from_secs(7 * 86_400);
/// A shorter one has ended before somebody has typed a command.
const TTL_MIN: Duration = Duration::from_secs(1);

impl Pki {
    /// Makes a join token.
    ///
    /// # Errors
    /// As [`Pki::make_joins`].
    pub fn make_join(&self, request: &JoinRequest) -> Result<JoinToken, Error> {
        let mut made = self.make_joins(std::slice::from_ref(request))?;
        made.pop()
            .ok_or_else(|| Error::Failed("no token was made".to_owned()))
    }

    /// Makes a join token for each of `requests`, or none.
    ///
    /// # Errors
    /// A role that no host joins as, a life or a name that is not allowed; or the inventory can't
    /// be written.
    pub fn make_joins(&self, requests: &[JoinRequest]) -> Result<Vec<JoinToken>, Error> {
        for request in requests {
            self.check_join(request)?;
        }
        let mut change = self.hold_from(None)?;
        self.signing_issuer(&change)?; // where nothing can be issued, a token leads nowhere
        let ledger = change.inventory.ledger();
        let root = ledger
            .in_state(AuthorityKind::Root, AuthorityState::Active)
            .and_then(|root| unhex(&root.fingerprint)?.try_into().ok())
            .ok_or_else(|| {
                Error::Refused("no root is active; run `gapura-pki ca show`".to_owned())
            })?;
        let (mut tokens, mut events) = (Vec::new(), Vec::new());
        for request in requests {
            let expires = change.now.plus(request.ttl.as_secs());
            let token = JoinToken {
                id: random_hex::<6>()?,
                role: request.role,
                name: request.name.clone(),
                trust_domain: self.trust_domain().clone(),
                root_sha256: root,
                expires: expires.0,
                url: request.url.clone(),
                secret: Secret::new(random::<32>()?),
            };
            events.push(Event::JoinMade(Join {
                id: token.id.clone(),
                role: token.role,
                name: token.name.clone(),
                dns: request.dns.clone(),
                secret_sha256: hex(&token.secret.sha256()),
                expires,
            }));
            tokens.push(token);
        }
        change.append(events)?;
        Ok(tokens)
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), Error> {
        let id = PeerId::new(
            self.trust_domain().clone(),
            request.role,
            request.name.clone(),
        );
        if request.role == Role::Pki {
            return Err(Error::Refused(format!(
                "{id}: a CA server does not join over the network, or who stole a token could pose as one; issue its certificate here: gapura-pki issue pki {} --out DIR",
                request.name
            )));
        }
        if !(TTL_MIN..=TTL_MAX).contains(&request.ttl) {
            return Err(Error::Refused(format!(
                "{id}: a join token lives {} to {}, not {}; choose --ttl between them",
                for_people(TTL_MIN.as_secs()),
                for_people(TTL_MAX.as_secs()),
                for_people(request.ttl.as_secs())
            )));
        }
        self.check_dns(&id, &request.dns)
    }
}

//! Decides whether the peer at the other end of the mTLS link may use this plugin.
//!
//! In: the `Peer` that the handshake proved. Out: a [`PermittedPeer`], without which `forward`
//! sends nothing. Nothing here reads HTTP: a header can never widen what the certificate grants.
//! Invariant: `PermittedPeer` is built in `admit` and nowhere else.

use gapura_protocol::identity::{IdPattern, PeerId};

/// Whose requests are taken: whole ids of the sidecar's own trust domain.
#[derive(Clone, Debug)]
pub(crate) struct AllowList(Vec<IdPattern>);

/// Proof that the list names the peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PermittedPeer(());

/// A good certificate of our domain that the list does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Denied;

impl AllowList {
    /// The list as configured; never empty, since the settings fall back to every gateway.
    #[must_use]
    pub(crate) fn new(patterns: Vec<IdPattern>) -> Self {
        Self(patterns)
    }

    /// Lets a peer in or not.
    ///
    /// # Errors
    /// [`Denied`] if no entry names it.
    pub(crate) fn admit(&self, peer: &PeerId) -> Result<PermittedPeer, Denied> {
        let named = self.0.iter().any(|pattern| pattern.takes(peer));
        if named {
            Ok(PermittedPeer(()))
        } else {
            Err(Denied)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_named_gets_in() {
        let list = AllowList::new(vec![
            "spiffe://lab/gateway/edge".parse().unwrap(),
            "spiffe://lab/gateway/eu".parse().unwrap(),
        ]);
        assert!(
            list.admit(&"spiffe://lab/gateway/eu".parse().unwrap())
                .is_ok()
        );
        for other in [
            "spiffe://lab/gateway/edge2",
            "spiffe://lab/plugin/edge",
            "spiffe://other/gateway/edge",
        ] {
            assert_eq!(
                list.admit(&other.parse().unwrap()).err(),
                Some(Denied),
                "{other}"
            );
        }
    }
}

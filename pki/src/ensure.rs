//! One step for one-shot services and timers: whatever an installation is to have and lacks is
//! made, and nothing else is touched.
//!
//! In: who is to have a certificate, and where. Out: mesh directories that hold one each, and fresh
//! CRLs. Run a second time it finds its own work and only renews what is due. What was revoked
//! stays revoked: a restart must not let anybody back in.

use crate::error::Error;
use crate::issue::{IssueRequest, Issued};
use crate::ledger::{Leaf, Ledger};
use crate::pki::Pki;
use crate::renew::{IssuedOrNot, RenewRequest, Renewed};
use crate::standing::{self, Standing};

/// What was made and what was left.
#[derive(Clone, Debug, Default)]
pub struct Ensured {
    /// Leaves that were not there.
    pub issued: Vec<Issued>,
    /// Identities that are to have a leaf and get none, because theirs was revoked.
    pub revoked: Vec<String>,
    /// What was due.
    pub renewed: Renewed,
}

impl Pki {
    /// Issues those of `requests` whose mesh directory shows no leaf of theirs, then renews what is
    /// due and refreshes the CRLs.
    ///
    /// # Errors
    /// As [`Pki::issue_all`] and [`Pki::renew`].
    pub fn ensure(&self, requests: &[IssueRequest]) -> Result<Ensured, Error> {
        // Who was revoked may stand on a CRL that a restored inventory does not know.
        drop(self.hold_to_publish(&self.places_of(requests)?)?);
        let ledger = self.ledger()?;
        let mut done = Ensured::default();
        let mut missing = Vec::new();
        let own = self.own(&ledger);
        let shows = |leaf: &Leaf| {
            // Whoever is behind or lost its key is renewed below.
            let standing = standing::look_within(leaf, &own);
            matches!(
                standing,
                Standing::Shows(_) | Standing::Behind(_) | Standing::Keyless(_) | Standing::Late(_)
            )
        };
        for request in requests {
            match self.last_leaf(&ledger, request)? {
                Some(leaf) if ledger.revocation(&leaf.issuer, &leaf.serial).is_some() => {
                    done.revoked.push(leaf.label())
                }
                Some(leaf) if shows(leaf) => {}
                _ => missing.push(request.clone()),
            }
        }
        let mut failed = Vec::new();
        if !missing.is_empty() {
            (done.issued, failed) = self.issue_those_that_can(&missing)?;
        }
        done.renewed = self.renew(&RenewRequest {
            due_only: true,
            ..RenewRequest::default()
        })?;
        done.renewed.failed.extend(failed);
        Ok(done)
    }

    /// Issues all, or where one directory can't be written the others: one must not keep the rest
    /// from theirs.
    fn issue_those_that_can(&self, requests: &[IssueRequest]) -> Result<IssuedOrNot, Error> {
        match self.issue_all(requests, false) {
            Ok(issued) => return Ok((issued, Vec::new())),
            Err(why) if requests.len() < 2 || !why.is_of_one_directory() => return Err(why),
            Err(_) => {}
        }
        let (mut issued, mut failed) = (Vec::new(), Vec::new());
        for request in requests {
            match self.issue(request) {
                Ok(made) => issued.push(made),
                Err(why) => {
                    failed.push((
                        format!("{}/{}", request.role, request.name),
                        why.to_string(),
                    ));
                }
            }
        }
        Ok((issued, failed))
    }

    /// The last leaf that was issued for a request, wherever the others of that identity are.
    fn last_leaf<'a>(
        &self,
        ledger: &'a Ledger,
        request: &IssueRequest,
    ) -> Result<Option<&'a Leaf>, Error> {
        let out = self.out_of(request)?;
        let is_it = |leaf: &&Leaf| {
            leaf.role == request.role && leaf.name == request.name && leaf.out == out
        };
        Ok(ledger.leaves().iter().rev().find(is_it))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passphrase::KeyProtection;
    use crate::revoke::RevokeRequest;
    use gapura_protocol::clock::Clock;
    use gapura_protocol::identity::Role;

    #[test]
    fn what_is_missing_is_made_what_is_due_is_renewed_and_what_was_revoked_stays_so() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let pki = Pki::init(
            &folder.path().join("pki"),
            &"mylab.internal".parse().unwrap(),
            KeyProtection::Plaintext,
            &clock,
        )
        .unwrap();
        let request = |role, name: &str| {
            IssueRequest::new(role, name.parse().unwrap()).into_dir(folder.path().join(name))
        };
        let wanted = [request(Role::Gateway, "edge"), request(Role::Plugin, "lab")];
        assert_eq!(pki.ensure(&wanted).unwrap().issued.len(), 2);
        let again = pki.ensure(&wanted).unwrap();
        assert!(
            again.issued.is_empty() && again.renewed.issued.is_empty(),
            "{again:?}"
        );

        std::fs::remove_dir_all(folder.path().join("lab")).unwrap();
        let healed = pki.ensure(&wanted).unwrap();
        assert_eq!(
            healed
                .issued
                .iter()
                .map(|issued| issued.leaf.label())
                .collect::<Vec<_>>(),
            ["plugin/lab"]
        );

        clock.shift(25 * 86_400);
        assert_eq!(pki.ensure(&wanted).unwrap().renewed.issued.len(), 2);

        pki.revoke(
            &RevokeRequest::Name("plugin/lab".parse().unwrap()),
            crate::Reason::Unspecified,
        )
        .unwrap();
        let after = pki.ensure(&wanted).unwrap();
        assert!(
            after.issued.is_empty() && after.revoked == ["plugin/lab"],
            "{after:?}"
        );
        std::fs::remove_dir_all(folder.path().join("lab")).unwrap();
        assert!(pki.ensure(&wanted).unwrap().issued.is_empty());
    }

    #[test]
    fn an_authority_that_has_ended_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let pki = Pki::init(
            &folder.path().join("pki"),
            &"mylab.internal".parse().unwrap(),
            KeyProtection::Plaintext,
            &clock,
        )
        .unwrap();
        let wanted = [IssueRequest::new(Role::Gateway, "edge".parse().unwrap())
            .into_dir(folder.path().join("edge"))];
        pki.ensure(&wanted).unwrap();
        clock.shift(4000 * 86_400);
        let told = pki.ensure(&wanted).unwrap_err().to_string();
        assert!(told.contains("ca rotate"), "{told}");
    }
}

//! The mesh's own authority on this machine: one identity for the gateway, one for each plugin's
//! sidecar.
//!
//! In: the state folder. Out: mesh folders that a gateway or sidecar reads, each with a leaf and
//! revocation lists of which at least a third of the life is left. The keys of the authority lie
//! beside them in the clear: this is for development.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gapura_pki::{IssueRequest, KeyProtection, Pki};
use gapura_protocol::clock::{Clock, unix};
use gapura_protocol::identity::{Name, PeerId, Role, TrustDomain};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::screen::Peer;
use crate::error::Error;
use crate::state::State;

/// The trust domain of every `gapura up`.
const TRUST_DOMAIN: &str = "dev.gapura.internal";

/// The gateway's name in it.
const GATEWAY: &str = "dev";

/// The authority and the leaves that this run uses.
pub(crate) struct Authority {
    pki: Pki,
    domain: TrustDomain,
    folder: PathBuf,
    clock: Clock,
    leaves: Vec<(Role, Name)>,
}

/// A mesh folder and the identity in it.
pub(crate) struct Leaf {
    pub(crate) folder: PathBuf,
    pub(crate) peer: Peer,
}

impl Authority {
    /// Opens the authority of the state folder, or founds it.
    pub(crate) fn open(state: &State, clock: &Clock) -> Result<Self, Error> {
        let (dir, folder) = (state.path("pki"), state.folder("mesh")?);
        let domain: TrustDomain = TRUST_DOMAIN
            .parse()
            .map_err(|_| Error::Failed("the trust domain has no valid name".to_owned()))?;
        let broken = |err: gapura_pki::Error| {
            let root = state.root().display();
            Error::Refused(format!(
                "the authority in {} does not serve: {err}; remove {root}, and gapura up makes everything anew",
                dir.display()
            ))
        };
        let pki = if dir.join("pki.json").exists() {
            Pki::open(&dir, KeyProtection::Plaintext, clock).map_err(broken)?
        } else {
            // Leaves of an authority that is gone would meet nobody who trusts them.
            for old in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let _ = std::fs::remove_dir_all(old.path());
            }
            Pki::init(&dir, &domain, KeyProtection::Plaintext, clock).map_err(broken)?
        };
        Ok(Self {
            pki,
            domain,
            folder,
            clock: clock.clone(),
            leaves: Vec::new(),
        })
    }

    /// The gateway's mesh folder.
    pub(crate) fn gateway(&mut self) -> Result<Leaf, Error> {
        let name = GATEWAY
            .parse()
            .map_err(|_| Error::Failed("the gateway has no valid name".to_owned()))?;
        self.leaf(Role::Gateway, name)
    }

    /// The mesh folder of a plugin's sidecar.
    pub(crate) fn plugin(&mut self, name: &Name) -> Result<Leaf, Error> {
        self.leaf(Role::Plugin, name.clone())
    }

    fn leaf(&mut self, role: Role, name: Name) -> Result<Leaf, Error> {
        let folder = self.folder_of(role, &name);
        if standing(&folder, self.clock.now()).is_none() {
            self.issue(role, &name)?;
        }
        if standing(&folder, self.clock.now()).is_none() {
            // The leaf is new now, so it is the revocation lists that grow old.
            self.pki.crl_refresh().map_err(|err| failed(&err))?;
            self.issue(role, &name)?;
        }
        let ends = standing(&folder, self.clock.now()).ok_or_else(|| {
            Error::Failed(format!(
                "the certificate in {} is short-lived from the start",
                folder.display()
            ))
        })?;
        let id = PeerId::new(self.domain.clone(), role, name.clone()).to_string();
        if !self.leaves.contains(&(role, name.clone())) {
            self.leaves.push((role, name));
        }
        Ok(Leaf {
            folder,
            peer: Peer { id, ends },
        })
    }

    /// Makes anew whatever of this run has less than a third of its life left.
    pub(crate) fn renew(&self) -> Result<(), Error> {
        let now = self.clock.now();
        let due: Vec<_> = self
            .leaves
            .iter()
            .filter(|(role, name)| standing(&self.folder_of(*role, name), now).is_none())
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        self.pki.crl_refresh().map_err(|err| failed(&err))?;
        due.into_iter()
            .try_for_each(|(role, name)| self.issue(*role, name))
    }

    fn issue(&self, role: Role, name: &Name) -> Result<(), Error> {
        let request = IssueRequest::new(role, name.clone()).into_dir(self.folder_of(role, name));
        self.pki
            .issue(&request)
            .map(drop)
            .map_err(|err| failed(&err))
    }

    fn folder_of(&self, role: Role, name: &Name) -> PathBuf {
        self.folder.join(format!("{role}-{name}"))
    }
}

fn failed(err: &gapura_pki::Error) -> Error {
    Error::Failed(format!("can't issue a certificate for the mesh: {err}"))
}

/// When the leaf in a mesh folder ends, if it and its revocation lists have a third of their lives
/// left.
fn standing(folder: &Path, now: SystemTime) -> Option<SystemTime> {
    let now = i64::try_from(unix(now)).ok()?;
    let lasts = |from: i64, to: i64| from <= now && to.saturating_sub(now) >= (to - from) / 3;
    let crls = std::fs::read(folder.join("crl.pem")).ok()?;
    for block in Pem::iter_from_buffer(&crls) {
        let block = block.ok()?;
        let (_, crl) = CertificateRevocationList::from_der(&block.contents).ok()?;
        if !lasts(
            crl.last_update().timestamp(),
            crl.next_update()?.timestamp(),
        ) {
            return None;
        }
    }
    let chain = std::fs::read(folder.join("cert.pem")).ok()?;
    let leaf = Pem::iter_from_buffer(&chain).next()?.ok()?;
    let validity = leaf.parse_x509().ok()?.validity().clone();
    let ends = validity.not_after.timestamp();
    lasts(validity.not_before.timestamp(), ends)
        .then(|| SystemTime::UNIX_EPOCH + Duration::from_secs(ends.try_into().unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;

    fn cert(leaf: &Leaf) -> Vec<u8> {
        std::fs::read(leaf.folder.join("cert.pem")).unwrap()
    }

    #[test]
    fn leaves_stand_until_a_third_of_their_life_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let clock = Clock::system();
        let mut authority = Authority::open(&state, &clock).unwrap();
        let (gateway, plugin) = (
            authority.gateway().unwrap(),
            authority.plugin(&"lab".parse().unwrap()).unwrap(),
        );
        assert_eq!(gateway.peer.id, "spiffe://dev.gapura.internal/gateway/dev");
        assert_eq!(plugin.peer.id, "spiffe://dev.gapura.internal/plugin/lab");
        let (first, other) = (cert(&gateway), cert(&plugin));

        clock.shift(19 * DAY);
        authority.renew().unwrap();
        assert_eq!(cert(&gateway), first);
        assert_eq!(
            cert(&Authority::open(&state, &clock).unwrap().gateway().unwrap()),
            first,
            "a restart keeps what stands"
        );

        clock.shift(21 * DAY);
        authority.renew().unwrap();
        assert_ne!(cert(&gateway), first);
        assert_ne!(cert(&plugin), other);
        assert!(standing(&gateway.folder, clock.now()).is_some());

        clock.shift(60 * DAY);
        let later = Authority::open(&state, &clock).unwrap().gateway().unwrap();
        assert!(
            standing(&later.folder, clock.now()).is_some(),
            "a folder left alone for two months still works"
        );
    }

    #[test]
    fn an_authority_that_is_gone_takes_its_leaves_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::take(&folder.path().join("s")).unwrap();
        let clock = Clock::system();
        let first = cert(&Authority::open(&state, &clock).unwrap().gateway().unwrap());
        std::fs::remove_dir_all(state.path("pki")).unwrap();
        assert_ne!(
            cert(&Authority::open(&state, &clock).unwrap().gateway().unwrap()),
            first
        );
    }
}

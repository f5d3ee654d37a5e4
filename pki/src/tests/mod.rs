//! What takes the whole library: crashes and full disks at every step, and a year of them.

mod crashes;
mod enrolments;
pub(crate) mod faults;
mod findings;
mod year;

use std::path::{Path, PathBuf};
use std::process::Command;

use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;

use crate::check::Level;
use crate::mesh_dir;
use crate::passphrase::KeyProtection;
use crate::settings::Settings;
use crate::{IssueRequest, Pki, RenewRequest};

/// A CA with a gateway and two plugins, that can be put back to how it was.
struct Bench {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl Bench {
    fn new() -> Self {
        // In memory where that can be: what is counted here is steps, not how a disk takes them.
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        std::fs::create_dir(folder.path().join("live")).unwrap();
        Self {
            folder,
            clock: Clock::system(),
        }
    }

    /// The same with a CA and three leaves.
    fn with_leaves(settings: impl Fn(&mut Settings)) -> Self {
        let bench = Self::new();
        let mut own = Settings::for_domain("mylab.internal".parse().unwrap());
        settings(&mut own);
        let pki = Pki::init_with(
            &bench.state(),
            own,
            KeyProtection::Plaintext,
            (None, None),
            &bench.clock,
        )
        .unwrap();
        for (role, name) in [
            (Role::Gateway, "edge"),
            (Role::Plugin, "lab"),
            (Role::Plugin, "billing"),
        ] {
            pki.issue(&bench.request(role, name)).unwrap();
        }
        bench
    }

    fn live(&self) -> PathBuf {
        self.folder.path().join("live")
    }

    fn state(&self) -> PathBuf {
        self.live().join("pki")
    }

    fn dir(&self, name: &str) -> PathBuf {
        self.live().join(name)
    }

    fn request(&self, role: Role, name: &str) -> IssueRequest {
        IssueRequest::new(role, name.parse().unwrap()).into_dir(self.dir(name))
    }

    fn pki(&self) -> Pki {
        Pki::open(&self.state(), KeyProtection::Plaintext, &self.clock).unwrap()
    }

    fn copy(from: &Path, to: &Path) {
        let _ = std::fs::remove_dir_all(to);
        let copied = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(copied.unwrap().success());
    }

    fn save(&self) {
        Self::copy(&self.live(), &self.folder.path().join("saved"));
    }

    fn put_back(&self) {
        Self::copy(&self.folder.path().join("saved"), &self.live());
    }

    /// The daily run.
    fn timer(&self) {
        let done = self
            .pki()
            .renew(&RenewRequest {
                due_only: true,
                ..RenewRequest::default()
            })
            .unwrap();
        assert!(done.failed.is_empty(), "{:?}", done.failed);
    }

    /// `check` finds nothing to do, and every directory holds what it should.
    #[track_caller]
    fn is_content(&self, after: &str) {
        let pki = self.pki();
        let found = pki.check(&[]).unwrap();
        let bad: Vec<_> = found
            .findings
            .iter()
            .filter(|finding| finding.level >= Level::Warning)
            .collect();
        assert!(bad.is_empty(), "after {after}: {bad:#?}");
        let bundle = pki.bundle().unwrap();
        for leaf in pki.ledger().unwrap().by_directory() {
            let Some(shown) = mesh_dir::current(&leaf.out).unwrap() else {
                continue;
            };
            let [_, ca, crl] = &shown.raw;
            assert_eq!(
                (ca.as_slice(), crl.as_slice()),
                (bundle.ca.as_bytes(), bundle.crl.as_bytes()),
                "after {after}: {} does not hold the present roots and CRLs",
                leaf.out.display()
            );
            let hidden = std::fs::read_dir(&leaf.out).unwrap().filter(|entry| {
                let name = entry.as_ref().unwrap().file_name();
                name.to_string_lossy().starts_with('.')
            });
            assert_eq!(hidden.count(), 0, "after {after}: {}", leaf.out.display());
        }
    }
}

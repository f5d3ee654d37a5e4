//! What `check` says of the record itself: against the clock, against what was signed elsewhere,
//! and against the passphrase.

use crate::check::checkup::{Checkup, Level};
use crate::error::Error;
use crate::ledger::Ledger;
use crate::pki::Pki;
use crate::timestamp::{Timestamp, for_people};

impl Pki {
    /// Adds what it finds to `checkup`.
    pub(crate) fn check_record(
        &self,
        checkup: &mut Checkup,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), Error> {
        self.check_beginnings(checkup, ledger, now);
        if let Some(ahead) = self.lines_ahead()? {
            let found = format!("it has a line written {} from now", for_people(ahead));
            let fix = "timedatectl set-ntp true; if the clock is right now: gapura-pki renew --all --due --clock-is-right";
            checkup.add(
                Level::Critical,
                "CLOCK",
                "inventory",
                (found, "a clock that is right, then and now", fix),
            );
        }
        for (id, why) in self.keys_that_do_not_open(ledger) {
            let fix = "give the right passphrase; after a change that was interrupted: gapura-pki passphrase change";
            let object = format!("authorities/{id}");
            let want = "a key that the given passphrase opens";
            checkup.add(Level::Critical, "CA_KEY_CLOSED", &object, (why, want, fix));
        }
        for met in self.unknown_without_lock()? {
            let found = format!(
                "a {} that the inventory does not know: {}",
                met.what, met.which
            );
            let want = if met.expected {
                "what the restored backup did not have, taken in"
            } else {
                "one CA; another copy of it is at work, or an older state was put back"
            };
            checkup.add(
                Level::Warning,
                "NOT_IN_RECORD",
                &met.found_in.display().to_string(),
                (found, want, "gapura-pki crl refresh"),
            );
        }
        Ok(())
    }

    /// Leaves and CRLs that have not begun, made while this machine's clock was ahead.
    fn check_beginnings(&self, checkup: &mut Checkup, ledger: &Ledger, now: Timestamp) {
        let begins = |at: Timestamp| format!("it begins in {}, at {at}", for_people(at.since(now)));
        for leaf in ledger.in_use() {
            let revoked = ledger.revocation(&leaf.issuer, &leaf.serial).is_some();
            if leaf.not_before > now && !revoked {
                let object = format!("{} in {}", leaf.label(), leaf.out.display());
                let fix = format!("gapura-pki renew {} --clock-is-right", leaf.label());
                let want = "one that has begun; every peer refuses this one until then";
                let found = begins(leaf.not_before);
                checkup.add(
                    Level::Critical,
                    "LEAF_NOT_BEGUN",
                    &object,
                    (found, want, &fix),
                );
            }
        }
        let published = ledger
            .published_issuers(now)
            .chain(ledger.trusted_roots(now));
        for crl in published.filter_map(|authority| ledger.crl(&authority.id)) {
            if crl.this_update > now {
                let object = format!("crl/{}", crl.issuer);
                let want = "one that has begun; it is not taken before its time";
                let found = begins(crl.this_update);
                let fix = "gapura-pki crl refresh";
                checkup.add(
                    Level::Critical,
                    "CRL_NOT_BEGUN",
                    &object,
                    (found, want, fix),
                );
            }
        }
    }
}

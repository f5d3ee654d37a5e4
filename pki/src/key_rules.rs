//! Which keys a leaf may have: none that was revoked as compromised, none of another identity, none
//! of a CA.
//!
//! In: the ledger, the CAs' certificates, and the key of each leaf that is asked for. Out: a
//! refusal, or the claim of that key for that identity. Every way to a leaf (a new key, one that is
//! kept, a request, one that is known) goes through [`KeyRules::claim`].
//! Invariant: a key never speaks for two identities, and one that somebody else may hold never
//! speaks again.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use gapura_protocol::identity::PeerId;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::ca;
use crate::error::Error;
use crate::inspect::serial;
use crate::keys::sha256_hex;
use crate::ledger::{Ledger, Reason};
use crate::pem;

/// The keys that are taken, each by the SHA-256 of its SPKI.
#[derive(Default)]
pub(crate) struct KeyRules {
    /// With the serial under which each was revoked.
    compromised: HashMap<String, String>,
    /// With the labels of the identities it was certified for.
    owners: HashMap<String, HashSet<String>>,
    /// With the CA's id.
    authorities: HashMap<String, String>,
}

impl KeyRules {
    /// What `ledger` and the CAs in the state directory `dir` say.
    pub(crate) fn of(ledger: &Ledger, dir: &Path) -> Self {
        let mut rules = Self::default();
        for leaf in ledger.leaves() {
            let owners = rules.owners.entry(leaf.key.clone()).or_default();
            if !owners.contains(&leaf.label()) {
                owners.insert(leaf.label());
            }
        }
        let keys: HashMap<&str, &str> = ledger
            .leaves()
            .iter()
            .map(|leaf| (leaf.serial.as_str(), leaf.key.as_str()))
            .collect();
        for revoked in ledger.revocations() {
            let known = revoked.key.as_deref();
            let key = known.or_else(|| keys.get(revoked.serial.as_str()).copied());
            if let (Reason::KeyCompromise | Reason::CaCompromise, Some(key)) = (revoked.reason, key)
            {
                rules
                    .compromised
                    .insert(key.to_owned(), revoked.serial.clone());
            }
        }
        for authority in ledger.authorities() {
            // One that can't be read can't be named either; whoever needs it for signing says what
            // is wrong with it.
            let certificate = ca::certificate(dir, authority).ok();
            if let Some(key) = certificate.and_then(|der| key_of(&der)) {
                rules.authorities.insert(key, authority.id.clone());
            }
        }
        rules
    }

    /// Takes `spki` for `id`.
    ///
    /// # Errors
    /// It is compromised, of another identity, or of a CA.
    pub(crate) fn claim(&mut self, spki: &[u8], id: &PeerId) -> Result<(), Error> {
        let key = sha256_hex(spki);
        let label = format!("{}/{}", id.role(), id.name());
        let way = format!(
            "make a new one: issue without --csr and --reuse-key, or `gapura-pki csr {} {}` into an empty folder",
            id.role(),
            id.name()
        );
        if let Some(serial) = self.compromised.get(&key) {
            return Err(Error::Refused(format!(
                "{label}: this key was revoked as compromised (serial {serial}) and is never certified again; {way}"
            )));
        }
        if let Some(authority) = self.authorities.get(&key) {
            return Err(Error::Refused(format!(
                "{label}: this is the key of the CA {authority}, which is no leaf's; {way}"
            )));
        }
        let owners = self.owners.entry(key).or_default();
        if let Some(other) = owners.iter().find(|owner| **owner != label) {
            return Err(Error::Refused(format!(
                "{label}: this key is {other}'s, and one key serves one identity; {way}"
            )));
        }
        owners.insert(label);
        Ok(())
    }
}

/// SHA-256 of a certificate's public key.
pub(crate) fn key_of(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(sha256_hex(parsed.public_key().raw))
}

/// The key of a certificate that is revoked by its file, where no line of the inventory has it.
pub(crate) fn lost_key(ledger: &Ledger, bytes: &[u8]) -> Option<String> {
    let der = match bytes.first() {
        Some(0x30) => bytes.to_vec(),
        _ => pem::certificates(bytes).ok()?.first()?.to_vec(),
    };
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    match ledger.leaf(&serial(parsed.raw_serial())) {
        Some(_) => None,
        None => key_of(&der),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_claimed_by_one_identity_only() {
        let mut rules = KeyRules::default();
        let (billing, orders): (PeerId, PeerId) = (
            "spiffe://a.b/plugin/billing".parse().unwrap(),
            "spiffe://a.b/plugin/orders".parse().unwrap(),
        );
        rules.claim(b"one", &billing).unwrap();
        rules.claim(b"one", &billing).unwrap();
        rules.claim(b"two", &orders).unwrap();
        let why = rules.claim(b"one", &orders).unwrap_err();
        assert_eq!(why.exit_code(), 5);
        assert!(why.to_string().contains("plugin/billing"), "{why}");
    }

    #[test]
    fn a_compromised_key_and_a_cas_key_are_nobodys() {
        let mut rules = KeyRules::default();
        let id: PeerId = "spiffe://a.b/plugin/billing".parse().unwrap();
        rules
            .compromised
            .insert(sha256_hex(b"c"), "4711".to_owned());
        rules
            .authorities
            .insert(sha256_hex(b"a"), "iss-g1-001".to_owned());
        let why = |spki: &[u8]| rules_refuse(&rules, spki, &id);
        assert!(why(b"c").contains("compromised (serial 4711)"));
        assert!(why(b"a").contains("iss-g1-001"));
    }

    fn rules_refuse(rules: &KeyRules, spki: &[u8], id: &PeerId) -> String {
        let mut copy = KeyRules {
            compromised: rules.compromised.clone(),
            owners: rules.owners.clone(),
            authorities: rules.authorities.clone(),
        };
        copy.claim(spki, id).unwrap_err().to_string()
    }
}

//! `pki.json`: the trust domain and the lifetimes of one installation. What the hop demands is
//! fixed and stands in `profile.rs`.

use std::path::Path;
use std::time::Duration;

use gapura_protocol::host;
use gapura_protocol::identity::TrustDomain;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::store::{self, Access};
use crate::timestamp::parse_duration;

/// The shortest life of a leaf: tests and drills need seconds.
pub const LEAF_TTL_MIN: Duration = Duration::from_secs(10);
/// The longest life of a leaf.
pub const LEAF_TTL_MAX: Duration = Duration::from_secs(90 * 86_400);

/// The checked settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The name all identities live under.
    pub trust_domain: TrustDomain,
    /// A leaf's life unless `--ttl` says otherwise.
    pub leaf_ttl: Duration,
    /// An issuing CA's life.
    pub issuer_ttl: Duration,
    /// A root's life.
    pub root_ttl: Duration,
    /// From a CRL's making to its nextUpdate.
    pub crl_ttl: Duration,
    /// The same for the CRL of a root whose key is kept elsewhere and comes out rarely.
    pub offline_root_crl_ttl: Duration,
    /// Domains beside the trust domain in which leaves may carry DNS names; takes effect with the
    /// next issuing CA.
    pub permitted_dns: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    trust_domain: String,
    #[serde(default = "leaf_ttl")]
    leaf_ttl: String,
    #[serde(default = "issuer_ttl")]
    issuer_ttl: String,
    #[serde(default = "root_ttl")]
    root_ttl: String,
    #[serde(default = "crl_ttl")]
    crl_ttl: String,
    #[serde(default = "offline_root_crl_ttl")]
    offline_root_crl_ttl: String,
    #[serde(default)]
    permitted_dns: Vec<String>,
}

fn leaf_ttl() -> String {
    "30d".to_owned()
}
fn issuer_ttl() -> String {
    "730d".to_owned()
}
fn root_ttl() -> String {
    "3650d".to_owned()
}
fn crl_ttl() -> String {
    "30d".to_owned()
}
fn offline_root_crl_ttl() -> String {
    "365d".to_owned()
}

impl Settings {
    /// The defaults for a trust domain.
    #[must_use]
    pub fn for_domain(trust_domain: TrustDomain) -> Self {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        Self {
            trust_domain,
            leaf_ttl: days(30),
            issuer_ttl: days(730),
            root_ttl: days(3650),
            crl_ttl: days(30),
            offline_root_crl_ttl: days(365),
            permitted_dns: Vec::new(),
        }
    }

    /// Reads `pki.json` in `dir`.
    pub(crate) fn load(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("pki.json");
        let no_ca = || {
            Error::Failed(format!(
                "there is no CA in {} (no pki.json); make one with `gapura-pki --dir {} init --trust-domain NAME`",
                dir.display(),
                dir.display()
            ))
        };
        let bytes = store::read_if_there(&path)?.ok_or_else(no_ca)?;
        let raw: Raw = serde_json::from_slice(&bytes)
            .map_err(|why| Error::Usage(format!("{}: {why}", path.display())))?;
        let settings = raw.check().map_err(|problems| {
            Error::Usage(format!("{}: {}", path.display(), problems.join("; ")))
        })?;
        Ok(settings)
    }

    /// Writes `pki.json` into `dir`.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), Error> {
        let raw = Raw {
            trust_domain: self.trust_domain.to_string(),
            leaf_ttl: written(self.leaf_ttl),
            issuer_ttl: written(self.issuer_ttl),
            root_ttl: written(self.root_ttl),
            crl_ttl: written(self.crl_ttl),
            offline_root_crl_ttl: written(self.offline_root_crl_ttl),
            permitted_dns: self.permitted_dns.clone(),
        };
        let mut text = serde_json::to_vec_pretty(&raw)
            .map_err(|why| Error::Failed(format!("pki.json can't be written: {why}")))?;
        text.push(b'\n');
        store::replace(&dir.join("pki.json"), &text, Access::Everyone)
    }

    /// Lists everything that no CA can be made from.
    ///
    /// # Errors
    /// All problems at once.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        // `NAME.plugin.DOMAIN` goes into certificates: NAME may be 63 long and the whole no longer
        // than 253.
        if !is_dns_name(self.trust_domain.as_str(), 253 - 63 - ".plugin.".len()) {
            problems
                .push(format!("trust_domain: `{}` is not a DNS name of at most 182 characters, e.g. mylab.internal", self.trust_domain));
        }
        for domain in &self.permitted_dns {
            if !is_dns_name(domain, 253) {
                problems.push(format!("permitted_dns: `{domain}` is not a DNS name"));
            }
        }
        let mut within = |key: &str, value: Duration, from: Duration, to: Duration| {
            if value < from || value > to {
                problems.push(format!(
                    "{key}: {} is not between {} and {}",
                    written(value),
                    written(from),
                    written(to)
                ));
            }
        };
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
        within("leaf_ttl", self.leaf_ttl, LEAF_TTL_MIN, LEAF_TTL_MAX);
        within("issuer_ttl", self.issuer_ttl, hour, day * 3650);
        within("root_ttl", self.root_ttl, hour, day * 7300);
        within("crl_ttl", self.crl_ttl, Duration::from_secs(60), day * 90);
        within(
            "offline_root_crl_ttl",
            self.offline_root_crl_ttl,
            Duration::from_secs(60),
            day * 730,
        );
        if self.issuer_ttl > self.root_ttl {
            problems.push(
                "issuer_ttl: an issuing CA can't outlive its root; make it shorter than root_ttl"
                    .to_owned(),
            );
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

impl Raw {
    fn check(self) -> Result<Settings, Vec<String>> {
        let mut problems = Vec::new();
        let mut length = |key: &str, text: &str| {
            parse_duration(text).unwrap_or_else(|why| {
                problems.push(format!("{key}: {why}"));
                Duration::ZERO
            })
        };
        let (leaf_ttl, issuer_ttl) = (
            length("leaf_ttl", &self.leaf_ttl),
            length("issuer_ttl", &self.issuer_ttl),
        );
        let (root_ttl, crl_ttl) = (
            length("root_ttl", &self.root_ttl),
            length("crl_ttl", &self.crl_ttl),
        );
        let offline_root_crl_ttl = length("offline_root_crl_ttl", &self.offline_root_crl_ttl);
        let trust_domain = self
            .trust_domain
            .parse()
            .map_err(|why| problems.push(format!("trust_domain: {why}")));
        let Ok(trust_domain) = trust_domain else {
            return Err(problems);
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let permitted_dns = self.permitted_dns;
        let settings = Settings {
            trust_domain,
            leaf_ttl,
            issuer_ttl,
            root_ttl,
            crl_ttl,
            offline_root_crl_ttl,
            permitted_dns,
        };
        settings.check().map(|()| settings)
    }
}

/// A length of time as `pki.json` has it, in its largest whole unit.
fn written(length: Duration) -> String {
    let seconds = length.as_secs();
    for (each, unit) in [(86_400, 'd'), (3600, 'h'), (60, 'm')] {
        if seconds > 0 && seconds.is_multiple_of(each) {
            return format!("{}{unit}", seconds / each);
        }
    }
    format!("{seconds}s")
}

/// Whether `text` is a DNS name as certificates carry them: lower case, no wildcard, no trailing
/// dot.
pub(crate) fn is_dns_name(text: &str, longest: usize) -> bool {
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= longest
        && host::is_name(text)
        && host::has_no_outer_hyphen(text)
        && !text.bytes().any(|byte| byte.is_ascii_uppercase())
        && !last.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::for_domain("mylab.internal".parse().unwrap());
        settings.leaf_ttl = Duration::from_secs(90);
        settings.permitted_dns = vec!["svc.cluster.local".to_owned()];
        settings.save(dir.path()).unwrap();
        assert_eq!(Settings::load(dir.path()).unwrap(), settings);
    }

    #[test]
    fn all_faults_are_listed_at_once_and_unknown_keys_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pki.json");
        std::fs::write(
            &path,
            r#"{"trust_domain": "a", "leaf_ttl": "91d", "crl_ttl": "1s"}"#,
        )
        .unwrap();
        let told = Settings::load(dir.path()).unwrap_err().to_string();
        assert!(
            told.contains("leaf_ttl: 91d") && told.contains("crl_ttl: 1s"),
            "{told}"
        );
        std::fs::write(&path, r#"{"trust_domain": "a", "leaf_tll": "9d"}"#).unwrap();
        assert!(
            Settings::load(dir.path())
                .unwrap_err()
                .to_string()
                .contains("leaf_tll")
        );
        std::fs::write(&path, r#"{"trust_domain": "a"}"#).unwrap();
        assert!(Settings::load(dir.path()).is_ok());
    }

    #[test]
    fn only_what_a_certificate_can_carry_is_a_dns_name() {
        for good in ["a", "mylab.internal", "a-b.c_d", "1.a"] {
            assert!(is_dns_name(good, 253), "{good}");
        }
        for bad in [
            "", ".", "a..b", "-a", "a-", "A.b", "*.a", "a.", "10.0.0.1", "a b", "a/b",
        ] {
            assert!(!is_dns_name(bad, 253), "{bad}");
        }
    }
}

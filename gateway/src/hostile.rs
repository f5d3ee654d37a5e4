//! What tests with hostile input see of the readers of tokens and of plugin files. No program uses
//! it.
//!
//! In: bytes of any kind. Out: what the very functions that serve make of them, in words of no type
//! of theirs.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, Method};
use zeroize::Zeroizing;

use crate::authenticate::{
    Authenticator, Caller, ClaimNames, HmacAlgorithm, IssuerSettings, KeySource, Keys, LEEWAY,
    Settings,
};
use crate::registry::{
    AuthMode, Built, File, Found, Refusal, Rules, Signing, Snapshot, Subject, Verdict, build,
};

/// The judge of tokens, with one shared secret for HS256.
pub struct Gate(Authenticator);

/// Whom a token that was taken speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The company.
    pub company: String,
    /// The user.
    pub user: String,
    /// When the token ends, Unix seconds.
    pub expires: u64,
}

impl Gate {
    /// A gate that takes what is signed with `secret`.
    ///
    /// # Errors
    /// Every fault of the secret, a sentence each.
    pub fn of_secret(secret: &[u8]) -> Result<Self, Vec<String>> {
        let keys = Keys::load(Settings {
            issuers: vec![IssuerSettings::new(KeySource::Secret {
                bytes: Zeroizing::new(secret.to_vec()),
                algorithm: HmacAlgorithm::Hs256,
            })],
            leeway: LEEWAY,
            claims: ClaimNames::default(),
            logout: None,
        })?;
        Ok(Self(Authenticator::new(keys)))
    }

    /// A gate that takes what a key of this file's set has signed.
    ///
    /// # Errors
    /// Every fault of the file, a sentence each.
    pub fn of_key_set(file: &Path) -> Result<Self, Vec<String>> {
        let keys = Keys::load(Settings {
            issuers: vec![IssuerSettings::new(KeySource::JwksFile(file.to_owned()))],
            leeway: LEEWAY,
            claims: ClaimNames::default(),
            logout: None,
        })?;
        Ok(Self(Authenticator::new(keys)))
    }

    /// Whom the request with these headers speaks for at `now`, Unix seconds, if it is let in.
    #[must_use]
    pub fn verify(&self, headers: &HeaderMap, now: u64) -> Option<Verified> {
        let verified = self
            .0
            .verify_offline(AuthMode::GatewayVerified, headers, now);
        match verified {
            Ok(Caller::Verified(caller)) => Some(Verified {
                company: caller.tenant().as_str().to_owned(),
                user: caller.user().as_str().to_owned(),
                expires: caller.expires(),
            }),
            _ => None,
        }
    }
}

/// How requests to `http://` upstreams are signed.
#[derive(Clone, Copy, Debug)]
pub enum Signed {
    /// Not at all.
    Never,
    /// In the older form, without the actor.
    WithoutActor,
    /// In the form of today.
    WithActor,
}

/// A folder of plugin files, as it was read last.
pub struct Folder(Built);

/// A fault of a file: where it is, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, with its folder.
    pub file: String,
    /// The sentence.
    pub message: String,
}

/// What the rules of a plugin say to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruled {
    /// Whether it may pass.
    pub passes: bool,
    /// The line of the rule that lets it pass or denies it; `None` if no rule does.
    pub line: Option<usize>,
    /// The lines of the rules that were asked, as `explain` tells them.
    pub asked: Vec<usize>,
}

impl Folder {
    /// Reads files, names and contents, after those of `before`, or for the first time.
    ///
    /// # Errors
    /// If `domain` is no trust domain.
    pub fn read(
        before: Option<&Self>,
        domain: &str,
        signed: Signed,
        files: &[(&str, &[u8])],
    ) -> Result<Self, String> {
        let trust_domain = domain.parse();
        let rules = Rules {
            trust_domain: trust_domain.map_err(|_| format!("{domain} is no trust domain"))?,
            signing: match signed {
                Signed::Never => Signing::Off,
                Signed::WithoutActor => Signing::WithoutActor,
                Signed::WithActor => Signing::WithActor,
            },
            max_body: None,
        };
        let files = files.iter().map(|(name, content)| File {
            name: (*name).to_owned(),
            content: Ok(Arc::from(*content)),
        });
        let snapshot = Snapshot {
            folder: "plugins.d".to_owned(),
            files: Ok(files.collect()),
        };
        let state = before.map(|before| &before.0.state);
        Ok(Self(build(state, &snapshot, &rules, Instant::now())))
    }

    /// What is wrong.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let faults = self.0.faults.iter().map(|fault| Fault {
            file: fault.file.clone(),
            message: fault.message.clone(),
        });
        faults.collect()
    }

    /// The plugin that a path leads to.
    #[must_use]
    pub fn serves(&self, path: &str) -> Option<String> {
        match self.0.table.find(path) {
            Found::Plugin { plugin, .. } => Some(plugin.name.to_string()),
            _ => None,
        }
    }

    /// What the rules of the plugin at `/` say to a member and admin of company 42, user 7, or to
    /// nobody; `None` if it has no rules.
    #[must_use]
    pub fn rules(&self, somebody: bool, method: &Method, path: &str) -> Option<Ruled> {
        let Found::Plugin { plugin, .. } = self.0.table.find("/") else {
            return None;
        };
        let access = &plugin.access;
        if !access.restricts() {
            return None;
        }
        let subject = Subject {
            company: "42",
            user: "7",
            roles: "member,admin",
            scopes: &["read"],
            has_actor: false,
        };
        let subject = somebody.then_some(&subject);
        let (passes, line) = match access.decide(subject, method, path) {
            Verdict::Allowed(line) => (true, line),
            Verdict::Refused(Refusal::Denied(line)) => (false, Some(line)),
            Verdict::Refused(_) => (false, None),
        };
        let explained = access.explain(subject, method, path);
        Some(Ruled {
            passes,
            line,
            asked: explained.into_iter().map(|(line, _)| line).collect(),
        })
    }
}

//! Loads all that a gateway needs from its files, and says everything that is wrong with it at once.
//!
//! In: a checked [`Config`]. Out: a [`Loaded`], or every fault, a sentence each. Nothing is bound or started here, so that
//! `--check` is the very same code as a start.

use std::path::Path;
use std::sync::Arc;

use gapura_mesh::alarms::Alarms;
use gapura_mesh::clock::Clock;
use gapura_mesh::identity::Role;
use gapura_mesh::log::Log;
use gapura_mesh::metrics::Meters;
use gapura_mesh::ownership::{self, Owners};
use gapura_mesh::secret;
use gapura_mesh::tls::clients::ClientTrust;
use gapura_mesh::tls::marks::Kept;
use gapura_mesh::tls::public::{PublicCertificate, PublicStore};
use gapura_mesh::tls::trust::{TrustOptions, TrustSet, TrustStore};

use crate::authenticate::{Error as TokenError, Keys};
use crate::config::Config;
use crate::registry::{Registry, Rules, Settings, Watcher};
use crate::sign::{SignatureForm, Signer};
use crate::standing::{self, Standing};
use crate::upstream::cluster::{Clusters, LookSoon};

/// Everything a gateway starts from.
pub(crate) struct Loaded {
    /// The mesh directory's set.
    pub(crate) trust: TrustStore,
    /// How far the CRLs had come.
    pub(crate) kept: Kept,
    /// The certificate that clients see.
    pub(crate) public: Option<PublicStore>,
    /// Who judges clients' certificates.
    pub(crate) clients: Option<ClientTrust>,
    /// The keys that tokens are verified with.
    pub(crate) keys: Keys,
    /// The plugins.
    pub(crate) registry: Registry,
    /// Asks for a look at the names of their hosts.
    pub(crate) look_soon: LookSoon,
    /// What is counted.
    pub(crate) meters: Arc<Meters>,
    /// Follows the plugin folder once it is run.
    pub(crate) watcher: Watcher,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// Follows the deny list and the companies' files once it is run.
    pub(crate) standing_watcher: standing::Watcher,
    /// Signs for plugins without a sidecar.
    pub(crate) signer: Option<Arc<Signer>>,
    /// What an operator must say on the admin side.
    pub(crate) admin_token: Option<Arc<[u8]>>,
    /// What is allowed and hardly meant.
    pub(crate) warnings: Vec<String>,
}

/// A signing secret shorter than this can be guessed.
const SIGNING_SECRET_LEAST: usize = 32;

/// The signer of the secrets in a file, one a line: the first signs, a second is one that plugins may still or already know.
///
/// # Errors
/// A sentence that says what is wrong and how to make a good one.
pub(crate) fn read_signer(file: &Path, form: SignatureForm) -> Result<Signer, String> {
    let flag = "--signing-secret-file";
    let text = secret::read(file, flag, SIGNING_SECRET_LEAST)?;
    let lines: Vec<&[u8]> = text
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .collect();
    if lines.len() > 2 {
        return Err(format!(
            "{flag} {}: holds {} lines; one secret a line, two at most: the one that signs, and the one before or after it",
            file.display(),
            lines.len()
        ));
    }
    if let Some(short) = lines
        .iter()
        .position(|line| line.len() < SIGNING_SECRET_LEAST)
    {
        return Err(format!(
            "{flag} {}: line {} holds {} bytes, at least {SIGNING_SECRET_LEAST} are needed; make a good one with: openssl rand -base64 48",
            file.display(),
            short + 1,
            lines.get(short).map_or(0, |line| line.len())
        ));
    }
    Ok(Signer::new(&lines, form))
}

/// How a mesh directory is read for this program.
#[must_use]
pub(crate) fn trust_options(config: &Config, clock: &Clock) -> TrustOptions {
    TrustOptions {
        own_role: Role::Gateway,
        no_crl: config.no_crl,
        clock: clock.clone(),
    }
}

impl Loaded {
    /// Reads every file.
    ///
    /// # Errors
    /// Every fault, a sentence each.
    pub(crate) fn load(
        config: &Config,
        clock: &Clock,
        log: &Log,
        alarms: &Alarms,
    ) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let mut note = |fault: String| faults.push(fault);
        let kept = Kept::open(config.state_dir.as_deref(), &config.accept_crl_reset)
            .map_err(&mut note)
            .unwrap_or_default();
        let options = trust_options(config, clock);
        let trust = TrustSet::start(&config.mesh_dir, &options, kept.marks())
            .map_err(|error| note(error.to_string()))
            .ok();
        if let Some(folder) = &config.last_good
            && let Err(why) = ownership::check(folder, Owners::Ours)
        {
            note(format!("--last-good {}: {why}", folder.display()));
        }
        let public = config
            .tls
            .as_ref()
            .map(|files| PublicCertificate::load(&files.cert, &files.key));
        let public = public
            .transpose()
            .map_err(|error| note(error.to_string()))
            .ok();
        let clients = config.clients.clone().map(ClientTrust::load);
        let clients = clients.transpose().map_err(&mut note).ok();
        let keys = Keys::load(config.auth.clone())
            .map_err(|all| all.into_iter().for_each(&mut note))
            .ok();
        let standing = Standing::open(&config.standing, log, alarms)
            .map_err(|all| all.into_iter().for_each(&mut note))
            .ok();
        let signer = config
            .signing_secret_file
            .as_deref()
            .map(|file| read_signer(file, config.signature));
        let signer = signer.transpose().map_err(&mut note).ok();
        let admin_token = config
            .admin_token_file
            .as_deref()
            .map(|file| secret::read(file, "--admin-token-file", secret::ADMIN_TOKEN_LEAST));
        let admin_token = admin_token.transpose().map_err(&mut note).ok();
        let meters = Arc::new(Meters::new(config.workers, &TokenError::LABELS));
        let look_soon = LookSoon::default();
        // Without the trust domain no plugin's identity can be judged: its faults come when the mesh directory is mended.
        let registry = trust.as_ref().and_then(|trust| {
            let rules = Rules {
                trust_domain: trust.own().id.domain().clone(),
                signing: config.signing(),
                max_body: config.max_body,
            };
            let settings = Settings {
                folder: config.plugin_dir.clone(),
                last_good: config.last_good.clone(),
                rules,
            };
            let clusters = Clusters::new(meters.clone(), look_soon.clone());
            Registry::open(settings, clusters, log, alarms)
                .map_err(|all| all.iter().for_each(|fault| note(fault.to_string())))
                .ok()
        });
        let (
            Some(trust),
            Some(public),
            Some(clients),
            Some(keys),
            Some((standing, standing_watcher)),
            Some(signer),
            Some(admin_token),
            Some((registry, watcher)),
            true,
        ) = (
            trust,
            public,
            clients,
            keys,
            standing,
            signer,
            admin_token,
            registry,
            faults.is_empty(),
        )
        else {
            return Err(faults);
        };
        let warnings = config
            .warnings
            .iter()
            .cloned()
            .chain(keys.ring().warnings())
            .collect();
        Ok(Self {
            trust: TrustStore::new(trust),
            kept,
            public: public.map(PublicStore::new),
            clients,
            keys,
            registry,
            look_soon,
            meters,
            watcher,
            standing,
            standing_watcher,
            signer: signer.map(Arc::new),
            admin_token: admin_token.map(|token| Arc::from(token.as_slice())),
            warnings,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn two_signing_secrets_may_stand_in_the_file_and_no_third() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("signing");
        let (first, second) = ("a".repeat(32), "b".repeat(32));
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            let plugin = "billing".parse().unwrap();
            read_signer(&file, SignatureForm::V2).map(|signer| signer.plugin_keys(&plugin).len())
        };
        assert_eq!(read(&format!("{first}\n")), Ok(1));
        assert_eq!(read(&format!("{first}\n{second}\n")), Ok(2));
        assert_eq!(read(&format!("{first}\r\n{second}\r\n")), Ok(2));
        for (bad, says) in [
            (format!("{first}\n{second}\n{first}\n"), "3 lines"),
            (format!("{first}\nshort\n"), "line 2 holds 5 bytes"),
            (format!("{first}\n\n"), "line 2 holds 0 bytes"),
            ("short\n".to_owned(), "at least 32"),
        ] {
            let said = read(&bad).unwrap_err();
            assert!(said.contains(says), "{said}");
        }
    }
}

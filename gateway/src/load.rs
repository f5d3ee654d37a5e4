//! Loads all that a gateway needs from its files, and says everything that is wrong with it at once.
//!
//! In: a checked [`Config`]. Out: a [`Loaded`], or every fault, a sentence each. Nothing is bound or started here, so that
//! `--check` is the very same code as a start.

use std::sync::Arc;

use gapura_mesh::alarms::Alarms;
use gapura_mesh::clock::Clock;
use gapura_mesh::identity::Role;
use gapura_mesh::log::Log;
use gapura_mesh::metrics::Meters;
use gapura_mesh::ownership::{self, Owners};
use gapura_mesh::secret;
use gapura_mesh::tls::marks::Kept;
use gapura_mesh::tls::public::{PublicCertificate, PublicStore};
use gapura_mesh::tls::trust::{TrustOptions, TrustSet, TrustStore};

use crate::authenticate::{Error as TokenError, Keys};
use crate::config::Config;
use crate::registry::{Registry, Rules, Settings, Watcher};
use crate::sign::Signer;
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
pub(crate) const SIGNING_SECRET_LEAST: usize = 32;

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
        let keys = Keys::load(config.auth.clone())
            .map_err(|all| all.into_iter().for_each(&mut note))
            .ok();
        let standing = Standing::open(&config.standing, log, alarms)
            .map_err(|all| all.into_iter().for_each(&mut note))
            .ok();
        let signer = config
            .signing_secret_file
            .as_deref()
            .map(|file| secret::read(file, "--signing-secret-file", SIGNING_SECRET_LEAST));
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
                signing: config.signing_secret_file.is_some(),
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
            Some(keys),
            Some((standing, standing_watcher)),
            Some(signer),
            Some(admin_token),
            Some((registry, watcher)),
            true,
        ) = (
            trust,
            public,
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
            keys,
            registry,
            look_soon,
            meters,
            watcher,
            standing,
            standing_watcher,
            signer: signer.map(|secret| Arc::new(Signer::new(&secret))),
            admin_token: admin_token.map(|token| Arc::from(token.as_slice())),
            warnings,
        })
    }
}

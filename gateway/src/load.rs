//! Loads all that a gateway needs from its files, and says everything that is wrong with it at
//! once.
//!
//! In: a checked [`Config`]. Out: a [`Loaded`], or every fault, a sentence each. Nothing is bound
//! or started here, so that `--check` is the very same code as a start.

use std::path::Path;
use std::sync::Arc;

use gapura_files::ownership::{self, Owners};
use gapura_files::secret;
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::{Role, TrustDomain};
use gapura_reload::clients::ClientTrust;
use gapura_runtime::load::{Ground, Loading};
use gapura_telemetry::alarms::{Alarm, Alarms};
use gapura_telemetry::log::Log;
use gapura_trust::public::{PublicCertificate, PublicStore};

use crate::authenticate::Keys;
use crate::config::Config;
use crate::openapi::Book;
use crate::registry::{self, Registry, Rules, Settings, Watcher};
use crate::sign::{SignatureForm, Signer};
use crate::standing::{self, Standing};
use crate::upstream::cluster::{Clusters, LookSoon};

/// Everything a gateway starts from.
pub(crate) struct Loaded {
    /// What a sidecar starts from too.
    pub(crate) ground: Ground,
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
    /// Follows the plugin folder once it is run.
    pub(crate) watcher: Watcher,
    /// Who is no longer welcome.
    pub(crate) standing: Standing,
    /// Follows the deny list and the companies' files once it is run.
    pub(crate) standing_watcher: standing::Watcher,
    /// Signs for plugins without a sidecar.
    pub(crate) signer: Option<Arc<Signer>>,
    /// The plugins' contracts.
    pub(crate) book: Book,
    /// What is allowed and hardly meant.
    pub(crate) warnings: Vec<String>,
}

/// A signing secret shorter than this can be guessed.
const SIGNING_SECRET_LEAST: usize = 32;

/// The signer of the secrets in a file, one a line: the first signs, a second is one that plugins
/// may still or already know.
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
        let mut loading = Loading::begin(&config.common, Role::Gateway, clock);
        if let Some(folder) = &config.last_good
            && let Err(why) = ownership::check(folder, Owners::Ours)
        {
            loading.fault(format!("--last-good {}: {why}", folder.display()));
        }
        let public = config
            .tls
            .as_ref()
            .map(|files| PublicCertificate::load(&files.cert, &files.key));
        let public = loading.note(public.transpose().map_err(|error| error.to_string()));
        let public = loading.judged(Alarm::PublicCertificate, public);
        let clients = config.clients.clone().map(ClientTrust::load);
        let clients = loading.note(clients.transpose());
        let clients = loading.judged(Alarm::ClientCa, clients);
        let keys = loading.note_all(Keys::load(config.auth.clone()));
        let keys = loading.judged(Alarm::Keys, keys);
        let standing = loading.note_all(Standing::open(&config.standing, clock, log, alarms));
        let standing = loading.judged(Alarm::Deny, standing);
        let standing = loading.judged(Alarm::Tenants, standing);
        let signer = config
            .signing_secret_file
            .as_deref()
            .map(|file| read_signer(file, config.signature));
        let signer = loading.note(signer.transpose());
        let book = Book::open(config.common.state_dir.as_deref(), log, alarms);
        let book = loading.note_all(book);
        let book = loading.judged(Alarm::Contracts, book);
        let look_soon = LookSoon::default();
        let registry = match loading.trust() {
            Some(trust) => {
                let settings = registry_settings(config, trust.own().id.domain().clone());
                let clusters = Clusters::new(look_soon.clone());
                let registry = loading.note_all(Registry::open(settings, clusters, log, alarms));
                loading.judged(Alarm::Registry, registry)
            }
            // The plugin files are judged all the same, but for whose identity is of the gateway's
            // own domain.
            None => {
                let settings = registry_settings(config, unknown_domain()?);
                let faults = registry::check(&settings).faults;
                loading.judged(Alarm::Registry, faults.is_empty().then_some(()));
                loading.note_all::<(), _>(Err(faults));
                None
            }
        };
        let own = (|| {
            Some((
                public?, clients?, keys?, standing?, signer?, book?, registry?,
            ))
        })();
        let (ground, own) = loading.end(own)?;
        let (public, clients, keys, (standing, standing_watcher), signer, book, registry) = own;
        let (registry, watcher) = registry;
        let warnings = config
            .warnings
            .iter()
            .cloned()
            .chain(keys.ring().warnings())
            .chain(watcher.warnings().iter().cloned())
            .chain(contracts_not_kept(config, &registry))
            .collect();
        Ok(Self {
            ground,
            public: public.map(PublicStore::new),
            clients,
            keys,
            registry,
            look_soon,
            watcher,
            standing,
            standing_watcher,
            signer: signer.map(Arc::new),
            book,
            warnings,
        })
    }
}

/// Where contracts that break others are kept out, and it ends with the program which ones that
/// are.
fn contracts_not_kept(config: &Config, registry: &Registry) -> Option<String> {
    let table = registry.table();
    let mut plugins = table.plugins().iter().map(|(_, plugin)| plugin);
    let keeps_out = plugins.find(|plugin| {
        let contract = plugin.contract.as_ref();
        contract.is_some_and(|contract| contract.keeps_breaking_out)
    });
    let name = &keeps_out
        .filter(|_| config.common.state_dir.is_none())?
        .name;
    Some(format!(
        "\"openapi_breaking\": \"refuse\" of plugin {name} without --state-dir: after a restart the next contract is taken whatever it breaks"
    ))
}

/// In the place of the trust domain where nobody knows it.
///
/// # Errors
/// Never: a test parses it.
pub(crate) fn unknown_domain() -> Result<TrustDomain, Vec<String>> {
    let domain = Rules::UNKNOWN_DOMAIN.parse::<TrustDomain>();
    domain.map_err(|error| vec![format!("the trust domain is not known: {error}")])
}

fn registry_settings(config: &Config, trust_domain: TrustDomain) -> Settings {
    Settings {
        folder: config.plugin_dir.clone(),
        last_good: config.last_good.clone(),
        rules: Rules {
            trust_domain,
            signing: config.signing(),
            max_body: config.max_body,
        },
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

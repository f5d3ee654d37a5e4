//! One plugin, as its file describes it.
//!
//! In: the fields of a file and the gateway's [`Rules`]. Out: a [`Plugin`] that cannot hold
//! nonsense, or faults, all of them. What restricts and cannot be enforced by this build is
//! refused, never ignored. Whether two plugins get in each other's way is not known here.

use std::sync::Arc;
use std::time::Duration;

use gapura_protocol::identity::{Name, PeerId, Role};
use gapura_settings::json::{Fields, Node};
use http::{HeaderName, HeaderValue};
use serde_json::Value as JsonValue;

use super::access::{Access, Told};
use super::auth_mode::AuthMode;
use super::canary::{Canary, Chosen};
use super::contract::Contract;
use super::cors::Cors;
use super::envelope::Envelope;
use super::fields::{self, IN_FLIGHT_MAX, TIMEOUT_MAX_MS, VERSION_MAX, names};
use super::headers::{self, HeaderPatterns};
use super::health::{HealthCheck, Retry};
use super::mount::Mount;
use super::rate_limit::{Limited, RateLimit};
use super::rules::{Rules, Signing};
use super::upstream::Upstream;
use super::version::SemVer;

/// A plugin the gateway may route to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plugin {
    /// Its name, unique in the registry.
    pub name: Name,
    /// What the operator believes runs there.
    pub version: String,
    /// The path prefix it owns.
    pub mount: Mount,
    /// Where it is reached.
    pub upstream: Upstream,
    /// Whether a token is needed.
    pub auth: AuthMode,
    /// Whether the plugin gets the path with the mount still on it.
    pub keep_mount_prefix: bool,
    /// What its requests say was taken off their path, where that is something.
    pub prefix_header: Option<HeaderValue>,
    /// From a request's last byte to the response's last header.
    pub timeout: Duration,
    /// The same in milliseconds, as its requests say it.
    pub timeout_header: HeaderValue,
    /// Who may use it.
    pub access: Access,
    /// How much one caller may send to it.
    pub rate_limit: Option<Arc<RateLimit>>,
    /// How many requests may be under way to it.
    pub max_in_flight: u32,
    /// Which pages of other origins may read its answers.
    pub cors: Option<Cors>,
    /// Whether a page's WebSocket may bring its token as a subprotocol.
    pub ws_token: bool,
    /// Whether upgraded and event streams may outlast the caller's token.
    pub outlive_token: bool,
    /// Whether it is served at all; its mount is its own in any case.
    pub enabled: bool,
    /// The client's `X-*` headers that may pass.
    pub forward_headers: HeaderPatterns,
    /// Further headers of the client's that are dropped.
    pub strip_headers: HeaderPatterns,
    /// Fixed headers that replace the client's. The values are marked sensitive and shown nowhere.
    pub inject_headers: Vec<(HeaderName, HeaderValue)>,
    /// Who the sidecar must prove to be.
    pub identity: PeerId,
    /// The longest request body, its own or the gateway's limit.
    pub max_body: Option<u64>,
    /// Whether requests to it carry `X-Internal-Signature`: it is reached in plain http and there
    /// is a secret to sign with.
    pub signed: bool,
    /// Whether plain http may leave this machine. Where not, whoever connects refuses an address
    /// that is not loopback, whatever the name resolves to.
    pub plaintext_upstream: bool,
    /// How its instances are asked whether they are well; not at all if `None`.
    pub health: Option<HealthCheck>,
    /// What may be sent again that may have arrived.
    pub retry: Retry,
    /// An instance that says that it is older gets no requests.
    pub min_version: Option<SemVer>,
    /// Another upstream for some of its companies.
    pub canary: Option<Canary>,
    /// Where it serves its contract, if it has one, and what a breaking one means.
    pub contract: Option<Contract>,
    /// What is made of its answers that are not in the envelope.
    pub envelope: Envelope,
    /// The whole file as JSON, with words in the place of the values of `inject_headers`.
    pub described: Box<str>,
}

/// Names that are kept for later.
const LATER: &[&str] = &["conditions", "matrix_params"];

const AUTH_MODES: [(&str, AuthMode); 3] = [
    ("gateway_verified", AuthMode::GatewayVerified),
    ("forward_jwt", AuthMode::ForwardJwt),
    ("public", AuthMode::Public),
];

const TIMEOUT_DEFAULT_MS: u64 = 30_000;

const IN_FLIGHT_DEFAULT: u64 = 256;

impl Plugin {
    /// Whether the verified facts are sent to it: never unsigned over plain http, where anybody
    /// could say them.
    #[must_use]
    pub(crate) fn gets_context(&self) -> bool {
        self.auth.is_verified() && (!self.upstream.is_plaintext() || self.signed)
    }

    /// Whether an address may be connected to in plain http.
    #[must_use]
    pub(crate) fn may_leave_loopback(&self) -> bool {
        !self.upstream.is_plaintext() || self.plaintext_upstream
    }

    /// Whether an instance has to show a contract that keeps to the one in force.
    #[must_use]
    pub(crate) fn keeps_breaking_out(&self) -> bool {
        let contract = self.contract.as_ref();
        contract.is_some_and(|contract| contract.keeps_breaking_out)
    }

    /// The plugin as it is at its canary: elsewhere, and all else the same.
    #[must_use]
    pub(crate) fn at_canary(&self) -> Option<Self> {
        let canary = self.canary.as_ref()?;
        Some(Self {
            upstream: canary.upstream.clone(),
            identity: canary.identity.clone(),
            plaintext_upstream: canary.plaintext_upstream,
            auth: canary.auth,
            signed: canary.signed,
            canary: None,
            // The contract of a plugin is that of its main upstream.
            contract: None,
            ..self.clone()
        })
    }

    /// Reads a whole file's tree; `None` with at least one fault where it is not acceptable.
    pub(super) fn read(
        root: &Node,
        rules: &Rules,
        faults: &mut Vec<gapura_settings::json::JsonFault>,
    ) -> Option<Self> {
        let before = faults.len();
        let mut fields = Fields::open_but(root, "", &names(fields::PLUGIN), LATER, faults)?;
        fields.refuse(LATER, "is not supported by this build; remove it");
        for field in fields::PLUGIN.iter().filter(|field| field.required) {
            fields.require(field.name);
        }
        let name = read_name(&mut fields);
        let version = read_version(&mut fields);
        let mount = read_mount(&mut fields);
        let upstream = Upstream::read(&mut fields);
        let auth = read_auth(&mut fields);
        let keep_mount_prefix = fields.flag("keep_mount_prefix").unwrap_or(false);
        let timeout_ms = fields
            .whole("timeout_ms", 1..=TIMEOUT_MAX_MS)
            .unwrap_or(TIMEOUT_DEFAULT_MS);
        // A mode that is wrong is a fault of its own, and no reason to find others.
        let told = Told {
            caller: auth.is_none_or(AuthMode::is_verified),
            actor: rules.signing != Signing::WithoutActor
                || upstream
                    .as_ref()
                    .is_none_or(|upstream| !upstream.is_plaintext()),
        };
        let access = Access::read(&mut fields, told);
        let limited = Limited::Plugin { known: told.caller };
        let rate_limit = RateLimit::read(&mut fields, limited);
        let max_in_flight = read_max_in_flight(&mut fields);
        let cors = Cors::read(&mut fields);
        let ws_token = read_ws_token(&mut fields, auth);
        let outlive_token = fields.flag("outlive_token").unwrap_or(false);
        let enabled = fields.flag("enabled").unwrap_or(true);
        let forward_headers = HeaderPatterns::read(&mut fields);
        let strip_headers = HeaderPatterns::read_stripped(&mut fields);
        let inject_headers = headers::read_injected(&mut fields, auth);
        let identity = read_identity(&mut fields, name.as_ref(), rules);
        let plaintext_upstream = fields.flag("plaintext_upstream").unwrap_or(false);
        let max_body = fields
            .whole("max_body_bytes", 0..=u64::MAX)
            .or(rules.max_body);
        let contract = Contract::read(&mut fields);
        let envelope = Envelope::read(&mut fields);
        let retry = Retry::read(&mut fields);
        let health = HealthCheck::read(&mut fields);
        let min_version = read_min_version(&mut fields);
        if let Some(upstream) = &upstream {
            check_plaintext(&mut fields, upstream, auth, plaintext_upstream, rules);
        }
        let canary = read_canary(&mut fields, name.as_ref(), auth, rules);
        if faults.len() > before {
            return None;
        }
        let (upstream, mount) = (upstream?, mount?);
        let taken_off = !keep_mount_prefix && !mount.is_root();
        let prefix = HeaderValue::from_str(mount.as_str()).ok();
        Some(Self {
            name: name?,
            version: version?,
            prefix_header: prefix.filter(|_| taken_off),
            mount,
            signed: upstream.is_plaintext() && rules.signing != Signing::Off,
            upstream,
            auth: auth?,
            keep_mount_prefix,
            timeout: Duration::from_millis(timeout_ms),
            timeout_header: timeout_ms.into(),
            access: access?,
            rate_limit,
            max_in_flight,
            cors,
            ws_token,
            outlive_token,
            enabled,
            forward_headers,
            strip_headers,
            inject_headers,
            identity: identity?,
            max_body,
            plaintext_upstream,
            health,
            retry,
            min_version,
            canary,
            contract,
            envelope,
            described: described(root),
        })
    }
}

/// What a file says, fit to be shown.
fn described(root: &Node) -> Box<str> {
    let mut described = root.to_json();
    if let Some(injected) = described
        .get_mut("inject_headers")
        .and_then(JsonValue::as_object_mut)
    {
        for value in injected.values_mut() {
            *value = "set, not shown".into();
        }
    }
    described.to_string().into()
}

fn read_name(fields: &mut Fields<'_, '_>) -> Option<Name> {
    match fields.text("name")?.parse() {
        Ok(name) => Some(name),
        Err(err) => {
            fields.fault("name", format_args!("is not a plugin's name: {err}"));
            None
        }
    }
}

fn read_version(fields: &mut Fields<'_, '_>) -> Option<String> {
    let version = fields.text("version")?;
    if (1..=VERSION_MAX).contains(&version.len())
        && version.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Some(version.to_owned());
    }
    fields.fault(
        "version",
        format_args!("must be 1 to {VERSION_MAX} visible ASCII characters, such as 1.4.0"),
    );
    None
}

fn read_mount(fields: &mut Fields<'_, '_>) -> Option<Mount> {
    match Mount::parse(fields.text("mount")?) {
        Ok(mount) => Some(mount),
        Err(message) => {
            fields.fault("mount", message);
            None
        }
    }
}

fn read_max_in_flight(fields: &mut Fields<'_, '_>) -> u32 {
    let most = fields.whole("max_in_flight", 1..=IN_FLIGHT_MAX);
    u32::try_from(most.unwrap_or(IN_FLIGHT_DEFAULT)).unwrap_or(u32::MAX)
}

/// `auth_mode`, and `verify`, which narrows it.
fn read_auth(fields: &mut Fields<'_, '_>) -> Option<AuthMode> {
    let verify = fields.flag("verify");
    let text = fields.text("auth_mode")?;
    let Some((_, mode)) = AUTH_MODES.iter().find(|(name, _)| *name == text) else {
        let nearest = gapura_settings::json::nearest(text, AUTH_MODES.map(|(name, _)| name))
            .unwrap_or_default();
        fields.fault(
            "auth_mode",
            format_args!(
                "must be gateway_verified, forward_jwt or public; the nearest is {nearest}"
            ),
        );
        return None;
    };
    match (mode, verify) {
        (AuthMode::ForwardJwt, Some(false)) => Some(AuthMode::ForwardUnverified),
        (_, Some(false)) => {
            fields.fault("verify", "can be false with \"auth_mode\": \"forward_jwt\" only; remove it or change the mode");
            None
        }
        (mode, _) => Some(*mode),
    }
}

/// `ws_token`, which asks for pages to take a token from and for somebody who reads it.
fn read_ws_token(fields: &mut Fields<'_, '_>, auth: Option<AuthMode>) -> bool {
    let wanted = fields.flag("ws_token").unwrap_or(false);
    if wanted && fields.node("cors").is_none() {
        fields.fault(
            "ws_token",
            "needs \"cors\": a page's token is taken from its origins only; list them there",
        );
    }
    if wanted && auth == Some(AuthMode::Public) {
        fields.fault(
            "ws_token",
            "can't be true with \"auth_mode\": \"public\", where no token is read; remove it",
        );
    }
    wanted
}

/// The identity the sidecar must prove, by default the one of the plugin's own name.
fn read_identity(
    fields: &mut Fields<'_, '_>,
    name: Option<&Name>,
    rules: &Rules,
) -> Option<PeerId> {
    let own = |name: Name| PeerId::new(rules.trust_domain.clone(), Role::Plugin, name);
    if fields.node("identity").is_none() {
        return name.cloned().map(own);
    }
    let text = fields.text("identity")?;
    let domain = &rules.trust_domain;
    let identity = match text.strip_prefix("plugin/") {
        Some(name) => name.parse().map(own).map_err(|err| err.to_string()),
        None => text.parse::<PeerId>().map_err(|err| err.to_string()),
    };
    let wrong = match identity {
        Err(err) => format!("must be plugin/NAME or spiffe://{domain}/plugin/NAME: {err}"),
        Ok(identity) if !rules.is_own(identity.domain()) => {
            format!(
                "must be of the gateway's own trust domain, {domain}: a sidecar of another is never dialled"
            )
        }
        Ok(identity) if identity.role() != Role::Plugin => {
            format!("must be spiffe://{domain}/plugin/NAME: only plugins answer")
        }
        Ok(identity) => return Some(identity),
    };
    fields.fault("identity", wrong);
    None
}

/// What plain http costs: nothing protects it, so it has to be asked for, and facts sent over it
/// have to be signed.
fn check_plaintext(
    fields: &mut Fields<'_, '_>,
    upstream: &Upstream,
    auth: Option<AuthMode>,
    plaintext_upstream: bool,
    rules: &Rules,
) {
    if !upstream.is_plaintext() {
        return;
    }
    if !upstream.is_loopback() && !plaintext_upstream {
        fields.fault(
            "upstream",
            "is plain http beyond this machine; put a sidecar there and write https://, or set \"plaintext_upstream\": true",
        );
    }
    if auth == Some(AuthMode::GatewayVerified) && rules.signing == Signing::Off {
        fields.fault(
            "upstream",
            "is plain http, over which nobody could tell the gateway's headers from forged ones; set --signing-secret-file on the gateway, or put a sidecar there and write https://",
        );
    }
    if fields.node("identity").is_some() {
        fields.fault(
            "identity",
            "can't be proven over plain http; put a sidecar there and write https://, or remove it",
        );
    }
}

fn read_min_version(fields: &mut Fields<'_, '_>) -> Option<SemVer> {
    let text = fields.text("min_version")?;
    let version = SemVer::parse(text);
    if version.is_none() {
        fields.fault(
            "min_version",
            "must be a version by semantic versioning, such as 1.4.0",
        );
    }
    version
}

/// `canary`: an upstream like the plugin's own, by the same rules, with an `auth_mode` that is not
/// weaker.
fn read_canary(
    fields: &mut Fields<'_, '_>,
    name: Option<&Name>,
    auth: Option<AuthMode>,
    rules: &Rules,
) -> Option<Canary> {
    let node = fields.node("canary")?;
    let known = names(fields::CANARY);
    let mut fields = Fields::open(node, "canary", &known, fields.faults())?;
    fields.require("upstream");
    let chosen = Chosen::read(&mut fields);
    let upstream = Upstream::read(&mut fields);
    let identity = read_identity(&mut fields, name, rules);
    let plaintext_upstream = fields.flag("plaintext_upstream").unwrap_or(false);
    let own = if fields.node("auth_mode").is_some() {
        read_auth(&mut fields)
    } else {
        auth
    };
    if let (Some(own), Some(auth)) = (own, auth)
        && (own < auth || own.is_verified() != auth.is_verified())
    {
        fields.fault(
            "auth_mode",
            format_args!(
                "must not be weaker than the plugin's own, nor ask for a token where that asks for none: {} beside {}",
                own.as_str(),
                auth.as_str()
            ),
        );
    }
    if let Some(upstream) = &upstream {
        check_plaintext(&mut fields, upstream, own, plaintext_upstream, rules);
    }
    let upstream = upstream?;
    let signed = upstream.is_plaintext() && rules.signing != Signing::Off;
    Some(Canary::new(
        chosen,
        upstream,
        identity?,
        plaintext_upstream,
        own?,
        signed,
    ))
}

#[cfg(test)]
mod tests;

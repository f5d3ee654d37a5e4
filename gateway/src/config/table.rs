//! The table of the gateway's settings, the command line made from it, and how the effective values are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Arg, Command};
use gapura_mesh::config::{Kind, Layers, Origin, Setting, command as flags, switched};
use serde_json::{Value, json};

use super::{Config, Shown};

/// Every setting; CONTRACT section 8.
pub(super) const SETTINGS: &[Setting] = &[
    Setting::one(
        "config",
        "FILE",
        "A JSON file with these settings under the same names; a flag or variable beats it",
    ),
    Setting::one(
        "listen",
        "ADDR",
        "Where clients connect [default: 0.0.0.0:8443]",
    ),
    Setting::one(
        "tls-cert",
        "FILE",
        "The public certificate chain, PEM, leaf first; without it plain HTTP on loopback",
    ),
    Setting::one(
        "tls-key",
        "FILE",
        "The private key of the public certificate",
    ),
    Setting::one(
        "client-ca",
        "FILE",
        "Ask clients for a certificate of these CAs; tokens may be bound to it",
    ),
    Setting::one(
        "client-crl",
        "FILE",
        "The CRLs of these CAs; required beside them unless --no-client-crl",
    ),
    Setting::switch(
        "no-client-crl",
        "Take clients' certificates without a revocation list",
    ),
    Setting::one(
        "client-auth",
        "WHICH",
        "Whether a client must show a certificate: optional or required [default: optional]",
    ),
    Setting::switch(
        "insecure-listen",
        "Serve plain HTTP beyond loopback too, for example behind a balancer that ends TLS",
    ),
    Setting::one("plugin-dir", "DIR", "The folder of plugin files, *.json").or_env("PLUGIN_DIR"),
    Setting::one(
        "last-good",
        "DIR",
        "Keep a copy of the plugin files in force there, and start from it when the folder is faulty",
    ),
    Setting::one(
        "mesh-dir",
        "DIR",
        "The gateway's certificate, key, roots and revocation lists, as `gapura-pki issue` writes them",
    ),
    Setting::switch(
        "no-crl",
        "Start without a revocation list: a revoked sidecar is then still dialled",
    ),
    Setting::one(
        "admin",
        "ADDR",
        "Where the operator's side listens, or unix:PATH [default: 127.0.0.1:9901]",
    ),
    Setting::one(
        "admin-token-file",
        "FILE",
        "The token the operator's side asks for; required beyond loopback",
    ),
    Setting::one(
        "health",
        "ADDR",
        "A further listener with /healthz, /readyz and /metrics only [default: none]",
    ),
    Setting::one(
        "jwt-secret-file",
        "FILE",
        "Verify tokens with the shared secret in this file; JWT_SECRET holds one directly",
    ),
    Setting::one(
        "jwt-secret-alg",
        "ALG",
        "The algorithm of the shared secret: HS256, HS384 or HS512 [default: HS256]",
    ),
    Setting::one(
        "jwks",
        "FILE-or-URL",
        "Verify tokens with the keys of this JWK set, or of a file of public keys in PEM",
    ),
    Setting::one(
        "oidc-issuer",
        "URL",
        "Verify tokens with the keys that this OpenID provider publishes; its `iss` must be the same",
    ),
    Setting::one(
        "issuer-ca",
        "FILE",
        "The roots that vouch for where keys are fetched [default: the system's]",
    ),
    Setting::one("issuer", "TEXT", "What a token's `iss` must be"),
    Setting::many(
        "audience",
        "TEXT",
        "What a token's `aud` must name; repeatable, one is enough",
    ),
    Setting::switch(
        "any-audience",
        "Take keys from a URL without naming an issuer and an audience",
    ),
    Setting::one(
        "user-claim",
        "CLAIM",
        "The claim, or JSON pointer, of the user [default: user_id, else sub]",
    ),
    Setting::one(
        "tenant-claim",
        "CLAIM",
        "The claim, or JSON pointer, of the company [default: company_id]",
    ),
    Setting::one(
        "role-claim",
        "CLAIM",
        "The claim, or JSON pointer, of the roles [default: role]",
    ),
    Setting::one(
        "leeway",
        "TIME",
        "How far an issuer's clock may be off [default: 30s]",
    ),
    Setting::many(
        "public-host",
        "NAME",
        "Answer 421 to requests for any other host; repeatable [default: any host]",
    ),
    Setting::many(
        "trusted-proxy",
        "CIDR",
        "Believe X-Forwarded-For and X-Forwarded-Proto from there; repeatable [default: nobody]",
    ),
    Setting::one(
        "signing-secret-file",
        "FILE",
        "Sign requests to plain http upstreams with the secret in this file; of two, one a line, the first signs",
    ),
    Setting::one(
        "signature",
        "FORM",
        "The form of these signatures: v2, or v1 without who acts for the user [default: v2]",
    ),
    Setting::one(
        "max-body-bytes",
        "N",
        "The longest request body, for plugins that set none [default: no limit]",
    ),
    Setting::one(
        "workers",
        "N",
        "Worker threads, 1 to 64 [default: one a core]",
    ),
    Setting::one(
        "access-log",
        "WHICH",
        "Which requests leave a line: on, errors or off [default: on]",
    ),
    Setting::switch(
        "log-actors",
        "Name in an event of its own who acted for whom; access lines never do",
    ),
    Setting::one(
        "drain-delay",
        "TIME",
        "Keep accepting so long after SIGTERM, for balancers that are slow to look away [default: 0s]",
    ),
    Setting::one(
        "drain-timeout",
        "TIME",
        "Give requests in flight so long to finish [default: 30s]",
    ),
    Setting::switch(
        "check",
        "Load everything, say everything that is wrong, serve nothing",
    ),
];

const ABOUT: &str = "The front door: verifies each token, finds the plugin by its mount and speaks mTLS to its sidecar.";

const EXAMPLE: &str = "Example:
  gapura-gateway --listen 127.0.0.1:8080 --plugin-dir plugins.d --mesh-dir mesh/edge --jwks jwks.json --issuer https://id.example --audience lab";

pub(super) fn command() -> Command {
    let token_file = Arg::new("token-file")
        .long("token-file")
        .value_name("FILE")
        .help("A file that holds the caller's token");
    flags("gapura-gateway", env!("CARGO_PKG_VERSION"), ABOUT, EXAMPLE, SETTINGS)
        .subcommand(
            Command::new("explain")
                .about("Say which plugin would serve a request, and each decision on the way")
                .after_help("Example:\n  gapura-gateway explain GET /v1/plugins/lab-reporting/reports --plugin-dir plugins.d")
                .arg(Arg::new("METHOD").required(true).help("The request's method"))
                .arg(Arg::new("PATH").required(true).help("The request's path"))
                .arg(token_file),
        )
        .subcommand(
            Command::new("signing-key")
                .about("Print the key by which a plugin verifies X-Internal-Signature")
                .after_help("Example:\n  gapura-gateway signing-key billing --signing-secret-file signing.secret")
                .arg(Arg::new("NAME").required(true).help("The plugin's name")),
        )
        .subcommand(
            Command::new("healthcheck")
                .about("Ask the running gateway's admin side; exit 0 if it is ready, else 1")
                .after_help("Example:\n  gapura-gateway healthcheck --admin 127.0.0.1:9901"),
        )
}

/// Every effective setting; of secrets only that, and where, they are.
pub(super) fn show(
    config: &Config,
    layers: &Layers,
    env: &BTreeMap<String, String>,
) -> BTreeMap<&'static str, Shown> {
    let mut shown = BTreeMap::new();
    for setting in SETTINGS
        .iter()
        .filter(|setting| !matches!(setting.name, "check" | "config"))
    {
        let found = layers.all(setting.name);
        let text = |text: &String| Value::from(text.as_str());
        let value = match setting.kind {
            Kind::Many(_) => found.iter().map(|found| text(&found.text)).collect(),
            Kind::One(_) => found.first().map_or(Value::Null, |found| text(&found.text)),
            Kind::Switch => Value::Bool(
                found
                    .first()
                    .is_some_and(|found| switched(&found.text) == Ok(true)),
            ),
        };
        shown.insert(
            setting.name,
            Shown {
                value,
                from: layers.origin(setting.name),
            },
        );
    }
    let mut effective = |name: &'static str, value: Value| {
        shown.insert(
            name,
            Shown {
                value,
                from: layers.origin(name),
            },
        );
    };
    effective("listen", config.listen.to_string().into());
    effective("admin", config.admin.to_string().into());
    effective("workers", config.workers.into());
    effective("access-log", config.access_log.as_str().into());
    effective("leeway", seconds(config.auth.leeway));
    effective("signature", config.signature.as_str().into());
    effective("drain-delay", seconds(config.drain.delay));
    effective("drain-timeout", seconds(config.drain.timeout));
    effective("max-body-bytes", config.max_body.into());
    effective("tenant-claim", config.auth.claims.tenant.to_string().into());
    effective("role-claim", config.auth.claims.role.to_string().into());
    let user = config
        .auth
        .claims
        .user
        .as_ref()
        .map_or("user_id, else sub".to_owned(), ToString::to_string);
    effective("user-claim", user.into());
    let issuers: Vec<Value> = config
        .auth
        .issuers
        .iter()
        .map(super::issuers::show)
        .collect();
    let from = layers
        .structured_origin("issuers")
        .unwrap_or(Origin::Default);
    shown.insert(
        "issuers",
        Shown {
            value: issuers.into(),
            from,
        },
    );
    if env
        .get("JWT_SECRET")
        .is_some_and(|secret| !secret.is_empty())
    {
        shown.insert(
            "jwt-secret",
            Shown {
                value: json!("set, not shown"),
                from: Origin::Env("JWT_SECRET".to_owned()),
            },
        );
    }
    shown
}

fn seconds(duration: Duration) -> Value {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
    .into()
}

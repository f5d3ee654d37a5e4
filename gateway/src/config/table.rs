//! The table of the gateway's settings and the command line made from it.

use clap::{Arg, Command};
use gapura_settings::{Setting, command as flags, rows};

/// Every setting; CONTRACT section 8.
pub(super) const SETTINGS: &[Setting] = &[
    rows::CONFIG,
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
        "tls-min",
        "VERSION",
        "The oldest TLS that clients may speak: 1.2 or 1.3 [default: 1.2]",
    ),
    Setting::one(
        "hsts",
        "AGE",
        "Tell browsers over https to come by nothing else for so long, for example 365d [default: say nothing]",
    ),
    Setting::one(
        "client-ca",
        "FILE",
        "Ask clients for a certificate of these CAs; tokens may be bound to it",
    )
    .never_empty(),
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
    rows::STATE_DIR,
    rows::ACCEPT_CRL_RESET,
    Setting::switch(
        "no-crl",
        "Start without a revocation list: a revoked sidecar is then still dialled",
    ),
    Setting::one(
        "admin",
        "ADDR",
        "Where the operator's side listens, or unix:PATH [default: 127.0.0.1:9901]",
    ),
    rows::ADMIN_TOKEN_FILE,
    rows::HEALTH,
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
    Setting::one(
        "deny",
        "FILE",
        "Refuse the tokens, users, sessions and companies that this file lists [default: none]",
    )
    .never_empty(),
    Setting::one(
        "tenants",
        "DIR",
        "The folder of companies' files, *.json: suspended, cidrs, cors_origins [default: none]",
    )
    .never_empty(),
    Setting::switch(
        "backchannel-logout",
        "Take OpenID Connect back-channel logouts at POST /.gapura/backchannel-logout",
    ),
    Setting::many(
        "logout-audience",
        "TEXT",
        "What a logout token's `aud` must name: the client that the provider knows; repeatable",
    ),
    Setting::one(
        "logout-keep",
        "TIME",
        "How long a logout counts, and the longest that a token may live beside it [default: 24h]",
    ),
    Setting::one("issuer", "TEXT", "What a token's `iss` must be").never_empty(),
    Setting::many(
        "audience",
        "TEXT",
        "What a token's `aud` must name; repeatable, one is enough",
    )
    .never_empty(),
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
    )
    .never_empty(),
    Setting::many(
        "trusted-proxy",
        "CIDR",
        "Believe X-Forwarded-For and X-Forwarded-Proto from there; repeatable [default: nobody]",
    ),
    Setting::one(
        "body-rate",
        "N",
        "Bytes in a second, over 30s, that a client must move of a body, event streams and gRPC aside; 0 for none [default: 240]",
    ),
    Setting::one(
        "connections-per-address",
        "N",
        "How many connections one address may have, a trusted proxy aside [default: an eighth of all, 1024 at least]",
    ),
    Setting::switch(
        "proxy-protocol",
        "Read from each --trusted-proxy, in front of a connection, whose it is: PROXY protocol, version 2",
    ),
    Setting::one(
        "openapi",
        "WHO",
        "Who may read the plugins' contracts at /openapi.json: public, token or off [default: token]",
    ),
    Setting::switch(
        "docs",
        "Serve a page at /docs to read the plugins' contracts on, and to try them",
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
    rows::WORKERS,
    rows::ACCESS_LOG,
    rows::NO_TAP,
    Setting::switch(
        "log-actors",
        "Name in an event of its own who acted for whom; access lines never do",
    ),
    Setting::one(
        "page-tenants",
        "on|off",
        "Name companies on the operator's page; off: only how much they ask [default: off]",
    ),
    Setting::one(
        "drain-delay",
        "TIME",
        "Keep accepting so long after SIGTERM, for balancers that are slow to look away [default: 0s]",
    ),
    rows::DRAIN_TIMEOUT,
    rows::TAKEOVER,
    rows::CHECK,
    Setting::one(
        "only",
        "WHAT",
        "With --check: look at the plugin files alone, and need nothing else; WHAT is plugins",
    ),
    Setting::switch(
        "diff-running",
        "With --check: compare the plugin files with what the running gateway has in force, by its admin side; exit 1 if they differ",
    ),
];

const ABOUT: &str = "The front door: verifies each token, finds the plugin by its mount and speaks mTLS to its sidecar.";

const EXAMPLE: &str = "Example:
  gapura-gateway --listen 127.0.0.1:8080 --plugin-dir plugins.d --mesh-dir mesh/edge --jwks jwks.json --issuer https://id.example --audience lab";

pub(super) fn command() -> Command {
    let option = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).help(help)
    };
    let token_file = option("token-file", "FILE", "A file that holds the caller's token");
    flags("gapura-gateway", env!("CARGO_PKG_VERSION"), ABOUT, EXAMPLE, SETTINGS)
        .subcommand(
            Command::new("explain")
                .about("Say which plugin would serve a request, and each decision on the way")
                .after_help("Example:\n  gapura-gateway explain GET /v1/plugins/lab-reporting/reports --plugin-dir plugins.d")
                .arg(Arg::new("METHOD").required(true).help("The request's method"))
                .arg(Arg::new("PATH").required(true).help("The request's path"))
                .arg(token_file)
                .arg(option("host", "NAME", "The host the request is for"))
                .arg(option("origin", "ORIGIN", "The origin of the page that sends it"))
                .arg(option("client", "ADDR", "The client's address [default: 127.0.0.1]"))
                .arg(
                    Arg::new("json")
                        .long("json")
                        .action(clap::ArgAction::SetTrue)
                        .help("Print one JSON object"),
                ),
        )
        .subcommand(
            Command::new("schema")
                .about("Print the JSON Schema of a plugin file, for editors")
                .after_help("Example:\n  gapura-gateway schema > plugin.schema.json\n\nA plugin file names it: \"$schema\": \"../plugin.schema.json\""),
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

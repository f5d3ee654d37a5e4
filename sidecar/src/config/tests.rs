use std::time::Duration;

use gapura_settings::{AccessLog, NotStarted};
use serde_json::json;

use super::*;
use crate::forward::Address;

fn load_with(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, NotStarted> {
    let args = ["gapura-sidecar"].iter().chain(args).map(OsString::from);
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Invocation::load(args, &env)
}

/// A good command line and `args`.
fn config(args: &[&str]) -> Result<Config, String> {
    match load_with(
        &[
            &["--plugin", "http://127.0.0.1:19080", "--mesh-dir", "mesh"],
            args,
        ]
        .concat(),
        &[],
    ) {
        Ok(Invocation::Run(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(err) => Err(err.to_string()),
    }
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(&[]).unwrap();
    assert_eq!(
        (
            config.common.listen.to_string().as_str(),
            config.common.admin.address.to_string().as_str()
        ),
        ("0.0.0.0:19443", "127.0.0.1:19901")
    );
    assert!(
        matches!(&config.plugin, Address::Http(tcp) if tcp.host == "127.0.0.1" && tcp.port == 19080 && !tcp.anywhere)
    );
    assert!(
        config.allow.is_empty()
            && !config.tenants.allow_none
            && config.tenants.public_paths.is_empty()
            && !config.common.no_crl
    );
    assert_eq!(
        config.tenants.probe_paths,
        ["/healthz", "/version", "/openapi.json"]
    );
    assert_eq!(
        (config.common.drain.delay, config.common.drain.timeout),
        (Duration::ZERO, Duration::from_secs(30))
    );
}

#[test]
fn every_flag_is_read() {
    let config = config(&[
        "--listen",
        "127.0.0.1:0",
        "--no-crl",
        "--allow",
        "spiffe://a/gateway/edge",
        "--allow",
        "spiffe://a/gateway/*",
        "--allow-no-tenant",
        "--public-path",
        "/docs/",
        "--public-path",
        "/",
        "--probe-path",
        "/up",
        "--admin",
        "unix:/run/a",
        "--health",
        "0.0.0.0:1",
        "--workers",
        "2",
        "--access-log",
        "errors",
        "--drain-delay",
        "1s",
        "--drain-timeout",
        "2s",
    ])
    .unwrap();
    assert_eq!(
        config
            .allow
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["spiffe://a/gateway/edge", "spiffe://a/gateway/*"]
    );
    assert_eq!(
        (config.tenants.public_paths, config.tenants.probe_paths),
        (
            vec!["/docs".to_owned(), "/".to_owned()],
            vec!["/up".to_owned()]
        )
    );
    assert!(config.tenants.allow_none && config.common.no_crl && config.common.health.is_some());
    assert_eq!(
        (
            config.common.workers,
            config.common.access_log,
            config.common.drain.delay.as_secs(),
            config.common.drain.timeout.as_secs()
        ),
        (2, AccessLog::Errors, 1, 2)
    );
}

#[test]
fn all_mistakes_are_listed_together() {
    let args = [
        "--plugin",
        "http://10.0.0.1:1",
        "--allow",
        "spiffe://a/gateway/e*",
        "--public-path",
        "x",
        "--probe-path",
        "/a/../b",
        "--admin",
        "0.0.0.0:1",
    ];
    let Err(NotStarted::Problems(problems)) = load_with(&args, &[("GAPURA_LISTEN", "x")]) else {
        panic!()
    };
    let mut at: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
    at.sort_unstable();
    assert_eq!(
        at,
        [
            "--admin",
            "--allow",
            "--mesh-dir",
            "--plugin",
            "--probe-path",
            "--public-path",
            "GAPURA_LISTEN"
        ]
    );
    assert!(
        load_with(&[], &[])
            .unwrap_err()
            .to_string()
            .contains("--plugin: is missing")
    );
    assert!(
        config(&["--unsafe-plugin-address"])
            .is_ok_and(|config| matches!(config.plugin, Address::Http(tcp) if tcp.anywhere))
    );
}

#[test]
fn the_effective_settings_say_where_they_came_from() {
    let shown = config(&["--workers", "2"]).unwrap().to_json();
    assert_eq!(shown["workers"], json!({ "value": 2, "from": "--workers" }));
    assert_eq!(
        shown["allow"],
        json!({ "value": ["gateway/*"], "from": "default" })
    );
    assert_eq!(shown["plugin"]["value"], "http://127.0.0.1:19080");
}

#[test]
fn help_version_and_subcommands() {
    table::command().debug_assert();
    let help = load_with(&["--help"], &[]).unwrap_err();
    assert!(help.exit_code() == 0 && help.to_string().contains("Example:"));
    assert_eq!(
        load_with(&["--version"], &[]).unwrap_err().to_string(),
        format!("gapura-sidecar {}", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(
        load_with(&["--plugn", "x"], &[]).unwrap_err().exit_code(),
        2
    );
    let check = load_with(&["healthcheck", "--admin", "127.0.0.1:5"], &[]);
    assert!(
        matches!(check, Ok(Invocation::Healthcheck(admin)) if admin.token_file.is_none() && admin.address.to_string() == "127.0.0.1:5")
    );
    assert!(matches!(
        load_with(&["--check", "--plugin", "unix:p", "--mesh-dir", "m"], &[]),
        Ok(Invocation::Check(_))
    ));
    let run = load_with(
        &[
            "run",
            "--plugin",
            "http://127.0.0.1:1",
            "--mesh-dir",
            "m",
            "--",
            "node",
            "--plugin",
            "x",
        ],
        &[],
    );
    assert!(
        matches!(run, Ok(Invocation::Own(Wrapped { config, command })) if command == ["node", "--plugin", "x"] && matches!(&config.plugin, Address::Http(tcp) if tcp.port == 1))
    );
    assert_eq!(
        load_with(&["run", "--plugin", "unix:p", "--mesh-dir", "m"], &[])
            .unwrap_err()
            .exit_code(),
        2
    );
    assert_eq!(
        load_with(
            &["--plugin", "unix:p", "--mesh-dir", "m", "--", "node"],
            &[]
        )
        .unwrap_err()
        .exit_code(),
        2
    );
    assert!(matches!(
        load_with(
            &[
                "run",
                "--check",
                "--plugin",
                "unix:p",
                "--mesh-dir",
                "m",
                "--",
                "x"
            ],
            &[]
        ),
        Ok(Invocation::Check(_))
    ));
}

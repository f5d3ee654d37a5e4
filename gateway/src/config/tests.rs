use super::*;
use crate::authenticate::{HmacAlgorithm, KeySource};

fn load_with(args: &[&str], env: &[(&str, &str)]) -> Result<Invocation, NotStarted> {
    let args = ["gapura-gateway"].iter().chain(args).map(OsString::from);
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Invocation::load(args, &env)
}

const BASE: [&str; 6] = [
    "--listen",
    "127.0.0.1:0",
    "--plugin-dir",
    "plugins.d",
    "--mesh-dir",
    "mesh",
];

/// A good command line and `args`.
fn config_with(args: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
    match load_with(&[&BASE, args].concat(), env) {
        Ok(Invocation::Run(config)) => Ok(*config),
        Ok(other) => panic!("{other:?}"),
        Err(err) => Err(err.to_string()),
    }
}

fn config(args: &[&str]) -> Result<Config, String> {
    config_with(args, &[])
}

/// A good command line and a file.
fn config_of(file: &str, args: &[&str], env: &[(&str, &str)]) -> Result<Config, String> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let name = path.path().to_str().unwrap();
    config_with(&[&["--config", name], args].concat(), env).map_err(|err| err.replace(name, "f"))
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let config = config(&[]).unwrap();
    assert_eq!(config.admin.to_string(), "127.0.0.1:9901");
    assert!(
        config.health.is_none()
            && config.tls.is_none()
            && config.max_body.is_none()
            && config.last_good.is_none()
    );
    assert!(
        config.public_hosts.is_empty()
            && config.trusted_proxies.is_empty()
            && config.auth.issuers.is_empty()
            && !config.no_crl
    );
    assert!((1..=64).contains(&config.workers));
    assert_eq!(config.access_log, AccessLog::On);
    assert_eq!(
        (config.drain.delay, config.drain.timeout),
        (Duration::ZERO, Duration::from_secs(30))
    );
    assert_eq!(config.auth.leeway, Duration::from_secs(30));
    assert!(config.warnings.is_empty());
}

#[test]
fn every_flag_is_read() {
    let config = config(&[
        "--tls-cert",
        "c.pem",
        "--tls-key",
        "k.pem",
        "--last-good",
        "lg",
        "--no-crl",
        "--admin",
        "0.0.0.0:1",
        "--admin-token-file",
        "t",
        "--health",
        "0.0.0.0:2",
        "--jwks",
        "keys.json",
        "--issuer",
        "i",
        "--audience",
        "a",
        "--audience",
        "b",
        "--user-claim",
        "uid",
        "--tenant-claim",
        "/org/id",
        "--role-claim",
        "roles",
        "--leeway",
        "5s",
        "--public-host",
        "API.example",
        "--public-host",
        "[::1]",
        "--trusted-proxy",
        "10.0.0.0/8",
        "--signing-secret-file",
        "s",
        "--max-body-bytes",
        "5",
        "--workers",
        "3",
        "--access-log",
        "off",
        "--drain-delay",
        "5s",
        "--drain-timeout",
        "1m",
    ])
    .unwrap();
    assert_eq!(
        config.tls,
        Some(TlsFiles {
            cert: "c.pem".into(),
            key: "k.pem".into()
        })
    );
    assert_eq!(config.last_good, Some("lg".into()));
    assert!(config.no_crl && config.admin.is_exposed());
    assert_eq!(config.admin_token_file, Some("t".into()));
    assert_eq!(config.health.unwrap().port(), 2);
    let issuer = &config.auth.issuers[0];
    assert!(
        matches!(&issuer.keys, KeySource::JwksFile(path) if path == &PathBuf::from("keys.json"))
    );
    assert_eq!(
        (issuer.issuer.as_deref(), issuer.audience.len()),
        (Some("i"), 2)
    );
    assert_eq!(config.auth.claims.user.as_ref().unwrap().to_string(), "uid");
    assert_eq!(config.auth.claims.tenant.to_string(), "/org/id");
    assert_eq!(config.public_hosts, ["api.example", "[::1]"]);
    assert_eq!(config.trusted_proxies[0].to_string(), "10.0.0.0/8");
    assert_eq!(
        (config.max_body, config.workers, config.access_log),
        (Some(5), 3, AccessLog::Off)
    );
    assert_eq!(
        (
            config.drain.delay,
            config.drain.timeout,
            config.auth.leeway.as_secs()
        ),
        (Duration::from_secs(5), Duration::from_secs(60), 5)
    );
}

#[test]
fn a_public_host_is_a_name_without_a_port() {
    let hosts = |text: &str| config(&["--public-host", text]).map(|config| config.public_hosts);
    for (text, host) in [
        ("API.example", "api.example"),
        ("10.0.0.1", "10.0.0.1"),
        ("::1", "[::1]"),
        ("[::1]", "[::1]"),
    ] {
        assert_eq!(hosts(text), Ok(vec![host.to_owned()]));
    }
    for text in [
        "",
        "a:1",
        "[::1]:1",
        "https://a",
        "a/b",
        "*.example",
        "a..b",
        "[10.0.0.1]",
    ] {
        assert!(hosts(text).is_err(), "{text}");
    }
}

#[test]
fn existing_installations_need_no_new_names() {
    let env = [
        ("PLUGIN_DIR", "old"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
        ("GAPURA_MESH_DIR", "mesh"),
        ("GAPURA_LISTEN", "127.0.0.1:1"),
    ];
    let Ok(Invocation::Run(config)) = load_with(&[], &env) else {
        panic!()
    };
    assert_eq!(config.plugin_dir, PathBuf::from("old"));
    assert!(
        matches!(&config.auth.issuers[0].keys, KeySource::Secret { bytes, algorithm: HmacAlgorithm::Hs256 } if bytes.len() == 32)
    );
}

#[test]
fn all_mistakes_are_listed_together_where_they_were_made() {
    let env = [("GAPURA_WORKERS", "0"), ("GAPURA_DRAIN_TIMEOUT", "5")];
    let args = [
        "--listen",
        "8443",
        "--max-body-bytes",
        "1k",
        "--access-log",
        "loud",
        "--public-host",
        "a:1",
        "--trusted-proxy",
        "x",
    ];
    let Err(NotStarted::Problems(problems)) = load_with(&args, &env) else {
        panic!()
    };
    let at: Vec<&str> = problems.iter().map(|problem| problem.at.as_str()).collect();
    for name in [
        "--listen",
        "--max-body-bytes",
        "--access-log",
        "--public-host",
        "--trusted-proxy",
        "--plugin-dir",
        "--mesh-dir",
        "GAPURA_WORKERS",
        "GAPURA_DRAIN_TIMEOUT",
    ] {
        assert!(at.contains(&name), "{name}: {at:?}");
    }
    assert_eq!(NotStarted::Problems(problems).exit_code(), 2);
}

#[test]
fn plain_http_stays_on_loopback_unless_asked() {
    for listen in ["127.0.0.1:1", "[::1]:1", "localhost:1"] {
        assert!(
            load_with(
                &["--plugin-dir", "p", "--mesh-dir", "m", "--listen", listen],
                &[]
            )
            .is_ok(),
            "{listen}"
        );
    }
    let exposed = [
        "--plugin-dir",
        "p",
        "--mesh-dir",
        "m",
        "--listen",
        "0.0.0.0:1",
    ];
    let said = load_with(&exposed, &[]).unwrap_err().to_string();
    assert!(
        said.starts_with("--listen: ")
            && said.contains("--tls-cert")
            && said.contains("--insecure-listen"),
        "{said}"
    );
    assert!(
        load_with(&exposed[..4], &[]).is_err(),
        "the default is all interfaces"
    );
    assert!(load_with(&[&exposed[..], &["--insecure-listen"]].concat(), &[]).is_ok());
    assert!(
        load_with(
            &[&exposed[..], &["--tls-cert", "c", "--tls-key", "k"]].concat(),
            &[]
        )
        .is_ok()
    );
    for half in [["--tls-cert", "c"], ["--tls-key", "k"]] {
        let said = load_with(&[&exposed[..], &half].concat(), &[])
            .unwrap_err()
            .to_string();
        assert!(
            said.starts_with(half[0]) && said.lines().count() == 1,
            "{said}"
        );
    }
}

#[test]
fn the_admin_side_is_guarded_beyond_loopback() {
    assert!(
        config(&["--admin", "0.0.0.0:1"])
            .unwrap_err()
            .contains("--admin-token-file")
    );
    assert!(config(&["--admin", "0.0.0.0:1", "--admin-token-file", "t"]).is_ok());
    assert!(
        config(&["--admin", "unix:/run/gapura/admin"])
            .is_ok_and(|config| matches!(config.admin, AdminAddress::Unix(_)))
    );
}

#[test]
fn the_strongest_layer_that_names_keys_decides() {
    let keys = |config: Config| {
        config
            .auth
            .issuers
            .first()
            .map(|issuer| issuer.keys.clone())
    };
    let secret = [("JWT_SECRET", "s")];
    assert!(matches!(
        keys(config_with(&["--jwks", "k"], &secret).unwrap()),
        Some(KeySource::JwksFile(_))
    ));
    assert!(matches!(
        keys(config_of("{\"jwks\": \"k\"}", &[], &secret).unwrap()),
        Some(KeySource::Secret { .. })
    ));
    let file = keys(config(&["--jwt-secret-file", "f", "--jwt-secret-alg", "HS512"]).unwrap());
    assert!(matches!(
        file,
        Some(KeySource::SecretFile {
            algorithm: HmacAlgorithm::Hs512,
            ..
        })
    ));
    assert!(keys(config(&[]).unwrap()).is_none());
    for args in [
        &["--jwks", "k", "--jwt-secret-file", "f"][..],
        &["--jwt-secret-alg", "none", "--jwt-secret-file", "f"],
        &["--issuer", "i"],
        &["--audience", "a"],
    ] {
        assert_eq!(config(args).unwrap_err().lines().count(), 1, "{args:?}");
    }
    assert!(config_with(&[], &[("JWT_SECRET", "s"), ("GAPURA_JWKS", "k")]).is_err());
}

#[test]
fn what_comes_later_is_refused_with_what_to_do() {
    for args in [
        ["--jwks", "https://id.example/jwks"],
        ["--oidc-issuer", "https://id.example"],
    ] {
        let said = config(&args).unwrap_err();
        assert!(
            said.starts_with(args[0]) && said.contains("not in this build yet: use --jwks FILE"),
            "{said}"
        );
    }
}

#[test]
fn issuers_are_a_list_in_the_file() {
    let two = r#"{"issuers": [{"issuer": "a", "audience": "x", "jwks": "k"}, {"issuer": "b", "audience": ["y", "z"], "jwt_secret_file": "s"}]}"#;
    let issuers = config_of(two, &[], &[]).unwrap().auth.issuers;
    assert_eq!(
        issuers
            .iter()
            .map(|issuer| issuer.audience.len())
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let replaced = config_of(two, &["--jwks", "other"], &[]).unwrap();
    assert_eq!(
        (replaced.auth.issuers.len(), replaced.warnings.len()),
        (1, 1)
    );
    assert!(
        config_of(two, &["--audience", "x"], &[])
            .unwrap_err()
            .contains("can't change the list")
    );
    let said = config_of("{\"jwks\": \"k\", \"issuers\": []}", &[], &[]).unwrap_err();
    assert_eq!(
        said,
        "f:1:10: \"jwks\" is short for a list of one issuer; write it into \"issuers\""
    );
}

#[test]
fn every_mistake_in_the_list_is_named() {
    let file = "{\"issuers\": [{\"issuer\": 1, \"jwks\": \"k\"},\n{\"isuer\": \"b\", \"jwks\": \"https://x\"},\n{\"jwt-secret-alg\": \"HS1\", \"jwt-secret-file\": \"s\"},\n{\"oidc-issuer\": \"x\"},\n{\"jwks\": \"k\", \"jwt-secret-file\": \"s\"},\n{}]}";
    let said = config_of(file, &[], &[]).unwrap_err();
    let lines: Vec<&str> = said.lines().map(|line| line.get(..4).unwrap()).collect();
    assert_eq!(
        lines,
        ["f:1:", "f:2:", "f:2:", "f:3:", "f:4:", "f:5:", "f:6:"],
        "{said}"
    );
    assert!(
        config_of("{\"issuers\": {}}", &[], &[])
            .unwrap_err()
            .contains("must be a list")
    );
}

#[test]
fn the_effective_settings_show_no_secret() {
    let env = [
        ("JWT_SECRET", "s3cret-s3cret-s3cret-s3cret-s3cret"),
        ("GAPURA_WORKERS", "2"),
    ];
    let config = config_of(
        "{\"access-log\": \"errors\"}",
        &["--public-host", "a"],
        &env,
    )
    .unwrap();
    let shown = config.to_json();
    assert!(!shown.to_string().contains("s3cret") && !format!("{config:?}").contains("s3cret"));
    assert_eq!(shown["jwt-secret"]["from"], "JWT_SECRET");
    assert_eq!(
        shown["workers"],
        json!({ "value": 2, "from": "GAPURA_WORKERS" })
    );
    assert_eq!(
        shown["public-host"],
        json!({ "value": ["a"], "from": "--public-host" })
    );
    assert_eq!(
        shown["drain-timeout"],
        json!({ "value": "30s", "from": "default" })
    );
    assert_eq!(shown["access-log"]["value"], "errors");
    assert!(
        shown["access-log"]["from"]
            .as_str()
            .unwrap()
            .ends_with(":1:16")
    );
    assert_eq!(
        shown["issuers"]["value"][0]["keys"]["jwt-secret-alg"],
        "HS256"
    );
}

#[test]
fn subcommands_need_only_what_they_use() {
    let Ok(Invocation::Explain(explain)) = load_with(
        &[
            "explain",
            "get",
            "/a?b",
            "--plugin-dir",
            "p",
            "--token-file",
            "t",
        ],
        &[],
    ) else {
        panic!()
    };
    assert_eq!(
        (
            explain.method.as_str(),
            explain.target.as_str(),
            explain.token_file
        ),
        ("GET", "/a?b", Some("t".into()))
    );
    assert!(
        load_with(&["explain", "GET", "/a"], &[])
            .unwrap_err()
            .to_string()
            .contains("--plugin-dir")
    );
    assert!(
        load_with(&["--plugin-dir", "p", "explain", "G T", "/a"], &[])
            .unwrap_err()
            .to_string()
            .starts_with("METHOD: ")
    );
    let signing = load_with(
        &["signing-key", "billing"],
        &[("GAPURA_SIGNING_SECRET_FILE", "s")],
    );
    assert!(
        matches!(signing, Ok(Invocation::SigningKey { plugin, secret_file }) if plugin.as_str() == "billing" && secret_file.as_os_str() == "s")
    );
    assert!(
        load_with(
            &["signing-key", "Billing", "--signing-secret-file", "s"],
            &[]
        )
        .is_err()
    );
    assert!(load_with(&["signing-key", "billing"], &[]).is_err());
    assert!(matches!(
        load_with(&["healthcheck"], &[]),
        Ok(Invocation::Healthcheck {
            token_file: None,
            ..
        })
    ));
    assert!(matches!(
        load_with(&[&["--check"], &BASE[..]].concat(), &[]),
        Ok(Invocation::Check(_))
    ));
}

#[test]
fn help_version_and_unknown_flags_have_their_exit_codes() {
    let Err(help @ NotStarted::Shown(_)) = load_with(&["--help"], &[]) else {
        panic!()
    };
    assert_eq!(help.exit_code(), 0);
    for text in [
        "Example:",
        "--plugin-dir <DIR>",
        "[env: GAPURA_PLUGIN_DIR, PLUGIN_DIR]",
        "explain",
        "signing-key",
        "healthcheck",
    ] {
        let unwrapped = help
            .to_string()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ");
        assert!(unwrapped.contains(text), "{text}: {help}");
    }
    let version = load_with(&["--version"], &[]).unwrap_err();
    assert_eq!(
        (version.to_string(), version.exit_code()),
        (format!("gapura-gateway {}", env!("CARGO_PKG_VERSION")), 0)
    );
    for args in [
        &["--lisen", "x"][..],
        &["--listen"],
        &["expain"],
        &["explain", "GET"],
        &["--check=1"],
    ] {
        let Err(err @ NotStarted::Usage(_)) = load_with(args, &[]) else {
            panic!("{args:?}")
        };
        assert_eq!(err.exit_code(), 2);
    }
    assert!(
        load_with(&["--lisen", "x"], &[])
            .unwrap_err()
            .to_string()
            .contains("--listen")
    );
}

#[test]
fn the_table_can_be_made_into_a_command() {
    table::command().debug_assert();
}

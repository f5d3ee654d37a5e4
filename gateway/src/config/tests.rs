use std::ffi::OsString;
use std::time::Duration;

use gapura_settings::{AccessLog, AdminAddress, NotStarted};
use serde_json::json;

use super::*;
use crate::authenticate::{HmacAlgorithm, IssuerName, KeySource, Tenants};

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
    assert_eq!(config.common.admin.address.to_string(), "127.0.0.1:9901");
    assert!(
        config.common.health.is_none()
            && config.tls.is_none()
            && config.max_body.is_none()
            && config.last_good.is_none()
    );
    assert!(
        config.public_hosts.is_empty()
            && config.trusted_proxies.is_empty()
            && config.auth.issuers.is_empty()
            && !config.common.no_crl
    );
    assert!((1..=64).contains(&config.common.workers));
    assert_eq!(config.common.access_log, AccessLog::On);
    assert_eq!(
        (config.common.drain.delay, config.common.drain.timeout),
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
        "--body-rate",
        "0",
        "--connections-per-address",
        "77",
        "--proxy-protocol",
        "--tls-min",
        "1.3",
        "--hsts",
        "365d",
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
    assert_eq!(
        (config.connections_per_address, config.body_rate),
        (Some(77), None)
    );
    assert!(config.proxy_protocol && config.tls_min == TlsMin::Tls13);
    assert_eq!(
        config.hsts,
        Some(std::time::Duration::from_secs(31_536_000))
    );
    assert_eq!(config.last_good, Some("lg".into()));
    assert!(config.common.no_crl && config.common.admin.address.is_exposed());
    assert_eq!(config.common.admin.token_file, Some("t".into()));
    assert_eq!(config.common.health.unwrap().port(), 2);
    let issuer = &config.auth.issuers[0];
    assert!(
        matches!(&issuer.keys, KeySource::JwksFile(path) if path == &PathBuf::from("keys.json"))
    );
    assert_eq!(
        (
            issuer.issuer.as_ref().map(IssuerName::as_str),
            issuer.audience.len()
        ),
        (Some("i"), 2)
    );
    assert_eq!(config.auth.claims.user.as_ref().unwrap().to_string(), "uid");
    assert_eq!(config.auth.claims.tenant.to_string(), "/org/id");
    assert_eq!(config.public_hosts, ["api.example", "[::1]"]);
    assert_eq!(config.trusted_proxies[0].to_string(), "10.0.0.0/8");
    assert_eq!(
        (
            config.max_body,
            config.common.workers,
            config.common.access_log
        ),
        (Some(5), 3, AccessLog::Off)
    );
    assert_eq!(
        (
            config.common.drain.delay,
            config.common.drain.timeout,
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
fn what_the_door_is_told_needs_what_it_stands_on() {
    let problems = |more: &[&str]| {
        let own = [
            "--plugin-dir",
            "p",
            "--mesh-dir",
            "m",
            "--listen",
            "127.0.0.1:1",
        ];
        let args = [&own[..], more].concat();
        match load_with(&args, &[]) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    };
    let tls = ["--tls-cert", "c", "--tls-key", "k"];
    for (alone, with) in [
        (&["--tls-min", "1.3"][..], &tls[..]),
        (&["--hsts", "1d"], &tls),
        (&["--hsts", "1d"], &["--trusted-proxy", "10.0.0.1"]),
        (&["--proxy-protocol"], &["--trusted-proxy", "10.0.0.1"]),
    ] {
        let said = problems(alone);
        assert!(said.starts_with(alone[0]), "{alone:?}: {said}");
        assert_eq!(problems(&[alone, with].concat()), "", "{alone:?} {with:?}");
    }
    for wrong in [
        ["--body-rate", "1k"],
        ["--connections-per-address", "0"],
        ["--connections-per-address", "1k"],
        ["--tls-min", "1.1"],
        ["--hsts", "1500ms"],
        ["--hsts", "365"],
    ] {
        let said = problems(&[&wrong[..], &tls].concat());
        assert!(said.starts_with(wrong[0]), "{wrong:?}: {said}");
    }
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
            .is_ok_and(|config| matches!(config.common.admin.address, AdminAddress::Unix(_)))
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
fn fetched_keys_need_an_issuer_and_an_audience_or_leave() {
    let url = ["--jwks", "https://id.example/jwks"];
    let said = config(&url).unwrap_err();
    assert!(
        said.starts_with("--jwks: ") && said.contains("an issuer and an audience"),
        "{said}"
    );
    let with = |args: &[&str]| config(&[&url[..], args].concat());
    assert!(
        with(&["--issuer", "i"])
            .unwrap_err()
            .contains("an audience")
    );
    assert!(
        with(&["--audience", "a"])
            .unwrap_err()
            .contains("an issuer")
    );
    assert!(with(&["--any-audience"]).is_ok());
    let both = with(&["--issuer", "i", "--audience", "a", "--issuer-ca", "ca.pem"]).unwrap();
    let issuer = &both.auth.issuers[0];
    assert!(matches!(&issuer.keys, KeySource::Url(url) if url.host() == "id.example"));
    assert_eq!(
        issuer.roots.as_deref(),
        Some(std::path::Path::new("ca.pem"))
    );
    for bad in [
        "http://id.example/jwks",
        "https://u:p@id.example/",
        "https://",
    ] {
        let args = ["--jwks", bad, "--any-audience"];
        assert!(config(&args).unwrap_err().starts_with("--jwks: "), "{bad}");
    }
}

#[test]
fn a_provider_is_its_own_issuer() {
    let provider = ["--oidc-issuer", "https://id.example/a", "--audience", "x"];
    let found = config(&provider).unwrap();
    let issuer = &found.auth.issuers[0];
    assert_eq!(
        issuer.issuer.as_ref().map(|name| name.as_str()),
        Some("https://id.example/a")
    );
    assert!(matches!(&issuer.keys, KeySource::Oidc(_)));
    let said = config(&[&provider[..], &["--issuer", "other"]].concat()).unwrap_err();
    assert!(said.starts_with("--issuer: must be the same"), "{said}");
    assert!(config(&["--oidc-issuer", "id.example", "--audience", "x"]).is_err());
}

#[test]
fn issuers_are_a_list_in_the_file() {
    let two = r#"{"issuers": [{"issuer": "a", "audience": "x", "jwks": "k", "tenants": [42, "acme"]}, {"issuer": "b", "audience": ["y", "z"], "jwt_secret_file": "s", "tenants": "*"}]}"#;
    let issuers = config_of(two, &[], &[]).unwrap().auth.issuers;
    assert_eq!(
        issuers
            .iter()
            .map(|issuer| issuer.audience.len())
            .collect::<Vec<_>>(),
        [1, 2]
    );
    let ids = |tenants: &Tenants| match tenants {
        Tenants::Only(list) => list.iter().map(|id| id.as_str().to_owned()).collect(),
        other => vec![format!("{other:?}")],
    };
    assert_eq!(ids(&issuers[0].tenants), ["42", "acme"]);
    assert_eq!(ids(&issuers[1].tenants), ["Rest"]);
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
fn clients_are_asked_for_certificates_with_a_crl_or_an_explicit_word() {
    let tls = ["--tls-cert", "c", "--tls-key", "k"];
    let with = |args: &[&str]| config(&[&tls[..], args].concat());
    assert!(with(&[]).unwrap().clients.is_none());
    let asked = with(&["--client-ca", "ca", "--client-crl", "crl"])
        .unwrap()
        .clients
        .unwrap();
    assert!(asked.crl.is_some() && !asked.required);
    let bare = [
        "--client-ca",
        "ca",
        "--no-client-crl",
        "--client-auth",
        "required",
    ];
    let asked = with(&bare).unwrap().clients.unwrap();
    assert!(asked.crl.is_none() && asked.required);
    for (args, says) in [
        (&["--client-ca", "ca"][..], "needs --client-crl"),
        (
            &["--client-ca", "ca", "--client-crl", "l", "--no-client-crl"],
            "keep one",
        ),
        (&["--client-crl", "l"], "without --client-ca"),
        (&["--no-client-crl"], "without --client-ca"),
        (&["--client-auth", "optional"], "without --client-ca"),
        (
            &[
                "--client-ca",
                "ca",
                "--no-client-crl",
                "--client-auth",
                "maybe",
            ],
            "optional or required",
        ),
    ] {
        let said = with(args).unwrap_err();
        assert!(
            said.contains(says) && said.lines().count() == 1,
            "{args:?}: {said}"
        );
    }
    let plain = ["--client-ca", "ca", "--no-client-crl"];
    assert!(config(&plain).unwrap_err().contains("needs --tls-cert"));
    let empty = config_with(&tls, &[("GAPURA_CLIENT_CA", "")]).unwrap_err();
    assert!(
        empty.starts_with("GAPURA_CLIENT_CA: is set but empty"),
        "{empty}"
    );
}

#[test]
fn an_entry_has_its_own_algorithms_claims_and_roots() {
    let file = r#"{"issuer-ca": "all.pem", "tenant-claim": "/t/0", "issuers": [
        {"issuer": "a", "audience": "x", "jwks": "https://k.example/", "tenants": "*", "algorithms": ["ES256", "EdDSA"], "role_claim": "/r/0", "issuer-ca": "own.pem"},
        {"oidc_issuer": "https://id.example", "any_audience": true, "tenants": ["1"]},
        {"issuer": "https://l.example/{company_id}/v2", "audience": "x", "jwks": "k", "tenants": ["2"]}]}"#;
    let issuers = config_of(file, &[], &[]).unwrap().auth.issuers;
    let [first, second, third] = issuers.as_slice() else {
        panic!("{issuers:?}")
    };
    assert_eq!(first.algorithms.as_ref().unwrap().len(), 2);
    let claims = first.claims.as_ref().unwrap();
    assert_eq!(
        (claims.role.to_string(), claims.tenant.to_string()),
        ("/r/0".to_owned(), "/t/0".to_owned())
    );
    let roots = |issuer: &crate::authenticate::IssuerSettings| issuer.roots.clone().unwrap();
    assert_eq!(roots(first), std::path::PathBuf::from("own.pem"));
    assert_eq!(roots(second), std::path::PathBuf::from("all.pem"));
    assert!(second.any_audience && second.claims.is_none());
    assert!(third.issuer.as_ref().unwrap().is_template());
}

#[test]
fn every_mistake_in_the_list_is_named() {
    let file = "{\"issuers\": [{\"issuer\": 1, \"jwks\": \"k\"},\n{\"isuer\": \"b\", \"jwks\": \"https://x\"},\n{\"jwt-secret-alg\": \"HS1\", \"jwt-secret-file\": \"s\"},\n{\"oidc-issuer\": \"x\"},\n{\"jwks\": \"k\", \"jwt-secret-file\": \"s\"},\n{}]}";
    let said = config_of(file, &[], &[]).unwrap_err();
    let lines: Vec<&str> = said.lines().map(|line| line.get(..4).unwrap()).collect();
    assert_eq!(
        lines,
        ["f:1:", "f:2:", "f:3:", "f:4:", "f:5:", "f:6:"],
        "{said}"
    );
    for (entry, says) in [
        (
            r#""jwks": "k", "audience": []"#,
            "\"issuers.audience\" is an empty list",
        ),
        (
            r#""jwks": "k", "tenants": []"#,
            "\"issuers.tenants\" is an empty list",
        ),
        (
            r#""jwks": "k", "algorithms": []"#,
            "\"issuers.algorithms\" is an empty list",
        ),
        (
            r#""jwks": "k", "algorithms": ["es256"]"#,
            "the nearest is \"ES256\"",
        ),
        (
            r#""jwks": "k", "algorithms": ["HS256"]"#,
            "needs a shared secret",
        ),
        (
            r#""jwt-secret-file": "s", "algorithms": ["ES256"]"#,
            "used with HS256 alone",
        ),
        (
            r#""jwks": "k", "jwt-secret-alg": "HS256""#,
            "says nothing about public keys",
        ),
        (r#""jwks": "k", "tenants": ["a b"]"#, "found \"a b\""),
        (r#""jwks": "k", "tenants": ["*"]"#, "found \"*\""),
        (r#""jwks": "k", "tenants": [0]"#, "found 0"),
        (r#""jwks": "k", "tenants": ["0"]"#, "found \"0\""),
        (r#""jwks": "k", "tenants": 4.5"#, "found 4.5"),
        (
            r#""jwks": "k", "tenants": ["a"], "any_tenant": true"#,
            "says something only where",
        ),
        (r#""jwks": "k", "tenant-claim": "/a~2""#, "JSON pointer"),
        (
            r#""jwks": "k", "any-tenant": true, "any_tenant": true"#,
            "are the same setting",
        ),
        (r#""jwks": "k", "issuer": """#, "is empty"),
        (r#""jwks": "k", "issuer": "https://x/{tenant}""#, "brace"),
        (
            r#""jwks": "https://k.example/""#,
            "an issuer and an audience",
        ),
        (
            r#""oidc-issuer": "https://a.example", "issuer": "https://b.example", "audience": "x""#,
            "must be the same",
        ),
        (
            r#""oidc-issuer": "https://a.example", "issuer": "https://a.example/{company_id}", "audience": "x", "tenants": ["1"]"#,
            "is a template",
        ),
    ] {
        let said = config_of(&format!("{{\"issuers\": [{{{entry}}}]}}"), &[], &[]).unwrap_err();
        assert!(
            said.starts_with("f:1:") && said.contains(says) && said.lines().count() == 1,
            "{entry}: {said}"
        );
    }
    let two = "{\"issuers\": [{\"issuer\": \"a\", \"jwks\": \"k\", \"tenants\": [1]},\n{\"issuer\": \"b\", \"jwks\": \"k\"}]}";
    let said = config_of(two, &[], &[]).unwrap_err();
    assert!(
        said.starts_with("f:2:1: ") && said.contains("has no \"tenants\""),
        "{said}"
    );
    assert!(
        config_of("{\"issuers\": {}}", &[], &[])
            .unwrap_err()
            .contains("must be a list")
    );
    assert!(
        config_of("{\"issuers\": []}", &[], &[])
            .unwrap_err()
            .contains("is an empty list")
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
    let Ok(Invocation::Own(Question::Explain(explain))) = load_with(
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
        matches!(signing, Ok(Invocation::Own(Question::SigningKey { plugin, secret })) if plugin.as_str() == "billing" && secret.as_os_str() == "s")
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
        Ok(Invocation::Healthcheck(admin)) if admin.token_file.is_none()
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

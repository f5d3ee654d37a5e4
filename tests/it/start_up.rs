//! Good and bad configuration: one clear sentence for each fault, the right exit code, and nothing
//! half-started.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use gapura_tests::certs::{Authority, Certificate, Leaf, TrustFiles, write_private};
use gapura_tests::mesh::TestMesh;
use gapura_tests::program::{Ended, Invocation};
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, jwks};
use serde_json::json;
use tempfile::TempDir;

/// All the files of a good installation, to be spoilt one at a time.
struct Files {
    dir: TempDir,
    authority: Authority,
    gateway: Certificate,
    sidecar: Certificate,
}

impl Files {
    fn good() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::two_tier("test mesh");
        let (gateway, sidecar) = (
            authority.issue(&Leaf::gateway("edge")),
            authority.issue(&Leaf::plugin("echo")),
        );
        let files = Self {
            dir,
            authority,
            gateway,
            sidecar,
        };
        files.mesh("mesh-gateway", &files.authority.files_for(&files.gateway));
        files.mesh("mesh-sidecar", &files.authority.files_for(&files.sidecar));
        let _ = files
            .authority
            .issue(&Leaf::public())
            .write(files.path(), "public");
        fs::write(files.path().join("jwks.json"), jwks(&[&Signer::es256("k")])).unwrap();
        fs::create_dir(files.path().join("plugins.d")).unwrap();
        files.plugin(
            "echo",
            &json!({"name": "echo", "version": "1", "mount": "/echo", "upstream": "https://127.0.0.1:1", "auth_mode": "gateway_verified"})
                .to_string(),
        );
        files
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn mesh(&self, name: &str, files: &TrustFiles) {
        let dir = self.file(name);
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in [("cert.pem", &files.cert), ("ca.pem", &files.ca)] {
            fs::write(dir.join(file), text).unwrap();
        }
        write_private(&dir.join("key.pem"), &files.key);
        match &files.crl {
            Some(crl) => fs::write(dir.join("crl.pem"), crl).unwrap(),
            None => fs::remove_file(dir.join("crl.pem")).unwrap_or_default(),
        }
    }

    fn plugin(&self, name: &str, text: &str) {
        fs::write(self.file("plugins.d").join(format!("{name}.json")), text).unwrap();
    }

    fn gateway(&self) -> Invocation {
        self.gateway_with(&[])
    }

    /// The good command line, with these flags instead of their like.
    fn gateway_with(&self, changes: &[(&str, &str)]) -> Invocation {
        let file = |name: &str| self.file(name).display().to_string();
        let mut flags = vec![
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--tls-cert", file("public.crt")),
            ("--tls-key", file("public.key")),
            ("--plugin-dir", file("plugins.d")),
            ("--mesh-dir", file("mesh-gateway")),
            ("--admin", "127.0.0.1:0".to_owned()),
            ("--jwks", file("jwks.json")),
            ("--issuer", ISSUER.to_owned()),
            ("--audience", AUDIENCE.to_owned()),
        ];
        put(&mut flags, changes);
        flags
            .into_iter()
            .fold(Invocation::new(), |invocation, (flag, value)| {
                invocation.flag(flag, value)
            })
    }

    fn sidecar_with(&self, changes: &[(&str, &str)]) -> Invocation {
        let mut flags = vec![
            ("--listen", "127.0.0.1:0".to_owned()),
            ("--plugin", "http://127.0.0.1:1".to_owned()),
            (
                "--mesh-dir",
                self.file("mesh-sidecar").display().to_string(),
            ),
            ("--admin", "127.0.0.1:0".to_owned()),
        ];
        put(&mut flags, changes);
        flags
            .into_iter()
            .fold(Invocation::new(), |invocation, (flag, value)| {
                invocation.flag(flag, value)
            })
    }
}

fn put<'a>(flags: &mut Vec<(&'a str, String)>, changes: &[(&'a str, &str)]) {
    for (flag, value) in changes {
        flags.retain(|(name, _)| name != flag);
        if *value != "without" {
            flags.push((flag, (*value).to_owned()));
        }
    }
}

/// It ends with exit 2, says what is wrong in these words, and has not begun to serve.
#[track_caller]
fn assert_refused(what: &str, ended: &Ended, words: &[&str]) {
    let said = format!("{}{}", ended.stdout, ended.stderr);
    assert_eq!(ended.code, Some(2), "{what}: {said}");
    for word in words {
        assert!(
            said.to_lowercase().contains(&word.to_lowercase()),
            "{what}: no {word:?} in {said}"
        );
    }
    for sign in [
        "panicked",
        "backtrace",
        "RUST_BACKTRACE",
        "\"event\":\"listening\"",
        "\"event\":\"started\"",
    ] {
        assert!(!said.contains(sign), "{what}: {said}");
    }
}

#[test]
fn a_good_configuration_passes_the_check_and_nothing_is_served() {
    let files = Files::good();
    for (program, invocation) in [
        ("gapura-gateway", files.gateway()),
        ("gapura-sidecar", files.sidecar_with(&[])),
    ] {
        let ended = invocation.arg("--check").run(program);
        assert_eq!(
            ended.code,
            Some(0),
            "{program}: {}{}",
            ended.stdout,
            ended.stderr
        );
        assert!(
            !ended.stdout.contains("\"event\":\"listening\""),
            "{}",
            ended.stdout
        );
    }
}

#[test]
fn the_gateway_names_what_is_wrong_with_its_flags() {
    let files = Files::good();
    let path = |name: &str| files.file(name).display().to_string();
    fs::write(files.file("short-secret"), "too short").unwrap();
    let good_secret = "a-secret-of-forty-bytes-for-tests-only-0";
    write_private(&files.file("secret"), good_secret);
    write_private(&files.file("open-secret"), good_secret);
    fs::set_permissions(files.file("open-secret"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir_all(files.file("open/last-good")).unwrap();
    fs::set_permissions(files.file("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let made = Command::new("mkfifo").arg(files.file("pipe")).status();
    assert!(made.unwrap().success());
    let admin_in_open = format!("unix:{}", path("open/admin.sock"));
    for (what, changes, words) in [
        (
            "no mesh directory",
            vec![("--mesh-dir", "without")],
            vec!["mesh-dir"],
        ),
        (
            "no plugin folder",
            vec![("--plugin-dir", "without")],
            vec!["plugin-dir"],
        ),
        (
            "a folder that is not there",
            vec![("--plugin-dir", "/nowhere/plugins.d")],
            vec!["/nowhere/plugins.d"],
        ),
        (
            "a mesh directory that is not there",
            vec![("--mesh-dir", "/nowhere/mesh")],
            vec!["/nowhere/mesh"],
        ),
        (
            "an address that is none",
            vec![("--listen", "here")],
            vec!["--listen", "address"],
        ),
        (
            "no TLS beyond loopback",
            vec![
                ("--listen", "0.0.0.0:0"),
                ("--tls-cert", "without"),
                ("--tls-key", "without"),
            ],
            vec!["insecure-listen"],
        ),
        (
            "a certificate without its key",
            vec![("--tls-key", "without")],
            vec!["tls-key"],
        ),
        (
            "a key that is not there",
            vec![("--tls-key", "/nowhere/key")],
            vec!["/nowhere/key"],
        ),
        (
            "no keys for tokens",
            vec![("--jwks", "without")],
            vec!["jwks"],
        ),
        (
            "a JWK set that is not there",
            vec![("--jwks", "/nowhere/jwks.json")],
            vec!["/nowhere/jwks.json"],
        ),
        (
            "an admin side for everyone",
            vec![("--admin", "0.0.0.0:0")],
            vec!["admin-token-file"],
        ),
        (
            "a proxy that is no network",
            vec![("--trusted-proxy", "10.0.0.0/99")],
            vec!["trusted-proxy"],
        ),
        (
            "a duration without a unit",
            vec![("--drain-timeout", "thirty")],
            vec!["drain-timeout"],
        ),
        (
            "an unknown flag",
            vec![("--pugin-dir", "x")],
            vec!["pugin-dir"],
        ),
        ("no workers", vec![("--workers", "0")], vec!["workers"]),
        (
            "an access log of another kind",
            vec![("--access-log", "loud")],
            vec!["access-log"],
        ),
        (
            "two sources of keys",
            vec![("--jwt-secret-file", &path("secret"))],
            vec!["jwks", "jwt-secret-file"],
        ),
        (
            "a short secret",
            vec![
                ("--jwks", "without"),
                ("--jwt-secret-file", &path("short-secret")),
            ],
            vec!["32", "openssl rand"],
        ),
        (
            "a secret that others can read",
            vec![
                ("--jwks", "without"),
                ("--jwt-secret-file", &path("open-secret")),
            ],
            vec!["open-secret", "0644", "chmod 600"],
        ),
        (
            "a signing secret that others can read",
            vec![("--signing-secret-file", &path("open-secret"))],
            vec!["--signing-secret-file", "open-secret", "chmod 600"],
        ),
        (
            "an admin token that others can read",
            vec![("--admin-token-file", &path("open-secret"))],
            vec!["--admin-token-file", "open-secret", "chmod 600"],
        ),
        (
            "a pipe in the place of a secret",
            vec![("--signing-secret-file", &path("pipe"))],
            vec!["--signing-secret-file", "is not a file"],
        ),
        (
            "a last good copy in a folder for everyone",
            vec![("--last-good", &path("open/last-good"))],
            vec!["--last-good", "others can write", "chmod go-w"],
        ),
        (
            "an admin socket in a folder for everyone",
            vec![("--admin", &admin_in_open)],
            vec!["--admin", "others can write", "chmod go-w"],
        ),
        (
            "keys from a URL over plain http",
            vec![("--jwks", "http://issuer.test/keys")],
            vec!["--jwks", "https"],
        ),
        (
            "keys from a URL for any audience",
            vec![
                ("--jwks", "https://issuer.test/keys"),
                ("--audience", "without"),
            ],
            vec!["--jwks", "audience", "--any-audience"],
        ),
        (
            "a client CA without a word on revocation",
            vec![("--client-ca", "/nowhere/ca.pem")],
            vec!["--client-ca", "--client-crl", "--no-client-crl"],
        ),
        (
            "a config file that is not there",
            vec![("--config", "/nowhere/gapura.json")],
            vec!["/nowhere/gapura.json"],
        ),
    ] {
        let ended = files.gateway_with(&changes).run("gapura-gateway");
        assert_refused(what, &ended, &words);
        assert!(
            !format!("{}{}", ended.stdout, ended.stderr).contains(good_secret),
            "{what}: a secret is shown"
        );
    }
    let short = files
        .gateway_with(&[("--jwks", "without")])
        .env("JWT_SECRET", "too short")
        .run("gapura-gateway");
    assert_refused("a short JWT_SECRET", &short, &["32", "openssl rand"]);
}

#[test]
fn the_sidecar_names_what_is_wrong_with_its_flags() {
    let files = Files::good();
    let open = files.file("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let in_open = format!("unix:{}", open.join("plugin.sock").display());
    for (what, changes, words) in [
        ("no plugin", vec![("--plugin", "without")], vec!["plugin"]),
        (
            "a plugin elsewhere",
            vec![("--plugin", "http://192.0.2.7:80")],
            vec!["192.0.2.7", "unsafe-plugin-address"],
        ),
        (
            "a plugin of another scheme",
            vec![("--plugin", "https://127.0.0.1:1")],
            vec!["plugin"],
        ),
        (
            "a plugin with a path",
            vec![("--plugin", "http://127.0.0.1:1/api")],
            vec!["plugin"],
        ),
        (
            "a socket in a folder for everyone",
            vec![("--plugin", &in_open)],
            vec!["open"],
        ),
        (
            "no mesh directory",
            vec![("--mesh-dir", "without")],
            vec!["mesh-dir"],
        ),
        (
            "a gateway of another domain",
            vec![("--allow", "spiffe://other.internal/gateway/edge")],
            vec!["allow", "other.internal"],
        ),
        (
            "a pattern inside a name",
            vec![("--allow", "spiffe://test.internal/gateway/e*")],
            vec!["allow"],
        ),
    ] {
        assert_refused(
            what,
            &files.sidecar_with(&changes).run("gapura-sidecar"),
            &words,
        );
    }
}

#[test]
fn a_mesh_directory_that_does_not_fit_is_refused_with_the_file_and_the_reason() {
    type Spoil = fn(&Files);
    let cases: [(&str, Spoil, &[&str]); 10] = [
        (
            "no key",
            |files| fs::remove_file(files.file("mesh-gateway/key.pem")).unwrap(),
            &["key.pem"],
        ),
        (
            "no certificate",
            |files| fs::remove_file(files.file("mesh-gateway/cert.pem")).unwrap(),
            &["cert.pem"],
        ),
        (
            "no roots",
            |files| fs::remove_file(files.file("mesh-gateway/ca.pem")).unwrap(),
            &["ca.pem"],
        ),
        (
            "no CRL",
            |files| fs::remove_file(files.file("mesh-gateway/crl.pem")).unwrap(),
            &["crl.pem", "--no-crl"],
        ),
        (
            "a key that others can read",
            |files| {
                fs::set_permissions(
                    files.file("mesh-gateway/key.pem"),
                    fs::Permissions::from_mode(0o660),
                )
                .unwrap()
            },
            &["key.pem", "chmod 600"],
        ),
        (
            "another key",
            |files| write_private(&files.file("mesh-gateway/key.pem"), &files.sidecar.key),
            &["key.pem", "cert.pem"],
        ),
        (
            "a certificate that is none",
            |files| fs::write(files.file("mesh-gateway/cert.pem"), "nonsense").unwrap(),
            &["cert.pem"],
        ),
        (
            "the plugin's certificate",
            |files| files.mesh("mesh-gateway", &files.authority.files_for(&files.sidecar)),
            &["plugin", "gateway"],
        ),
        (
            "another authority's root",
            |files| {
                fs::write(
                    files.file("mesh-gateway/ca.pem"),
                    Authority::two_tier("other").root_pem(),
                )
                .unwrap()
            },
            &["ca.pem"],
        ),
        (
            "another authority's CRL",
            |files| {
                fs::write(
                    files.file("mesh-gateway/crl.pem"),
                    Authority::two_tier("other").crl(&[]),
                )
                .unwrap()
            },
            &["crl.pem"],
        ),
    ];
    for (what, spoil, words) in cases {
        let files = Files::good();
        spoil(&files);
        assert_refused(what, &files.gateway().run("gapura-gateway"), words);
        assert_refused(
            &format!("{what}, --check"),
            &files.gateway().arg("--check").run("gapura-gateway"),
            words,
        );
    }
    let files = Files::good();
    files.mesh("mesh-sidecar", &files.authority.files_for(&files.gateway));
    assert_refused(
        "a gateway's certificate for a sidecar",
        &files.sidecar_with(&[]).run("gapura-sidecar"),
        &["plugin", "gateway"],
    );
    let files = Files::good();
    fs::remove_file(files.file("mesh-gateway/crl.pem")).unwrap();
    assert_eq!(
        files
            .gateway()
            .args(&["--no-crl", "--check"])
            .run("gapura-gateway")
            .code,
        Some(0),
        "spelled out, it is allowed"
    );
}

#[test]
fn a_public_pair_that_does_not_fit_is_refused() {
    let files = Files::good();
    write_private(&files.file("public.key"), &files.sidecar.key);
    assert_refused(
        "another key",
        &files.gateway().run("gapura-gateway"),
        &["public."],
    );
    let files = Files::good();
    fs::set_permissions(files.file("public.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert_refused(
        "a key that others can read",
        &files.gateway().run("gapura-gateway"),
        &["public.key", "chmod 600"],
    );
}

#[test]
fn every_fault_of_the_registry_is_listed_at_once_with_its_place() {
    let files = Files::good();
    let good = json!({"name": "a", "version": "1", "mount": "/a", "upstream": "https://127.0.0.1:1", "auth_mode": "gateway_verified"});
    let with = |name: &str, changes: serde_json::Value| {
        let mut entry = good.clone();
        entry["name"] = json!(name);
        entry["mount"] = json!(format!("/{name}"));
        for (field, value) in changes.as_object().unwrap() {
            if value.is_null() {
                entry.as_object_mut().unwrap().remove(field);
            } else {
                entry[field] = value.clone();
            }
        }
        files.plugin(name, &serde_json::to_string_pretty(&entry).unwrap());
    };
    with("unknown", json!({"timeout_msec": 5}));
    with("typed", json!({"timeout_ms": "5"}));
    with("lacking", json!({"auth_mode": null}));
    with("mode", json!({"auth_mode": "gateway_verify"}));
    with("own", json!({"mount": "/healthz"}));
    with("clash", json!({"mount": "/echo/"}));
    with(
        "far",
        json!({"upstream": "http://192.0.2.1:80", "auth_mode": "public"}),
    );
    with("unsigned", json!({"upstream": "http://127.0.0.1:80"}));
    with(
        "foreign",
        json!({"identity": "spiffe://other.internal/plugin/a"}),
    );
    with("letting", json!({"forward_headers": ["X-Company-Id"]}));
    with("setting", json!({"inject_headers": {"X-User-Id": "1"}}));
    with(
        "framing",
        json!({"inject_headers": {"Content-Length": "1"}}),
    );
    with("rules", json!({"allow": [{"effect": "dney"}]}));
    with(
        "limits",
        json!({"rate_limit": {"requests": 1, "per_s": 1, "key": "company"}}),
    );
    with("later", json!({"canary": {}}));
    with("pathy", json!({"upstream": "https://127.0.0.1:1/api"}));
    files.plugin("broken", "{\"name\": \"broken\",\n  oops\n}");
    files.plugin("twice", "{\"name\": \"twice\", \"version\": \"1\", \"mount\": \"/t\", \"mount\": \"/u\", \"upstream\": \"https://a:1\", \"auth_mode\": \"public\"}");
    let mut words = vec![
        "timeout_ms",
        "gateway_verified",
        "--signing-secret-file",
        "plaintext_upstream",
        "broken.json:2:",
    ];
    let names = [
        "unknown", "typed", "lacking", "mode", "own", "clash", "far", "unsigned", "foreign",
        "letting", "setting", "framing", "rules", "limits", "later", "pathy", "twice",
    ];
    let places: Vec<String> = names.iter().map(|name| format!("{name}.json:")).collect();
    words.extend(places.iter().map(String::as_str));
    assert_refused(
        "at the start",
        &files.gateway().run("gapura-gateway"),
        &words,
    );
    assert_refused(
        "by --check",
        &files.gateway().arg("--check").run("gapura-gateway"),
        &words,
    );
    fs::write(files.file("plugins.d/.hidden.json"), "{").unwrap();
    for name in names.iter().chain(&["broken"]) {
        fs::remove_file(files.file("plugins.d").join(format!("{name}.json"))).unwrap();
    }
    assert_eq!(
        files.gateway().arg("--check").run("gapura-gateway").code,
        Some(0),
        "the good one was never at fault, and hidden files are none"
    );
}

#[test]
fn the_check_prints_the_sums_that_follow_from_the_machine() {
    let files = Files::good();
    for (program, invocation) in [
        ("gapura-gateway", files.gateway()),
        ("gapura-sidecar", files.sidecar_with(&[])),
    ] {
        let checked = invocation.files(1024).arg("--check").run(program);
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        let limit = |what: &str| {
            let line = checked.stdout.lines().find(|line| line.contains(what));
            line.and_then(|line| line.split_whitespace().last())
                .map(str::to_owned)
        };
        assert_eq!(limit("files that may be open").as_deref(), Some("1024"));
        assert_eq!(limit("connections at a time").as_deref(), Some("480"));
        assert!(limit("held by streams").is_some() && limit("memory").is_some());
    }
}

#[test]
fn a_variable_that_restricts_is_never_set_to_nothing() {
    let files = Files::good();
    for name in [
        "GAPURA_PUBLIC_HOST",
        "GAPURA_ISSUER",
        "GAPURA_AUDIENCE",
        "GAPURA_CLIENT_CA",
        "GAPURA_DENY",
        "GAPURA_TENANTS",
    ] {
        let check = |text: &str| {
            let gateway = files.gateway().env(name, text);
            gateway.arg("--check").run("gapura-gateway")
        };
        assert_refused(name, &check(""), &[name, "set but empty", "unset it"]);
    }
    let check = |text: &str| {
        let sidecar = files.sidecar_with(&[]).env("GAPURA_ALLOW", text);
        sidecar.arg("--check").run("gapura-sidecar")
    };
    let words = ["GAPURA_ALLOW", "set but empty", "unset it"];
    assert_refused("GAPURA_ALLOW", &check(""), &words);
    assert_refused(
        "GAPURA_ALLOW",
        &check(","),
        &["GAPURA_ALLOW", "empty value"],
    );
    // One that restricts nothing may be empty, and one that says something is taken.
    for (name, text) in [
        ("GAPURA_TRUSTED_PROXY", ""),
        ("GAPURA_PUBLIC_HOST", "api.example.com"),
    ] {
        let gateway = files.gateway().env(name, text);
        let taken = gateway.arg("--check").run("gapura-gateway");
        assert_eq!(taken.code, Some(0), "{name}: {}", taken.stderr);
    }
}

#[test]
fn every_field_that_needs_no_other_is_taken() {
    let files = Files::good();
    files.plugin("echo", &json!({"name": "echo", "version": "1", "mount": "/echo", "upstream": [{"url": "https://127.0.0.1:1", "weight": 2}], "auth_mode": "gateway_verified", "retry": {"attempts": 2, "budget_percent": 20}, "health": {"path": "/healthz"}, "openapi": "/openapi.json", "openapi_breaking": "refuse", "envelope": "wrap", "$schema": "x"}).to_string());
    let ended = files.gateway().arg("--check").run("gapura-gateway");
    let said = ended.stdout + &ended.stderr;
    assert_eq!(ended.code, Some(0), "{said}");
}

#[test]
fn a_port_in_use_is_named() {
    let files = Files::good();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (program, invocation) in [
        (
            "gapura-gateway",
            files.gateway_with(&[("--listen", &address)]),
        ),
        (
            "gapura-gateway",
            files.gateway_with(&[("--admin", &address)]),
        ),
        (
            "gapura-sidecar",
            files.sidecar_with(&[("--listen", &address)]),
        ),
        (
            "gapura-sidecar",
            files.sidecar_with(&[("--admin", &address)]),
        ),
    ] {
        let ended = invocation.run(program);
        let said = ended.stdout + &ended.stderr;
        assert_eq!(ended.code, Some(2), "{program}: {said}");
        assert!(
            said.contains(&address) && said.contains("in use"),
            "{program}: {said}"
        );
        assert!(
            !said.contains("panicked") && !said.contains("\"event\":\"started\""),
            "{program}: {said}"
        );
        // What was told on the way to it is not lost.
        let reads_plugins = program == "gapura-gateway";
        let told = said.contains("\"event\":\"registry_change\"");
        assert_eq!(told, reads_plugins, "{program}: {said}");
    }
}

#[test]
fn settings_come_from_flags_then_the_environment_then_a_file() {
    let files = Files::good();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let config = files.file("gateway.json");
    let path = |name: &str| files.file(name).display().to_string();
    fs::write(
        &config,
        json!({"listen": taken, "tls-cert": path("public.crt"), "tls-key": path("public.key"), "mesh-dir": path("mesh-gateway"), "admin": "127.0.0.1:0",
               "jwks": path("jwks.json"), "issuer": ISSUER, "audience": AUDIENCE})
        .to_string(),
    )
    .unwrap();
    let base = Invocation::new()
        .flag("--config", &config)
        .env("PLUGIN_DIR", &path("plugins.d"));
    let from_file = base.clone().run("gapura-gateway");
    assert_eq!(
        from_file.code,
        Some(2),
        "the file's address, which is taken: {}{}",
        from_file.stdout,
        from_file.stderr
    );
    for better in [
        base.clone().env("GAPURA_LISTEN", "127.0.0.1:0"),
        base.env("GAPURA_LISTEN", &taken)
            .flag("--listen", "127.0.0.1:0"),
    ] {
        let mut program = better.start("gapura-gateway");
        program.wait_until_started();
        assert_ne!(program.address("public").to_string(), taken);
    }
}

#[test]
fn help_and_version_are_answered() {
    for program in ["gapura-gateway", "gapura-sidecar", "gapura-pki", "gapura"] {
        for flag in ["--help", "--version"] {
            let ended = Invocation::new().arg(flag).run(program);
            assert_eq!(ended.code, Some(0), "{program} {flag}: {}", ended.stderr);
            assert!(
                ended.stdout.contains("gapura"),
                "{program} {flag}: {}",
                ended.stdout
            );
        }
        let ended = Invocation::new().arg("--nonsense").run(program);
        assert_eq!(
            ended.code,
            Some(2),
            "{program}: {}{}",
            ended.stdout,
            ended.stderr
        );
    }
}

#[test]
fn a_running_program_can_be_asked_for_its_health() {
    let mut mesh = TestMesh::new().start();
    let ask = |program: &str, admin: &str| {
        Invocation::new()
            .arg("healthcheck")
            .flag("--admin", admin)
            .run(program)
            .code
    };
    let (gateway, sidecar) = (
        mesh.gateway.address("admin").to_string(),
        mesh.sidecar.address("admin").to_string(),
    );
    assert_eq!(ask("gapura-gateway", &gateway), Some(0));
    assert_eq!(ask("gapura-sidecar", &sidecar), Some(0));
    mesh.gateway.signal("TERM");
    let _ = mesh.gateway.wait_for_end(Duration::from_secs(10));
    assert_eq!(ask("gapura-gateway", &gateway), Some(1));
}

#[test]
fn what_reads_files_steps_back_behind_what_serves_requests() {
    let mesh = TestMesh::new().start();
    for program in [&mesh.gateway, &mesh.sidecar] {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", program.id())).unwrap();
        let nice: Vec<(String, i64)> = tasks
            .map(|task| {
                let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
                // proc_pid_stat(5): the name in parentheses is the second field, how nice it is the
                // nineteenth.
                let (before, after) = stat.rsplit_once(')').unwrap();
                let name = before.split_once('(').unwrap().1.to_owned();
                (
                    name,
                    after.split_whitespace().nth(16).unwrap().parse().unwrap(),
                )
            })
            .collect();
        let of = |part: &str| {
            let named = nice.iter().filter(|(name, _)| name.contains(part));
            named.map(|(_, nice)| *nice).collect::<Vec<_>>()
        };
        let (workers, control) = (of("-0"), of("-contr"));
        assert!(
            workers.iter().max().unwrap() < control.iter().min().unwrap(),
            "{nice:?}"
        );
    }
}

#[test]
fn both_programs_are_up_to_the_first_answer_in_no_time() {
    let begun = std::time::Instant::now();
    let mesh = TestMesh::new().start();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    let took = begun.elapsed();
    let limit = Duration::from_millis(if cfg!(debug_assertions) { 3000 } else { 300 }); // certificates for the test included
    assert!(took < limit, "{took:?}");
}

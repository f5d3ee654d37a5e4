//! Bad input: each is refused with what was found, what was wanted and what to run, and changes
//! nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::{Scratch, openssl, secret};

/// A sentence must name each of these.
fn says(sentence: &str, wanted: &[&str]) {
    for word in wanted {
        assert!(sentence.contains(word), "{word:?} is not in: {sentence}");
    }
}

#[test]
fn init_wants_to_know_how_keys_are_kept_and_spares_what_is_there() {
    let scratch = Scratch::new();
    let ended = scratch
        .invocation()
        .args(&["init", "--trust-domain", "test.internal"])
        .run("gapura-pki");
    assert_eq!(ended.code, Some(2));
    says(
        &ended.stderr,
        &[
            "--passphrase-file",
            "--passphrase-fd",
            "--passphrase-command",
            "--plaintext-keys",
        ],
    );
    assert!(!scratch.path("pki").exists(), "nothing was made");
    scratch.ok(&["init", "--trust-domain", "test.internal"]);
    let before = fs::read(scratch.path("pki/inventory.jsonl")).unwrap();
    says(
        &scratch.fails(5, &["init", "--trust-domain", "test.internal"]),
        &["holds a CA already", "ca show"],
    );
    assert_eq!(
        fs::read(scratch.path("pki/inventory.jsonl")).unwrap(),
        before
    );
    fs::create_dir(scratch.path("other")).unwrap();
    fs::write(scratch.path("other/thesis.txt"), "").unwrap();
    says(
        &scratch.fails(
            5,
            &[
                "--dir",
                &scratch.text("other"),
                "init",
                "--trust-domain",
                "a.b",
            ],
        ),
        &["thesis.txt", "empty"],
    );
}

#[test]
fn names_that_are_none() {
    let scratch = Scratch::with_ca();
    for name in [
        "a/b",
        "..",
        "../x",
        "Upper",
        "a\nb",
        "-a",
        "",
        "a b",
        "ä",
        "a.b",
        &"a".repeat(300),
    ] {
        let sentence = scratch.fails(
            2,
            &["issue", "plugin", "--out", &scratch.text("x"), "--", name],
        );
        says(
            &sentence,
            &["is not a name", "a-z 0-9 -", "gapura-pki issue plugin"],
        );
    }
    says(
        &scratch.fails(2, &["issue", "sidecar", "a"]),
        &["not a role", "gateway"],
    );
    assert!(!scratch.path("x").exists());
    assert_eq!(
        scratch.ok(&["list"])["certificates"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    scratch.ok(&[
        "issue",
        "plugin",
        &"a".repeat(63),
        "--out",
        &scratch.text("x"),
    ]);
}

#[test]
fn lives_outside_the_limits() {
    let scratch = Scratch::with_ca();
    for ttl in ["9s", "91d"] {
        says(
            &scratch.fails(5, &["issue", "plugin", "a", "--ttl", ttl]),
            &["10 s to 90 d", "--ttl"],
        );
    }
    for ttl in ["30", "-1d", "1w", "forever"] {
        says(
            &scratch.fails(2, &["issue", "plugin", "a", &format!("--ttl={ttl}")]),
            &["20s, 15m, 24h, 30d"],
        );
    }
    for ttl in ["10s", "90d"] {
        scratch.ok(&["issue", "plugin", "a", "--ttl", ttl]);
    }
}

#[test]
fn a_leaf_ends_with_its_issuer() {
    let scratch = Scratch::new();
    scratch.ok(&[
        "init",
        "--trust-domain",
        "test.internal",
        "--issuer-ttl",
        "20d",
    ]);
    let issued = &scratch.ok(&["issue", "plugin", "a"])["issued"][0];
    let issuer = &scratch.ok(&["ca", "show"])["authorities"][1];
    assert_eq!(issued["not_after"], issuer["not_after"]);
    says(
        issued["notes"][0].as_str().unwrap(),
        &["ends with its issuer"],
    );
}

#[test]
fn dns_names_that_the_issuer_may_not_sign() {
    let scratch = Scratch::with_ca();
    says(
        &scratch.fails(5, &["issue", "plugin", "a", "--dns", "example.com"]),
        &["test.internal only", "permitted_dns"],
    );
    says(
        &scratch.fails(5, &["issue", "plugin", "a", "--dns", "eviltest.internal"]),
        &["test.internal only"],
    );
    says(
        &scratch.fails(2, &["issue", "plugin", "a", "--dns", "*.test.internal"]),
        &["not a DNS name"],
    );
    says(
        &scratch.fails(2, &["issue", "plugin", "a", "--dns", "10.0.0.1"]),
        &["not a DNS name"],
    );
    scratch.ok(&["issue", "plugin", "a", "--dns", "deep.in.test.internal"]);
}

#[test]
fn what_peers_would_refuse_is_never_released() {
    let scratch = Scratch::with_ca();
    let settings = scratch.path("pki/pki.json");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(
        &settings,
        text.replace(
            "\"permitted_dns\": []",
            "\"permitted_dns\": [\"example.com\"]",
        ),
    )
    .unwrap();
    // The settings allow it now, but the issuing CA of yesterday does not.
    let issue = [
        "issue",
        "plugin",
        "a",
        "--dns",
        "a.example.com",
        "--out",
        &scratch.text("a"),
    ];
    let before = fs::read(scratch.path("pki/inventory.jsonl")).unwrap();
    says(
        &scratch.fails(8, &issue),
        &[
            "self-check failed, nothing was released",
            "outside what a CA is allowed to name",
        ],
    );
    assert_eq!(
        fs::read(scratch.path("pki/inventory.jsonl")).unwrap(),
        before
    );
    assert!(!scratch.path("a").exists());
    scratch.ok(&["ca", "rotate", "issuer"]);
    scratch.ok(&["ca", "rotate", "issuer", "--settle", "0s"]);
    scratch.ok(&issue);
    fs::write(&settings, "{\"trust_domain\": \"other.internal\"}").unwrap();
    says(
        &scratch.fails(1, &["list"]),
        &["other.internal", "test.internal", "set it back"],
    );
    fs::write(
        &settings,
        "{\"trust_domain\": \"test.internal\", \"leaf_tll\": \"3d\"}",
    )
    .unwrap();
    says(&scratch.fails(2, &["list"]), &["leaf_tll", "leaf_ttl"]);
}

#[test]
fn requests_that_ask_for_too_much() {
    let scratch = Scratch::with_ca();
    let (key, csr) = (scratch.text("k.pem"), scratch.text("k.csr"));
    let request = |subject: &str, extension: Option<&str>| {
        let mut args = vec![
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &csr,
        ];
        args.extend(["-subj", subject]);
        args.extend(
            extension
                .iter()
                .flat_map(|extension| ["-addext", extension]),
        );
        let (made, said) = openssl(&args);
        assert!(made, "{said}");
    };
    let issue = [
        "issue",
        "plugin",
        "billing",
        "--csr",
        &csr,
        "--out",
        &scratch.text("x"),
    ];
    for (subject, extension, wanted) in [
        (
            "/CN=billing",
            Some("basicConstraints=critical,CA:TRUE"),
            "CA:TRUE",
        ),
        ("/CN=billing", Some("keyUsage=keyCertSign"), "right to sign"),
        ("/CN=orders", None, "`orders`"),
        (
            "/CN=billing",
            Some("subjectAltName=URI:spiffe://test.internal/plugin/orders"),
            "plugin/orders",
        ),
        (
            "/CN=billing",
            Some("subjectAltName=URI:spiffe://other.internal/plugin/billing"),
            "other.internal",
        ),
        (
            "/CN=billing",
            Some("subjectAltName=DNS:orders.plugin.test.internal"),
            "orders.plugin.test.internal",
        ),
        (
            "/CN=billing",
            Some("subjectAltName=IP:10.0.0.1"),
            "neither a URI nor a DNS name",
        ),
    ] {
        request(subject, extension);
        says(
            &scratch.fails(5, &issue),
            &["the request is refused", wanted],
        );
    }
    let (made, _) = openssl(&[
        "req",
        "-new",
        "-newkey",
        "rsa:1024",
        "-nodes",
        "-keyout",
        &key,
        "-subj",
        "/CN=billing",
        "-out",
        &csr,
    ]);
    assert!(made);
    says(&scratch.fails(5, &issue), &["1024", "2048"]);
    fs::write(&csr, "no request at all").unwrap();
    says(&scratch.fails(5, &issue), &["CERTIFICATE REQUEST"]);
    assert!(!scratch.path("x").exists());
    request(
        "/CN=billing",
        Some("subjectAltName=URI:spiffe://test.internal/plugin/billing"),
    );
    scratch.ok(&issue);
}

#[test]
fn passphrases_that_do_not_open() {
    let scratch = Scratch::new();
    secret(&scratch.path("good"), "correct horse");
    secret(&scratch.path("bad"), "wrong horse");
    secret(&scratch.path("empty"), "\n");
    let run = |args: &[&str]| scratch.invocation().args(args).run("gapura-pki");
    let good = scratch.text("good");
    assert_eq!(
        run(&[
            "init",
            "--trust-domain",
            "test.internal",
            "--passphrase-file",
            &scratch.text("empty")
        ])
        .code,
        Some(7)
    );
    assert_eq!(
        run(&[
            "init",
            "--trust-domain",
            "test.internal",
            "--passphrase-file",
            &good
        ])
        .code,
        Some(0)
    );
    let before = fs::read(scratch.path("pki/inventory.jsonl")).unwrap();
    let out = scratch.text("a");
    for (args, wanted) in [
        (
            vec!["--passphrase-file", scratch.path("bad").to_str().unwrap()],
            "does not open",
        ),
        (
            vec!["--passphrase-file", scratch.path("none").to_str().unwrap()],
            "none",
        ),
        (
            vec!["--passphrase-command", "echo wrong horse"],
            "does not open",
        ),
        (vec!["--passphrase-command", "exit 3"], "command failed"),
        (vec!["--passphrase-fd", "77"], "descriptor 77"),
        (vec![], "--passphrase-file"),
        (vec!["--plaintext-keys"], "is encrypted"),
    ]
    .into_iter()
    .map(|(args, wanted): (Vec<&str>, &str)| (args, wanted))
    {
        let ended = run(&[&["issue", "plugin", "a", "--out", &out][..], &args].concat());
        assert_eq!(ended.code, Some(7), "{args:?}: {}", ended.stderr);
        says(&ended.stderr, &[wanted]);
    }
    assert_eq!(
        fs::read(scratch.path("pki/inventory.jsonl")).unwrap(),
        before,
        "nothing was recorded"
    );
    assert!(!scratch.path("a").exists());
    for args in [
        &["--passphrase-file", &good][..],
        &["--passphrase-command", "echo correct horse"],
    ] {
        assert_eq!(
            run(&[&["issue", "plugin", "a", "--out", &out][..], args].concat()).code,
            Some(0)
        );
    }
    let program = gapura_tests::program::built("gapura-pki");
    let by_descriptor = std::process::Command::new("sh")
        .args([
            "-c",
            "exec \"$0\" --dir \"$1\" issue plugin a --out \"$2\" --passphrase-fd 5 5<\"$3\"",
        ])
        .args([
            program.as_os_str(),
            scratch.path("pki").as_os_str(),
            out.as_ref(),
            good.as_ref(),
        ])
        .output()
        .unwrap();
    assert!(
        by_descriptor.status.success(),
        "{}",
        String::from_utf8_lossy(&by_descriptor.stderr)
    );
    // Nothing that only reads needs one.
    for args in [
        &["list"][..],
        &["check"],
        &["ca", "show"],
        &["crl", "show"],
        &["inventory", "verify"],
        &["bundle", "show"],
    ] {
        assert_eq!(run(args).code, Some(0), "{args:?}");
    }
}

#[test]
fn ca_files_that_are_cut_swapped_or_open_to_others() {
    let scratch = Scratch::with_ca();
    let issue = ["issue", "plugin", "a", "--out", &scratch.text("a")];
    let file = |name: &str| scratch.path(&format!("pki/authorities/{name}"));
    let (cert, key) = (file("iss-g1-001/cert.pem"), file("iss-g1-001/key.pem"));
    let (whole_cert, whole_key) = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());

    fs::write(&cert, &whole_cert[..whole_cert.len() / 2]).unwrap();
    says(
        &scratch.fails(1, &issue),
        &["cert.pem", "cut", "gapura-pki restore"],
    );
    assert_eq!(scratch.run(&["check"]).code, Some(4));
    fs::write(&cert, fs::read(file("root-g1/cert.pem")).unwrap()).unwrap();
    says(
        &scratch.fails(1, &issue),
        &["SHA-256", "was written", "gapura-pki restore"],
    );
    fs::write(&cert, whole_cert).unwrap();

    fs::write(&key, &whole_key[..whole_key.len() / 2]).unwrap();
    says(
        &scratch.fails(1, &issue),
        &["key.pem", "gapura-pki restore"],
    );
    fs::write(&key, fs::read(file("root-g1/key.pem")).unwrap()).unwrap();
    says(
        &scratch.fails(1, &issue),
        &["not the key of cert.pem", "gapura-pki restore"],
    );
    fs::write(&key, whole_key).unwrap();

    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    says(
        &scratch.fails(5, &issue),
        &["mode 0640", "wanted 0600", "chmod 0600"],
    );
    assert_eq!(scratch.run(&["check"]).code, Some(4));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    scratch.ok(&issue);
    assert_eq!(scratch.run(&["check"]).code, Some(0));
}

#[test]
fn a_mesh_directory_of_somebody_else() {
    let scratch = Scratch::with_ca();
    let out = scratch.text("edge");
    scratch.ok(&["issue", "gateway", "edge", "--out", &out]);
    says(
        &scratch.fails(5, &["issue", "plugin", "billing", "--out", &out]),
        &["belongs to", "gateway/edge", "--out"],
    );
    scratch.ok(&["issue", "gateway", "edge", "--out", &out]);
}

#[test]
fn a_batch_is_all_or_nothing() {
    let scratch = Scratch::with_ca();
    let file = scratch.text("batch");
    let list = || {
        scratch.ok(&["list"])["certificates"]
            .as_array()
            .unwrap()
            .len()
    };
    for (text, wanted) in [
        ("plugin a\nplugin B\n", "entry at 2"),
        ("plugin a\nplugin\n", "ROLE NAME"),
        ("plugin a\nplugin a\n", "twice"),
        (
            "{\"role\": \"plugin\", \"name\": \"a\", \"tll\": \"3d\"}\n",
            "tll",
        ),
        (
            "[{\"role\": \"plugin\", \"name\": \"a\", \"ttl\": \"91d\"}]",
            "90 d",
        ),
        ("# nothing\n", "nothing to issue"),
    ] {
        fs::write(&file, text).unwrap();
        let ended = scratch.run(&["issue", "--from", &file, "--out", &scratch.text("m")]);
        assert!(
            matches!(ended.code, Some(2 | 5)),
            "{text}: {}",
            ended.stderr
        );
        says(&ended.stderr, &[wanted]);
        assert_eq!(list(), 0);
        assert!(!scratch.path("m").exists());
    }
    // A directory that can't be made stops the others too.
    fs::write(scratch.path("flat"), "").unwrap();
    fs::write(
        &file,
        format!(
            "plugin a\nplugin b {}/flat/b\n",
            scratch.dir.path().display()
        ),
    )
    .unwrap();
    assert_eq!(
        scratch
            .run(&["issue", "--from", &file, "--out", &scratch.text("m")])
            .code,
        Some(1)
    );
    assert_eq!(list(), 0);
    assert!(!scratch.path("m/a/cert.pem").exists());
    fs::write(
        &file,
        "# two\nplugin a\n\n{\"role\": \"gateway\", \"name\": \"g\", \"ttl\": \"3d\"}\n",
    )
    .unwrap();
    scratch.ok(&["issue", "--from", &file, "--out", &scratch.text("m")]);
    assert_eq!(list(), 2);
}

#[test]
fn a_dry_run_writes_nothing() {
    let scratch = Scratch::with_ca();
    let before = fs::read(scratch.path("pki/inventory.jsonl")).unwrap();
    let planned = scratch.ok(&[
        "issue",
        "plugin",
        "a",
        "b",
        "--out",
        &scratch.text("m"),
        "--dry-run",
    ]);
    assert_eq!(planned["issued"].as_array().unwrap().len(), 2);
    scratch.ok(&["renew", "--all", "--dry-run"]);
    assert_eq!(
        fs::read(scratch.path("pki/inventory.jsonl")).unwrap(),
        before
    );
    assert!(!scratch.path("m").exists());
}

#[test]
fn revocations_of_nobody_and_of_cas() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "plugin", "edge", "--out", &scratch.text("p")]);
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("g")]);
    says(
        &scratch.fails(1, &["revoke", "nobody"]),
        &["nothing was ever issued", "gapura-pki list"],
    );
    says(
        &scratch.fails(2, &["revoke", "edge"]),
        &["gateway/edge", "plugin/edge"],
    );
    says(
        &scratch.fails(2, &["revoke", "spiffe://other.internal/plugin/edge"]),
        &["another trust domain"],
    );
    says(
        &scratch.fails(2, &["revoke", "--serial", "xyz"]),
        &["hexadecimal"],
    );
    says(
        &scratch.fails(1, &["revoke", "--serial", "1234"]),
        &["not in the inventory", "--cert"],
    );
    says(
        &scratch.fails(2, &["revoke", "plugin/edge", "--reason", "boredom"]),
        &["boredom", "key-compromise"],
    );
    says(
        &scratch.fails(
            5,
            &[
                "revoke",
                "--cert",
                &scratch.text("pki/authorities/iss-g1-001/cert.pem"),
            ],
        ),
        &["CA", "--taint"],
    );
    let other = Scratch::with_ca();
    other.ok(&["issue", "plugin", "a", "--out", &other.text("a")]);
    says(
        &scratch.fails(5, &["revoke", "--cert", &other.text("a/cert.pem")]),
        &["not signed by a CA of"],
    );
    assert_eq!(
        scratch.ok(&["revoke", "plugin/edge"])["revoked"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        scratch.ok(&["revoke", "plugin/edge"])["already"]
            .as_array()
            .unwrap()
            .len(),
        1,
        "twice does no harm"
    );
    assert_eq!(
        scratch.ok(&["revoke", "--cert", &scratch.text("g/cert.pem")])["revoked"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    says(
        &scratch.fails(5, &["renew", "plugin/edge"]),
        &["was revoked", "gapura-pki issue plugin edge"],
    );
}

#[test]
fn every_help_has_an_example() {
    let scratch = Scratch::new();
    for command in [
        "init",
        "issue",
        "csr",
        "renew",
        "revoke",
        "crl show",
        "crl refresh",
        "crl verify",
        "ca show",
        "ca rotate",
        "bundle show",
        "bundle export",
        "bundle verify",
        "list",
        "inspect",
        "verify",
        "lint",
        "check",
        "forget",
        "adopt",
        "passphrase change",
        "backup",
        "restore",
        "inventory verify",
    ] {
        let words: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let ended = scratch.run(&words);
        assert_eq!(ended.code, Some(0));
        says(
            &ended.stdout,
            &["Example", &format!("gapura-pki {command}")],
        );
    }
}

#[test]
fn a_pipe_is_waited_for_by_no_command_and_what_has_no_end_is_not_read() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "plugin", "a", "--out", &scratch.text("a")]);
    let made = std::process::Command::new("mkfifo")
        .arg(scratch.path("pipe"))
        .status();
    assert!(made.unwrap().success());
    let (set, whole) = (scratch.text("a"), scratch.text("a/cert.pem"));
    for bad in [scratch.text("pipe"), "/dev/zero".to_owned()] {
        for args in [
            &["inspect", &bad][..],
            &["lint", &bad],
            &["verify", &bad, "--as", "server"],
            &["verify", &set, "--as", "server", "--bundle", &bad],
            &["verify", &set, "--as", "server", "--crl", &bad],
            &["crl", "verify", &bad],
            &["revoke", "--cert", &bad],
            &["issue", "plugin", "b", "--csr", &bad],
            &["issue", "--from", &bad],
            &["restore", &bad],
        ] {
            says(&scratch.fails(1, args), &[&bad, "not a regular file"]);
        }
    }
    // Their twins.
    scratch.ok(&["inspect", &whole]);
    scratch.ok(&["verify", &whole, "--as", "server"]);
    scratch.ok(&["revoke", "--cert", &whole]);
}

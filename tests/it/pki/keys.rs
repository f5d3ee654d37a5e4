//! Keys: which ones a handshake takes and `verify` therefore too, and which ones are certified, for
//! whom, and never again.

use std::fs;

use serde_json::Value;

use super::{Scratch, openssl};

/// An authority of OpenSSL's, so that leaves with keys of any sort can be made.
struct Foreign(Scratch);

const SORTS: [(&str, &[&str]); 9] = [
    ("P-256", &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
    ("P-384", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]),
    ("P-521", &["ec", "-pkeyopt", "ec_paramgen_curve:P-521"]),
    ("Ed25519", &["ed25519"]),
    ("RSA of 2048", &["rsa:2048"]),
    ("RSA of 1024", &["rsa:1024"]),
    ("P-224", &["ec", "-pkeyopt", "ec_paramgen_curve:secp224r1"]),
    (
        "secp256k1",
        &["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"],
    ),
    ("Ed448", &["ed448"]),
];

/// Those of [`SORTS`] that a handshake takes come first.
const TAKEN: usize = 5;

fn run_openssl(args: &[&str]) {
    let (good, said) = openssl(args);
    assert!(good, "{args:?}: {said}");
}

impl Foreign {
    fn new() -> Self {
        let this = Self(Scratch::new());
        let (key, cert) = (this.0.text("ca.key"), this.0.text("ca.pem"));
        run_openssl(
            &[
                &[
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:P-256",
                    "-nodes",
                ][..],
                &[
                    "-subj",
                    "/CN=foreign",
                    "-keyout",
                    &key,
                    "-out",
                    &cert,
                    "-days",
                    "30",
                ],
                &["-addext", "keyUsage=critical,keyCertSign,cRLSign"],
            ]
            .concat(),
        );
        this
    }

    /// A request for `billing` with a new key of that sort.
    fn request(&self, sort: &[&str]) -> String {
        let (key, csr) = (self.0.text("leaf.key"), self.0.text("leaf.csr"));
        run_openssl(
            &[
                &["req", "-new", "-newkey"][..],
                sort,
                &[
                    "-nodes",
                    "-subj",
                    "/CN=billing",
                    "-keyout",
                    &key,
                    "-out",
                    &csr,
                ],
            ]
            .concat(),
        );
        csr
    }

    /// A leaf of this authority with a new key of that sort.
    fn leaf(&self, sort: &[&str], id: &str) -> String {
        let csr = self.request(sort);
        let (key, cert) = (self.0.text("ca.key"), self.0.text("ca.pem"));
        let (leaf, ext) = (self.0.text("leaf.pem"), self.0.text("ext"));
        let says = format!(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=critical,URI:{id}\n"
        );
        fs::write(&ext, says).unwrap();
        run_openssl(
            &[
                &[
                    "x509", "-req", "-in", &csr, "-CA", &cert, "-CAkey", &key, "-days", "10",
                ][..],
                &["-CAcreateserial", "-extfile", &ext, "-out", &leaf],
            ]
            .concat(),
        );
        leaf
    }

    fn verify(&self, leaf: &str, more: &[&str]) -> Value {
        let ca = self.0.text("ca.pem");
        let args = [
            "verify", leaf, "--as", "server", "--bundle", &ca, "--no-crl", "--json",
        ];
        let ended = self.0.run(&[&args[..], more].concat());
        let said: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert_eq!(
            ended.code,
            Some(if said["ok"] == true { 0 } else { 1 }),
            "{said}"
        );
        said
    }
}

#[test]
fn verify_refuses_every_key_that_a_handshake_refuses_and_says_why() {
    let foreign = Foreign::new();
    for (at, (sort, how)) in SORTS.into_iter().enumerate() {
        let leaf = foreign.leaf(how, "spiffe://test.internal/plugin/billing");
        let said = foreign.verify(&leaf, &[]);
        if at < TAKEN {
            assert_eq!(said["ok"], true, "{sort}: {said}");
            continue;
        }
        let why = said["refusal"]
            .as_str()
            .unwrap_or_else(|| panic!("{sort} is accepted"));
        assert!(
            why.contains(sort) && why.contains("a handshake takes"),
            "{sort}: {why}"
        );
    }
}

#[test]
fn a_request_is_judged_by_the_same_keys() {
    let (foreign, scratch) = (Foreign::new(), Scratch::with_ca());
    for (at, (sort, how)) in SORTS.into_iter().enumerate() {
        let csr = foreign.request(how);
        let out = scratch.text(&format!("d{at}"));
        let issue = ["issue", "plugin", "billing", "--csr", &csr, "--out", &out];
        if at < TAKEN {
            scratch.ok(&issue);
            continue;
        }
        let sentence = scratch.fails(5, &issue);
        assert!(
            sentence.contains(sort) && !sentence.contains("its own key"),
            "{sentence}"
        );
    }
    // A signature that is really another's.
    let csr = foreign.request(SORTS[2].1);
    let (bytes, out) = (foreign.0.text("leaf.der"), scratch.text("forged"));
    run_openssl(&["req", "-in", &csr, "-outform", "DER", "-out", &bytes]);
    let mut der = fs::read(&bytes).unwrap();
    let last = der.len() - 1;
    der[last] ^= 1;
    fs::write(&csr, der).unwrap();
    let sentence = scratch.fails(
        5,
        &["issue", "plugin", "billing", "--csr", &csr, "--out", &out],
    );
    assert!(sentence.contains("not by its own key"), "{sentence}");
}

#[test]
fn verify_knows_whose_roots_it_was_given() {
    let foreign = Foreign::new();
    let other = "spiffe://other.internal/plugin/billing";
    let leaf = foreign.leaf(SORTS[0].1, other);
    // Roots that do not say whose they are: it is said that this was not asked.
    assert_eq!(foreign.verify(&leaf, &[])["trust_domain_checked"], false);
    let said = foreign.verify(&leaf, &["--trust-domain", "test.internal"]);
    assert!(
        said["refusal"].as_str().unwrap().contains("other.internal"),
        "{said}"
    );
    assert_eq!(
        foreign.verify(&leaf, &["--trust-domain", "other.internal"])["ok"],
        true
    );

    // A CA of ours whose key signed for another domain, as a stolen one would.
    let ours = Scratch::with_ca();
    ours.ok(&["issue", "plugin", "a", "--out", &ours.text("a")]);
    let authority = ours.path("pki/authorities/iss-g1-001");
    for (from, to) in [("cert.pem", "ca.pem"), ("key.pem", "ca.key")] {
        fs::copy(authority.join(from), foreign.0.path(to)).unwrap();
    }
    let bundle = ours.text("a/ca.pem");
    for (id, good) in [
        (other, false),
        ("spiffe://test.internal/plugin/billing", true),
    ] {
        let leaf = foreign.leaf(SORTS[0].1, id);
        let chain = fs::read_to_string(&leaf).unwrap()
            + &fs::read_to_string(authority.join("cert.pem")).unwrap();
        fs::write(&leaf, chain).unwrap();
        let alone = ours.text("alone.pem");
        fs::copy(&leaf, &alone).unwrap();
        // By a bundle, and, alone in a folder, by this installation.
        for with in [&["--bundle", &bundle, "--no-crl"][..], &[]] {
            let args = ["verify", &alone, "--as", "server", "--json"];
            let ended = ours.run(&[&args[..], with].concat());
            let said: Value = serde_json::from_str(&ended.stdout).unwrap();
            assert_eq!(said["ok"], good, "{id} {with:?}: {said}");
            if !good {
                assert!(
                    said["refusal"].as_str().unwrap().contains("other.internal"),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn inspect_of_what_cannot_be_read_fails() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "plugin", "a", "--out", &scratch.text("a")]);
    scratch.ok(&["inspect", &scratch.text("a")]);
    let block = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(scratch.path("bad.pem"), block).unwrap();
    fs::write(scratch.path("bad.der"), [0x30, 0x03, 1, 2, 3]).unwrap();
    fs::write(scratch.path("empty"), "").unwrap();
    fs::create_dir(scratch.path("folder")).unwrap();
    let mixed = fs::read_to_string(scratch.path("a/cert.pem")).unwrap() + block;
    fs::write(scratch.path("mixed.pem"), mixed).unwrap();
    for name in [
        "bad.pem",
        "bad.der",
        "empty",
        "folder",
        "mixed.pem",
        "nowhere",
    ] {
        let ended = scratch.run(&["inspect", &scratch.text(name)]);
        assert_eq!(
            ended.code,
            Some(1),
            "{name}: {}{}",
            ended.stdout,
            ended.stderr
        );
    }
}

#[test]
fn a_compromised_key_is_never_certified_again() {
    let (foreign, scratch) = (Foreign::new(), Scratch::with_ca());
    let csr = foreign.request(SORTS[0].1);
    let run = |out: &str| {
        let out = scratch.text(out);
        scratch.run(&["issue", "plugin", "billing", "--csr", &csr, "--out", &out])
    };
    assert_eq!(run("one").code, Some(0));
    assert_eq!(
        run("two").code,
        Some(0),
        "the same key twice for one identity"
    );
    let serial = scratch.ok(&["list"])["certificates"][0]["serial"].clone();
    let serial = serial.as_str().unwrap();
    // Not said at first; later it turns out why.
    scratch.ok(&["revoke", "--serial", serial]);
    assert_eq!(run("three").code, Some(0));
    scratch.ok(&["revoke", "--serial", serial, "--reason", "key-compromise"]);
    let ended = run("four");
    assert_eq!(ended.code, Some(5), "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stderr.contains("compromised"), "{}", ended.stderr);
    // Nor by a renewal of another certificate with that key.
    let ended = scratch.run(&["renew", "--all"]);
    assert_ne!(ended.code, Some(0));
    assert!(
        format!("{}{}", ended.stdout, ended.stderr).contains("compromised"),
        "{}{}",
        ended.stdout,
        ended.stderr
    );

    // A key that is kept in its directory: the first certificate is given up, the second has the
    // same key.
    let issued = scratch.ok(&["issue", "plugin", "lab", "--out", &scratch.text("lab")]);
    let first = issued["issued"][0]["serial"].as_str().unwrap();
    scratch.ok(&["renew", "lab", "--reuse-key"]);
    scratch.ok(&["revoke", "--serial", first, "--reason", "key-compromise"]);
    let sentence = scratch.fails(5, &["renew", "lab", "--reuse-key"]);
    assert!(sentence.contains("compromised"), "{sentence}");
    scratch.ok(&["renew", "lab"]);
}

#[test]
fn one_key_serves_one_identity_and_a_cas_key_none() {
    let (foreign, scratch) = (Foreign::new(), Scratch::with_ca());
    // A request without a name may be meant for anybody.
    let (key, csr) = (foreign.0.text("k.key"), foreign.0.text("k.csr"));
    let request = |key: &str| {
        run_openssl(&["req", "-new", "-key", key, "-subj", "/", "-out", &csr]);
    };
    run_openssl(&[
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        &key,
    ]);
    request(&key);
    let issue = |role, name: &str| {
        scratch.run(&[
            "issue",
            role,
            name,
            "--csr",
            &csr,
            "--out",
            &scratch.text(name),
        ])
    };
    assert_eq!(issue("plugin", "billing").code, Some(0));
    assert_eq!(issue("plugin", "billing").code, Some(0));
    for (role, name) in [("plugin", "orders"), ("gateway", "edge")] {
        let ended = issue(role, name);
        assert_eq!(ended.code, Some(5), "{name}: {}", ended.stdout);
        assert!(ended.stderr.contains("plugin/billing"), "{}", ended.stderr);
    }
    // Two in one batch.
    run_openssl(&[
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        &key,
    ]);
    request(&key);
    let lines: String = ["x", "y"]
        .iter()
        .map(|name| format!("{{\"role\": \"plugin\", \"name\": \"{name}\", \"csr\": \"{csr}\"}}\n"))
        .collect();
    fs::write(scratch.path("batch"), lines).unwrap();
    let sentence = scratch.fails(5, &["issue", "--from", &scratch.text("batch")]);
    assert!(sentence.contains("plugin/x"), "{sentence}");

    for id in ["iss-g1-001", "root-g1"] {
        request(&scratch.text(&format!("pki/authorities/{id}/key.pem")));
        let ended = issue("plugin", "new");
        assert_eq!(ended.code, Some(5), "{id}: {}", ended.stdout);
        assert!(ended.stderr.contains(id), "{}", ended.stderr);
    }
}

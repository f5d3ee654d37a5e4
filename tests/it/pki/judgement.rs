//! `verify` and `lint`: what they say of certificates that another authority made, good and bad.

use std::fs;

use gapura_tests::certs::{Authority, Certificate, DOMAIN, Leaf};
use serde_json::Value;

use super::{Scratch, openssl};

struct Bench {
    scratch: Scratch,
    authority: Authority,
}

impl Bench {
    fn new() -> Self {
        let bench = Self {
            scratch: Scratch::new(),
            authority: Authority::two_tier("bench"),
        };
        fs::write(bench.scratch.path("ca.pem"), bench.authority.root_pem()).unwrap();
        bench
    }

    fn leaf(&self, leaf: &Leaf) -> Certificate {
        let made = self.authority.issue(leaf);
        fs::write(self.scratch.path("leaf.pem"), &made.chain).unwrap();
        made
    }

    /// Asks about the last leaf with these CRLs; `None` when it is accepted, else the refusal.
    fn refusal(&self, side: &str, crl: &str, more: &[&str]) -> Option<String> {
        fs::write(self.scratch.path("crl.pem"), crl).unwrap();
        let (leaf, ca, crl) = (
            self.scratch.text("leaf.pem"),
            self.scratch.text("ca.pem"),
            self.scratch.text("crl.pem"),
        );
        let args = [
            &[
                "verify", &leaf, "--as", side, "--bundle", &ca, "--crl", &crl, "--json",
            ],
            more,
        ]
        .concat();
        let ended = self.scratch.run(&args);
        let said: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|_| panic!("{}{}", ended.stdout, ended.stderr));
        assert!(said["error"].is_null(), "{said}");
        let good = said["ok"] == true;
        assert_eq!(ended.code, Some(if good { 0 } else { 1 }), "{said}");
        said["refusal"]
            .as_str()
            .map(str::to_owned)
            .filter(|_| !good)
    }

    fn findings(&self, file: &str) -> (Option<i32>, Vec<String>) {
        let ended = self
            .scratch
            .run(&["lint", &self.scratch.text(file), "--json"]);
        let said: Value = serde_json::from_str(&ended.stdout)
            .unwrap_or_else(|_| panic!("{}{}", ended.stdout, ended.stderr));
        let codes = said["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| finding["code"].as_str().unwrap().to_owned());
        (ended.code, codes.collect())
    }
}

#[test]
fn verify_gives_the_reason_a_peer_would_give() {
    let bench = Bench::new();
    let clean = || bench.authority.crl(&[]);
    let id = format!("spiffe://{DOMAIN}/plugin/billing");

    let good = bench.leaf(&Leaf::plugin("billing"));
    assert_eq!(bench.refusal("server", &clean(), &["--id", &id]), None);
    for (side, crl, more, wanted) in [
        ("client", clean(), vec![], "serverAuth only"),
        (
            "server",
            clean(),
            vec!["--id", "spiffe://test.internal/plugin/orders"],
            "wanted spiffe://test.internal/plugin/orders",
        ),
        (
            "server",
            bench.authority.crl(&[&good]),
            vec![],
            "is revoked",
        ),
        ("server", clean(), vec!["--at", "2020-01-01"], "begins at"),
        ("server", clean(), vec!["--at", "2100-01-01"], "ended at"),
        (
            "server",
            Authority::two_tier("other").crl(&[]),
            vec![],
            "no CRL of the certificate's issuer",
        ),
    ] {
        let refusal = bench
            .refusal(side, &crl, &more)
            .unwrap_or_else(|| panic!("accepted, though {wanted}"));
        assert!(refusal.contains(wanted), "{wanted:?} is not in: {refusal}");
    }

    bench.leaf(&Leaf::gateway("edge"));
    assert_eq!(bench.refusal("client", &clean(), &[]), None);
    for (leaf, wanted) in [
        (Leaf::gateway("edge").without_uri(), "no URI name"),
        (
            Leaf::gateway("edge").also_uri("spiffe://test.internal/gateway/other"),
            "more than one URI",
        ),
        (
            Leaf::gateway("edge").uri("https://test.internal/"),
            "no identity",
        ),
        (
            Leaf::gateway("edge").uri("spiffe://test.internal/plugin/edge"),
            "is no gateway",
        ),
    ] {
        bench.leaf(&leaf);
        let refusal = bench
            .refusal("client", &clean(), &[])
            .unwrap_or_else(|| panic!("accepted, though {wanted}"));
        assert!(refusal.contains(wanted), "{wanted:?} is not in: {refusal}");
    }

    fs::write(
        bench.scratch.path("leaf.pem"),
        Authority::two_tier("stranger")
            .issue(&Leaf::gateway("edge"))
            .chain,
    )
    .unwrap();
    assert!(
        bench
            .refusal("client", &clean(), &[])
            .unwrap()
            .contains("no chain leads")
    );
    fs::write(
        bench.scratch.path("leaf.pem"),
        "-----BEGIN CERTIFICATE-----\nAAAA\n",
    )
    .unwrap();
    let text = |name: &str| bench.scratch.text(name);
    assert!(
        bench
            .scratch
            .fails(
                1,
                &[
                    "verify",
                    &text("leaf.pem"),
                    "--as",
                    "client",
                    "--bundle",
                    &text("ca.pem")
                ]
            )
            .contains("cut")
    );
}

#[test]
fn lint_finds_what_would_be_refused_and_what_is_unwise() {
    let bench = Bench::new();
    bench.leaf(&Leaf::plugin("billing"));
    let (code, codes) = bench.findings("leaf.pem");
    assert!(
        code == Some(0) || codes.iter().all(|code| code.starts_with('W')),
        "{codes:?}"
    );
    for (leaf, wanted) in [
        (Leaf::gateway("edge").without_uri(), "E002"),
        (
            Leaf::gateway("edge").also_uri("spiffe://test.internal/gateway/other"),
            "E003",
        ),
        (Leaf::gateway("edge").uri("https://test.internal/"), "E004"),
        (
            Leaf::gateway("edge").uri("spiffe://test.internal/plugin/edge"),
            "E012",
        ),
    ] {
        bench.leaf(&leaf);
        let (code, codes) = bench.findings("leaf.pem");
        assert!(
            code == Some(4) && codes.contains(&wanted.to_owned()),
            "{wanted}: {codes:?}"
        );
    }

    let (key, cert) = (bench.scratch.text("k.pem"), bench.scratch.text("c.pem"));
    let make = |more: &[&str]| {
        let args = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            &key,
            "-out",
            &cert,
        ];
        let (made, said) = openssl(&[&args, more].concat());
        assert!(made, "{said}");
        bench.findings("c.pem").1
    };
    let san = "subjectAltName=URI:spiffe://test.internal/plugin/a";
    let not_ca = "basicConstraints=critical,CA:FALSE";
    for (more, wanted) in [
        (vec!["-subj", "/CN=a", "-addext", not_ca], "E001"),
        (
            vec!["-subj", "/CN=a", "-addext", not_ca, "-addext", san],
            "E010",
        ),
        (
            vec![
                "-subj",
                "/CN=a",
                "-addext",
                not_ca,
                "-addext",
                san,
                "-addext",
                "extendedKeyUsage=anyExtendedKeyUsage",
            ],
            "E011",
        ),
        (
            vec![
                "-subj",
                "/CN=a",
                "-addext",
                not_ca,
                "-addext",
                san,
                "-addext",
                "extendedKeyUsage=serverAuth,clientAuth",
            ],
            "W013",
        ),
        (
            vec![
                "-subj",
                "/CN=a",
                "-addext",
                not_ca,
                "-addext",
                san,
                "-addext",
                "keyUsage=keyCertSign",
            ],
            "E015",
        ),
        (
            vec![
                "-subj", "/CN=a", "-addext", not_ca, "-addext", san, "-days", "400",
            ],
            "W028",
        ),
        (
            vec!["-subj", "/CN=a", "-addext", not_ca, "-addext", san, "-sha1"],
            "E026",
        ),
        (
            vec![
                "-subj",
                "/CN=a",
                "-addext",
                not_ca,
                "-addext",
                san,
                "-set_serial",
                "1",
            ],
            "W024",
        ),
        (vec!["-subj", "/CN=ca"], "E031"),
        (
            vec![
                "-subj",
                "/CN=ca",
                "-addext",
                "keyUsage=critical,keyCertSign",
            ],
            "E032",
        ),
        (
            vec![
                "-subj",
                "/CN=ca",
                "-addext",
                "nameConstraints=critical,permitted;URI:.a.b",
            ],
            "E036",
        ),
    ] {
        let found = make(&more);
        assert!(
            found.contains(&wanted.to_owned()),
            "{wanted} is not in {found:?} for {more:?}"
        );
    }

    let now = std::time::SystemTime::now();
    let old = bench
        .authority
        .crl_until(&[], now - std::time::Duration::from_secs(60));
    fs::write(bench.scratch.path("crl.pem"), old).unwrap();
    assert_eq!(bench.findings("crl.pem").0, Some(4));
    fs::write(bench.scratch.path("crl.pem"), bench.authority.crl(&[])).unwrap();
    assert_eq!(bench.findings("crl.pem").0, Some(0));
}

#[test]
fn everything_we_write_is_clean() {
    let scratch = Scratch::with_ca();
    scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
    scratch.ok(&[
        "issue",
        "plugin",
        "billing",
        "--out",
        &scratch.text("billing"),
    ]);
    scratch.ok(&["ca", "rotate", "issuer"]);
    for dir in ["edge", "billing"] {
        for file in ["cert.pem", "ca.pem", "crl.pem"] {
            let clean = scratch.ok(&["lint", &scratch.text(&format!("{dir}/{file}"))]);
            assert_eq!(clean["findings"].as_array().unwrap().len(), 0, "{clean}");
        }
    }
}

#[test]
fn a_failure_is_json_too() {
    let scratch = Scratch::new();
    let ended = scratch.run(&["list", "--json"]);
    let said: Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(
        (ended.code, &said["exit"], &said["command"]),
        (Some(1), &1.into(), &"list".into())
    );
    assert_eq!(said["error"]["kind"], "failed");
    assert!(
        said["error"]["message"]
            .as_str()
            .unwrap()
            .contains("init --trust-domain")
    );
}

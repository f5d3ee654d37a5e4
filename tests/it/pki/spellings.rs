//! One reader of PEM: what editors and `cat` make of a mesh directory's files means the same to
//! `gapura-pki verify` and to a start.

use std::fs;

use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_tests::certs::{Authority, Leaf, write_private};
use gapura_trust::set::{TrustOptions, TrustSet};

use super::Scratch;

/// A gateway's directory in which every block counts: the leaf's issuer stands behind it, its root
/// and its CRL are the last ones.
struct Files {
    cert: String,
    ca: String,
    crl: String,
    key: String,
}

impl Files {
    fn new(revoked: bool) -> Self {
        let (ours, other) = (Authority::two_tier("ours"), Authority::two_tier("other"));
        let leaf = ours.issue(&Leaf::gateway("edge"));
        let named = if revoked { vec![&leaf] } else { vec![] };
        let lists = ours.crl(&named);
        let second = lists.rfind("-----BEGIN").unwrap();
        Self {
            cert: leaf.chain.clone(),
            ca: other.root_pem() + &ours.root_pem(),
            crl: lists[second..].to_owned() + &lists[..second],
            key: leaf.key.clone(),
        }
    }
}

/// What `verify` and a start say of the files: nothing if the gateway would be let in.
fn judged(files: &Files, spelled: impl Fn(&str) -> String) -> [Option<String>; 2] {
    let scratch = Scratch::new();
    let dir = scratch.path("edge");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("cert.pem"), spelled(&files.cert)).unwrap();
    fs::write(dir.join("ca.pem"), spelled(&files.ca)).unwrap();
    fs::write(dir.join("crl.pem"), spelled(&files.crl)).unwrap();
    write_private(&dir.join("key.pem"), &spelled(&files.key));
    let ended = scratch.run(&["verify", &scratch.text("edge"), "--as", "client"]);
    let verified = (ended.code != Some(0)).then(|| ended.stdout + &ended.stderr);
    let clock = Clock::system();
    let now = clock.now();
    let options = TrustOptions {
        own_role: Role::Gateway,
        no_crl: false,
        clock,
    };
    let started = match TrustSet::load(&dir, &options, None) {
        Ok(set) => set.own_refusal(now).map(|refusal| refusal.to_string()),
        Err(fault) => Some(fault.to_string()),
    };
    [verified, started]
}

type Spelling = (&'static str, fn(&str) -> String);

const SPELLINGS: [Spelling; 9] = [
    ("as it was written", str::to_owned),
    ("CRLF", |text| text.replace('\n', "\r\n")),
    ("CR alone", |text| text.replace('\n', "\r")),
    ("a byte order mark", |text| format!("\u{feff}{text}")),
    ("indents", |text| {
        text.replace('\n', "\n  \t")
            .replacen("-----", "    -----", 1)
    }),
    ("blanks at line ends", |text| text.replace('\n', " \t \n")),
    ("blocks without a line end between them", |text| {
        text.replace("-----\n-----BEGIN", "----------BEGIN")
            .trim_end()
            .to_owned()
    }),
    ("a blank between two blocks on a line", |text| {
        text.replace("-----\n-----BEGIN", "----- -----BEGIN")
    }),
    ("text between blocks", |text| {
        text.replace("-----BEGIN", "Certificate:\n    Data: - - -\n\n-----BEGIN")
    }),
];

#[test]
fn verify_and_a_start_read_every_spelling_alike_and_no_block_is_lost() {
    let (good, bad) = (Files::new(false), Files::new(true));
    for (name, spelled) in SPELLINGS {
        let said = judged(&good, spelled);
        assert_eq!(said, [None, None], "{name}");
        for said in judged(&bad, spelled) {
            let said = said.unwrap_or_else(|| panic!("{name}: a revoked one is let in"));
            assert!(said.contains("revoked"), "{name}: {said}");
        }
    }
}

#[test]
fn verify_and_a_start_refuse_damage_alike_and_with_its_line() {
    let good = Files::new(false);
    let damages: [Spelling; 4] = [
        ("no end line", |text| {
            let end = text.rfind("-----END").unwrap();
            text[..end].to_owned()
        }),
        ("a begin before the end", |text| {
            let begin = text.find('\n').unwrap();
            text.replacen(&text[..=begin], &text[..=begin].repeat(2), 1)
        }),
        ("an end without a begin", |text| {
            text[text.find('\n').unwrap() + 1..].to_owned()
        }),
        ("not base64", |text| text.replacen("M", "!", 1)),
    ];
    for (name, damaged) in damages {
        for said in judged(&good, damaged) {
            let said = said.unwrap_or_else(|| panic!("{name}: it is taken"));
            assert!(said.contains("line "), "{name}: {said}");
        }
    }
}

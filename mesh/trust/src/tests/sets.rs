//! Which directory is a set that fits, and what is said of one that does not.

use std::os::unix::fs::{PermissionsExt, symlink};

use rcgen::ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
use rcgen::{IsCa, KeyPair};

use super::mint::{Ca, DAY, Dir, GATEWAY, Leaf, PLUGIN, Pair, at, now, options, valid};
use crate::set::{TrustError, TrustSet};
use gapura_certificates::refusal::Refusal;
use gapura_protocol::identity::Role;

/// The error's kind in one word, and that its sentence names the file and is one line.
fn fault(result: Result<TrustSet, TrustError>, file: &str) -> TrustError {
    let err = result.err().unwrap();
    let sentence = err.to_string();
    assert!(
        sentence.contains(file) && !sentence.contains('\n') && !sentence.ends_with('.'),
        "{sentence}"
    );
    err
}

#[test]
fn a_set_knows_itself_and_counts_its_generations() {
    let root = Ca::root("r");
    let dir = Dir::of(&root.gateway(), &root.pem, Some(&root.crl(3, &[5])));
    let first = dir.load(&options(Role::Gateway), None).unwrap();
    assert_eq!(
        (first.generation(), first.own().id.to_string()),
        (1, GATEWAY.to_owned())
    );
    let second = dir.load(&options(Role::Gateway), Some(&first)).unwrap();
    assert_eq!(second.generation(), 2);
    assert_eq!(first.hash(), second.hash());
    let shown = first.certificates();
    assert_eq!(shown["own"]["id"], GATEWAY);
    assert_eq!(shown["crls"][0]["number"], "03");
    assert_eq!(shown["crls"][0]["revoked"], 1);
    assert_eq!(shown["roots"][0]["subject"], "CN=r");
    assert!(!shown.to_string().contains("PRIVATE"));
    assert!(first.crl_next_update().is_some());
}

#[test]
fn key_and_leaf_must_match() {
    let root = Ca::root("r");
    let dir = Dir::of(&root.gateway(), &root.pem, Some(&root.crl(1, &[])));
    dir.write("key.pem", &root.gateway().key);
    assert!(matches!(
        fault(dir.load(&options(Role::Gateway), None), "key.pem"),
        TrustError::KeyMismatch(_)
    ));
    dir.publish(&root.gateway(), &root.pem, Some(&root.crl(1, &[])));
    assert!(dir.load(&options(Role::Gateway), None).is_ok());
}

#[test]
fn a_key_others_can_read_is_refused() {
    let root = Ca::root("r");
    let dir = Dir::of(&root.gateway(), &root.pem, Some(&root.crl(1, &[])));
    let key = dir.path().join("key.pem");
    for (mode, taken) in [(0o644, false), (0o660, false), (0o600, true), (0o400, true)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let result = dir.load(&options(Role::Gateway), None);
        assert_eq!(result.is_ok(), taken, "{mode:o}");
        if !taken {
            assert!(fault(result, "key.pem").to_string().contains("chmod 600"));
        }
    }
}

#[test]
fn the_role_must_be_the_programs_own() {
    let root = Ca::root("r");
    let crl = root.crl(1, &[]);
    let dir = Dir::of(&root.plugin(), &root.pem, Some(&crl));
    let err = fault(dir.load(&options(Role::Gateway), None), "cert.pem");
    assert!(
        matches!(err, TrustError::Role(_, Role::Gateway, _))
            && err.to_string().contains("gapura-pki issue gateway"),
        "{err}"
    );
    assert!(dir.load(&options(Role::Plugin), None).is_ok());
}

#[test]
fn a_leaf_that_everybody_would_refuse_is_refused_at_home() {
    let root = Ca::root("r");
    let crl = root.crl(1, &[]);
    let leaf = |purposes: &[rcgen::ExtendedKeyUsagePurpose]| {
        Dir::of(&root.leaf(GATEWAY, purposes, |_| {}), &root.pem, Some(&crl))
    };
    for purposes in [&[ServerAuth][..], &[]] {
        let err = fault(
            leaf(purposes).load(&options(Role::Gateway), None),
            "cert.pem",
        );
        assert!(
            matches!(err, TrustError::Leaf(_, Refusal::Purpose { .. })),
            "{err}"
        );
    }
    assert!(
        leaf(&[ClientAuth, ServerAuth])
            .load(&options(Role::Gateway), None)
            .is_ok()
    );
    let other = Ca::root("other");
    let dir = Dir::of(&other.gateway(), &root.pem, Some(&crl));
    assert!(matches!(
        fault(dir.load(&options(Role::Gateway), None), "cert.pem"),
        TrustError::Leaf(_, Refusal::UnknownIssuer)
    ));
    let nobody = root.leaf(GATEWAY, &[ClientAuth], |params| {
        params.subject_alt_names.clear()
    });
    let dir = Dir::of(&nobody, &root.pem, Some(&crl));
    assert!(matches!(
        fault(dir.load(&options(Role::Gateway), None), "cert.pem"),
        TrustError::Leaf(_, Refusal::NoIdentity)
    ));
}

#[test]
fn our_own_dates_do_not_keep_us_from_starting() {
    let root = Ca::root("r");
    let crl = root.crl(1, &[]);
    let load = |leaf: &Leaf| {
        Dir::of(leaf, &root.pem, Some(&crl))
            .load(&options(Role::Gateway), None)
            .unwrap()
    };
    let clock = gapura_protocol::clock::Clock::system();
    let good = load(&root.gateway());
    assert!(good.is_in_date(clock.now()) && good.own_refusal(clock.now()).is_none());
    let expired = load(&root.leaf(GATEWAY, &[ClientAuth], valid(-DAY, -60)));
    assert!(
        !expired.is_in_date(clock.now())
            && matches!(
                expired.own_refusal(clock.now()),
                Some(Refusal::Expired { .. })
            )
    );
    assert!(expired.own().expired(clock.unix()));
    let early = load(&root.leaf(GATEWAY, &[ClientAuth], valid(3600, DAY)));
    assert!(
        !early.is_in_date(clock.now())
            && matches!(
                early.own_refusal(clock.now()),
                Some(Refusal::NotYetValid { .. })
            )
    );
    // Not even if the whole installation has been asleep for years.
    let old = Ca::root_with("old", |params| params.not_after = at(now() - 60));
    let leaf = old.leaf(GATEWAY, &[ClientAuth], valid(-DAY, -120));
    let crl = old.crl_due(1, &[], now() - DAY);
    assert!(
        Dir::of(&leaf, &old.pem, Some(&crl))
            .load(&options(Role::Gateway), None)
            .is_ok()
    );
}

#[test]
fn a_root_that_has_expired_carries_nobody_though_the_leaf_lives() {
    let old = Ca::root_with("old", |params| params.not_after = at(now() - 60));
    let dir = Dir::of(&old.gateway(), &old.pem, Some(&old.crl(1, &[])));
    assert!(matches!(
        fault(dir.load(&options(Role::Gateway), None), "cert.pem"),
        TrustError::Leaf(_, Refusal::RootExpired { .. })
    ));
}

#[test]
fn what_does_not_belong_into_ca_pem_is_named() {
    let root = Ca::root("r");
    let leaf = root.gateway();
    let dir = Dir::of(
        &leaf,
        &format!("{}{}", root.pem, leaf.cert),
        Some(&root.crl(1, &[])),
    );
    let err = fault(dir.load(&options(Role::Gateway), None), "ca.pem");
    assert!(err.to_string().contains("certificate 2"), "{err}");
    dir.write("ca.pem", &root.pem);
    assert!(dir.load(&options(Role::Gateway), None).is_ok());
    let no_ca = Ca::root_with("n", |params| params.is_ca = IsCa::NoCa);
    dir.write("ca.pem", &format!("{}{}", root.pem, no_ca.pem));
    fault(dir.load(&options(Role::Gateway), None), "ca.pem");
    dir.write("ca.pem", "");
    fault(dir.load(&options(Role::Gateway), None), "ca.pem");
    let damaged = "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n-----END CERTIFICATE-----\n";
    dir.write("ca.pem", &format!("{}{damaged}", root.pem));
    fault(dir.load(&options(Role::Gateway), None), "ca.pem");
}

#[test]
fn cert_pem_is_the_leaf_and_then_cas() {
    let root = Ca::root("r");
    let issuing = root.issuing("i", |_| {});
    let leaf = issuing.gateway();
    let crls = format!("{}{}", root.crl(1, &[]), issuing.crl(1, &[]));
    let load = |cert: String| {
        let dir = Dir::of(&leaf, &root.pem, Some(&crls));
        dir.write("cert.pem", &cert);
        dir.load(&options(Role::Gateway), None)
    };
    assert!(load(format!("{}{}", leaf.cert, issuing.pem)).is_ok());
    assert!(load(format!("{}{}{}", leaf.cert, issuing.pem, root.pem)).is_ok());
    fault(load(leaf.cert.clone()), "cert.pem");
    assert!(load(format!("{}{}", issuing.pem, leaf.cert)).is_err());
    assert!(matches!(
        fault(
            load(format!("{}{}{}", leaf.cert, leaf.cert, issuing.pem)),
            "cert.pem"
        ),
        TrustError::Intermediate(_, 2)
    ));
}

#[test]
fn a_damaged_file_is_named_with_its_damage() {
    let pair = Pair::new();
    let (_, dir, options) = &pair.gateway;
    for (name, text, says) in [
        ("cert.pem", "", "holds no"),
        ("cert.pem", "-----BEGIN CERTIFICATE-----\nMIIB", "cut off"),
        (
            "cert.pem",
            "-----BEGIN CERTIFICATE-----\nMAMCAQU=\n-----END CERTIFICATE-----\n",
            "cert.pem",
        ),
        (
            "key.pem",
            "-----BEGIN PRIVATE KEY-----\nMAMCAQU=\n-----END PRIVATE KEY-----\n",
            "cannot be used",
        ),
        (
            "key.pem",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAMCAQU=\n-----END ENCRYPTED PRIVATE KEY-----\n",
            "encrypted",
        ),
        ("crl.pem", "", "holds no"),
        (
            "crl.pem",
            "-----BEGIN X509 CRL-----\nMAMCAQU=\n-----END X509 CRL-----\n",
            "cannot be read",
        ),
    ] {
        let before = std::fs::read_to_string(dir.path().join(name)).unwrap();
        dir.write(name, text);
        let err = fault(dir.load(options, None), name);
        assert!(err.to_string().contains(says), "{err}");
        dir.write(name, &before);
        assert!(dir.load(options, None).is_ok());
    }
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    assert!(
        fault(dir.load(options, None), "ca.pem")
            .to_string()
            .contains("is missing")
    );
}

#[test]
fn keys_of_the_usual_kinds_are_taken() {
    let root = Ca::root("r");
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut leaf = root.leaf(PLUGIN, &[ServerAuth], |_| {});
        let dir = Dir::of(&leaf, &root.pem, Some(&root.crl(1, &[])));
        leaf = root.leaf_for(&key, PLUGIN, &[ServerAuth]);
        dir.publish(&leaf, &root.pem, Some(&root.crl(1, &[])));
        assert!(dir.load(&options(Role::Plugin), None).is_ok());
    }
}

#[test]
fn generations_behind_links_and_plain_files_are_the_same() {
    let root = Ca::root("r");
    let base = tempfile::tempdir().unwrap();
    let files = Dir::of(&root.gateway(), &root.pem, Some(&root.crl(1, &[])));
    std::fs::rename(files.path(), base.path().join("gen-000001")).unwrap();
    symlink("gen-000001", base.path().join("current")).unwrap();
    for name in gapura_files::directory::FILES {
        symlink(format!("current/{name}"), base.path().join(name)).unwrap();
    }
    assert!(TrustSet::load(base.path(), &options(Role::Gateway), None).is_ok());
}

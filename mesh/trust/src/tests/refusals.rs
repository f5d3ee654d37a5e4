//! Every reason for refusing a certificate, each with the twin that is let through.

use std::time::{Duration, UNIX_EPOCH};

use rcgen::ExtendedKeyUsagePurpose::{Any, ClientAuth, CodeSigning, ServerAuth};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;

use super::mint::{Ca, DAY, Dir, GATEWAY, Leaf, PLUGIN, at, now, options, serial, uri, valid};
use crate::set::TrustSet;
use gapura_certificates::purpose::Purpose;
use gapura_certificates::refusal::Refusal;
use gapura_protocol::identity::Role;

/// A sidecar's set over these roots and CRLs, whose own certificate comes from `ca`.
fn set(ca: &Ca, roots: &str, crl: Option<&str>) -> TrustSet {
    let mut options = options(Role::Plugin);
    options.no_crl = crl.is_none();
    Dir::of(&ca.plugin(), roots, crl)
        .load(&options, None)
        .unwrap()
}

fn judged(set: &TrustSet, leaf: &Leaf, purpose: Purpose) -> Result<String, Refusal> {
    judged_at(set, &leaf.chain, purpose, now())
}

fn judged_at(
    set: &TrustSet,
    chain: &[CertificateDer<'_>],
    purpose: Purpose,
    at: i64,
) -> Result<String, Refusal> {
    let time = UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap());
    set.judge(chain, purpose, time)
        .map(|peer| peer.id.to_string())
}

fn reason(result: Result<String, Refusal>) -> Result<String, &'static str> {
    result.map_err(|refusal| {
        assert!(!refusal.to_string().is_empty());
        refusal.reason()
    })
}

#[test]
fn a_gateway_dials_and_a_plugin_answers() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    assert_eq!(
        judged(&set, &root.gateway(), Purpose::Client).unwrap(),
        GATEWAY
    );
    assert_eq!(
        judged(&set, &root.plugin(), Purpose::Server).unwrap(),
        PLUGIN
    );
    assert_eq!(
        reason(judged_at(&set, &[], Purpose::Client, now())),
        Err("no_certificate")
    );
}

/// Each role is good for its own work; renewing takes either purpose, and a CA server is no
/// gateway's or plugin's to play.
#[test]
fn renewing_takes_either_purpose_and_a_ca_server_is_one_of_its_own_role() {
    type Case<'a> = (
        &'a str,
        &'a [rcgen::ExtendedKeyUsagePurpose],
        Purpose,
        Result<(), &'a str>,
    );
    const PKI: &str = "spiffe://mesh.test/pki/ca-1";
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let cases: [Case<'_>; 12] = [
        (GATEWAY, &[ClientAuth], Purpose::Renewal, Ok(())),
        (PLUGIN, &[ServerAuth], Purpose::Renewal, Ok(())),
        (PLUGIN, &[ClientAuth, ServerAuth], Purpose::Renewal, Ok(())),
        (PLUGIN, &[], Purpose::Renewal, Err("purpose")),
        (PLUGIN, &[Any], Purpose::Renewal, Err("purpose")),
        (PKI, &[ServerAuth], Purpose::Renewal, Err("role")),
        (PKI, &[ServerAuth], Purpose::Authority, Ok(())),
        (PKI, &[ClientAuth], Purpose::Authority, Err("purpose")),
        (PLUGIN, &[ServerAuth], Purpose::Authority, Err("role")),
        (
            GATEWAY,
            &[ClientAuth, ServerAuth],
            Purpose::Authority,
            Err("role"),
        ),
        (PKI, &[ServerAuth], Purpose::Server, Err("role")),
        (PKI, &[ClientAuth, ServerAuth], Purpose::Client, Err("role")),
    ];
    for (id, usages, purpose, wanted) in cases {
        let leaf = root.leaf(id, usages, |_| {});
        let found = reason(judged(&set, &leaf, purpose)).map(drop);
        assert_eq!(found, wanted, "{id} with {usages:?} for {purpose:?}");
    }
}

#[test]
fn purpose_is_split_by_role_and_never_left_open() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let cases: [(&str, &[rcgen::ExtendedKeyUsagePurpose], Purpose, bool); 9] = [
        (GATEWAY, &[ClientAuth], Purpose::Client, true),
        (GATEWAY, &[ClientAuth, ServerAuth], Purpose::Client, true),
        (GATEWAY, &[ServerAuth], Purpose::Client, false),
        (GATEWAY, &[], Purpose::Client, false),
        (GATEWAY, &[Any], Purpose::Client, false),
        (GATEWAY, &[CodeSigning], Purpose::Client, false),
        (PLUGIN, &[ClientAuth, ServerAuth], Purpose::Server, true),
        (PLUGIN, &[ClientAuth], Purpose::Server, false),
        (PLUGIN, &[Any, ServerAuth], Purpose::Server, true),
    ];
    for (id, purposes, side, taken) in cases {
        let result = reason(judged(&set, &root.leaf(id, purposes, |_| {}), side));
        assert_eq!(
            result,
            if taken {
                Ok(id.to_owned())
            } else {
                Err("purpose")
            },
            "{id} {purposes:?}"
        );
    }
}

#[test]
fn a_plugin_is_no_gateway_whatever_its_key_usage_says() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let both = [ClientAuth, ServerAuth];
    assert_eq!(
        reason(judged(
            &set,
            &root.leaf(PLUGIN, &both, |_| {}),
            Purpose::Client
        )),
        Err("role")
    );
    assert_eq!(
        reason(judged(
            &set,
            &root.leaf(GATEWAY, &both, |_| {}),
            Purpose::Server
        )),
        Err("role")
    );
}

#[test]
fn time_is_told_with_the_window_our_clock_and_the_difference() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let leaf = root.leaf(GATEWAY, &[ClientAuth], valid(-100, 100));
    assert!(judged(&set, &leaf, Purpose::Client).is_ok());
    for (when, wanted) in [
        (-100, Ok(())),
        (-102, Err("not_yet_valid")),
        (100, Ok(())),
        (102, Err("expired")),
        (3 * DAY, Err("expired")),
    ] {
        // The minted second and ours may differ by one.
        let result = judged_at(
            &set,
            &leaf.chain,
            Purpose::Client,
            now()
                + if wanted.is_ok() {
                    when * 99 / 100
                } else {
                    when
                },
        );
        assert_eq!(reason(result).map(drop), wanted, "{when}");
    }
    let refusal = judged_at(&set, &leaf.chain, Purpose::Client, now() + 100 + 3 * DAY)
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("3 d 0 h before our clock, 2"), "{refusal}");
    let refusal = judged_at(&set, &leaf.chain, Purpose::Client, now() - 100 - 7200 - 30)
        .unwrap_err()
        .to_string();
    assert!(refusal.contains("2 h 0 min after our clock"), "{refusal}");
}

#[test]
fn only_a_chain_to_a_root_of_the_set_counts() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    assert_eq!(
        reason(judged(&set, &Ca::root("other").gateway(), Purpose::Client)),
        Err("unknown_issuer")
    );
    assert_eq!(
        reason(judged(&set, &root.impostor().gateway(), Purpose::Client)),
        Err("bad_signature")
    );
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(GATEWAY)];
    params.extended_key_usages = vec![ClientAuth];
    let own = params.self_signed(&key).unwrap();
    assert_eq!(
        reason(judged_at(
            &set,
            &[own.der().clone()],
            Purpose::Client,
            now()
        )),
        Err("unknown_issuer")
    );
    let mut cut = root.gateway();
    cut.chain[0] = CertificateDer::from(cut.chain[0][..100].to_vec());
    assert_eq!(
        reason(judged(&set, &cut, Purpose::Client)),
        Err("malformed")
    );
    let mut flipped = root.gateway().chain[0].to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    assert!(judged_at(&set, &[flipped.into()], Purpose::Client, now()).is_err());
}

#[test]
fn a_chain_through_an_issuing_ca_is_taken_in_any_order_and_with_its_root() {
    let root = Ca::root("r");
    let issuing = root.issuing("i", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0))
    });
    let set = set(&root, &root.pem, None);
    let leaf = issuing.gateway();
    assert_eq!(
        reason(judged(&set, &leaf, Purpose::Client)),
        Err("unknown_issuer")
    );
    let leaf = leaf.behind(&issuing);
    assert!(judged(&set, &leaf, Purpose::Client).is_ok());
    let with_root = leaf.behind(&root);
    assert!(judged(&set, &with_root, Purpose::Client).is_ok());
    let below = issuing.issuing("below", |_| {});
    let too_deep = below.gateway().behind(&below).behind(&issuing);
    assert_eq!(
        reason(judged(&set, &too_deep, Purpose::Client)),
        Err("constraint")
    );
    let by_a_leaf = {
        let fake = root.issuing("leaf", |params| params.is_ca = IsCa::ExplicitNoCa);
        fake.gateway().behind(&fake)
    };
    assert_eq!(
        reason(judged(&set, &by_a_leaf, Purpose::Client)),
        Err("constraint")
    );
    let expired = root.issuing("old", |params| params.not_after = at(now() - DAY));
    assert_eq!(
        reason(judged(
            &set,
            &expired.gateway().behind(&expired),
            Purpose::Client
        )),
        Err("expired")
    );
}

#[test]
fn an_issuing_ca_beside_its_root_in_ca_pem_helps_and_vouches_for_nothing() {
    let (root, other) = (Ca::root("r"), Ca::root("other"));
    let issuing = root.issuing("i", |_| {});
    let leaf = issuing.gateway();
    let both = format!("{}{}", issuing.pem, root.pem);
    assert!(judged(&set(&root, &both, None), &leaf, Purpose::Client).is_ok());
    assert_eq!(
        reason(judged(
            &set(&other, &other.pem, None),
            &leaf,
            Purpose::Client
        )),
        Err("unknown_issuer")
    );
    // Revoked by its root, it helps no longer.
    let issuing = root.issuing("i2", serial(7));
    let both = format!("{}{}", root.pem, issuing.pem);
    let lists = |revoked: &[u64]| format!("{}{}", root.crl(1, revoked), issuing.crl(1, &[]));
    assert!(
        judged(
            &set(&root, &both, Some(&lists(&[8]))),
            &issuing.gateway(),
            Purpose::Client
        )
        .is_ok()
    );
    assert_eq!(
        reason(judged(
            &set(&root, &both, Some(&lists(&[7]))),
            &issuing.gateway(),
            Purpose::Client
        )),
        Err("revoked")
    );
    // Alone it is what the operator trusts.
    assert!(
        judged(
            &set(&issuing, &issuing.pem, None),
            &leaf_of(&issuing),
            Purpose::Client
        )
        .is_ok()
    );
}

fn leaf_of(ca: &Ca) -> Leaf {
    ca.gateway()
}

#[test]
fn an_expired_root_is_dropped_by_us_though_webpki_takes_it() {
    let old = Ca::root_with("old", |params| params.not_after = at(now() + 10));
    let new = Ca::root("new");
    let both = format!("{}{}", old.pem, new.pem);
    let set = set(&new, &both, None);
    let leaf = old.gateway();
    assert!(judged(&set, &leaf, Purpose::Client).is_ok());
    let later = judged_at(&set, &leaf.chain, Purpose::Client, now() + 20);
    assert!(
        matches!(later, Err(Refusal::RootExpired { .. })),
        "{later:?}"
    );
    assert!(judged_at(&set, &new.gateway().chain, Purpose::Client, now() + 20).is_ok());
    assert_eq!(
        reason(judged_at(
            &set,
            &Ca::root("x").gateway().chain,
            Purpose::Client,
            now() + 20
        )),
        Err("unknown_issuer")
    );
}

#[test]
fn exactly_one_uri_names_the_peer() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let judge = |names: Vec<SanType>| {
        let leaf = root.leaf(GATEWAY, &[ClientAuth], |params| {
            params.subject_alt_names = names
        });
        judged(&set, &leaf, Purpose::Client)
    };
    let dns = || SanType::DnsName("edge.mesh.test".try_into().unwrap());
    assert!(judge(vec![dns(), uri(GATEWAY)]).is_ok());
    assert!(matches!(judge(vec![]), Err(Refusal::NoIdentity)));
    assert!(matches!(judge(vec![dns()]), Err(Refusal::NoIdentity)));
    assert!(matches!(
        judge(vec![uri(GATEWAY), uri("spiffe://mesh.test/gateway/other")]),
        Err(Refusal::SeveralIdentities { .. })
    ));
    assert!(matches!(
        judge(vec![uri(GATEWAY), uri(GATEWAY)]),
        Err(Refusal::SeveralIdentities { .. })
    ));
    assert!(matches!(
        judge(vec![uri("spiffe://other.test/gateway/edge")]),
        Err(Refusal::WrongTrustDomain { .. })
    ));
    for odd in [
        "https://mesh.test/gateway/edge",
        "spiffe://mesh.test/gateway/*",
        "spiffe://MESH.test/gateway/edge",
        "spiffe://mesh.test/gateway/e\0x",
    ] {
        assert!(
            matches!(judge(vec![uri(odd)]), Err(Refusal::InvalidIdentity { .. })),
            "{odd}"
        );
    }
}

#[test]
fn a_common_name_names_nobody_and_a_strange_critical_extension_is_refused() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let leaf = root.leaf(GATEWAY, &[ClientAuth], |params| {
        params.subject_alt_names.clear();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, GATEWAY);
    });
    assert_eq!(
        reason(judged(&set, &leaf, Purpose::Client)),
        Err("identity")
    );
    for critical in [false, true] {
        let leaf = root.leaf(GATEWAY, &[ClientAuth], |params| {
            let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
            extension.set_criticality(critical);
            params.custom_extensions.push(extension);
        });
        assert_eq!(
            reason(judged(&set, &leaf, Purpose::Client)).err(),
            critical.then_some("constraint")
        );
    }
    let long = root.leaf(GATEWAY, &[ClientAuth], |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x7f; 21]))
    });
    assert!(judged(&set, &long, Purpose::Client).is_err());
    let longest = root.leaf(GATEWAY, &[ClientAuth], |params| {
        params.serial_number = Some(SerialNumber::from_slice(&[0x7f; 20]))
    });
    assert!(judged(&set, &longest, Purpose::Client).is_ok());
}

#[test]
fn whatever_the_bytes_judging_never_panics() {
    let root = Ca::root("r");
    let set = set(&root, &root.pem, Some(&root.crl(1, &[])));
    let good = root.gateway().chain[0].to_vec();
    // Every byte of a good certificate turned once: all must be refused, since the signature covers
    // them.
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x41;
        assert!(
            judged_at(&set, &[bad.into()], Purpose::Client, now()).is_err(),
            "{at}"
        );
    }
}

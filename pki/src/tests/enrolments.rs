//! Leaves over the network: many in one change, and what a death or a full disk in the middle of
//! one leaves behind.

use std::time::Duration;

use gapura_enrol::refusal::{Code, Refused};
use gapura_enrol::token::JoinToken;
use gapura_protocol::identity::{PeerId, Role};
use rcgen::{KeyPair, PublicKeyData};

use super::Bench;
use super::faults::{Fault, Plan};
use crate::enrol::{Ask, Granted, Herald, JoinRequest, Registrar, Said, hosts};
use crate::keys::sha256_hex;
use crate::revoke::RevokeRequest;
use crate::{csr, keys, pem};

const DAY: Duration = Duration::from_secs(86_400);

fn registrar(bench: &Bench) -> Registrar {
    Registrar::new(bench.pki(), DAY).unwrap()
}

fn token(bench: &Bench, name: &str) -> JoinToken {
    let request = JoinRequest {
        role: Role::Plugin,
        name: name.parse().unwrap(),
        dns: Vec::new(),
        ttl: Duration::from_secs(3600),
        url: None,
    };
    bench.pki().make_join(&request).unwrap()
}

fn id(name: &str) -> PeerId {
    format!("spiffe://mylab.internal/plugin/{name}")
        .parse()
        .unwrap()
}

fn request(name: &str, key: &KeyPair) -> Vec<u8> {
    let text = csr::make(&id(name), key).unwrap();
    pem::blocks(text.as_bytes()).unwrap().remove(0).der
}

fn join(token: &JoinToken, key: &KeyPair) -> Ask {
    Ask::Join {
        role: token.role,
        name: token.name.clone(),
        secret_sha256: token.secret.sha256(),
        csr: request(token.name.as_str(), key),
    }
}

fn renew(granted: &Granted, key: &KeyPair) -> Ask {
    Ask::Renew {
        id: granted.id.clone(),
        serial: granted.serial.clone(),
        csr: request(granted.id.name().as_str(), key),
    }
}

fn one(registrar: &mut Registrar, ask: Ask) -> Result<Granted, Refused> {
    registrar.answer(&[ask]).unwrap().remove(0)
}

fn code(answer: &Result<Granted, Refused>) -> Option<Code> {
    answer.as_ref().err().map(|refused| refused.code)
}

#[test]
fn many_in_one_change_are_each_answered_for_themselves() {
    let bench = Bench::with_leaves(|_| {});
    let (a, b) = (token(&bench, "a"), token(&bench, "b"));
    let keys: Vec<KeyPair> = (0..3).map(|_| keys::generate().unwrap()).collect();
    let mut registrar = registrar(&bench);
    let stranger = Ask::Join {
        role: Role::Plugin,
        name: "a".parse().unwrap(),
        secret_sha256: [0; 32],
        csr: request("a", &keys[0]),
    };
    let lines = bench.pki().inventory_head().unwrap().0;
    let asks = [
        join(&a, &keys[0]),
        join(&a, &keys[1]), // the token is used up by the one before
        join(&a, &keys[0]), // the same host, impatient
        join(&b, &keys[2]),
        stranger,
    ];
    let answers = registrar.answer(&asks).unwrap();
    let codes: Vec<Option<Code>> = answers.iter().map(code).collect();
    let wanted = [
        None,
        Some(Code::TokenUsed),
        None,
        None,
        Some(Code::TokenUnknown),
    ];
    assert_eq!(codes, wanted);
    let serial = |at: usize| answers[at].as_ref().unwrap().serial.clone();
    assert_eq!(serial(0), serial(2));
    // Two leaves, and behind each the token that it was issued for.
    assert_eq!(bench.pki().inventory_head().unwrap().0, lines + 4);
    // After the change the same answers, and the same certificate.
    let again = one(&mut registrar, join(&a, &keys[0])).unwrap();
    assert!(again.again);
    assert_eq!(again.chain, answers[0].as_ref().unwrap().chain);
    assert_eq!(
        code(&one(&mut registrar, join(&a, &keys[1]))),
        Some(Code::TokenUsed)
    );
    // A key that is another identity's by this very change is named.
    let c = token(&bench, "c");
    assert_eq!(
        code(&one(&mut registrar, join(&c, &keys[2]))),
        Some(Code::KeyTaken)
    );
    bench.is_content("enrolments");
}

#[test]
fn what_is_done_by_hand_meanwhile_counts_at_once() {
    let bench = Bench::with_leaves(|_| {});
    let mut registrar = registrar(&bench);
    let token = token(&bench, "a"); // made after the registrar had read everything
    let key = keys::generate().unwrap();
    let granted = one(&mut registrar, join(&token, &key)).unwrap();
    let next = keys::generate().unwrap();
    let renewed = one(&mut registrar, renew(&granted, &next)).unwrap();
    bench
        .pki()
        .revoke(
            &RevokeRequest::Name("plugin/a".parse().unwrap()),
            crate::Reason::KeyCompromise,
        )
        .unwrap();
    assert_eq!(
        code(&one(&mut registrar, renew(&renewed, &next))),
        Some(Code::Revoked)
    );
    // The issuing CA is another, and the registrar signs with it.
    let lab = self::token(&bench, "new");
    let mut rotate = crate::RotateRequest::next(crate::ledger::AuthorityKind::Issuer);
    rotate.settle = Duration::ZERO;
    for _ in 0..2 {
        bench.pki().rotate(&rotate).unwrap();
    }
    let third = keys::generate().unwrap();
    let granted = one(&mut registrar, join(&lab, &third)).unwrap();
    let ledger = bench.pki().ledger().unwrap();
    assert_eq!(ledger.leaf(&granted.serial).unwrap().issuer, "iss-g1-002");
}

#[test]
fn two_keys_for_one_leaf_are_a_copy_and_one_key_twice_is_not() {
    let bench = Bench::with_leaves(|_| {});
    let mut registrar = registrar(&bench);
    let none: [String; 0] = [];
    let granted = one(
        &mut registrar,
        join(&token(&bench, "a"), &keys::generate().unwrap()),
    )
    .unwrap();
    let mine = keys::generate().unwrap();
    for _ in 0..2 {
        one(&mut registrar, renew(&granted, &mine)).unwrap();
    }
    assert!(registrar.copied(none.iter()).unwrap().0.is_empty());
    one(&mut registrar, renew(&granted, &keys::generate().unwrap())).unwrap();
    let (copied, _) = registrar.copied(none.iter()).unwrap();
    assert_eq!(copied.len(), 1);
    assert_eq!(
        (copied[0].label.as_str(), &copied[0].renewed),
        ("plugin/a", &granted.serial)
    );
    assert_eq!(copied[0].serials.len(), 3);
}

/// At whatever step the program dies or the disk is full: a leaf that left is in the inventory with
/// its token used up, or neither is, and the same host gets its certificate by asking once more.
#[test]
fn a_death_or_a_full_disk_at_any_step_loses_nothing() {
    for fault in [Fault::Dies, Fault::Full] {
        let bench = Bench::with_leaves(|_| {});
        let token = token(&bench, "a");
        let key = keys::generate().unwrap();
        bench.save();
        let mut step = 0;
        loop {
            bench.put_back();
            let mut registrar = registrar(&bench);
            let plan = Plan::new(&bench.live(), fault, step);
            let answered = registrar.answer(&[join(&token, &key)]);
            let came_through = answered.as_ref().is_ok_and(|answers| answers[0].is_ok());
            drop(plan);
            let ledger = bench.pki().ledger().unwrap();
            let used = ledger
                .joins()
                .all()
                .iter()
                .filter(|(_, state)| *state != crate::ledger::JoinState::Open);
            let leaves = ledger.leaves().iter().filter(|leaf| leaf.is_enrolled());
            let (used, leaves) = (used.count(), leaves.count());
            assert_eq!(used, leaves, "{fault:?} at {step}");
            assert!(
                !came_through || leaves == 1,
                "{fault:?} at {step}: it left unwritten"
            );
            let mut next = self::registrar(&bench);
            let granted = one(&mut next, join(&token, &key)).unwrap();
            let ledger = bench.pki().ledger().unwrap();
            let leaf = ledger.leaf(&granted.serial).unwrap();
            assert_eq!(leaf.key, sha256_hex(&key.subject_public_key_info()));
            bench.is_content("a fault");
            if came_through {
                break;
            }
            step += 1;
        }
        assert!(step >= 2, "{fault:?}: only {step} steps were tried");
    }
}

#[test]
fn news_is_looked_for_and_told_once() {
    let bench = Bench::with_leaves(|_| {});
    let mut herald = Herald::new(bench.pki());
    let (first, certificates) = herald.look().unwrap().unwrap();
    assert_eq!(certificates.len(), 2);
    bench.pki().crl_refresh().unwrap();
    let (next, _) = herald.look().unwrap().unwrap();
    // Within one second a CRL may be the same but for its number.
    assert_ne!(first.generation, next.generation);
    let bundle = bench.pki().bundle().unwrap();
    assert_eq!(
        (next.roots.starts_with(&bundle.ca), &next.crls),
        (true, &bundle.crl)
    );
}

/// A host shows another certificate after each renewal, and what it said with the one before is
/// old: taken for what it holds, a rotation would wait for a host that has everything.
#[test]
fn a_host_holds_what_it_said_last_by_whichever_certificate() {
    let bench = Bench::with_leaves(|_| {});
    let mut registrar = registrar(&bench);
    let key = keys::generate().unwrap();
    let mut granted = one(&mut registrar, join(&token(&bench, "a"), &key)).unwrap();
    let mut herald = Herald::new(bench.pki());
    let said = |serial: &str, generation: usize| Said {
        serial: serial.to_owned(),
        generation: format!("{generation:064x}"),
        at: 1_000,
    };
    // Ten, since an order by serials or by chance would be right now and then.
    for generation in 1..=10 {
        let before = granted.serial.clone();
        granted = one(&mut registrar, renew(&granted, &keys::generate().unwrap())).unwrap();
        let _ = herald.look().unwrap();
        let both = [
            said(&before, generation - 1),
            said(&granted.serial, generation),
        ];
        herald.keep(&both).unwrap();
        let hosts = hosts(bench.pki().dir());
        let held: Vec<&str> = hosts.values().map(|host| &*host.generation).collect();
        assert_eq!(held, [format!("{generation:064x}")]);
    }
    // Nobody said anything anew.
    herald.keep(&[]).unwrap();
    assert_eq!(hosts(bench.pki().dir()).len(), 1);
}

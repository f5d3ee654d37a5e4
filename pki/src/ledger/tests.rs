use super::*;

fn leaf(name: &str, serial: &str, out: &str) -> Leaf {
    Leaf {
        role: Role::Plugin,
        name: name.parse().unwrap(),
        serial: serial.to_owned(),
        issuer: "iss-g1-001".to_owned(),
        not_before: Timestamp(0),
        not_after: Timestamp(100),
        ttl: 100,
        dns: Vec::new(),
        key: String::new(),
        csr_key: None,
        fingerprint: String::new(),
        out: out.into(),
        renews: None,
    }
}

#[test]
fn the_newest_leaf_of_each_mesh_directory_is_in_use() {
    let mut ledger = Ledger::default();
    for one in [
        leaf("a", "1", "/x"),
        leaf("a", "2", "/x"),
        leaf("a", "3", "/y"),
        leaf("b", "4", "/z"),
    ] {
        ledger.apply(Event::Issued(one)).unwrap();
    }
    let serials: Vec<_> = ledger
        .in_use()
        .iter()
        .map(|leaf| leaf.serial.as_str())
        .collect();
    assert_eq!(serials, ["2", "3", "4"]);
}

#[test]
fn a_revocation_is_listed_until_nobody_can_use_the_certificate_and_no_agent_misses_it() {
    let listed_until = |revoked_at: u64, not_after: u64| {
        let mut ledger = Ledger::default();
        let revoked = Revoked {
            issuer: "i".to_owned(),
            serial: "1".to_owned(),
            revoked_at: Timestamp(revoked_at),
            reason: Reason::KeyCompromise,
            not_after: Timestamp(not_after),
            key: None,
        };
        ledger.apply(Event::Revoked(revoked)).unwrap();
        assert!(ledger.revoked_by("other", Timestamp(0)).is_empty());
        move |until: u64| {
            let at = |now| ledger.revoked_by("i", Timestamp(now)).len();
            assert_eq!((at(until - 1), at(until)), (1, 0));
        }
    };
    const DAY: u64 = 86_400;
    // A leaf of an hour, and an issuing CA of two years.
    listed_until(1000, 4600)(1000 + 91 * DAY);
    listed_until(1000, 700 * DAY)(701 * DAY);
}

#[test]
fn what_is_forgotten_counts_again_once_it_is_issued_anew() {
    let mut ledger = Ledger::default();
    for one in [leaf("a", "1", "/x"), leaf("a", "2", "/y")] {
        ledger.apply(Event::Issued(one)).unwrap();
    }
    let forget = |out: Option<&str>| {
        Event::Forgotten(Forgotten {
            role: Role::Plugin,
            name: "a".parse().unwrap(),
            out: out.map(PathBuf::from),
            reason: "scrapped".to_owned(),
        })
    };
    let serials = |ledger: &Ledger| {
        let used = ledger.in_use();
        used.iter()
            .map(|leaf| leaf.serial.clone())
            .collect::<Vec<_>>()
    };
    ledger.apply(forget(Some("/x"))).unwrap();
    assert_eq!(serials(&ledger), ["2"]);
    ledger.apply(forget(None)).unwrap();
    assert!(serials(&ledger).is_empty() && ledger.by_directory().is_empty());
    assert!(ledger.leaf("1").is_some(), "it can still be revoked");
    ledger
        .apply(Event::LeafAdopted(leaf("a", "3", "/x")))
        .unwrap();
    assert_eq!(serials(&ledger), ["3"]);
}

#[test]
fn an_inventory_line_of_before_there_were_keys_in_revocations_is_read() {
    let line = r#"{"event":"revoked","issuer":"i","serial":"1","revoked_at":"1970-01-01T00:00:05Z","reason":"key-compromise","not_after":"1970-01-02T00:00:00Z"}"#;
    let Event::Revoked(revoked) = serde_json::from_str(line).unwrap() else {
        panic!("another event");
    };
    assert_eq!(revoked.key, None);
    assert!(!serde_json::to_string(&revoked).unwrap().contains("key\":"));
}

#[test]
fn a_reason_is_read_in_either_spelling() {
    for (text, reason) in [
        ("key-compromise", Reason::KeyCompromise),
        ("keyCompromise", Reason::KeyCompromise),
        ("cACompromise", Reason::CaCompromise),
        ("cessationOfOperation", Reason::Cessation),
        ("unspecified", Reason::Unspecified),
    ] {
        assert_eq!(text.parse::<Reason>(), Ok(reason));
    }
    assert!("boredom".parse::<Reason>().is_err() && "".parse::<Reason>().is_err());
}

#[test]
fn a_crl_number_never_goes_back() {
    let mut ledger = Ledger::default();
    let crl = |number| Crl {
        issuer: "i".to_owned(),
        number,
        made_at: Timestamp(0),
        this_update: Timestamp(0),
        next_update: Timestamp(9),
        entries: 0,
    };
    ledger.apply(Event::Crl(crl(7))).unwrap();
    assert!(ledger.apply(Event::Crl(crl(7))).is_err());
    assert!(ledger.apply(Event::Crl(crl(8))).is_ok());
}

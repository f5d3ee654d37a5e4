//! Each rule takes what is right and refuses what is not.

use super::*;
use crate::prove::answer::Answer;

fn answered(status: u16) -> Outcome {
    Outcome {
        answers: vec![Answer {
            status,
            ..Answer::default()
        }],
        ..Outcome::default()
    }
}

fn shot() -> Shot {
    Shot {
        mark: "pv0-1".to_owned(),
        ..Shot::default()
    }
}

fn base() -> Baseline {
    let seen = seen(&[("X-User-Id", "7"), ("X-Company-Id", "42")]);
    Baseline {
        plugin: true,
        identity: identity_of(&seen),
        prefix: "/".to_owned(),
        ..Baseline::default()
    }
}

fn seen(headers: &[(&str, &str)]) -> Seen {
    Seen {
        mark: "pv0-1".to_owned(),
        target: "/pv0-1".to_owned(),
        headers: headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
        complete: true,
        ..Seen::default()
    }
}

fn good() -> Seen {
    seen(&[("X-User-Id", "7"), ("X-Company-Id", "42"), ("Host", "a")])
}

#[track_caller]
fn assert_verdict(expect: Expect, outcome: &Outcome, all: &[Seen], verdict: Verdict) {
    let finding = judge(expect, &shot(), outcome, all, &base());
    assert_eq!(finding.verdict, verdict, "{expect:?}: {finding:?}");
}

#[test]
fn what_passes_must_say_what_the_token_says() {
    use Verdict::{Held, NotHeld};
    let ok = answered(200);
    assert_verdict(Expect::Clean, &ok, &[good()], Held);
    assert_verdict(Expect::Clean, &answered(400), &[], Held);
    for bad in [
        &[
            ("X-User-Id", "7"),
            ("X-Company-Id", "42"),
            ("X_Role", "admin"),
        ][..],
        &[
            ("X-User-Id", "7"),
            ("X-Company-Id", "42"),
            ("X_Company_Id", "9"),
        ],
        &[("X-User-Id", "7")],
        &[
            ("X-User-Id", "7"),
            ("X-Company-Id", "42"),
            ("Forwarded", "for=spoofed"),
        ],
    ] {
        assert_verdict(Expect::Clean, &ok, &[seen(bad)], NotHeld);
        assert_verdict(Expect::EachItsOwn, &ok, &[seen(bad)], NotHeld);
    }
    let trailers = Seen {
        trailers: vec![("X-Role".to_owned(), "x".to_owned())],
        ..good()
    };
    assert_verdict(Expect::Clean, &ok, &[trailers], NotHeld);
    let mixed = Seen {
        mark: "pv0-1o".to_owned(),
        ..seen(&[("X-User-Id", "8"), ("X-Company-Id", "42")])
    };
    assert_verdict(Expect::EachItsOwn, &ok, &[good(), mixed], NotHeld);
}

#[test]
fn what_must_be_refused_must_not_arrive() {
    use Verdict::{CannotTell, Held, NotHeld};
    assert_verdict(Expect::Refused, &answered(401), &[], Held);
    assert_verdict(Expect::Refused, &answered(200), &[good()], NotHeld);
    assert_verdict(
        Expect::Refused,
        &answered(400),
        &[Seen {
            complete: false,
            ..good()
        }],
        Held,
    );
    assert_verdict(Expect::Refused, &answered(200), &[], CannotTell);
    assert_verdict(Expect::Refused, &answered(429), &[], CannotTell);
    let tunnel = Shot {
        tunnel: true,
        ..shot()
    };
    assert_eq!(
        judge(Expect::Refused, &tunnel, &answered(200), &[], &base()).verdict,
        NotHeld
    );
}

#[test]
fn a_path_has_one_form_or_does_not_arrive() {
    let at = |target: &str| Seen {
        target: target.to_owned(),
        ..good()
    };
    for target in [
        "/pv0-1",
        "/a/pv0-1?x=/../%2f",
        "/a/%252e%252e/pv0-1",
        "/caf%C3%A9/..a/pv0-1",
    ] {
        assert_verdict(
            Expect::OneForm,
            &answered(200),
            &[at(target)],
            Verdict::Held,
        );
    }
    for target in [
        "/a/../pv0-1",
        "/a/%2E%2e/x",
        "/./x",
        "/a%2fx",
        "/a%5Cx",
        "/a\\x",
        "/a;x/y",
        "/a/..;/x",
        "/a%00",
        "/a#x",
        "/??/x",
        "/%zz/x",
        "/a%",
    ] {
        assert_verdict(
            Expect::OneForm,
            &answered(200),
            &[at(target)],
            Verdict::NotHeld,
        );
    }
    let shot = Shot {
        tail: Some("/a/pv0-1".to_owned()),
        ..shot()
    };
    let verdict = |target: &str| {
        judge(
            Expect::SamePath,
            &shot,
            &answered(200),
            &[at(target)],
            &base(),
        )
        .verdict
    };
    assert_eq!(verdict("/a/pv0-1"), Verdict::Held);
    assert_eq!(verdict("/%61/pv0-1"), Verdict::Held);
    assert_eq!(verdict("/e/a/pv0-1"), Verdict::NotHeld);
}

#[test]
fn one_message_is_one_request() {
    use Verdict::{Held, NotHeld};
    assert_verdict(Expect::Once, &answered(200), &[good()], Held);
    assert_verdict(Expect::Once, &Outcome::default(), &[], Held);
    let cut = Seen {
        complete: false,
        ..good()
    };
    assert_eq!(
        judge(Expect::Once, &shot(), &answered(400), &[cut], &base()).seen,
        "cut off, 400"
    );
    assert_verdict(Expect::Once, &answered(200), &[good(), good()], NotHeld);
    assert_verdict(
        Expect::Once,
        &answered(200),
        &[Seen {
            mark: "pv0-1s".to_owned(),
            ..good()
        }],
        NotHeld,
    );
    assert_verdict(
        Expect::Once,
        &answered(200),
        &[Seen {
            framing: Framing::Both,
            ..good()
        }],
        NotHeld,
    );
    let untrue = Shot {
        untrue: true,
        ..shot()
    };
    assert_eq!(
        judge(Expect::Once, &untrue, &answered(200), &[good()], &base()).verdict,
        NotHeld
    );
}

#[test]
fn nothing_is_switched_and_nothing_internal_comes_back() {
    use Verdict::{Held, NotHeld};
    assert_verdict(Expect::NoSwitch, &answered(200), &[good()], Held);
    assert_verdict(Expect::NoSwitch, &answered(101), &[], NotHeld);
    assert_verdict(
        Expect::NoSwitch,
        &answered(200),
        &[seen(&[("Upgrade", "h2c")])],
        NotHeld,
    );
    let mut leaking = answered(200);
    assert_verdict(Expect::CleanAnswer, &leaking, &[good()], Held);
    leaking.answers[0]
        .headers
        .push(("X-Company-Id".to_owned(), CANARY.to_owned()));
    assert_verdict(Expect::CleanAnswer, &leaking, &[good()], NotHeld);
}

#[test]
fn what_nobody_saw_is_neither_praised_nor_blamed() {
    use Verdict::{CannotTell, Held, NotHeld};
    let blind = Baseline {
        plugin: false,
        ..base()
    };
    let told = |expect, outcome: &Outcome| judge(expect, &shot(), outcome, &[], &blind).verdict;
    assert_eq!(told(Expect::Clean, &answered(200)), CannotTell);
    assert_eq!(told(Expect::Clean, &answered(400)), Held);
    assert_eq!(told(Expect::Once, &Outcome::default()), CannotTell);
    assert_eq!(told(Expect::Refused, &answered(404)), CannotTell);
    let tunnel = Shot {
        tunnel: true,
        ..shot()
    };
    assert_eq!(
        judge(Expect::Refused, &tunnel, &answered(200), &[], &blind).verdict,
        NotHeld
    );
    let without = Baseline {
        http2: Some("no HTTP/2".to_owned()),
        ..base()
    };
    let over = Shot {
        over: crate::prove::fill::Over(Protocol::Http2),
        ..shot()
    };
    assert_eq!(
        judge(Expect::Clean, &over, &answered(200), &[good()], &without).verdict,
        CannotTell
    );
    let lacking = Shot {
        lacks: Some("takes --token-key"),
        ..shot()
    };
    assert_eq!(
        judge(Expect::Refused, &lacking, &answered(401), &[], &base()).seen,
        "takes --token-key"
    );
}

use super::*;
use serde_json::{Value, json};

const NOW: u64 = 1_700_000_000;

fn judge_with(
    names: &ClaimNames,
    issuer: Option<&str>,
    audience: &[&str],
    claims: &Value,
) -> Result<VerifiedCaller, Error> {
    let audience: Vec<String> = audience.iter().map(|text| (*text).to_owned()).collect();
    let text = claims.to_string();
    let issuer = issuer.map(|name| name.parse::<IssuerName>().unwrap());
    Rules {
        issuer: issuer.as_ref(),
        audience: &audience,
        claims: names,
        speaks_for: &SpeaksFor::Any,
        leeway: 30,
        longest_life: None,
    }
    .judge(&Json::parse(text.as_bytes()).unwrap(), NOW)
}

/// A good set of claims with some of them changed; `null` in a change is kept as `null`.
fn judge(changes: Value) -> Result<VerifiedCaller, Error> {
    judge_with(&ClaimNames::default(), None, &[], &good(changes))
}

fn good(changes: Value) -> Value {
    let mut claims = json!({"exp": NOW + 60, "user_id": 7, "company_id": 4, "role": "admin"});
    claims
        .as_object_mut()
        .unwrap()
        .extend(changes.as_object().unwrap().clone());
    claims
}

fn without(name: &str) -> Result<VerifiedCaller, Error> {
    let mut claims = good(json!({}));
    claims.as_object_mut().unwrap().remove(name);
    judge_with(&ClaimNames::default(), None, &[], &claims)
}

#[test]
fn good_claims_make_a_caller() {
    let caller = judge(json!({})).unwrap();
    assert_eq!(
        (caller.user().as_str(), caller.tenant().as_str()),
        ("7", "4")
    );
    assert_eq!(caller.roles().map(Roles::as_str), Some("admin"));
    assert_eq!(caller.expires(), NOW + 90);
}

#[test]
fn exp_is_required_and_a_time() {
    assert_eq!(without("exp").unwrap_err(), Reason::Expiry.into());
    for bad in [
        json!("1800000000"),
        json!(null),
        json!(-1),
        json!(1e300),
        json!(true),
        json!([NOW + 9]),
        json!(LAST_SECOND + 1),
        json!(u64::MAX),
    ] {
        assert_eq!(
            judge(json!({ "exp": bad })).unwrap_err(),
            Reason::Expiry.into(),
            "{bad}"
        );
    }
    for good in [
        json!(NOW + 1),
        json!(1_800_000_000.5),
        json!(1.8e9),
        json!(LAST_SECOND),
    ] {
        assert!(judge(json!({ "exp": good })).is_ok(), "{good}");
    }
}

#[test]
fn time_is_judged_with_the_leeway_both_ways() {
    assert!(judge(json!({ "exp": NOW - 29 })).is_ok());
    for past in [
        json!(NOW - 30),
        json!(NOW - 31),
        json!(0),
        json!(-0.0),
        json!(1.5),
    ] {
        assert_eq!(
            judge(json!({ "exp": past })).unwrap_err(),
            Error::TokenExpired,
            "{past}"
        );
    }
    for past in [
        json!(NOW + 30),
        json!(NOW),
        json!(0),
        json!(1.5),
        json!(1_700_000_029.5),
    ] {
        assert!(judge(json!({ "nbf": past })).is_ok(), "{past}");
    }
    for future in [json!(NOW + 31), json!(1_700_000_030.5), json!(LAST_SECOND)] {
        assert_eq!(
            judge(json!({ "nbf": future })).unwrap_err(),
            Reason::NotYetValid.into(),
            "{future}"
        );
    }
    for bad in [json!("0"), json!(null), json!(-1), json!(1e300)] {
        assert_eq!(
            judge(json!({ "nbf": bad })).unwrap_err(),
            Reason::NotBefore.into(),
            "{bad}"
        );
    }
    assert!(judge(json!({ "iat": NOW + 3600 })).is_ok());
}

#[test]
fn a_configured_issuer_must_be_present_and_the_same() {
    let names = ClaimNames::default();
    let iss = |iss: Value| {
        judge_with(
            &names,
            Some("https://id/"),
            &[],
            &good(json!({ "iss": iss })),
        )
        .map(drop)
    };
    assert_eq!(iss(json!("https://id/")), Ok(()));
    for bad in [
        json!("https://id"),
        json!("HTTPS://id/"),
        json!(["https://id/"]),
        json!(null),
        json!(""),
    ] {
        assert_eq!(iss(bad.clone()), Err(Reason::Issuer.into()), "{bad}");
    }
    assert_eq!(
        judge_with(&names, Some("https://id/"), &[], &good(json!({}))).unwrap_err(),
        Reason::Issuer.into()
    );
    assert!(judge_with(&names, None, &[], &good(json!({"iss": 1}))).is_ok());
}

#[test]
fn a_configured_audience_must_be_present_and_named() {
    let names = ClaimNames::default();
    let aud = |aud: Value| {
        judge_with(&names, None, &["api", "api2"], &good(json!({ "aud": aud }))).map(drop)
    };
    for good in [json!("api"), json!("api2"), json!(["other", "api"])] {
        assert_eq!(aud(good.clone()), Ok(()), "{good}");
    }
    for bad in [
        json!("API"),
        json!("other"),
        json!([]),
        json!(["other"]),
        json!(["api", 1]),
        json!(null),
        json!({"api": 1}),
        json!([["api"]]),
    ] {
        assert_eq!(aud(bad.clone()), Err(Reason::Audience.into()), "{bad}");
    }
    assert_eq!(
        judge_with(&names, None, &["api"], &good(json!({}))).unwrap_err(),
        Reason::Audience.into()
    );
    assert!(judge(json!({"aud": "other"})).is_ok());
}

#[test]
fn the_user_is_user_id_or_sub_where_there_is_none() {
    let user = |changes: Value| judge(changes).map(|caller| caller.user().as_str().to_owned());
    assert_eq!(
        user(json!({"user_id": "auth0|7", "sub": "x"})).unwrap(),
        "auth0|7"
    );
    assert_eq!(
        user(json!({"user_id": u64::MAX})).unwrap(),
        "18446744073709551615"
    );
    for bad in [
        json!(0),
        json!(-1),
        json!(1.0),
        json!(null),
        json!(""),
        json!("a b"),
        json!(
            "a
X-Role: admin"
        ),
        json!([7]),
        json!(true),
    ] {
        assert_eq!(
            user(json!({ "user_id": bad, "sub": "x" })).unwrap_err(),
            Reason::User.into(),
            "{bad}"
        );
    }
    assert_eq!(without("user_id").unwrap_err(), Reason::User.into());
    let sub = json!({"exp": NOW + 60, "sub": "x", "company_id": 4});
    assert_eq!(
        judge_with(&ClaimNames::default(), None, &[], &sub)
            .unwrap()
            .user()
            .as_str(),
        "x"
    );
}

#[test]
fn a_tenant_is_given_missing_or_wrong() {
    let tenant = |value: Value| {
        judge(json!({ "company_id": value })).map(|caller| caller.tenant().as_str().to_owned())
    };
    for (value, text) in [
        (json!(4), "4"),
        (json!("acme.eu"), "acme.eu"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!("04"), "04"),
    ] {
        assert_eq!(tenant(value).as_deref(), Ok(text));
    }
    assert_eq!(without("company_id").unwrap_err(), Error::TenantMissing);
    for none in [json!(null), json!(""), json!(0), json!("0")] {
        assert_eq!(tenant(none.clone()), Err(Error::TenantMissing), "{none}");
    }
    for bad in [
        json!(-4),
        json!(4.0),
        json!(4.5),
        json!(1e20),
        json!(" 4"),
        json!(
            "4
"
        ),
        json!("a,b"),
        json!([4]),
        json!({}),
        json!(false),
    ] {
        assert_eq!(tenant(bad.clone()), Err(Reason::Tenant.into()), "{bad}");
    }
    assert_eq!(
        judge(json!({"company_id": "a".repeat(129)})).unwrap_err(),
        Reason::Tenant.into()
    );
}

#[test]
fn a_role_is_a_text_or_a_list_or_none() {
    let role = |value: Value| {
        judge(json!({ "role": value }))
            .map(|caller| caller.roles().map(|roles| roles.as_str().to_owned()))
    };
    assert_eq!(
        role(json!(["admin", "lab manager"])),
        Ok(Some("admin,lab manager".to_owned()))
    );
    assert_eq!(without("role").unwrap().roles(), None);
    for none in [json!(null), json!(""), json!([])] {
        assert_eq!(role(none.clone()), Ok(None), "{none}");
    }
    for bad in [
        json!(1),
        json!([""]),
        json!(["a", 1]),
        json!(["a,b"]),
        json!(" a"),
        json!({"a": 1}),
        json!([["a"]]),
        json!(false),
        json!(
            "a
b"
        ),
    ] {
        assert_eq!(role(bad.clone()), Err(Reason::Role.into()), "{bad}");
    }
}

#[test]
fn the_worst_fault_is_told_first() {
    let names = ClaimNames::default();
    let told = |changes: Value| judge_with(&names, Some("i"), &[], &good(changes)).unwrap_err();
    assert_eq!(
        told(json!({"exp": 0, "company_id": null})),
        Reason::Issuer.into()
    );
    assert_eq!(
        told(json!({"iss": "i", "exp": 0, "user_id": 0, "company_id": null})),
        Error::TokenExpired
    );
    assert_eq!(
        told(json!({"iss": "i", "user_id": 0, "company_id": null})),
        Reason::User.into()
    );
    assert_eq!(
        told(json!({"iss": "i", "role": 1, "company_id": null})),
        Reason::Role.into()
    );
    assert_eq!(
        told(json!({"iss": "i", "company_id": null})),
        Error::TenantMissing
    );
}

#[test]
fn the_claims_can_be_named_otherwise() {
    let names = ClaimNames {
        user: Some("uid".parse().unwrap()),
        tenant: "/org/id".parse().unwrap(),
        role: "/realm_access/roles".parse().unwrap(),
    };
    let claims = json!({"exp": NOW + 60, "uid": "u", "sub": "s", "company_id": 9, "org": {"id": 4}, "realm_access": {"roles": ["a", "b"]}});
    let caller = judge_with(&names, None, &[], &claims).unwrap();
    assert_eq!(
        (caller.user().as_str(), caller.tenant().as_str()),
        ("u", "4")
    );
    assert_eq!(caller.roles().map(Roles::as_str), Some("a,b"));
    let other = json!({"exp": NOW + 60, "sub": "s", "user_id": 7, "org": {"id": 4}});
    assert_eq!(
        judge_with(&names, None, &[], &other).unwrap_err(),
        Reason::User.into()
    );
    let flat = json!({"exp": NOW + 60, "uid": "u", "org": "4", "company_id": 9});
    assert_eq!(
        judge_with(&names, None, &[], &flat).unwrap_err(),
        Error::TenantMissing
    );
}

#[test]
fn claims_are_an_object() {
    for other in [json!([]), json!(null), json!("x"), json!(1)] {
        assert_eq!(
            judge_with(&ClaimNames::default(), None, &[], &other).unwrap_err(),
            Reason::Malformed.into()
        );
    }
}

#[test]
fn who_acts_is_the_outermost_sub() {
    let actor = |act: Value| {
        judge(json!({ "act": act })).map(|caller| caller.actor().map(|id| id.as_str().to_owned()))
    };
    assert_eq!(judge(json!({})).unwrap().actor(), None);
    for (act, wanted) in [
        (json!({"sub": "support-1"}), "support-1"),
        (json!({"sub": 8}), "8"),
        (json!({"sub": "a", "act": {"sub": "b", "act": {}}}), "a"),
        (json!({"sub": "_x", "iss": "other"}), "_x"),
    ] {
        assert_eq!(
            actor(act.clone()).unwrap().as_deref(),
            Some(wanted),
            "{act}"
        );
    }
    for act in [
        json!(null),
        json!("a"),
        json!([]),
        json!({}),
        json!({"sub": ""}),
        json!({"sub": 0}),
        json!({"sub": "a b"}),
        json!({"sub": ["a"]}),
        json!({"act": {"sub": "a"}}),
    ] {
        assert_eq!(
            actor(act.clone()).unwrap_err(),
            Reason::Actor.into(),
            "{act}"
        );
    }
}

#[test]
fn a_bound_token_is_kept_for_the_one_who_proves_its_key() {
    let bound = judge(json!({"cnf": {"x5t#S256": "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"}}));
    let bound = bound.unwrap();
    assert_eq!(bound.proven_by(Some(&[7; 32])), Ok(()));
    assert_eq!(bound.proven_by(None), Err(Reason::BoundToken.into()));
    for cnf in [json!({}), json!({"jkt": "x"}), json!(null)] {
        let refused = judge(json!({ "cnf": cnf })).unwrap_err();
        assert_eq!(refused, Reason::BoundToken.into());
    }
}

#[test]
fn a_notice_is_no_access_token() {
    for events in [
        json!({}),
        json!(null),
        json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
    ] {
        let refused = judge(json!({ "events": events })).unwrap_err();
        assert_eq!(refused, Reason::Events.into());
    }
}

#[test]
fn an_issuer_speaks_for_its_own_companies_alone() {
    let id = |text: &str| TenantId::parse(text.as_bytes()).unwrap();
    let template: IssuerName = "https://l.test/{company_id}/v2".parse().unwrap();
    let verdict = |name: &IssuerName, speaks_for: &SpeaksFor, iss: &str, company: Value| {
        let claims = good(json!({"iss": iss, "company_id": company})).to_string();
        Rules {
            issuer: Some(name),
            audience: &[],
            claims: &ClaimNames::default(),
            speaks_for,
            leeway: 30,
            longest_life: None,
        }
        .judge(&Json::parse(claims.as_bytes()).unwrap(), NOW)
        .map(|caller| caller.tenant().as_str().to_owned())
    };
    let own = SpeaksFor::Only([id("42"), id("acme")].into());
    let plain: IssuerName = "https://l.test".parse().unwrap();
    assert_eq!(
        verdict(&plain, &own, "https://l.test", json!(42)).unwrap(),
        "42"
    );
    let theirs = verdict(&plain, &own, "https://l.test", json!("43"));
    assert_eq!(theirs.unwrap_err(), Reason::TenantNotIssuers.into());
    let in_template = |iss, company| verdict(&template, &own, iss, company);
    assert!(in_template("https://l.test/acme/v2", json!("acme")).is_ok());
    for (iss, company, wanted) in [
        (
            "https://l.test/acme/v2",
            json!(42),
            Error::from(Reason::TenantNotIssuers),
        ),
        (
            "https://l.test/evil/v2",
            json!("acme"),
            Reason::TenantNotIssuers.into(),
        ),
        (
            "https://l.test/evil/v2",
            json!("evil"),
            Reason::TenantNotIssuers.into(),
        ),
        (
            "https://l.test/ACME/v2",
            json!("acme"),
            Reason::TenantNotIssuers.into(),
        ),
        (
            "https://l.test/acme/v1",
            json!("acme"),
            Reason::Issuer.into(),
        ),
        ("https://l.test/acme/v2", json!(""), Error::TenantMissing),
    ] {
        assert_eq!(in_template(iss, company).unwrap_err(), wanted, "{iss}");
    }
}

//! Years in a moment: the library with a clock that is moved, as the daily timer and its absence
//! would have it.

use std::path::Path;
use std::time::Duration;

use gapura_pki::check::Level;
use gapura_pki::ledger::{AuthorityKind, AuthorityState};
use gapura_pki::{
    Error, IssueRequest, KeyProtection, Pki, RenewRequest, RevokeRequest, RotateRequest, Step,
    Target,
};
use gapura_protocol::clock::Clock;
use gapura_protocol::identity::Role;
use gapura_trust::set::{TrustOptions, TrustSet};
use tempfile::TempDir;

const DAY: i64 = 86_400;

struct Years {
    dir: TempDir,
    clock: Clock,
    pki: Pki,
}

impl Years {
    fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let pki = Pki::init(
            &dir.path().join("pki"),
            &"test.internal".parse().unwrap(),
            KeyProtection::Plaintext,
            &clock,
        )
        .unwrap();
        Self { dir, clock, pki }
    }

    fn after(&self, days: i64) {
        self.clock.shift(days * DAY);
    }

    fn issue(&self, role: Role, name: &str) -> gapura_pki::Issued {
        self.pki
            .issue(
                &IssueRequest::new(role, name.parse().unwrap())
                    .into_dir(self.dir.path().join(name)),
            )
            .unwrap()
    }

    fn due(&self) -> gapura_pki::Renewed {
        self.pki
            .renew(&RenewRequest {
                due_only: true,
                ..RenewRequest::default()
            })
            .unwrap()
    }

    /// What the program beside the mesh directory would say.
    fn set(&self, name: &str, role: Role) -> Result<TrustSet, String> {
        let options = TrustOptions {
            own_role: role,
            no_crl: false,
            clock: self.clock.clone(),
        };
        TrustSet::load(&self.dir.path().join(name), &options, None).map_err(|why| why.to_string())
    }

    fn accepts_itself(&self, name: &str, role: Role) -> bool {
        self.set(name, role)
            .unwrap()
            .own_refusal(self.clock.now())
            .is_none()
    }

    fn worst(&self) -> Option<Level> {
        self.pki.check(&[]).unwrap().worst()
    }
}

fn quick(kind: AuthorityKind) -> RotateRequest {
    RotateRequest {
        settle: Duration::ZERO,
        ..RotateRequest::next(kind)
    }
}

#[test]
fn with_the_timer_years_pass_without_a_warning() {
    let years = Years::new();
    years.issue(Role::Gateway, "edge");
    years.issue(Role::Plugin, "billing");
    // Every 18th day is just often enough; the root's own end is the operator's, from its last
    // third on.
    for day in (0..1500).step_by(18) {
        years.after(day);
        let done = years.due();
        assert!(done.failed.is_empty(), "day {day}: {:?}", done.failed);
        assert!(
            years.accepts_itself("edge", Role::Gateway)
                && years.accepts_itself("billing", Role::Plugin),
            "day {day}"
        );
        assert!(
            years.worst().is_none_or(|worst| worst == Level::Info),
            "day {day}: {:?}",
            years.pki.check(&[]).unwrap().findings
        );
    }
    let ledger = years.pki.ledger().unwrap();
    let issuers = ledger
        .authorities()
        .iter()
        .filter(|authority| authority.kind == AuthorityKind::Issuer)
        .count();
    assert!(issuers >= 3, "only {issuers} issuing CAs in four years");
    let longest = ledger
        .leaves()
        .iter()
        .all(|leaf| leaf.not_after <= ledger.authority(&leaf.issuer).unwrap().not_after);
    assert!(longest, "a leaf outlives its issuer");
    assert_eq!(
        std::fs::read_dir(years.dir.path().join("edge"))
            .unwrap()
            .filter(|entry| is_generation(&entry.as_ref().unwrap().path()))
            .count(),
        3
    );
}

fn is_generation(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.to_str().unwrap().starts_with("gen-"))
}

#[test]
fn only_what_is_due_is_renewed_and_check_warns_where_no_one_does() {
    let years = Years::new();
    years.issue(Role::Gateway, "edge");
    assert_eq!(years.worst(), Some(Level::Info));
    years.after(10);
    years.issue(Role::Plugin, "billing");
    years.after(19);
    let done = years.due();
    let renewed: Vec<String> = done
        .issued
        .iter()
        .map(|issued| issued.leaf.label())
        .collect();
    assert_eq!(
        renewed,
        ["gateway/edge"],
        "20 of 30 days of billing are left"
    );
    years.after(31); // 9 of billing's 30 days are left
    let findings = years.pki.check(&[]).unwrap().findings;
    let about = |id: &str| {
        findings
            .iter()
            .find(|finding| finding.id == id && finding.object.starts_with("plugin/billing"))
    };
    assert_eq!(about("LEAF_EXPIRY").unwrap().level, Level::Warning);
    years.after(38);
    assert_eq!(years.worst(), Some(Level::Critical));
    years.due();
    assert_eq!(years.worst(), Some(Level::Info));
}

#[test]
fn an_issue_never_hands_out_a_crl_that_is_about_to_end() {
    let years = Years::new();
    years.issue(Role::Gateway, "edge");
    years.after(40); // no timer ran: every CRL is long out of date
    years.issue(Role::Plugin, "billing");
    assert!(years.accepts_itself("billing", Role::Plugin));
    let findings = years.pki.check(&[]).unwrap().findings;
    assert!(
        !findings.iter().any(|finding| finding.id.contains("CRL")),
        "the other directory got them too: {findings:?}"
    );
}

#[test]
fn everything_has_ended_and_one_command_mends_it() {
    let years = Years::new();
    years.issue(Role::Gateway, "edge");
    years.issue(Role::Plugin, "billing");
    years.after(200); // leaves and CRLs are long gone
    assert!(!years.accepts_itself("edge", Role::Gateway));
    years.due();
    assert!(
        years.accepts_itself("edge", Role::Gateway)
            && years.accepts_itself("billing", Role::Plugin)
    );

    years.after(1000); // so is the issuing CA
    let refused = years
        .pki
        .issue(&IssueRequest::new(Role::Plugin, "x".parse().unwrap()))
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("iss-g1-001 ended at") && refused.contains("ca rotate issuer --emergency"),
        "{refused}"
    );
    let done = years.due();
    assert_eq!(
        done.issued.len(),
        2,
        "the timer makes a new issuing CA by itself: {:?}",
        done.issuing_ca
    );
    assert!(
        years.accepts_itself("edge", Role::Gateway)
            && years.accepts_itself("billing", Role::Plugin)
    );

    years.after(4000); // and the root
    let refused = years
        .pki
        .renew(&RenewRequest::default())
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("root-g1 ended") || refused.contains("ended at"),
        "{refused}"
    );
    assert!(refused.contains("ca rotate root --emergency"), "{refused}");
    let done = years
        .pki
        .rotate(&RotateRequest {
            emergency: true,
            ..quick(AuthorityKind::Root)
        })
        .unwrap();
    assert_eq!(done.issued.len(), 2);
    assert!(
        years.accepts_itself("edge", Role::Gateway)
            && years.accepts_itself("billing", Role::Plugin)
    );
    assert!(
        years.worst().is_none_or(|worst| worst == Level::Info),
        "{:?}",
        years.pki.check(&[]).unwrap().findings
    );
}

#[test]
fn a_clock_before_the_beginning_is_named() {
    let years = Years::new();
    years.after(-30);
    let refused = years
        .pki
        .issue(&IssueRequest::new(Role::Plugin, "x".parse().unwrap()))
        .unwrap_err();
    assert!(matches!(refused, Error::Refused(_)));
    let said = refused.to_string();
    assert!(
        said.contains("is valid from")
            && said.contains("this machine's clock says")
            && said.contains("set the clock"),
        "{said}"
    );
    assert!(
        years
            .pki
            .check(&[])
            .unwrap()
            .findings
            .iter()
            .any(|finding| finding.id == "CLOCK")
    );
    years.after(0);
    years.issue(Role::Plugin, "x");
}

#[test]
fn crl_numbers_rise_also_when_the_clock_goes_back() {
    let years = Years::new();
    years.issue(Role::Plugin, "a");
    let number = || {
        years
            .pki
            .ledger()
            .unwrap()
            .crl("iss-g1-001")
            .unwrap()
            .number
    };
    let first = number();
    years.after(2);
    years.pki.crl_refresh().unwrap();
    let second = number();
    years.after(0);
    years.pki.crl_refresh().unwrap();
    assert!(first < second && second < number());
    assert!(
        years.accepts_itself("a", Role::Plugin),
        "a CRL of the present is made"
    );
}

#[test]
fn a_step_out_of_turn_or_too_early_is_refused_with_who_is_in_the_way() {
    let years = Years::new();
    let step = |step| years.pki.rotate(&quick(AuthorityKind::Issuer).step(step));
    years.issue(Role::Gateway, "edge");
    let out_of_turn = step(Step::Activate).unwrap_err();
    assert_eq!(out_of_turn.exit_code(), 5);
    assert!(out_of_turn.to_string().contains("--step prepare"));
    step(Step::Prepare).unwrap();

    // Someone's directory went back to what it was before, as a restored disk would.
    let current = years.dir.path().join("edge/current");
    std::fs::remove_file(&current).unwrap();
    std::os::unix::fs::symlink("gen-000001", &current).unwrap();
    let behind = step(Step::Activate).unwrap_err().to_string();
    assert!(
        behind.contains("do not hold the new CRL")
            && behind.contains("gateway/edge")
            && behind.contains("crl refresh"),
        "{behind}"
    );
    years.pki.crl_refresh().unwrap();

    // And someone's can't be seen from here.
    let (home, away) = (years.dir.path().join("edge"), years.dir.path().join("away"));
    std::fs::rename(&home, &away).unwrap();
    let unseen = step(Step::Activate).unwrap_err().to_string();
    assert!(
        unseen.contains("can't be seen from here") && unseen.contains("--distributed"),
        "{unseen}"
    );
    std::fs::rename(&away, &home).unwrap();
    step(Step::Activate).unwrap();

    let needed = step(Step::Retire).unwrap_err().to_string();
    assert!(
        needed.contains("iss-g1-001 is still needed by 1 leaves: gateway/edge")
            && needed.contains("gapura-pki renew"),
        "{needed}"
    );
    years.due();
    step(Step::Retire).unwrap();
    assert_eq!(
        years
            .pki
            .ledger()
            .unwrap()
            .authority("iss-g1-001")
            .unwrap()
            .state,
        AuthorityState::Retired
    );
    assert!(years.accepts_itself("edge", Role::Gateway));
}

#[test]
fn a_new_issuers_crl_is_everywhere_before_it_signs() {
    let years = Years::new();
    years.issue(Role::Gateway, "edge");
    let crls = || {
        years.set("edge", Role::Gateway).unwrap().certificates()["crls"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(crls(), 2, "the issuing CA's and the root's");
    years.pki.rotate(&quick(AuthorityKind::Issuer)).unwrap();
    assert_eq!(crls(), 3);
    let ledger = years.pki.ledger().unwrap();
    assert_eq!(
        ledger
            .in_state(AuthorityKind::Issuer, AuthorityState::Active)
            .unwrap()
            .id,
        "iss-g1-001"
    );
    assert_eq!(
        ledger
            .in_state(AuthorityKind::Issuer, AuthorityState::Prepared)
            .unwrap()
            .id,
        "iss-g1-002"
    );
}

#[test]
fn a_tainted_issuers_leaves_are_refused_by_the_new_set() {
    let years = Years::new();
    years.issue(Role::Gateway, "edge");
    let stolen = years.issue(Role::Plugin, "billing");
    let old_chain = std::fs::read(years.dir.path().join("billing/cert.pem")).unwrap();
    years
        .pki
        .rotate(&RotateRequest {
            emergency: true,
            taint: true,
            ..quick(AuthorityKind::Issuer)
        })
        .unwrap();
    let chain: Vec<_> = rustls::pki_types::pem::PemObject::pem_slice_iter(&old_chain)
        .collect::<Result<_, _>>()
        .unwrap();
    let set = years.set("edge", Role::Gateway).unwrap();
    let judge = |chain: &[rustls::pki_types::CertificateDer<'_>]| {
        set.judge(
            chain,
            gapura_certificates::purpose::Purpose::Server,
            years.clock.now(),
        )
        .map_err(|why| why.reason())
    };
    assert!(
        matches!(judge(&chain), Err("revoked" | "no_crl")),
        "{:?}",
        judge(&chain)
    );
    assert_eq!(chain[0], stolen.certificate);
    let new_chain = std::fs::read(years.dir.path().join("billing/cert.pem")).unwrap();
    let new_chain: Vec<_> = rustls::pki_types::pem::PemObject::pem_slice_iter(&new_chain)
        .collect::<Result<_, _>>()
        .unwrap();
    assert!(judge(&new_chain).is_ok());
}

#[test]
fn a_name_that_was_renewed_is_revoked_with_all_its_serials() {
    let years = Years::new();
    years.issue(Role::Plugin, "billing");
    for _ in 0..3 {
        years
            .pki
            .renew(&RenewRequest {
                targets: vec!["billing".parse::<Target>().unwrap()],
                ..RenewRequest::default()
            })
            .unwrap();
    }
    let done = years
        .pki
        .revoke(
            &RevokeRequest::Name("plugin/billing".parse().unwrap()),
            gapura_pki::Reason::Cessation,
        )
        .unwrap();
    assert_eq!(done.revoked.len(), 4);
    assert_eq!(done.crls[0].entries, 4);
    let entries = || {
        years
            .pki
            .ledger()
            .unwrap()
            .crl("iss-g1-001")
            .unwrap()
            .entries
    };
    years.after(60);
    years.due();
    assert_eq!(entries(), 4, "for 91 days whoever was away can miss them");
    years.after(100);
    years.due();
    assert_eq!(entries(), 0, "what has ended leaves the list");
}

#[test]
fn an_offline_roots_key_is_asked_for_and_nothing_else_needs_it() {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
    let (home, stick) = (dir.path().join("pki"), dir.path().join("stick"));
    let settings = gapura_pki::settings::Settings::for_domain("test.internal".parse().unwrap());
    Pki::init_with(
        &home,
        settings,
        KeyProtection::Plaintext,
        (Some(stick.clone()), None),
        &clock,
    )
    .unwrap();
    assert!(
        stick.join("root-g1/key.pem").exists()
            && !home.join("authorities/root-g1/key.pem").exists()
    );
    let open = || Pki::open(&home, KeyProtection::Plaintext, &clock).unwrap();
    open()
        .issue(&IssueRequest::new(Role::Plugin, "a".parse().unwrap()))
        .unwrap();
    let done = open().crl_refresh().unwrap();
    assert_eq!(done.skipped, ["root-g1"]);
    let refused = open().rotate(&quick(AuthorityKind::Issuer)).unwrap_err();
    assert!(
        refused.exit_code() == 5 && refused.to_string().contains("--offline-root"),
        "{refused}"
    );
    clock.shift(250 * DAY);
    let due = open()
        .renew(&RenewRequest {
            due_only: true,
            ..RenewRequest::default()
        })
        .unwrap();
    assert_eq!(due.issued.len(), 1);
    let warned = open().check(&[]).unwrap();
    assert!(
        warned
            .findings
            .iter()
            .any(|finding| finding.id == "CRL_AGE" && finding.fix.contains("--offline-root")),
        "{:?}",
        warned.findings
    );
    open()
        .with_offline_root(Some(stick.clone()), None)
        .crl_refresh()
        .unwrap();
    assert!(
        open()
            .check(&[])
            .unwrap()
            .worst()
            .is_none_or(|worst| worst == Level::Info)
    );
    open()
        .with_offline_root(Some(stick), None)
        .rotate(&quick(AuthorityKind::Issuer))
        .unwrap();
}

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::authenticate::TokenFacts;
use gapura_telemetry::log::Log;

const KEEP: u64 = 3600;

struct Room {
    dir: tempfile::TempDir,
    clock: Clock,
    alarms: Alarms,
}

impl Room {
    fn new() -> Self {
        let clock = Clock::system();
        let log = Log::to("gateway", clock.clone(), Box::new(std::io::sink())).unwrap();
        Self {
            dir: tempfile::tempdir().unwrap(),
            clock,
            alarms: Alarms::new(log),
        }
    }

    fn try_open(&self) -> Result<Logouts, String> {
        let settings = LogoutsKept {
            keep: Duration::from_secs(KEEP),
            leeway: Duration::from_secs(30),
            state_dir: Some(self.dir.path().to_owned()),
        };
        Logouts::open(&settings, &self.clock, &self.alarms)
    }

    fn open(&self) -> Logouts {
        self.try_open().unwrap()
    }

    fn raised(&self) -> bool {
        self.alarms
            .raised()
            .iter()
            .any(|(name, _)| *name == "logouts")
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("logouts.jsonl")
    }
}

fn logout(id: &str, subject: Option<&str>, session: Option<&str>, at: u64) -> VerifiedLogout {
    let token = TokenFacts {
        issuer: Some("https://id".into()),
        id: Some(id.into()),
        subject: subject.map(Into::into),
        session: session.map(Into::into),
        issued_at: Some(at),
    };
    VerifiedLogout::for_test(token, at)
}

fn caller(issuer: &str, subject: &str, session: Option<&str>, at: Option<u64>) -> VerifiedCaller {
    VerifiedCaller::for_test("7", "42", &[]).with_token(TokenFacts {
        issuer: Some(issuer.into()),
        id: None,
        subject: Some(subject.into()),
        session: session.map(Into::into),
        issued_at: at,
    })
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn a_logout_names_its_session_or_its_user_until_then_and_nobody_else() {
    let room = Room::new();
    let (logouts, now) = (room.open(), room.clock.unix());
    logouts.take(&logout("1", Some("ann"), None, now)).unwrap();
    logouts.take(&logout("2", None, Some("s2"), now)).unwrap();
    for (who, is_named) in [
        (caller("https://id", "ann", None, Some(now)), true),
        (caller("https://id", "ann", Some("s9"), Some(now - 5)), true),
        (caller("https://id", "ann", None, None), true),
        (caller("https://id", "ann", None, Some(now + 1)), false),
        (caller("https://other", "ann", None, Some(now - 5)), false),
        (caller("https://id", "bob", None, Some(now - 5)), false),
        (caller("https://id", "bob", Some("s2"), Some(now + 9)), true),
        (caller("https://other", "bob", Some("s2"), None), false),
        (caller("https://id", "s2", Some("ann"), None), false),
    ] {
        assert_eq!(logouts.names(&who), is_named, "{:?}", who.token());
    }
}

#[test]
fn the_same_token_comes_once_over_a_restart_too() {
    let room = Room::new();
    let (logouts, now) = (room.open(), room.clock.unix());
    let first = logout("1", Some("ann"), None, now);
    logouts.take(&first).unwrap();
    assert_eq!(logouts.take(&first), Err(NotTaken::Replayed));
    drop(logouts);
    let logouts = room.open();
    assert!(logouts.names(&caller("https://id", "ann", None, Some(now))));
    assert_eq!(logouts.take(&first), Err(NotTaken::Replayed));
    assert_eq!(logouts.take(&logout("2", Some("ann"), None, now)), Ok(()));
    let mode = fs::metadata(room.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "users' names are nobody's business");
}

#[test]
fn what_counts_no_more_is_forgotten_and_makes_room() {
    let room = Room::new();
    let mut logouts = room.open();
    logouts.most = 2;
    let now = room.clock.unix();
    for id in ["1", "2"] {
        logouts.take(&logout(id, Some(id), None, now)).unwrap();
    }
    let third = logout("3", Some("3"), None, now);
    assert_eq!(logouts.take(&third), Err(NotTaken::Full));
    assert!(room.raised());
    assert!(!logouts.names(&caller("https://id", "3", None, Some(now))));
    let later = i64::try_from(KEEP + 31).unwrap();
    room.clock.shift(later);
    logouts.tidy();
    assert!(!room.raised(), "there is room again");
    assert!(!logouts.names(&caller("https://id", "1", None, Some(now))));
    let now = room.clock.unix();
    logouts.take(&logout("4", Some("4"), None, now)).unwrap();
    // Those of before are passed over at the next start.
    let logouts = room.open();
    assert!(!logouts.names(&caller("https://id", "1", None, None)));
    assert!(logouts.names(&caller("https://id", "4", None, None)));
}

#[test]
fn many_are_sorted_anew_and_none_is_lost() {
    let room = Room::new();
    let (logouts, now) = (room.open(), room.clock.unix());
    // Without a disk: what is tried here is the table.
    logouts.ledger().journal = None;
    let count = MOST_RECENT * 2 + 10;
    for at in 0..count {
        let name = at.to_string();
        logouts
            .take(&logout(&name, Some(&name), None, now))
            .unwrap();
    }
    for at in 0..count {
        let who = caller("https://id", &at.to_string(), None, Some(now));
        assert!(logouts.names(&who), "{at}");
    }
}

#[test]
fn a_line_that_was_cut_off_is_passed_over_and_anything_else_stops_a_start() {
    let room = Room::new();
    let (logouts, now) = (room.open(), room.clock.unix());
    logouts.take(&logout("1", Some("ann"), None, now)).unwrap();
    let good = fs::read_to_string(room.file()).unwrap();
    fs::write(room.file(), format!("{good}{{\"iss\":\"https://i")).unwrap();
    let logouts = room.open();
    assert!(logouts.names(&caller("https://id", "ann", None, None)));
    logouts.take(&logout("2", Some("bob"), None, now)).unwrap();
    assert_eq!(lines(&room.file()), 2);
    assert!(room.open().names(&caller("https://id", "bob", None, None)));
    fs::write(room.file(), format!("{{\"iss\":\"x\"}}\n{good}")).unwrap();
    let fault = room.try_open().map(drop).unwrap_err();
    assert!(
        fault.contains("logouts.jsonl:1") && fault.contains("remove it"),
        "{fault}"
    );
}

#[test]
fn what_cannot_be_written_counts_and_is_told() {
    let room = Room::new();
    let (logouts, now) = (room.open(), room.clock.unix());
    fs::create_dir(room.file()).unwrap();
    let first = logout("1", Some("ann"), None, now);
    assert_eq!(logouts.take(&first), Err(NotTaken::NotKept));
    assert!(room.raised());
    assert!(logouts.names(&caller("https://id", "ann", None, Some(now))));
    fs::remove_dir(room.file()).unwrap();
    assert_eq!(logouts.take(&first), Ok(()), "it is sent again");
    assert!(!room.raised());
    assert!(room.open().names(&caller("https://id", "ann", None, None)));
}

#[test]
fn the_journal_is_written_anew_when_most_of_it_is_old() {
    let room = Room::new();
    let journal = Journal::in_folder(room.dir.path());
    let line = |id: usize, until: u64| {
        format!("{{\"iss\":\"i\",\"jti\":\"{id}\",\"sub\":\"s\",\"iat\":1,\"until\":{until}}}\n")
    };
    let old: String = (0..10_002).map(|id| line(id, 5)).collect();
    fs::write(room.file(), old + &line(20_000, 50)).unwrap();
    journal.drop_old(10_000, 10).unwrap();
    assert_eq!(lines(&room.file()), 10_003, "not worth it yet");
    journal.drop_old(1, 10).unwrap();
    assert_eq!(lines(&room.file()), 1);
}

use super::*;
use crate::authenticate::VerifiedCaller;
use crate::standing::Refusal;
use gapura_protocol::clock::Clock;
use gapura_reload::asked::Reloads;
use std::fs;
use std::rc::Rc;
use std::time::Duration;

struct World {
    dir: tempfile::TempDir,
    settings: Settings,
    log: Log,
    alarms: Alarms,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap();
        let settings = Settings {
            deny: Some(dir.path().join("deny.json")),
            tenants: Some(dir.path().join("tenants.d")),
            logouts: None,
            last_good: None,
        };
        fs::create_dir(dir.path().join("tenants.d")).unwrap();
        let world = Self {
            alarms: Alarms::new(log.clone()),
            dir,
            settings,
            log,
        };
        world.put("deny.json", "{}");
        world
    }

    fn put(&self, file: &str, text: &str) {
        let path = self.dir.path().join(file);
        let beside = path.with_extension("next");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, path).unwrap();
    }

    fn open(&self) -> Result<(Standing, Watcher), Vec<String>> {
        Standing::open(&self.settings, &Clock::system(), &self.log, &self.alarms)
    }

    fn raised(&self) -> Vec<&'static str> {
        self.alarms.raised().iter().map(|(name, _)| *name).collect()
    }
}

fn ann() -> VerifiedCaller {
    VerifiedCaller::for_test("7", "42", &[])
}

fn verdict(standing: &Standing) -> Result<(), Refusal> {
    standing.check(&ann(), "10.0.0.1".parse().unwrap())
}

/// Waits for the changes that lead to `wanted`: by themselves, within ten times the contract's two
/// seconds.
async fn becomes(standing: &Standing, wanted: Result<(), Refusal>) {
    let mut changed = standing.0.changed.subscribe();
    let changes = async {
        while verdict(standing) != wanted {
            changed.changed().await.unwrap();
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(20), changes).await;
    assert!(in_time.is_ok(), "still {:?}", verdict(standing));
}

/// Has everything read again, and waits until what was read is in force.
async fn reread(reloads: &Reloads) {
    reloads.seen_to(reloads.ask()).await;
}

#[tokio::test]
async fn both_are_followed_and_streams_are_told() {
    let world = World::new();
    let (standing, watcher) = world.open().unwrap();
    let local = tokio::task::LocalSet::new();
    local.spawn_local(watcher.run(Reloads::default().subscribe()));
    local
        .run_until(async {
            assert_eq!(verdict(&standing), Ok(()));
            let mut end = standing
                .end_of(Rc::new(ann()), "10.0.0.1".parse().unwrap())
                .unwrap();
            let still = tokio::time::timeout(Duration::from_millis(20), &mut end).await;
            assert!(still.is_err());
            world.put(
                "tenants.d/a.json",
                r#"{"company_id": "42", "suspended": true}"#,
            );
            tokio::time::timeout(Duration::from_secs(20), end)
                .await
                .expect("the stream ends");
            assert_eq!(standing.streams_ended(), 1);
            assert_eq!(verdict(&standing), Err(Refusal::Suspended));
            world.put(
                "tenants.d/a.json",
                r#"{"company_id": "42", "cidrs": ["10.0.0.2"]}"#,
            );
            becomes(&standing, Err(Refusal::Elsewhere)).await;
            world.put("tenants.d/a.json", r#"{"company_id": "42"}"#);
            becomes(&standing, Ok(())).await;
            world.put("deny.json", r#"{"sub": ["7"]}"#);
            becomes(&standing, Err(Refusal::Revoked)).await;
            world.put("deny.json", r#"{"sub": ["8"], "company_id": ["42"]}"#);
            becomes(&standing, Err(Refusal::Revoked)).await;
            world.put("deny.json", r#"{"sub": []}"#);
            becomes(&standing, Ok(())).await;
            assert_eq!(world.raised(), [""; 0]);
        })
        .await;
}

#[tokio::test]
async fn what_cannot_be_read_keeps_what_was_and_raises_an_alarm() {
    let world = World::new();
    world.put("deny.json", r#"{"sub": ["7"]}"#);
    let (standing, watcher) = world.open().unwrap();
    let local = tokio::task::LocalSet::new();
    let reloads = Reloads::default();
    local.spawn_local(watcher.run(reloads.subscribe()));
    local
        .run_until(async {
            for text in ["{", "[]", r#"{"sub": "7"}"#] {
                world.put("deny.json", text);
                reread(&reloads).await;
                assert_eq!(world.raised(), ["deny"], "{text}");
                assert_eq!(verdict(&standing), Err(Refusal::Revoked), "{text}");
            }
            fs::remove_file(world.dir.path().join("deny.json")).unwrap();
            reread(&reloads).await;
            assert_eq!(world.raised(), ["deny"]);
            assert_eq!(verdict(&standing), Err(Refusal::Revoked));
            world.put("deny.json", "{}");
            becomes(&standing, Ok(())).await;
            assert_eq!(world.raised(), [""; 0]);
        })
        .await;
}

#[tokio::test]
async fn a_fault_at_start_is_an_error_unless_a_copy_is_there() {
    let mut world = World::new();
    world.put("deny.json", r#"{"sub": ["7"]}"#);
    world.put(
        "tenants.d/a.json",
        r#"{"company_id": "42", "suspended": true}"#,
    );
    world.settings.last_good = Some(world.dir.path().join("last-good"));
    let (_, watcher) = world.open().unwrap();
    let reloads = Reloads::default();
    let following = watcher.run(reloads.subscribe());
    tokio::select! {
        () = following => panic!("following ended"),
        () = reread(&reloads) => {}
    }
    world.put("deny.json", "nope");
    world.put(
        "tenants.d/a.json",
        r#"{"company_id": "42", "suspendet": true}"#,
    );
    let (standing, _) = world.open().unwrap();
    assert_eq!(verdict(&standing), Err(Refusal::Revoked));
    assert_eq!(world.raised(), ["deny", "tenants"]);
    world.settings.last_good = None;
    let faults = world.open().map(|_| ()).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].starts_with("--deny ") && faults[0].contains("deny.json:1:"),
        "{faults:?}"
    );
    assert!(
        faults[1].starts_with("--tenants ") && faults[1].contains("a.json:1:22"),
        "{faults:?}"
    );
    fs::remove_file(world.dir.path().join("deny.json")).unwrap();
    fs::remove_dir_all(world.dir.path().join("tenants.d")).unwrap();
    let faults = world.open().map(|_| ()).unwrap_err();
    assert!(
        faults.iter().all(|fault| fault.contains("can't be read")),
        "{faults:?}"
    );
}

#[test]
fn without_settings_nothing_is_asked() {
    let world = World::new();
    let (standing, _) = Standing::open(
        &Settings::default(),
        &Clock::system(),
        &world.log,
        &world.alarms,
    )
    .unwrap();
    assert_eq!(verdict(&standing), Ok(()));
    assert!(
        standing
            .end_of(Rc::new(ann()), "10.0.0.1".parse().unwrap())
            .is_none()
    );
    assert!(!standing.shows_pages("https://a.test", None));
}

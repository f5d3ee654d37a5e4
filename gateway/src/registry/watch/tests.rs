use super::super::Found;
use super::*;
use crate::upstream::cluster::LookSoon;
use gapura_protocol::clock::Clock;
use gapura_reload::asked::Reloads;
use std::fs;
use std::path::Path;

fn plugin(name: &str, mount: &str) -> String {
    format!(
        "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"{mount}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"public\"}}"
    )
}

struct World {
    folder: tempfile::TempDir,
    last_good: Option<PathBuf>,
    alarms: Alarms,
    log: Log,
}

impl World {
    fn new() -> Self {
        let log = Log::to("gateway", Clock::system(), Box::new(std::io::sink())).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            last_good: None,
            alarms: Alarms::new(log.clone()),
            log,
        }
    }

    fn put(&self, file: &str, text: &str) {
        let beside = self.folder.path().join(".new");
        fs::write(&beside, text).unwrap();
        fs::rename(beside, self.folder.path().join(file)).unwrap();
    }

    fn open(&self) -> Result<(Registry, Watcher), Vec<FileFault>> {
        let rules = Rules {
            trust_domain: "a".parse().unwrap(),
            signing: crate::registry::Signing::Off,
            max_body: None,
        };
        let settings = Settings {
            folder: self.folder.path().to_owned(),
            last_good: self.last_good.clone(),
            rules,
        };
        let clusters = Clusters::new(LookSoon::default());
        Registry::open(settings, clusters, &self.log, &self.alarms)
    }
}

fn who(registry: &Registry, path: &str) -> String {
    match registry.load().find(path) {
        Found::Plugin { plugin, .. } => plugin.name.to_string(),
        Found::Held => "held".to_owned(),
        Found::NoRoute => "none".to_owned(),
    }
}

/// Waits until `path` leads to `expected`; two seconds is what the contract promises.
async fn becomes(registry: &Registry, path: &str, expected: &str) {
    let deadline = Instant::now() + Duration::from_secs(2);
    while who(registry, path) != expected {
        assert!(
            Instant::now() < deadline,
            "{path} still leads to {}",
            who(registry, path)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn follows_the_folder_within_two_seconds() {
    let world = World::new();
    world.put("a.json", &plugin("a", "/a"));
    let (registry, watcher) = world.open().unwrap();
    let task = tokio::spawn(watcher.run(Reloads::default().subscribe()));
    assert_eq!(who(&registry, "/a"), "a");
    world.put("b.json", &plugin("b", "/b"));
    becomes(&registry, "/b", "b").await;
    world.put("a.json", "{\"mount\": \"/new\",");
    becomes(&registry, "/new", "held").await;
    assert_eq!(who(&registry, "/a"), "a");
    let raised = world.alarms.raised();
    assert!(
        raised.len() == 1 && raised[0].0 == "registry" && raised[0].1.contains("a.json:1:"),
        "{raised:?}"
    );
    assert_eq!(registry.counts().faulty_files.load(Ordering::Relaxed), 1);
    fs::remove_file(world.folder.path().join("a.json")).unwrap();
    becomes(&registry, "/a", "held").await;
    assert!(world.alarms.raised().is_empty());
    assert_eq!(registry.counts().ok.load(Ordering::Relaxed), 3);
    assert_eq!(registry.counts().faulty.load(Ordering::Relaxed), 1);
    task.abort();
}

#[tokio::test]
async fn who_asks_has_the_folder_read_again_and_hears_when_it_is_in_force() {
    let world = World::new();
    world.put("a.json", &plugin("a", "/a"));
    let (registry, watcher) = world.open().unwrap();
    let reloads = Reloads::default();
    let task = tokio::spawn(watcher.run(reloads.subscribe()));
    reloads.seen_to(reloads.ask()).await;
    assert_eq!(registry.counts().ok.load(Ordering::Relaxed), 2);
    task.abort();
}

#[test]
fn any_fault_at_start_is_an_error_with_all_of_them() {
    let world = World::new();
    world.put("a.json", "{}");
    world.put("b.json", "nope");
    world.put("c.json", &plugin("c", "/c"));
    let faults = world.open().map(|_| ()).unwrap_err();
    assert_eq!(
        faults
            .iter()
            .filter(|fault| fault.file.ends_with("/a.json"))
            .count(),
        5
    );
    assert_eq!(
        faults
            .iter()
            .filter(|fault| fault.file.ends_with("/b.json"))
            .count(),
        1
    );
    world.put("a.json", &plugin("a", "/a"));
    world.put("b.json", &plugin("b", "/b"));
    assert!(world.open().is_ok());
    fs::remove_dir_all(world.folder.path()).unwrap();
    assert!(world.open().is_err());
}

#[test]
fn an_empty_folder_is_a_start_without_plugins() {
    let (registry, _) = World::new().open().unwrap();
    assert_eq!(who(&registry, "/"), "none");
}

#[tokio::test]
async fn a_last_good_copy_carries_a_start_over_a_broken_folder() {
    let copy = tempfile::tempdir().unwrap();
    let mut world = World::new();
    world.last_good = Some(copy.path().to_owned());
    world.put("a.json", &plugin("a", "/a"));
    world.put("b.json", &plugin("b", "/b"));
    world.put("c.json", "{\"mount\": \"/c\"");
    assert!(world.open().is_err(), "there is no copy yet");
    fs::remove_file(world.folder.path().join("c.json")).unwrap();
    world.open().unwrap();
    assert!(world.alarms.raised().is_empty());

    world.put("a.json", "{\"mount\": \"/a\"");
    world.put("b.json", &plugin("b", "/b2"));
    let (registry, _) = world.open().unwrap();
    assert_eq!(
        (
            who(&registry, "/a"),
            who(&registry, "/b2"),
            who(&registry, "/b")
        ),
        ("a".into(), "b".into(), "none".into())
    );
    assert_eq!(world.alarms.raised().len(), 1);

    // Neither a folder that is gone nor one that is suddenly empty loses anything.
    fs::remove_file(world.folder.path().join("a.json")).unwrap();
    fs::remove_file(world.folder.path().join("b.json")).unwrap();
    let (registry, _) = world.open().unwrap();
    assert_eq!(
        (who(&registry, "/a"), who(&registry, "/b2")),
        ("a".into(), "b".into())
    );

    fs::write(copy.path().join("a.json"), "broken too").unwrap();
    world.put("a.json", "{");
    let faults = world.open().map(|_| ()).unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
}

#[tokio::test]
async fn a_reload_renews_the_last_good_copy() {
    let parent = tempfile::tempdir().unwrap();
    let mut world = World::new();
    world.last_good = Some(parent.path().join("copy"));
    world.put("a.json", &plugin("a", "/a"));
    let (registry, watcher) = world.open().unwrap();
    let task = tokio::spawn(watcher.run(Reloads::default().subscribe()));
    world.put("b.json", &plugin("b", "/b"));
    becomes(&registry, "/b", "b").await;
    let copied =
        |path: &Path| path.join("copy/a.json").is_file() && path.join("copy/b.json").is_file();
    let deadline = Instant::now() + Duration::from_secs(2);
    while !copied(parent.path()) {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    task.abort();
}

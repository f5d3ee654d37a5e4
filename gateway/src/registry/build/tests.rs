use super::super::table::Found;
use super::*;
use proptest::prelude::*;

/// A folder that changes over time, and what the registry makes of it.
struct Life {
    files: BTreeMap<String, String>,
    state: Option<State>,
    start: Instant,
    now: Instant,
}

fn rules() -> Rules {
    Rules {
        trust_domain: "mylab.internal".parse().unwrap(),
        signing: crate::registry::Signing::Off,
        max_body: None,
    }
}

fn plugin(name: &str, mount: &str) -> String {
    format!(
        "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"{mount}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"gateway_verified\"}}"
    )
}

/// A file that names its mount and is no plugin.
fn faulty(name: &str, mount: &str) -> String {
    plugin(name, mount).replace("auth_mode", "auth_mod")
}

impl Life {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            files: BTreeMap::new(),
            state: None,
            start: now,
            now,
        }
    }

    fn put(&mut self, file: &str, text: String) -> &mut Self {
        self.files.insert(file.to_owned(), text);
        self
    }

    fn remove(&mut self, file: &str) -> &mut Self {
        self.files.remove(file);
        self
    }

    fn later(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    fn snapshot(&self) -> Snapshot {
        let files = self
            .files
            .iter()
            .map(|(name, text)| File {
                name: name.clone(),
                content: Ok(text.as_bytes().into()),
            })
            .collect();
        Snapshot {
            folder: "plugins.d".to_owned(),
            files: Ok(files),
        }
    }

    fn reload(&mut self) -> Built {
        let built = build(self.state.as_ref(), &self.snapshot(), &rules(), self.now);
        self.state = Some(built.state.clone());
        built
    }

    fn reload_unreadable(&mut self) -> Built {
        let snapshot = Snapshot {
            folder: "plugins.d".to_owned(),
            files: Err("can't be read: denied".to_owned()),
        };
        let built = build(self.state.as_ref(), &snapshot, &rules(), self.now);
        self.state = Some(built.state.clone());
        built
    }
}

fn who(built: &Built, path: &str) -> String {
    match built.table.find(path) {
        Found::Plugin { plugin, .. } => plugin.name.to_string(),
        Found::Held => "held".to_owned(),
        Found::NoRoute => "none".to_owned(),
    }
}

fn arc(built: &Built, path: &str) -> Arc<Plugin> {
    match built.table.find(path) {
        Found::Plugin { plugin, .. } => plugin.clone(),
        other => panic!("{path}: {other:?}"),
    }
}

fn said(built: &Built) -> Vec<String> {
    built.faults.iter().map(ToString::to_string).collect()
}

#[test]
fn a_good_folder_is_a_table_without_faults() {
    let mut life = Life::new();
    let built = life
        .put("a.json", plugin("a", "/a"))
        .put("b.json", plugin("b", "/a/b"))
        .reload();
    assert_eq!(
        (who(&built, "/a/x"), who(&built, "/a/b"), who(&built, "/c")),
        ("a".into(), "b".into(), "none".into())
    );
    assert!(built.faults.is_empty());
    let [inside] = built.warnings.as_slice() else {
        panic!("{:?}", built.warnings)
    };
    assert!(
        inside.starts_with("plugins.d/b.json:1:") && inside.contains("/a of plugins.d/a.json:1:"),
        "{inside}"
    );
    assert_eq!(
        built.changes,
        [
            "plugin a 1 is in force at /a",
            "plugin b 1 is in force at /a/b"
        ]
    );
    assert_eq!(
        built
            .table
            .plugins()
            .iter()
            .map(|(file, _)| file.as_str())
            .collect::<Vec<_>>(),
        ["a.json", "b.json"]
    );
    assert!(life.reload().changes.is_empty());
}

#[test]
fn an_untouched_plugin_stays_the_very_same() {
    let mut life = Life::new();
    let first = life
        .put("a.json", plugin("a", "/a"))
        .put("b.json", plugin("b", "/b"))
        .reload();
    // Another file, other blanks, another name of the file, away for a moment: nothing that the
    // plugin is.
    let second = life
        .put("b.json", plugin("b", "/b2"))
        .put("a.json", plugin("a", "/a").replace(',', ",\n"))
        .reload();
    assert!(Arc::ptr_eq(&arc(&first, "/a"), &arc(&second, "/a")));
    assert!(!Arc::ptr_eq(&arc(&first, "/b"), &arc(&second, "/b2")));
    assert_eq!(second.changes, ["plugin b 1 is in force at /b2, changed"]);
    let third = life
        .remove("a.json")
        .put("renamed.json", plugin("a", "/a"))
        .reload();
    assert!(
        Arc::ptr_eq(&arc(&first, "/a"), &arc(&third, "/a"))
            && third.faults.is_empty()
            && third.changes.is_empty()
    );
    life.remove("renamed.json").reload();
    let back = life
        .later(4_000)
        .put("renamed.json", plugin("a", "/a"))
        .reload();
    assert!(Arc::ptr_eq(&arc(&first, "/a"), &arc(&back, "/a")));
}

#[test]
fn a_faulty_file_keeps_its_last_good_version_and_the_others_take_effect() {
    let mut life = Life::new();
    let first = life
        .put("a.json", plugin("a", "/a"))
        .put("b.json", plugin("b", "/b"))
        .reload();
    let built = life
        .put("a.json", faulty("a", "/a"))
        .put("b.json", plugin("b", "/c"))
        .put("d.json", plugin("d", "/d"))
        .reload();
    assert!(Arc::ptr_eq(&arc(&first, "/a"), &arc(&built, "/a")));
    assert_eq!(
        (who(&built, "/c"), who(&built, "/d"), who(&built, "/b")),
        ("b".into(), "d".into(), "none".into())
    );
    assert_eq!(built.faults.len(), 2, "{:?}", built.faults);
    assert!(
        said(&built)[0].starts_with("plugins.d/a.json:1:1: the field \"auth_mode\" is missing")
    );
    assert!(
        said(&built)[1].starts_with("plugins.d/a.json:1:73: unknown field \"auth_mod\"; the nearest valid name is \"auth_mode\""),
        "{:?}",
        built.faults
    );
    assert_eq!(built.table.faults(), built.faults);
    assert!(
        life.put("a.json", plugin("a", "/a"))
            .reload()
            .faults
            .is_empty()
    );
}

#[test]
fn a_mount_that_a_faulty_file_names_never_falls_to_a_shorter_one() {
    let mut life = Life::new();
    life.put("root.json", plugin("root", "/"))
        .put("a.json", plugin("a", "/a"))
        .reload();
    let built = life
        .put("new.json", faulty("new", "/a/new"))
        .put("broken.json", "{\"mount\": \"/broken\",".to_owned())
        .reload();
    assert_eq!(
        (
            who(&built, "/a/new/x"),
            who(&built, "/broken"),
            who(&built, "/a/newer")
        ),
        ("held".into(), "held".into(), "a".into())
    );
    assert_eq!(built.table.held(), ["/a/new", "/broken"]);
    // The old mount stays with the old version, the one the faulty text names is reserved too.
    let built = life.put("a.json", faulty("a", "/moved")).reload();
    assert_eq!(
        (who(&built, "/a"), who(&built, "/moved")),
        ("a".into(), "held".into())
    );
    // An unreadable file keeps what it named.
    let mut snapshot = life.snapshot();
    for file in snapshot.files.as_mut().unwrap() {
        if file.name == "broken.json" {
            file.content = Err("can't be read: denied".to_owned());
        }
    }
    assert_eq!(
        who(
            &build(life.state.as_ref(), &snapshot, &rules(), life.now),
            "/broken"
        ),
        "held"
    );
    let built = life
        .put("new.json", plugin("new", "/a/new"))
        .remove("broken.json")
        .put("a.json", plugin("a", "/a"))
        .later(1)
        .reload();
    assert_eq!(
        (
            who(&built, "/a/new"),
            who(&built, "/moved"),
            built.faults.len()
        ),
        ("new".into(), "root".into(), 0)
    );
}

#[test]
fn the_mount_of_a_vanished_file_is_held_for_five_seconds() {
    let mut life = Life::new();
    life.put("root.json", plugin("root", "/"))
        .put("a.json", plugin("a", "/a"))
        .reload();
    let built = life.remove("a.json").reload();
    assert_eq!(
        (who(&built, "/a/x"), who(&built, "/b")),
        ("held".into(), "root".into())
    );
    assert_eq!(
        built.state.next_change(),
        Some(life.start + Duration::from_secs(5))
    );
    assert_eq!(who(&life.later(4_999).reload(), "/a"), "held");
    let built = life.later(1).reload();
    assert_eq!(
        (who(&built, "/a"), built.state.next_change()),
        ("root".into(), None)
    );
    // Another file may take the mount at once.
    life.put("a.json", plugin("a", "/a")).reload();
    assert_eq!(
        who(
            &life
                .remove("a.json")
                .put("b.json", plugin("b", "/a"))
                .reload(),
            "/a"
        ),
        "b"
    );
}

#[test]
fn at_start_neither_of_two_claimants_loads() {
    let mut life = Life::new();
    let built = life
        .put("a.json", plugin("a", "/x/"))
        .put("b.json", plugin("b", "//x"))
        .put("root.json", plugin("root", "/"))
        .reload();
    assert_eq!(
        (who(&built, "/x"), who(&built, "/y")),
        ("held".into(), "root".into())
    );
    assert_eq!(
        said(&built),
        [
            "plugins.d/a.json:1:40: \"mount\" /x is also claimed by b.json; none of them loads until one gives way",
            "plugins.d/b.json:1:40: \"mount\" /x is also claimed by a.json; none of them loads until one gives way",
        ]
    );
    let built = life.put("b.json", plugin("a", "/y")).reload();
    assert_eq!(said(&built).len(), 2);
    assert!(
        said(&built)[0].starts_with("plugins.d/a.json:1:10: \"name\" a is also claimed by b.json")
    );
    assert_eq!(
        (who(&built, "/x"), who(&built, "/y")),
        ("held".into(), "held".into())
    );
    assert!(
        life.put("b.json", plugin("b", "/y"))
            .reload()
            .faults
            .is_empty()
    );
}

#[test]
fn on_a_clash_what_is_in_force_keeps_its_name_and_mount() {
    let mut life = Life::new();
    let first = life.put("m.json", plugin("m", "/m")).reload();
    let built = life
        .put("a.json", plugin("a", "/m"))
        .put("z.json", plugin("m", "/z"))
        .reload();
    assert!(Arc::ptr_eq(&arc(&first, "/m"), &arc(&built, "/m")));
    assert_eq!(who(&built, "/z"), "held");
    assert_eq!(
        said(&built),
        [
            "plugins.d/a.json:1:40: \"mount\" /m is taken by m.json, which is in force and keeps it; choose another or remove one of the files",
            "plugins.d/z.json:1:10: \"name\" m is taken by m.json, which is in force and keeps it; choose another or remove one of the files",
        ]
    );
    // What is in force may also change everything else about itself.
    let built = life
        .put("m.json", plugin("m", "/m").replace("\"1\"", "\"2\""))
        .reload();
    assert_eq!(
        (arc(&built, "/m").version.as_str(), built.faults.len()),
        ("2", 2)
    );
}

#[test]
fn a_version_that_lost_falls_back_and_may_push_out_who_took_its_place() {
    let mut life = Life::new();
    life.put("a.json", plugin("a", "/1"))
        .put("b.json", plugin("b", "/2"))
        .reload();
    let built = life
        .put("a.json", plugin("a", "/2"))
        .put("c.json", plugin("c", "/1"))
        .reload();
    assert_eq!(
        (who(&built, "/1"), who(&built, "/2")),
        ("a".into(), "b".into())
    );
    assert_eq!(
        built
            .faults
            .iter()
            .map(|fault| fault.file.as_str())
            .collect::<Vec<_>>(),
        ["plugins.d/a.json", "plugins.d/c.json"]
    );
}

#[test]
fn two_plugins_may_change_places() {
    let mut life = Life::new();
    life.put("a.json", plugin("a", "/1"))
        .put("b.json", plugin("b", "/2"))
        .reload();
    let built = life
        .put("a.json", plugin("a", "/2"))
        .put("b.json", plugin("b", "/1"))
        .reload();
    assert_eq!(
        (who(&built, "/1"), who(&built, "/2"), built.faults.len()),
        ("b".into(), "a".into(), 0)
    );
    let built = life
        .put("a.json", plugin("b", "/1"))
        .put("b.json", plugin("a", "/2"))
        .reload();
    assert_eq!(
        (who(&built, "/1"), who(&built, "/2"), built.faults.len()),
        ("b".into(), "a".into(), 0)
    );
}

#[test]
fn a_renamed_file_keeps_its_mount_against_a_newcomer() {
    let mut life = Life::new();
    let first = life.put("m.json", plugin("m", "/m")).reload();
    let built = life
        .remove("m.json")
        .put("a.json", plugin("a", "/m"))
        .put("z.json", plugin("m", "/m"))
        .reload();
    assert!(Arc::ptr_eq(&arc(&first, "/m"), &arc(&built, "/m")));
    assert_eq!(
        built
            .faults
            .iter()
            .map(|fault| fault.file.as_str())
            .collect::<Vec<_>>(),
        ["plugins.d/a.json"]
    );
}

#[test]
fn a_folder_unreadable_or_suddenly_empty_changes_nothing() {
    let mut life = Life::new();
    let first = life.put("a.json", plugin("a", "/a")).reload();
    let built = life.reload_unreadable();
    assert!(Arc::ptr_eq(&arc(&first, "/a"), &arc(&built, "/a")));
    assert_eq!(said(&built), ["plugins.d: can't be read: denied"]);
    let built = life.remove("a.json").later(60_000).reload();
    assert!(Arc::ptr_eq(&arc(&first, "/a"), &arc(&built, "/a")));
    assert!(
        said(&built)[0].starts_with("plugins.d: holds no *.json file any more"),
        "{built:?}"
    );
    assert!(
        life.later(60_000)
            .put("a.json", plugin("a", "/a"))
            .reload()
            .faults
            .is_empty()
    );
}

#[test]
fn a_start_without_files_is_a_warning_and_without_a_folder_a_fault() {
    let built = Life::new().reload();
    assert!(built.faults.is_empty() && built.warnings.len() == 1 && who(&built, "/") == "none");
    assert_eq!(
        said(&Life::new().reload_unreadable()),
        ["plugins.d: can't be read: denied"]
    );
    let mut life = Life::new();
    life.reload();
    assert_eq!(
        who(&life.put("a.json", plugin("a", "/a")).reload(), "/a"),
        "a"
    );
}

#[test]
fn an_auth_mode_that_becomes_weaker_is_a_warning() {
    let mut life = Life::new();
    let with = |auth: &str| plugin("a", "/a").replace("gateway_verified", auth);
    life.put("a.json", with("gateway_verified")).reload();
    for (auth, weaker) in [
        ("forward_jwt", true),
        ("public", true),
        ("public", false),
        ("forward_jwt", false),
        ("gateway_verified", false),
    ] {
        let built = life.put("a.json", with(auth)).reload();
        assert_eq!(
            built.warnings.len(),
            usize::from(weaker),
            "{auth}: {:?}",
            built.warnings
        );
    }
    let built = life
        .remove("a.json")
        .put(
            "b.json",
            plugin("b", "/a").replace("gateway_verified", "public"),
        )
        .reload();
    assert_eq!(
        built.warnings,
        ["plugin b at /a: auth_mode became weaker, from gateway_verified to public"]
    );
}

#[test]
fn other_rules_are_applied_to_files_that_did_not_change() {
    let mut life = Life::new();
    life.put("a.json", plugin("a", "/a")).reload();
    let other = Rules {
        max_body: Some(5),
        ..rules()
    };
    let built = build(life.state.as_ref(), &life.snapshot(), &other, life.now);
    assert_eq!(arc(&built, "/a").max_body, Some(5));
}

#[derive(Clone, Debug)]
enum Step {
    Good(u8, u8, u8),
    Faulty(u8, u8, u8),
    Remove(u8),
    Later(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_u8, 0..4_u8, 0..4_u8).prop_map(|(file, name, mount)| Step::Good(file, name, mount)),
        1 => (0..4_u8, 0..4_u8, 0..4_u8).prop_map(|(file, name, mount)| Step::Faulty(file, name, mount)),
        1 => (0..4_u8).prop_map(Step::Remove),
        1 => (0..6_000_u16).prop_map(Step::Later),
    ]
}

proptest! {
    /// Whatever is done to the folder: no two plugins share a name or mount, what a file names is
    /// never served by a shorter mount, a file without a fault is in force as it stands, and doing
    /// nothing changes nothing.
    #[test]
    fn no_life_breaks_the_promises(steps in proptest::collection::vec((step(), any::<bool>()), 1..24)) {
        let mut life = Life::new();
        life.put("root.json", plugin("root", "/"));
        let file = |at: u8| format!("{at}.json");
        for (step, reload) in steps {
            match step {
                Step::Good(at, name, mount) => life.put(&file(at), plugin(&format!("n{name}"), &format!("/m{mount}"))),
                Step::Faulty(at, name, mount) => life.put(&file(at), faulty(&format!("n{name}"), &format!("/m{mount}"))),
                Step::Remove(at) => life.remove(&file(at)),
                Step::Later(milliseconds) => life.later(u64::from(milliseconds)),
            };
            if !reload {
                continue;
            }
            let before = life.state.clone().unwrap_or_default();
            let built = life.reload();
            let names: BTreeSet<&str> = built.table.plugins().iter().map(|(_, plugin)| plugin.name.as_str()).collect();
            let mounts: BTreeSet<&str> = built.table.plugins().iter().map(|(_, plugin)| plugin.mount.as_str()).collect();
            prop_assert_eq!(names.len(), built.table.plugins().len());
            prop_assert_eq!(mounts.len(), built.table.plugins().len());
            for (name, text) in &life.files {
                let reading = file::read(name, Ok(text.as_bytes()), &rules());
                if name != "root.json" {
                    for mount in &reading.claims {
                        prop_assert_ne!(who(&built, mount.as_str()), "root");
                    }
                }
                let is_faulty = built.faults.iter().any(|fault| fault.file == format!("plugins.d/{name}"));
                let in_force = built.state.files[name].in_force.as_ref().map(|in_force| (*in_force.plugin).clone());
                if is_faulty {
                    let kept = before.files.get(name).and_then(|state| state.in_force.as_ref()).map(|in_force| (*in_force.plugin).clone());
                    prop_assert_eq!(in_force, kept);
                } else {
                    prop_assert_eq!(in_force, reading.plugin);
                }
            }
            let again = life.reload();
            prop_assert!(again.changes.is_empty() && again.faults == built.faults, "{:?} {:?}", built.faults, again.faults);
        }
    }
}

#[test]
fn whatever_asks_less_of_a_caller_is_a_warning_once() {
    let with = |more: &str| {
        plugin("a", "/a").replace(
            "\"gateway_verified\"",
            &format!("\"gateway_verified\"{more}"),
        )
    };
    let cors = ", \"cors\": {\"origins\": [\"https://app.example.com\"]}";
    for (before, after, says) in [
        ("", ", \"outlive_token\": true", "outlive_token is on"),
        ("", cors, "cors is new"),
        (
            cors,
            ", \"cors\": {\"origins\": [\"https://*.example.com\"]}",
            "cors became wider",
        ),
        (
            ", \"tenants\": {\"only\": [\"1\"]}",
            ", \"tenants\": {\"only\": [\"1\", \"2\"]}",
            "tenants became wider",
        ),
        (
            ", \"tenants\": {\"only\": [\"1\"]}",
            ", \"tenants\": {\"only\": [\"1\"]}, \"shadow\": true",
            "shadow is on",
        ),
        (", \"allow\": [{}]", "", "allow is gone"),
    ] {
        let mut life = Life::new();
        life.put("a.json", with(before)).reload();
        let built = life.put("a.json", with(after)).reload();
        assert!(built.faults.is_empty(), "{:?}", built.faults);
        assert_eq!(built.warnings.len(), 1, "{:?}", built.warnings);
        assert!(
            built.warnings[0].starts_with("plugin a at /a: ") && built.warnings[0].contains(says),
            "{:?}",
            built.warnings
        );
        assert!(life.reload().warnings.is_empty());
        let back = life.put("a.json", with(before)).reload();
        assert!(back.warnings.is_empty(), "{:?}", back.warnings);
    }
}

#[test]
fn a_file_whose_tests_fail_keeps_its_last_good_version() {
    let with = |role: &str| {
        let rules = format!(
            ",\n\"allow\": [{{\"roles\": [\"{role}\"]}}],\n\"tests\": [{{\"as\": {{\"company_id\": \"1\", \"roles\": [\"a\"]}}, \"request\": \"GET /\", \"expect\": \"allow\"}}]"
        );
        plugin("a", "/a").replace(
            "\"gateway_verified\"",
            &format!("\"gateway_verified\"{rules}"),
        )
    };
    let mut life = Life::new();
    let first = life.put("a.json", with("a")).reload();
    assert!(first.faults.is_empty(), "{:?}", first.faults);
    let built = life.put("a.json", with("b")).reload();
    assert!(Arc::ptr_eq(&arc(&first, "/a"), &arc(&built, "/a")));
    assert_eq!(
        said(&built),
        [
            "plugins.d/a.json:3:11: \"tests[0]\" fails: GET / should be \"allow\", but no rule allows it"
        ]
    );
}

use super::*;

struct Life {
    files: BTreeMap<String, String>,
    state: Option<State>,
    now: Instant,
}

impl Life {
    fn new() -> Self {
        Self {
            files: BTreeMap::new(),
            state: None,
            now: Instant::now(),
        }
    }

    fn put(&mut self, file: &str, text: &str) -> &mut Self {
        self.files.insert(file.to_owned(), text.to_owned());
        self
    }

    fn remove(&mut self, file: &str) -> &mut Self {
        self.files.remove(file);
        self
    }

    fn later(&mut self, seconds: u64) -> &mut Self {
        self.now += Duration::from_secs(seconds);
        self
    }

    fn reload(&mut self) -> Built {
        let files = self.files.iter().map(|(name, text)| File {
            name: name.clone(),
            content: Ok(text.as_bytes().into()),
        });
        self.reload_of(Ok(files.collect()))
    }

    fn reload_of(&mut self, files: Result<Vec<File>, String>) -> Built {
        let snapshot = Snapshot {
            folder: "tenants.d".to_owned(),
            files,
        };
        let built = build(self.state.as_ref(), &snapshot, self.now);
        self.state = Some(built.state.clone());
        built
    }
}

fn is_suspended(built: &Built, company: &str) -> Option<bool> {
    built.table.of(company).map(|tenant| tenant.suspended)
}

fn said(built: &Built) -> String {
    let faults: Vec<String> = built.faults.iter().map(ToString::to_string).collect();
    faults.join("; ")
}

const OPEN: &str = r#"{"company_id": "42"}"#;
const CLOSED: &str = r#"{"company_id": "42", "suspended": true}"#;
const FAULTY: &str = r#"{"company_id": "42", "suspendet": true}"#;

#[test]
fn a_company_is_what_its_file_says_and_without_one_free() {
    let mut life = Life::new();
    let built = life
        .put("a.json", OPEN)
        .put(
            "b.json",
            r#"{"company_id": "43", "suspended": true, "cors_origins": ["https://x.test"]}"#,
        )
        .reload();
    assert_eq!(
        ["42", "43", "44"].map(|company| is_suspended(&built, company)),
        [Some(false), Some(true), None]
    );
    assert!(built.table.origins.has("https://x.test") && built.table.len() == 2);
    assert!(built.faults.is_empty() && built.warnings.is_empty());
}

#[test]
fn a_faulty_file_keeps_its_last_good_version_or_closes_the_company() {
    let mut life = Life::new();
    life.put("a.json", OPEN).reload();
    let built = life
        .put("a.json", FAULTY)
        .put("b.json", "{\"company_id\": \"43\",")
        .reload();
    assert_eq!(
        is_suspended(&built, "42"),
        Some(false),
        "the last good version"
    );
    assert_eq!(
        is_suspended(&built, "43"),
        Some(true),
        "nothing good says otherwise"
    );
    assert!(
        said(&built).contains("tenants.d/a.json:1:22: unknown field \"suspendet\""),
        "{}",
        said(&built)
    );
    // The faulty text names another company than the good one did: both are meant.
    let built = life.put("a.json", &FAULTY.replace("42", "44")).reload();
    assert_eq!(
        ["42", "44"].map(|company| is_suspended(&built, company)),
        [Some(false), Some(true)]
    );
    let built = life.put("a.json", CLOSED).remove("b.json").reload();
    assert_eq!(is_suspended(&built, "42"), Some(true));
    assert_eq!(
        is_suspended(&built, "43"),
        Some(true),
        "it has only just gone"
    );
    assert!(built.faults.is_empty());
}

#[test]
fn of_two_files_for_one_company_the_one_in_force_keeps_it() {
    let mut life = Life::new();
    life.put("a.json", OPEN).reload();
    let built = life.put("b.json", CLOSED).reload();
    assert_eq!(is_suspended(&built, "42"), Some(false));
    assert!(
        said(&built).contains("b.json: \"company_id\" 42 is taken by a.json"),
        "{}",
        said(&built)
    );
    let mut fresh = Life::new();
    let built = fresh.put("a.json", OPEN).put("b.json", OPEN).reload();
    assert_eq!(
        is_suspended(&built, "42"),
        Some(true),
        "two new ones: closed"
    );
    assert_eq!(built.faults.len(), 2);
    let built = fresh.remove("b.json").reload();
    assert_eq!(is_suspended(&built, "42"), Some(false));
}

#[test]
fn a_renamed_file_is_no_double_and_a_gone_one_holds_five_seconds() {
    let mut life = Life::new();
    life.put("a.json", CLOSED)
        .put("z.json", r#"{"company_id": "1"}"#)
        .reload();
    let built = life.remove("a.json").put("b.json", CLOSED).reload();
    assert!(
        built.faults.is_empty() && built.warnings.is_empty(),
        "{}",
        said(&built)
    );
    let built = life.remove("b.json").later(1).reload();
    assert_eq!(is_suspended(&built, "42"), Some(true));
    assert_eq!(
        built.warnings,
        ["company 42: its file b.json has gone; what it said (suspended) ends in 5 seconds"]
    );
    assert!(life.state.as_ref().unwrap().next_change().is_some());
    let built = life.later(4).reload();
    assert_eq!(is_suspended(&built, "42"), Some(true));
    let built = life.later(2).reload();
    assert_eq!(is_suspended(&built, "42"), None);
    assert!(built.warnings.is_empty());
}

#[test]
fn an_unreadable_or_suddenly_empty_folder_changes_nothing() {
    let mut life = Life::new();
    life.put("a.json", CLOSED).reload();
    for files in [Err("can't be read: denied".to_owned()), Ok(Vec::new())] {
        let built = life.reload_of(files);
        assert_eq!(is_suspended(&built, "42"), Some(true));
        assert_eq!(built.faults.len(), 1);
        assert!(said(&built).starts_with("tenants.d: "));
    }
    let unread = vec![File {
        name: "a.json".to_owned(),
        content: Err("can't be read: denied".to_owned()),
    }];
    let built = life.reload_of(Ok(unread));
    assert_eq!(
        (is_suspended(&built, "42"), built.faults.len()),
        (Some(true), 1)
    );
    assert!(Life::new().reload_of(Ok(Vec::new())).faults.is_empty());
}

#[test]
fn ten_thousand_files_are_read_once() {
    let files: Vec<File> = (0..10_000)
        .map(|at| File {
            name: format!("{at}.json"),
            content: Ok(format!("{{\"company_id\": \"c{at}\"}}").into_bytes().into()),
        })
        .collect();
    let mut life = Life::new();
    let built = life.reload_of(Ok(files.clone()));
    assert!(built.faults.is_empty() && built.table.len() == 10_000);
    let again = life.reload_of(Ok(files));
    assert!(std::ptr::eq(
        built.table.of("c9999").unwrap(),
        again.table.of("c9999").unwrap()
    ));
}

//! The operator's page in a real browser. Pictures of both themes stay under `target/world/`.

use std::path::{Path, PathBuf};

use gapura_tests::eventually;
use gapura_tests::mesh::TestMesh;
use serde_json::{Value, json};

use super::chromium::Browser;

/// What a person does at the page and sees of it.
struct Page(Browser);

impl Page {
    fn start() -> Option<Self> {
        Browser::start(include_str!("page.py")).map(Self)
    }

    fn open(&mut self, url: &str) {
        assert_eq!(self.0.wish(&json!({"open": url})), json!(true));
    }

    /// What a script of one expression says.
    fn says(&mut self, script: &str) -> Value {
        self.0.wish(&json!({"script": format!("return {script};")}))
    }

    /// Waits until it is true.
    fn sees(&mut self, what: &str, script: &str) {
        eventually(what, || (self.says(script) == true).then_some(()));
    }

    fn text(&mut self, selector: &str) -> String {
        let script = format!("document.querySelector({}).textContent", json!(selector));
        self.says(&script).as_str().unwrap_or_default().to_owned()
    }

    fn keys(&mut self, selector: &str, keys: &str) {
        let done = self.0.wish(&json!({"keys": keys, "at": selector}));
        assert_eq!(done, json!(true), "{selector}");
    }

    fn picture(&mut self, file: &Path, width: u32, height: u32) {
        let wish = json!({"picture": file, "width": width, "height": height});
        assert_eq!(self.0.wish(&wish), json!(true));
    }

    /// What the browser complained of: errors of scripts, and what the policy kept out.
    fn complaints(&mut self) -> Value {
        self.0.wish(&json!({"complaints": true}))
    }
}

fn pictures() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/world");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::canonicalize(folder).unwrap()
}

/// A name of a file and a version that would be markup if anybody took them for it.
const MARKUP: &str = "<img/src=x/onerror=document.title='owned'><b>bold</b>";

fn tenants(mesh: &TestMesh, count: usize) {
    for number in 0..count {
        let company = ["acme-lab", "northwind", "42", "globex", "initech"][number % 5];
        let _ = mesh
            .get(&format!("/echo/reports/{number}"))
            .token_of("7", company)
            .send();
    }
}

#[test]
fn the_operator_sees_a_sidecar_die_a_broken_file_a_revocation_and_markup_as_text() {
    let Some(mut browser) = Page::start() else {
        return;
    };
    let mesh = TestMesh::new()
        .gateway_flag("--page-tenants", "on")
        .fields(json!({
            "version": MARKUP, "health": {"interval_ms": 100, "unhealthy_after": 2},
            "rate_limit": {"requests": 500, "per_s": 60, "key": "tenant"},
        }))
        .also(
            "billing",
            json!({"mount": "/billing", "version": "2.4.1", "auth_mode": "forward_jwt"}),
        )
        .also(
            "inner",
            json!({"mount": "/echo/inner", "version": "1.0.0", "auth_mode": "public"}),
        )
        .start();
    browser.open(&format!("http://{}/", mesh.gateway.address("admin")));
    tenants(&mesh, 60);
    for _ in 0..3 {
        assert_eq!(mesh.get("/echo/x").send().status, 401);
        assert_eq!(
            mesh.get("/billing/x").token_of("7", "42").send().status,
            200
        );
    }
    let echo = "document.querySelector('[data-plugin=echo]')";
    browser.sees(
        "the plugin is well",
        &format!("{echo}?.dataset.state === 'well'"),
    );
    browser.sees("requests are shown", &format!("!!{echo}.querySelector('.sparks path.path')?.getAttribute('d').match(/L17[0-9] [0-3]?[0-9][.]/)"));
    assert!(browser.text("[data-plugin=echo]").contains(MARKUP));
    assert_eq!(
        browser.says("document.querySelectorAll('main img, main b b').length"),
        0
    );
    // By the keyboard alone: the theme, then a request that is explained.
    browser.keys("#theme", "\u{e007}");
    assert_eq!(
        browser.says("document.documentElement.dataset.theme"),
        "light"
    );
    browser.keys("#try-path", "/echo/x");
    browser.keys("#try-path", "\u{e007}");
    browser.sees(
        "the request is explained",
        "!!document.querySelector('#try-result .pill')",
    );
    assert!(browser.text("#try-result").contains("token_missing"));
    // A broken file, with its line and a caret under the mistake.
    let broken = format!(
        "{{\n  \"name\": \"reports\",\n  \"version\": \"1\",\n  \"mount\": \"/reports\",\n  \"auth_mod\": {}\n}}\n",
        json!(MARKUP)
    );
    std::fs::write(mesh.plugins.join("reports.json"), broken).unwrap();
    let fault = "[...document.querySelectorAll('#files .fault')].find((one) => one.textContent.includes('line 5'))";
    browser.sees(
        "the fault is shown",
        &format!("!!{fault}?.querySelector('pre')"),
    );
    let told = browser.says(&format!("{fault}.textContent")).to_string();
    assert!(
        told.contains("auth_mod") && told.contains("onerror"),
        "{told}"
    );
    let stands = "const [line, caret] = fault.querySelector('pre').textContent.split('\\n'); return line[caret.indexOf('^')] === '\"'";
    browser.sees(
        "the caret stands under it",
        &format!("(() => {{ const fault = {fault}; {stands}; }})()"),
    );
    browser.sees(
        "the alarm is up",
        "document.getElementById('alarms').textContent.includes('registry')",
    );
    assert_eq!(browser.says("document.title.startsWith('(1)')"), true);
    browser
        .says("(() => { document.querySelector('#alarms details').open = true; return true; })()");
    browser.sees(
        "what to do is told",
        "document.querySelector('#alarms details pre').textContent.length > 40",
    );
    // Pictures while something is wrong and most is well.
    for (theme, file) in [("light", "page-light.png"), ("dark", "page-dark.png")] {
        let wear = format!(
            "(() => {{ document.documentElement.dataset.theme = '{theme}'; return true; }})()"
        );
        browser.says(&wear);
        browser.picture(&pictures().join(file), 1280, 0);
        browser.picture(&pictures().join(format!("top-{file}")), 1280, 900);
        browser.picture(&pictures().join(format!("phone-{file}")), 390, 0);
    }
    std::fs::remove_file(mesh.plugins.join("reports.json")).unwrap();
    // A revocation, and what it cut.
    let files = mesh.authority.files_for(&mesh.gateway_cert);
    let files = files.with_crl(Some(mesh.authority.crl(&[&mesh.sidecar_cert])));
    mesh.gateway_dir.publish(&files);
    browser.sees("the revocation is shown", "/1 certificate revoked, [1-9][0-9]* connections? cut/.test(document.querySelector('.last-revocation').textContent)");
    browser.sees(
        "the plugin is red",
        &format!("{echo}.dataset.state === 'down' && {echo}.classList.contains('bad')"),
    );
    browser.picture(&pictures().join("page-revoked.png"), 1280, 0);
    assert_eq!(browser.says("document.title.includes('owned')"), false);
    assert_eq!(browser.complaints(), json!([]));
}

#[test]
fn the_operator_sees_a_killed_sidecar_and_what_a_sidecar_shows_itself() {
    let Some(mut browser) = Page::start() else {
        return;
    };
    let mut mesh = TestMesh::new()
        .fields(json!({"health": {"interval_ms": 100, "unhealthy_after": 2}}))
        .start();
    browser.open(&format!("http://{}/", mesh.sidecar.address("admin")));
    tenants(&mesh, 20);
    let reachable = "document.querySelector('[data-plugin=echo]')?.dataset.reachable === 'true'";
    browser.sees("the plugin takes connections", reachable);
    browser.sees(
        "the gateway is a peer",
        "document.getElementById('trust').textContent.includes('/gateway/edge')",
    );
    browser.picture(&pictures().join("page-sidecar.png"), 1280, 0);
    browser.open(&format!("http://{}/", mesh.gateway.address("admin")));
    let echo = "document.querySelector('[data-plugin=echo]')";
    browser.sees("it is well", &format!("{echo}?.dataset.state === 'well'"));
    // A request is seen as it ends, and not its query.
    browser.keys("#tap-plugin", "echo\u{e007}");
    browser.sees(
        "it looks",
        "document.querySelector('#tap .hint').textContent === 'Looking.'",
    );
    let shown = "document.querySelector('.tap-lines tbody')?.textContent.includes('/echo/tapped')";
    eventually("a tapped request is shown", || {
        let _ = mesh.get("/echo/tapped?secret=1").token_of("7", "42").send();
        (browser.says(shown) == true).then_some(())
    });
    assert!(!browser.text("#tap").contains("secret=1"));
    mesh.sidecar.signal("KILL");
    let _ = mesh
        .sidecar
        .wait_for_end(std::time::Duration::from_secs(20));
    browser.sees(
        "it goes red",
        &format!("{echo}.dataset.state === 'down' && {echo}.classList.contains('bad')"),
    );
    browser.sees(
        "the section says so",
        "!!document.querySelector('nav a[href=\"#plugins\"] .dot.bad')",
    );
    assert_eq!(browser.complaints(), json!([]));
}

#[test]
fn the_page_asks_for_the_token_and_keeps_it_nowhere() {
    let Some(mut browser) = Page::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let (file, token) = (folder.path().join("token"), "t0ken-".repeat(8));
    gapura_tests::certs::write_private(&file, &token);
    let mesh = TestMesh::new()
        .gateway_flag("--admin-token-file", file.to_str().unwrap())
        .start();
    let page = format!("http://{}/", mesh.gateway.address("admin"));
    browser.open(&page);
    browser.sees("it asks", "!document.getElementById('token').hidden");
    assert_eq!(browser.says("document.activeElement.id"), "token-text");
    browser.keys("#token-text", "wrong\u{e007}");
    browser.sees(
        "it says that it is wrong",
        "document.getElementById('token-wrong').textContent !== ''",
    );
    browser.keys("#token-text", &format!("{token}\u{e007}"));
    browser.sees(
        "the facts come",
        "document.querySelector('[data-plugin=echo]') !== null",
    );
    let shown = browser.says("document.documentElement.outerHTML");
    assert!(!shown.to_string().contains("t0ken-"));
    assert_eq!(
        browser.says("localStorage.length + sessionStorage.length + document.cookie.length"),
        0
    );
    browser.open(&page);
    browser.sees("it asks again", "!document.getElementById('token').hidden");
}

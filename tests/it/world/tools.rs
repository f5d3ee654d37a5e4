//! Tools that people have at hand, each with its own idea of HTTP: what they send is served once,
//! whole.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use serde_json::json;

use super::has;
use crate::clients::url;
use crate::uploads::status;

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[test]
fn ab_keeps_its_connections_over_http_1_0() {
    if !has("ab") {
        return;
    }
    let mesh = TestMesh::new().start();
    let token = format!("Authorization: Bearer {}", mesh.signer.token_of("7", "42"));
    let said = said(Command::new("ab").args([
        "-q",
        "-k",
        "-n",
        "60",
        "-c",
        "3",
        "-H",
        &token,
        &url(&mesh, "/echo/ab"),
    ]));
    let number = |what: &str| -> u32 {
        let line = said.lines().find(|line| line.starts_with(what));
        let line = line.unwrap_or_else(|| panic!("no {what}: {said}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(number("Complete requests:"), 60, "{said}");
    assert_eq!(number("Failed requests:"), 0, "{said}");
    assert_eq!(number("Keep-Alive requests:"), 60, "{said}");
    assert_eq!(mesh.plugin.seen_at("/ab").len(), 60);
}

#[test]
fn nc_that_closes_its_half_is_answered() {
    if !has("nc") {
        return;
    }
    let mesh = TestMesh::new().plain_public().start();
    mesh.plugin.on("/nc", |exchange| {
        exchange.read_body();
        std::thread::sleep(Duration::from_millis(700)); // beyond the look after a half-closed client
        exchange.answer("200 OK", "", b"late");
        Then::Keep
    });
    let port = mesh.public().port().to_string();
    for head in ["GET /echo/nc HTTP/1.0", "POST /echo/nc HTTP/1.1"] {
        let mut nc = Command::new("nc")
            .args(["-N", "127.0.0.1", &port])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let auth = mesh.authorization("7", "42");
        let request = format!("{head}\r\nHost: localhost\r\n{auth}Content-Length: 4\r\n\r\nbody");
        // Dropped behind it: nc then says that nothing more comes.
        nc.stdin
            .take()
            .unwrap()
            .write_all(request.as_bytes())
            .unwrap();
        let output = nc.wait_with_output().unwrap();
        let answer = String::from_utf8(output.stdout).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{head}: {answer}");
        assert!(answer.ends_with("late"), "{head}: {answer}");
    }
    let seen = mesh.plugin.seen_at("/nc");
    assert!(
        seen.len() == 2 && seen.iter().all(|seen| seen.text() == "body"),
        "{seen:?}"
    );
}

#[test]
fn node_fetches_with_bodies_of_every_kind() {
    if !has("node") {
        return;
    }
    let mesh = TestMesh::new().start();
    let script = "
const [url, token] = process.argv.slice(1);
const authorization = 'Bearer ' + token;
async function ask(method, body, more = {}) {
  const r = await fetch(url, { method, body, headers: { authorization }, ...more });
  const text = await r.text();
  if (r.status !== 200) throw new Error(method + ' ' + r.status + ' ' + text);
}
function* parts() { yield Buffer.from('some '); yield Buffer.from('chunks'); }
async function over2() {
  const http2 = require('http2');
  const session = http2.connect(new URL(url).origin, { ca: require('fs').readFileSync(process.env.NODE_EXTRA_CA_CERTS) });
  for (const body of ['', 'abc']) {
    await new Promise((done, failed) => {
      const r = session.request({ ':method': 'POST', ':path': new URL(url).pathname, authorization });
      let status;
      r.on('response', (head) => { status = head[':status']; });
      r.on('error', failed);
      r.on('end', () => status === 200 ? done() : failed(new Error('status ' + status)));
      r.resume();
      r.end(body);
    });
  }
  session.close();
}
(async () => {
  for (let n = 0; n < 3; n++) await ask('GET');
  await ask('POST', '');
  await ask('PUT', 'x'.repeat(100000));
  await ask('POST', ReadableStream.from(parts()), { duplex: 'half' });
  await ask('DELETE');
  await over2();
  const r = await fetch(url, { method: 'POST', body: 'x'.repeat(300000) });
  console.log(r.status, (await r.json()).errors.code);
})();
";
    let target = url(&mesh, "/echo/node");
    let token = mesh.signer.token_of("7", "42");
    let said = said(
        Command::new("node")
            .env("NODE_EXTRA_CA_CERTS", mesh.public_root_file())
            .args(["-e", script, &target, &token]),
    );
    assert_eq!(said.trim(), "401 token_missing");
    let seen = mesh.plugin.seen_at("/node");
    let lengths: Vec<_> = seen.iter().map(|seen| seen.body_length).collect();
    assert_eq!(
        lengths,
        [0, 0, 0, 0, 100_000, 11, 0, 0, 3],
        "each once, whole"
    );
    assert!(seen.iter().all(|seen| seen.complete));
}

/// What a page does in a browser; at the end it asks for what it was told.
const PAGE: &str = "<!doctype html><title>bodies</title><script>
(async () => {
  let told = '';
  for (const [name, body] of [['none', undefined], ['empty', ''], ['three', 'abc'], ['large', 'x'.repeat(300000)]]) {
    try {
      const r = await fetch('/page/body-' + name, { method: 'POST', body });
      told += name + '-' + r.status + '-';
    } catch (error) {
      told += name + '-failed-';
    }
  }
  await fetch('/page/told-' + told);
})();
</script>";

/// A browser without a window; ends with the test.
struct Browser(Child);

impl Browser {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        Self(quiet.stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // What it started ends with it only if it is asked.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Opens the page, and holds what the plugin saw to what the page did.
fn posts_each_body_once(open: impl Fn(&TestMesh, &str) -> Command) {
    let mesh = TestMesh::new()
        .sidecar_args(&["--allow-no-tenant"])
        .also("page", json!({"auth_mode": "public"}))
        .start();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: ";
    let page = format!("{head}{}\r\n\r\n{PAGE}", PAGE.len());
    mesh.plugin.answer_raw("/start", page, Then::Keep);
    let _browser = Browser::start(&mut open(&mesh, &url(&mesh, "/page/start")));
    let told = gapura_tests::within(Duration::from_secs(180), "the page has told", || {
        mesh.plugin.seen_at("/told-").into_iter().next()
    });
    assert_eq!(told.target, "/told-none-200-empty-200-three-200-large-200-");
    let seen = mesh.plugin.seen_at("/body-");
    let each: Vec<_> = seen
        .iter()
        .map(|seen| (seen.target.as_str(), seen.body_length, seen.complete))
        .collect();
    let wanted = [
        ("/body-none", 0, true),
        ("/body-empty", 0, true),
        ("/body-three", 3, true),
        ("/body-large", 300_000, true),
    ];
    assert_eq!(each, wanted, "each once, whole");
}

#[test]
fn chromium_posts_each_body_once() {
    if !has("chromium") {
        return;
    }
    posts_each_body_once(|mesh, page| {
        let mut chromium = Command::new("chromium");
        let profile = mesh.dir().join("profile");
        chromium
            .args([
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--ignore-certificate-errors", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(page);
        chromium
    });
}

#[test]
fn firefox_posts_each_body_once() {
    if !has("firefox-esr") || !has("certutil") {
        return;
    }
    posts_each_body_once(|mesh, page| {
        // It believes what stands in its profile, and nothing on the command line.
        let profile = mesh.dir().join("profile");
        std::fs::create_dir(&profile).unwrap();
        let store = format!("sql:{}", profile.display());
        said(Command::new("certutil").args(["-N", "--empty-password", "-d", &store]));
        let root = mesh.public_root_file();
        let trusted = ["-A", "-n", "test", "-t", "C,,", "-d", &store, "-i"];
        said(Command::new("certutil").args(trusted).arg(root));
        let mut firefox = Command::new("firefox-esr");
        firefox
            .env("HOME", mesh.dir())
            .args(["--headless", "--no-remote", "--profile"])
            .arg(&profile)
            .arg(page);
        firefox
    });
}

/// nginx that refuses every upload; ends with the test.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    fn start(dir: &Path, cert: &Path, key: &Path) -> Self {
        // It can't be given port 0; nobody else asks for this one in the moment between.
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let config = format!(
            "daemon off; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
             events {{}}
             http {{ access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;
               fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
               server {{ listen 127.0.0.1:{port} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key}; return 401; }} }}",
            dir = dir.display(),
            cert = cert.display(),
            key = key.display()
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, config).unwrap();
        let child = Command::new("nginx")
            .arg("-c")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        gapura_tests::eventually("nginx listens", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { child, port }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it only if it is asked.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        let _ = self.child.wait();
    }
}

#[test]
fn of_large_refused_uploads_as_many_answers_arrive_as_from_nginx() {
    if !has("nginx") {
        return;
    }
    let mesh = TestMesh::new().start();
    let (root, dir) = (mesh.public_root_file(), mesh.dir().join("nginx"));
    std::fs::create_dir(&dir).unwrap();
    let (cert, key) = mesh.new_public_certificate().write(&dir, "nginx");
    let nginx = Nginx::start(&dir, &cert, &key);
    let file = mesh.dir().join("upload");
    std::fs::write(&file, vec![b'a'; 20_000_000]).unwrap();
    let file = file.to_str().unwrap();
    for version in ["--http1.1", "--http2"] {
        let arrived = |target: &str| {
            (0..20)
                .filter(|_| status(&root, version, file, target) == "401")
                .count()
        };
        let theirs = arrived(&format!("https://localhost:{}/up", nginx.port));
        let ours = arrived(&url(&mesh, "/echo/up"));
        println!("20 MB, {version}: {ours} of 20 answers arrived, {theirs} of nginx's");
        assert!(ours >= theirs, "{version}: {ours} against {theirs}");
    }
}

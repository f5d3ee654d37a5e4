//! What `deploy/` has for those who watch: a real Prometheus with the rules, a real Alertmanager
//! that tells somebody, and every query of the dashboard asked of what both programs really say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use gapura_telemetry::alarms::Alarm;
use gapura_tests::certs::{Certificate, Leaf, MeshDir};
use gapura_tests::mesh::TestMesh;
use gapura_tests::plugin::Then;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::tokens::{ISSUER, unix_now};
use gapura_tests::wire::{Tls, Wire};
use gapura_tests::within;
use serde_json::{Value, json};

use super::has;

/// Ten times what an alert needs: a settling of five seconds, a scrape, an evaluation, a group.
const SOON: Duration = Duration::from_secs(90);

fn deploy(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    root.join(file)
}

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

#[test]
fn promtool_takes_the_rules_and_their_tests_and_both_examples() {
    if !has("promtool") || !has("amtool") {
        return;
    }
    let folder = deploy("prometheus");
    let promtool = |args: &[&str]| said(Command::new("promtool").args(args).current_dir(&folder));
    assert!(promtool(&["check", "rules", "rules.yml"]).contains("SUCCESS"));
    assert!(promtool(&["test", "rules", "rules-test.yml"]).contains("SUCCESS"));
    assert!(promtool(&["check", "config", "prometheus.yml"]).contains("SUCCESS"));
    let amtool = ["check-config", "alertmanager.yml"];
    said(Command::new("amtool").args(amtool).current_dir(&folder));
    // What the programs say is in the form that Prometheus asks for.
    let mesh = TestMesh::new().start();
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
    for program in [&mesh.gateway, &mesh.sidecar] {
        let mut lint = Command::new("promtool");
        lint.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut child = lint
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let page = mesh.admin(program, "/metrics").body;
        child.stdin.take().unwrap().write_all(&page).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    }
}

/// A server of somebody else's that was told to listen wherever it likes; ends with the test.
pub(super) struct Server {
    child: Child,
    pub(super) address: SocketAddr,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = quiet.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (found, address) = std::sync::mpsc::channel();
        // It is read on, so that it can write on.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let at = line.split("msg=\"Listening on\" address=").nth(1);
                if let Some(address) = at.and_then(|at| at.split(' ').next()) {
                    let _ = found.send(address.parse::<SocketAddr>().unwrap());
                }
            }
        });
        let address = address.recv_timeout(SOON).unwrap();
        Self { child, address }
    }

    fn get(&self, path: &str) -> Value {
        let mut wire = Wire::plain(self.address);
        wire.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n",
            self.address
        ));
        let response = wire.response();
        assert!(response.status < 500, "{path}: {response:?}");
        response.json()
    }

    /// What Prometheus answers to a query: samples, or what it does not like.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        if answer["status"] != "success" || answer.get("warnings").is_some() {
            return Err(answer.to_string());
        }
        Ok(answer["data"]["result"].as_array().unwrap().clone())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prometheus with the example's configuration, scraping these every second, each by the name of
/// its job. What the rules wait for longest is here a second.
pub(super) fn prometheus(
    dir: &Path,
    alertmanager: SocketAddr,
    jobs: &[(&str, &[&Program])],
) -> Server {
    let example = fs::read_to_string(deploy("prometheus/prometheus.yml")).unwrap();
    let (head, jobs_of_it) = example.split_once("scrape_configs:\n").unwrap();
    let mut config = head
        .replace("_interval: 15s", "_interval: 1s")
        .replace("\"127.0.0.1:9093\"", &format!("\"{alertmanager}\""));
    config.push_str("scrape_configs:\n");
    for (job, programs) in jobs {
        assert!(jobs_of_it.contains(&format!("job_name: {job}")), "{job}");
        let targets: Vec<String> = programs
            .iter()
            .map(|program| format!("\"{}\"", program.address("admin")))
            .collect();
        let targets = targets.join(", ");
        config.push_str(&format!(
            "  - job_name: {job}\n    static_configs:\n      - targets: [{targets}]\n"
        ));
    }
    fs::write(dir.join("prometheus.yml"), config).unwrap();
    let rules = fs::read_to_string(deploy("prometheus/rules.yml")).unwrap();
    fs::write(dir.join("rules.yml"), rules.replace("for: 10m", "for: 1s")).unwrap();
    let flag = |name: &str, path: &str| format!("--{name}={}", dir.join(path).display());
    Server::start(
        Command::new("prometheus")
            .arg(flag("config.file", "prometheus.yml"))
            .arg(flag("storage.tsdb.path", "data"))
            .arg("--web.listen-address=127.0.0.1:0"),
    )
}

/// Alertmanager with the example's configuration, but telling at once, and telling `receiver`.
pub(super) fn alertmanager(dir: &Path, receiver: SocketAddr) -> Server {
    let example = fs::read_to_string(deploy("prometheus/alertmanager.yml")).unwrap();
    let config = example
        .replace("group_wait: 10s", "group_wait: 0s")
        .replace("group_interval: 5m", "group_interval: 1s")
        .replace("127.0.0.1:9095", &receiver.to_string());
    fs::write(dir.join("alertmanager.yml"), config).unwrap();
    let flag = |name: &str, path: &str| format!("--{name}={}", dir.join(path).display());
    Server::start(
        Command::new("prometheus-alertmanager")
            .arg(flag("config.file", "alertmanager.yml"))
            .arg(flag("storage.path", "alertmanager"))
            .arg("--cluster.listen-address=")
            .arg("--web.listen-address=127.0.0.1:0"),
    )
}

/// Whom Alertmanager tells: of each alert and program who was told, and what.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Alerts>>);

type Alerts = BTreeMap<(String, String), (String, Value)>;

impl Told {
    pub(super) fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let told = told.clone();
                std::thread::spawn(move || told.receive(stream));
            }
        });
        address
    }

    fn receive(&self, stream: std::net::TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let (mut to, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                match stream.read_line(&mut line) {
                    Ok(read) if read > 0 => {}
                    _ => return,
                }
                if let Some(rest) = line.strip_prefix("POST /") {
                    rest.split(' ').next().unwrap().clone_into(&mut to);
                }
                let lower = line.to_ascii_lowercase();
                if let Some(number) = lower.strip_prefix("content-length:") {
                    length = number.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).unwrap();
            let body: Value = serde_json::from_slice(&body).unwrap();
            for alert in body["alerts"].as_array().unwrap() {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let key = (
                    text(&alert["labels"]["alertname"]),
                    text(&alert["labels"]["instance"]),
                );
                self.0
                    .lock()
                    .unwrap()
                    .insert(key, (to.clone(), alert.clone()));
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            if stream.get_mut().write_all(answer).is_err() {
                return;
            }
        }
    }

    /// An alert, by the program that it is of and by itself: who was told, and what.
    fn find(&self, is_it: impl Fn(&str, &Value) -> bool) -> Option<(String, Value)> {
        let told = self.0.lock().unwrap();
        let found = told.iter().find(|((_, at), (_, alert))| is_it(at, alert));
        found.map(|(_, told)| told.clone())
    }

    /// Waits until this alarm of this program has been told as `status`, firing or resolved.
    pub(super) fn wait_for(&self, alarm: Alarm, program: &Program, status: &str) {
        let instance = program.address("admin").to_string();
        let what = format!("{} is {status} at {instance}", alarm.as_str());
        let (to, alert) = within(SOON, &what, || {
            self.find(|at, alert| {
                let is_it = at == instance && alert["labels"]["name"] == alarm.as_str();
                is_it && alert["status"] == status
            })
        });
        let expected = gapura_telemetry::alarms::docs(alarm.as_str());
        assert_eq!(alert["annotations"]["docs"], json!(expected), "{alert}");
        let critical = alert["labels"]["severity"] == "critical";
        assert_eq!(to == "on-call", critical, "{to}: {alert}");
    }
}

/// A sidecar of its own, whose mesh directory is the test's to break.
fn sidecar(mesh: &TestMesh, name: &str, own: &Certificate) -> (Program, MeshDir) {
    let dir = MeshDir::create(&mesh.dir().join(name), &mesh.authority.files_for(own));
    let mut sidecar = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--plugin", mesh.plugin.url())
        .flag("--mesh-dir", dir.path())
        .flag("--admin", "127.0.0.1:0")
        .flag("--workers", "1")
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    (sidecar, dir)
}

#[test]
fn each_alarm_reaches_whoever_is_on_call_and_is_called_off_when_it_is_mended() {
    if !has("prometheus") || !has("prometheus-alertmanager") {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = files.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (tenants, last_good) = (files.path().join("tenants"), files.path().join("last-good"));
    fs::create_dir(&tenants).unwrap();
    fs::create_dir(&last_good).unwrap();
    let deny = file("deny.json", "{}");
    let clients = gapura_tests::certs::Authority::two_tier("clients");
    let client_ca = file("client-ca.pem", &clients.cas_pem());
    let client_crl = file("client-crl.pem", &clients.crl(&[]));
    let mesh = TestMesh::new()
        .gateway_flag("--deny", &deny)
        .gateway_flag("--tenants", tenants.to_str().unwrap())
        .gateway_flag("--last-good", last_good.to_str().unwrap())
        .gateway_flag("--client-ca", &client_ca)
        .gateway_flag("--client-crl", &client_crl)
        .start();
    let own = |name: &str| mesh.authority.issue(&Leaf::plugin(name));
    let soon = SystemTime::now() + Duration::from_secs(20);
    let begun = SystemTime::now() - Duration::from_secs(3600);
    let short = mesh
        .authority
        .issue(&Leaf::plugin("short").valid(begun, soon));
    let (old, revoked, early) = (own("old"), own("revoked"), own("early"));
    let (ends, ends_dir) = sidecar(&mesh, "short", &short);
    let (late, late_dir) = sidecar(&mesh, "old", &old);
    let (out, out_dir) = sidecar(&mesh, "revoked", &revoked);
    let (young, young_dir) = sidecar(&mesh, "early", &early);

    let told = Told::default();
    let alertmanager = alertmanager(files.path(), told.listen());
    let sidecars = [&mesh.sidecar, &ends, &late, &out, &young];
    let _prometheus = prometheus(
        files.path(),
        alertmanager.address,
        &[
            ("gapura-gateway", &[&mesh.gateway]),
            ("gapura-sidecar", &sidecars),
        ],
    );

    // Each by what really causes it.
    let jwks = mesh.dir().join("jwks.json");
    let keys = fs::read_to_string(&jwks).unwrap();
    let public = mesh.dir().join("public.crt");
    let shown = fs::read_to_string(&public).unwrap();
    mesh.write_registry("broken", &json!({"name": "broken"}));
    fs::write(&jwks, "no keys").unwrap();
    fs::write(&deny, "{").unwrap();
    fs::write(tenants.join("a.json"), "{").unwrap();
    fs::write(&client_ca, "no certificate").unwrap();
    fs::write(&public, mesh.new_public_certificate().chain).unwrap();
    let fitting = mesh.authority.files_for(&mesh.sidecar_cert);
    let mut misfit = fitting.clone();
    misfit.key = own("another").key;
    mesh.sidecar_dir.publish(&misfit);
    let files_of = |leaf: &Certificate| mesh.authority.files_for(leaf);
    let over = mesh
        .authority
        .crl_until(&[], SystemTime::now() + Duration::from_secs(8));
    late_dir.publish(&files_of(&old).with_crl(Some(over)));
    out_dir.publish(&files_of(&revoked).with_crl(Some(mesh.authority.crl(&[&revoked]))));
    let tomorrow = mesh.authority.issue(&Leaf::plugin("early").of_tomorrow());
    young_dir.publish(&files_of(&tomorrow));

    let raised = [
        (Alarm::Registry, &mesh.gateway),
        (Alarm::Keys, &mesh.gateway),
        (Alarm::Deny, &mesh.gateway),
        (Alarm::Tenants, &mesh.gateway),
        (Alarm::ClientCa, &mesh.gateway),
        (Alarm::PublicCertificate, &mesh.gateway),
        (Alarm::Trust, &mesh.sidecar),
        (Alarm::Certificate, &ends),
        (Alarm::Crl, &late),
        (Alarm::Revoked, &out),
        (Alarm::Clock, &young),
    ];
    for (alarm, program) in raised {
        told.wait_for(alarm, program, "firing");
    }
    // Where the copy shall be written there is suddenly no folder; the next change of a plugin file
    // has to be kept.
    fs::remove_dir_all(&last_good).unwrap();
    fs::write(&last_good, "in the way").unwrap();
    fs::remove_file(mesh.plugins.join("broken.json")).unwrap();
    told.wait_for(Alarm::LastGood, &mesh.gateway, "firing");

    // And each is called off once it is mended.
    fs::remove_file(&last_good).unwrap();
    fs::create_dir(&last_good).unwrap();
    mesh.write_registry("echo", &mesh.entry(&json!({"timeout_ms": 20000})));
    fs::write(&jwks, keys).unwrap();
    fs::write(&deny, "{}").unwrap();
    fs::write(tenants.join("a.json"), "{\"company_id\": \"a\"}").unwrap();
    fs::write(&client_ca, clients.cas_pem()).unwrap();
    fs::write(&public, shown).unwrap();
    mesh.sidecar_dir.publish(&fitting);
    ends_dir.publish(&files_of(&own("short")));
    late_dir.publish(&files_of(&old));
    young_dir.publish(&files_of(&early));
    for (alarm, program) in raised {
        if alarm != Alarm::Revoked {
            told.wait_for(alarm, program, "resolved");
        }
    }
    told.wait_for(Alarm::LastGood, &mesh.gateway, "resolved");
}

#[test]
fn what_a_gateway_cannot_keep_and_spans_that_reach_nobody_are_told_too() {
    if !has("prometheus") || !has("prometheus-alertmanager") {
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let state = files.path().join("state");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let collector = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let mesh = TestMesh::new()
        .gateway_arg("--backchannel-logout")
        .gateway_flag("--logout-audience", "door")
        .gateway_flag("--state-dir", state.to_str().unwrap())
        .invocations(move |invocation, _| invocation.env("OTEL_EXPORTER_OTLP_ENDPOINT", &collector))
        .start();
    let told = Told::default();
    let alertmanager = alertmanager(files.path(), told.listen());
    let gateway = &mesh.gateway;
    let _prometheus = prometheus(
        files.path(),
        alertmanager.address,
        &[("gapura-gateway", &[gateway])],
    );
    let log_out = |id: &str| {
        let event = "http://schemas.openid.net/event/backchannel-logout";
        let claims = json!({"iss": ISSUER, "aud": "door", "iat": unix_now(), "jti": id, "sub": "ann", "events": {event: {}}});
        let form = format!("logout_token={}", mesh.signer.token(&claims));
        let post = mesh.post("/.gapura/backchannel-logout", form);
        let form = "application/x-www-form-urlencoded";
        post.header("Content-Type", form).send().status
    };
    assert_eq!(log_out("1"), 200);
    // Folders where files should be written fail for root too, as a full disk does.
    fs::remove_file(state.join("logouts.jsonl")).unwrap();
    fs::create_dir(state.join("logouts.jsonl")).unwrap();
    fs::write(state.join("contracts"), "in the way").unwrap();
    assert_eq!(log_out("2"), 503);
    let document = json!({"openapi": "3.1.0", "info": {"title": "t", "version": "1"}}).to_string();
    mesh.plugin.on("/openapi.json", move |exchange| {
        exchange.read_body();
        let json = "Content-Type: application/json\r\n";
        exchange.answer("200 OK", json, document.as_bytes());
        Then::Keep
    });
    mesh.write_registry("echo", &mesh.entry(&json!({"openapi": null})));
    told.wait_for(Alarm::Logouts, gateway, "firing");
    told.wait_for(Alarm::Contracts, gateway, "firing");
    // Spans for as long as it takes: each post is tried for seconds before its spans are given up.
    let (to, alert) = within(SOON, "spans are dropped", || {
        assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
        told.find(|_, alert| alert["labels"]["alertname"] == "GapuraSpansDropped")
    });
    assert_eq!(
        (to.as_str(), &alert["status"]),
        ("morning", &json!("firing"))
    );
    fs::remove_dir(state.join("logouts.jsonl")).unwrap();
    fs::remove_file(state.join("contracts")).unwrap();
    assert_eq!(log_out("3"), 200);
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"openapi": null, "version": "1.0.1"})),
    );
    told.wait_for(Alarm::Logouts, gateway, "resolved");
    told.wait_for(Alarm::Contracts, gateway, "resolved");
}

/// What the dashboard asks, with its panel.
fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            queries.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    let annotations = dashboard["annotations"]["list"].as_array().unwrap();
    queries.extend(annotations.iter().map(|one| {
        (
            "an annotation".to_owned(),
            one["expr"].as_str().unwrap().to_owned(),
        )
    }));
    queries
}

/// What Grafana puts in the place of its variables.
fn filled(expr: &str) -> String {
    expr.replace("$__rate_interval", "10s")
        .replace("$plugin", ".*")
}

#[test]
fn each_query_of_the_dashboard_and_each_rule_is_answered_with_what_the_programs_say() {
    if !has("prometheus") {
        return;
    }
    let mesh = TestMesh::new()
        .also(
            "again",
            json!({"canary": {"upstream": "https://127.0.0.1:1", "mirror": true}}),
        )
        .also("broken", json!({"upstream": "https://127.0.0.1:1"}))
        .start();
    let dir = tempfile::tempdir().unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 9));
    let prometheus = prometheus(
        dir.path(),
        nobody,
        &[
            ("gapura-gateway", &[&mesh.gateway]),
            ("gapura-sidecar", &[&mesh.sidecar]),
        ],
    );
    let traffic = || {
        for path in ["/echo/x", "/again/x"] {
            let request = mesh.get(path).header("X-Company-Id", "1");
            assert_eq!(request.token_of("7", "42").send().status, 200);
        }
        assert_eq!(mesh.get("/broken/x").token_of("7", "42").send().status, 502);
        assert_eq!(
            mesh.get("/echo/x").token("no.token.atall").send().status,
            401
        );
        // A handshake at the sidecar that shows no certificate.
        let tls: Tls = mesh.hop_tls(None, &["http/1.1"]);
        if let Ok(mut wire) = Wire::tls(mesh.hop(), &tls) {
            let _ = wire.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            let _ = wire.to_end();
        }
    };
    let text = fs::read_to_string(deploy("grafana/gapura.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 30, "{}", queries.len());
    // Nothing is wrong here: what only then has data may have none.
    let quiet = ["Alarms", "an annotation"];
    for (panel, expr) in &queries {
        let asked = filled(expr);
        assert!(!asked.contains('$'), "{panel}: {asked}");
        within(SOON, &format!("{panel} has data: {asked}"), || {
            traffic();
            let samples = prometheus
                .query(&asked)
                .unwrap_or_else(|why| panic!("{panel}: {why}"));
            (!samples.is_empty() || quiet.contains(&panel.as_str())).then_some(())
        });
    }
    let variable = &dashboard["templating"]["list"][1]["definition"];
    assert_eq!(variable, "label_values(gapura_requests_total, plugin)");
    let plugins = prometheus.get("/api/v1/label/plugin/values?match[]=gapura_requests_total");
    assert!(
        plugins["data"].to_string().contains("\"echo\""),
        "{plugins}"
    );
    // Every rule has been evaluated, and none had a fault.
    let recorded = within(SOON, "each rule has been evaluated", || {
        traffic();
        let answer = prometheus.get("/api/v1/rules");
        let groups = answer["data"]["groups"].as_array().unwrap().clone();
        let rules: Vec<Value> = groups
            .iter()
            .flat_map(|group| group["rules"].as_array().unwrap().clone())
            .collect();
        let faulty: Vec<&Value> = rules
            .iter()
            .filter(|rule| rule["health"] == "err")
            .collect();
        assert!(faulty.is_empty(), "{faulty:?}");
        let all = rules.iter().all(|rule| rule["health"] == "ok");
        all.then_some(rules)
    });
    let mut names = BTreeSet::new();
    for rule in recorded.iter().filter(|rule| rule["type"] == "recording") {
        let name = rule["name"].as_str().unwrap();
        assert!(names.insert(name.to_owned()), "{name} twice");
        within(SOON, &format!("{name} has data"), || {
            traffic();
            (!prometheus.query(name).unwrap().is_empty()).then_some(())
        });
    }
    assert_eq!(names.len(), 16, "{names:?}");
    // Stock dashboards find what they look for.
    let stock = "sum by (http_request_method, http_response_status_code, http_route) (http_server_request_duration_seconds_count{job=\"gapura-gateway\", http_route=\"/echo\", http_response_status_code=\"200\"})";
    let samples = prometheus.query(stock).unwrap();
    assert_eq!(
        samples[0]["metric"]["http_request_method"], "GET",
        "{samples:?}"
    );
    let quantile = "histogram_quantile(0.99, sum by (le) (rate(http_server_request_duration_seconds_bucket[10s])))";
    assert!(!prometheus.query(quantile).unwrap().is_empty());
}

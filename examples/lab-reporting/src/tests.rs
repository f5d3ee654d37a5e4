//! The service as its callers meet it: real HTTP over a socket, bytes written by hand.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct Lab {
    running: Running,
    lines: Memory,
}

#[derive(Debug)]
struct Got {
    status: u16,
    head: String,
    body: Value,
}

impl Lab {
    async fn with(listen: &str, database: Database, seed: bool) -> Self {
        let lines = Memory::default();
        let log = Log::to(Box::new(lines.clone())).unwrap();
        let running = start(Config {
            listen: listen.parse().unwrap(),
            database,
            seed,
            log,
        })
        .await
        .unwrap();
        Self { running, lines }
    }

    async fn seeded() -> Self {
        Self::with("127.0.0.1:0", Database::Memory, true).await
    }

    async fn send(&self, request: &str) -> Got {
        match self.running.address() {
            Listen::Tcp(address) => {
                exchange(
                    TcpStream::connect(address).await.unwrap(),
                    request.as_bytes(),
                )
                .await
            }
            Listen::Unix(path) => {
                exchange(UnixStream::connect(path).await.unwrap(), request.as_bytes()).await
            }
        }
    }

    async fn get(&self, company: &str, path: &str) -> Got {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: lab\r\nX-Company-Id: {company}\r\nConnection: close\r\n\r\n")).await
    }

    async fn post(&self, company: &str, body: &str) -> Got {
        let length = body.len();
        self.send(&format!(
            "POST /reports HTTP/1.1\r\nHost: lab\r\nX-Company-Id: {company}\r\nX-User-Id: u-9\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ))
        .await
    }

    /// Ends the service and gives what it logged.
    async fn stop(self) -> String {
        self.running.stop().await;
        let lines = self.lines.clone();
        wait_until(|| {
            lines
                .0
                .lock()
                .unwrap()
                .windows(9)
                .any(|part| part == b"\"stopped\"")
        })
        .await;
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> Got {
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut bytes))
        .await
        .unwrap()
        .unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Got {
        status,
        head: head.to_owned(),
        body: serde_json::from_str(body).unwrap_or(Value::Null),
    }
}

async fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(
            tokio::time::Instant::now() < deadline,
            "the condition never came true"
        );
        tokio::task::yield_now().await;
    }
}

fn ids(got: &Got) -> Vec<i64> {
    got.body["data"]["reports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|report| report["id"].as_i64().unwrap())
        .collect()
}

fn errors(got: &Got) -> Vec<&str> {
    assert_eq!(got.body["ok"], false, "{got:?}");
    assert!(
        got.body["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{got:?}"
    );
    got.body["errors"]
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[tokio::test]
async fn a_company_sees_its_own_reports_only() {
    let lab = Lab::seeded().await;
    let (ours, theirs) = (
        ids(&lab.get("42", "/reports").await),
        ids(&lab.get("7", "/reports").await),
    );
    assert_eq!((ours.len(), theirs.len()), (3, 2));
    assert!(ours.iter().all(|id| !theirs.contains(id)));
    assert!(ids(&lab.get("43", "/reports").await).is_empty());

    let own = lab.get("7", &format!("/reports/{}", theirs[0])).await;
    assert_eq!(
        (own.status, &own.body["ok"], &own.body["data"]["patient"]),
        (200, &json!(true), &json!("Patient X"))
    );
    let others = lab.get("42", &format!("/reports/{}", theirs[0])).await;
    let absent = lab.get("42", "/reports/999999").await;
    assert_eq!(
        (others.status, &others.body),
        (404, &absent.body),
        "another company's report must look like none"
    );
    assert_eq!(absent.status, 404);
    assert_eq!(errors(&absent), ["id"]);
}

#[tokio::test]
async fn a_request_without_exactly_one_sound_company_reads_nothing() {
    let lab = Lab::seeded().await;
    for headers in [
        "",
        "X-Company-Id: \r\n",
        "X-Company-Id: 42\r\nx-company-id: 7\r\n",
        "X-Company-Id: 42' OR '1'='1\r\n",
        "X-Company-Id: %\r\n",
    ] {
        for target in ["/reports", "/reports/1"] {
            let got = lab
                .send(&format!(
                    "GET {target} HTTP/1.1\r\nHost: lab\r\n{headers}Connection: close\r\n\r\n"
                ))
                .await;
            assert_eq!(got.status, 400, "{headers:?}");
            assert_eq!(errors(&got), ["X-Company-Id"]);
        }
        let added =
            lab.send(&format!("POST /reports HTTP/1.1\r\nHost: lab\r\n{headers}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}")).await;
        assert_eq!(added.status, 400, "{headers:?}");
    }
    assert_eq!(lab.get("42", "/reports").await.status, 200);
}

#[tokio::test]
async fn sql_in_any_place_is_text_or_refused() {
    let lab = Lab::seeded().await;
    for path in [
        "/reports/1%20OR%201=1",
        "/reports/1'--",
        "/reports/4;DROP",
        "/reports/-1",
    ] {
        assert_eq!(lab.get("42", path).await.status, 404, "{path}");
    }
    for query in [
        "after=0%20OR%201=1",
        "limit=1;DROP%20TABLE%20reports",
        "after='",
    ] {
        assert_eq!(
            lab.get("42", &format!("/reports?{query}")).await.status,
            422,
            "{query}"
        );
    }
    let nasty = "x'); DELETE FROM reports; --";
    let added = lab
        .post(
            "42",
            &json!({"title": nasty, "patient": nasty, "body": nasty}).to_string(),
        )
        .await;
    assert_eq!(
        (added.status, &added.body["data"]["title"]),
        (201, &json!(nasty))
    );
    assert_eq!(ids(&lab.get("42", "/reports").await).len(), 4);
    assert_eq!(ids(&lab.get("7", "/reports").await).len(), 2);
}

#[tokio::test]
async fn a_report_is_added_once() {
    let lab = Lab::seeded().await;
    let new = json!({"number": "N-1", "title": "Ferritin", "patient": "P", "body": "110 ng/ml"})
        .to_string();
    let added = lab.post("42", &new).await;
    assert_eq!(
        (
            added.status,
            &added.body["ok"],
            &added.body["data"]["created_by"]
        ),
        (201, &json!(true), &json!("u-9"))
    );
    let id = &added.body["data"]["id"];
    assert!(
        added
            .head
            .to_lowercase()
            .contains(&format!("location: reports/{id}")),
        "{}",
        added.head
    );
    let read = lab.get("42", &format!("/reports/{id}")).await;
    assert_eq!(read.body["data"], added.body["data"]);

    let again = lab.post("42", &new).await;
    assert_eq!((again.status, errors(&again)), (409, vec!["number"]));
    assert_eq!(
        lab.post("7", &new).await.status,
        201,
        "another company's number must not show"
    );
}

#[tokio::test]
async fn faulty_input_is_told_field_by_field() {
    let lab = Lab::seeded().await;
    let got = lab
        .post("42", r#"{"title":"","patient":1,"colour":"red"}"#)
        .await;
    assert_eq!(
        (got.status, errors(&got)),
        (422, vec!["body", "colour", "patient", "title"])
    );
    let got = lab.post("42", r#"{"title":"#).await;
    assert_eq!((got.status, errors(&got)), (400, vec!["body"]));
    let got = lab.get("42", "/reports?limit=0&after=x").await;
    assert_eq!((got.status, errors(&got)), (422, vec!["after", "limit"]));
}

#[tokio::test]
async fn a_body_over_64_kib_is_refused_however_it_is_framed() {
    let lab = Lab::seeded().await;
    let announced =
        lab.send("POST /reports HTTP/1.1\r\nHost: lab\r\nX-Company-Id: 42\r\nConnection: close\r\nContent-Length: 65537\r\n\r\n").await;
    assert_eq!((announced.status, errors(&announced)), (413, vec!["body"]));
    let head = "POST /reports HTTP/1.1\r\nHost: lab\r\nX-Company-Id: 42\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let chunked = lab
        .send(&format!(
            "{head}10001\r\n{}\r\n0\r\n\r\n",
            "x".repeat(65_537)
        ))
        .await;
    assert_eq!((chunked.status, errors(&chunked)), (413, vec!["body"]));
    let text = "x".repeat(50_000);
    assert_eq!(
        lab.post(
            "42",
            &json!({"title": "t", "patient": "p", "body": text}).to_string()
        )
        .await
        .status,
        201
    );
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_repeat() {
    let lab = Lab::with("127.0.0.1:0", Database::Memory, false).await;
    for number in 0..7 {
        let company = if number % 3 == 2 { "7" } else { "42" };
        assert_eq!(
            lab.post(
                company,
                &json!({"title": format!("{number}"), "patient": "p", "body": "b"}).to_string()
            )
            .await
            .status,
            201
        );
    }
    let (mut seen, mut after) = (Vec::new(), json!(0));
    for expected in [2, 2, 1] {
        let page = lab
            .get("42", &format!("/reports?limit=2&after={after}"))
            .await;
        assert_eq!(ids(&page).len(), expected);
        seen.extend(ids(&page));
        after = page.body["data"]["next_after"].clone();
    }
    assert_eq!(after, Value::Null);
    assert_eq!(seen, [1, 2, 4, 5, 7]);
}

#[tokio::test]
async fn a_restart_keeps_the_reports() {
    let folder = tempfile::tempdir().unwrap();
    let file = Database::File(folder.path().join("lab.db"));
    let lab = Lab::with("127.0.0.1:0", file.clone(), false).await;
    assert_eq!(
        lab.post("42", r#"{"title":"kept","patient":"p","body":"b"}"#)
            .await
            .status,
        201
    );
    lab.stop().await;
    let lab = Lab::with("127.0.0.1:0", file, false).await;
    assert_eq!(
        lab.get("42", "/reports").await.body["data"]["reports"][0]["title"],
        "kept"
    );
}

#[tokio::test]
async fn it_tells_what_it_is_over_a_unix_socket_too() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("lab.sock");
    let lab = Lab::with(
        &format!("unix:{}", socket.display()),
        Database::Memory,
        true,
    )
    .await;
    let get = async |path: &str| {
        lab.send(&format!(
            "GET {path} HTTP/1.1\r\nHost: lab\r\nConnection: close\r\n\r\n"
        ))
        .await
    };
    assert_eq!(
        get("/version").await.body,
        json!({"name": NAME, "version": VERSION})
    );
    assert_eq!(get("/healthz").await.body["ok"], true);
    assert_eq!(get("/openapi.json").await.body["openapi"], "3.1.0");
    let unknown = get("/nothing").await;
    assert_eq!((unknown.status, &unknown.body["ok"]), (404, &json!(false)));
    let wrong = lab.send("DELETE /reports/1 HTTP/1.1\r\nHost: lab\r\nX-Company-Id: 42\r\nConnection: close\r\n\r\n").await;
    assert_eq!(wrong.status, 405);
    assert!(wrong.head.to_lowercase().contains("allow: get, head"));
    lab.stop().await;
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_log_has_the_request_id_and_no_personal_data() {
    let lab = Lab::seeded().await;
    let body = r#"{"title":"Secret title","patient":"Jane Roe","body":"Secret text"}"#;
    let length = body.len();
    lab.send(&format!(
        "POST /reports HTTP/1.1\r\nHost: lab\r\nX-Company-Id: 42\r\nX-User-Id: jane\r\nX-Request-Id: r-77\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    lab.send("GET /jane-roe?patient=Roe HTTP/1.1\r\nHost: lab\r\nX-Request-Id: bad id\r\nConnection: close\r\n\r\n").await;
    let log = lab.stop().await;
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let added = lines
        .iter()
        .find(|line| line["request_id"] == "r-77")
        .unwrap();
    assert_eq!(
        (&added["status"], &added["company_id"], &added["route"]),
        (&json!(201), &json!("42"), &json!("/reports"))
    );
    assert!(
        lines
            .iter()
            .any(|line| line["status"] == 404 && line["request_id"] == Value::Null)
    );
    for secret in ["Secret", "Jane", "jane", "Roe", "bad id"] {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
}

#[tokio::test]
async fn a_stop_lets_the_request_in_flight_finish() {
    let lab = Lab::seeded().await;
    let Listen::Tcp(address) = lab.running.address().clone() else {
        unreachable!()
    };
    let mut stream = TcpStream::connect(address).await.unwrap();
    let body = r#"{"title":"late","patient":"p","body":"b"}"#;
    let head = format!(
        "POST /reports HTTP/1.1\r\nHost: lab\r\nX-Company-Id: 42\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap(); // "HTTP/1.1 100 Continue": the handler waits for the body
    let stopping = tokio::spawn(lab.stop());
    wait_until(|| std::net::TcpStream::connect(address).is_err()).await; // refused: the service is going down
    let got = exchange(stream, body.as_bytes()).await;
    assert_eq!(got.status, 201);
    stopping.await.unwrap();
}

#[tokio::test]
async fn an_address_in_use_and_a_missing_folder_are_one_sentence() {
    let lab = Lab::seeded().await;
    let config = |listen: Listen, database| Config {
        listen,
        database,
        seed: false,
        log: Log::to(Box::new(std::io::sink())).unwrap(),
    };
    let taken = start(config(lab.running.address().clone(), Database::Memory))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        taken.contains("in use") && taken.contains("--listen"),
        "{taken}"
    );
    let nowhere = Database::File("/nowhere/lab.db".into());
    let lost = start(config("127.0.0.1:0".parse().unwrap(), nowhere))
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(
        lost.contains("/nowhere/lab.db") && lost.contains("--database"),
        "{lost}"
    );
}

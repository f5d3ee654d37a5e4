use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A host on this machine that gives the same bytes to every request, and counts them.
struct Site {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Site {
    fn answering(answer: impl Into<Vec<u8>>) -> Self {
        Self::by(answer.into(), None)
    }

    fn over_tls(answer: &str, names: &[&str]) -> (Self, Client) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let tls = rustls::ServerConfig::builder_with_provider(public_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("ca.pem");
        std::fs::write(&roots, made.cert.pem()).unwrap();
        let client = Client::new(Some(&roots));
        (Self::by(answer.into(), Some(Arc::new(tls))), client)
    }

    fn by(answer: Vec<u8>, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, heads) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (count, seen) = (asked.clone(), heads.clone());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                let serve = |stream: &mut dyn ReadWrite| {
                    let mut head = [0; 4096];
                    let Ok(read) = stream.read(&mut head) else {
                        return;
                    };
                    seen.lock()
                        .unwrap()
                        .push(String::from_utf8_lossy(&head[..read]).into_owned());
                    let _ = stream.write_all(&answer).and_then(|()| stream.flush());
                };
                match &tls {
                    None => serve(&mut stream),
                    Some(tls) => {
                        let mut connection = rustls::ServerConnection::new(tls.clone()).unwrap();
                        serve(&mut rustls::Stream::new(&mut connection, &mut stream));
                        connection.send_close_notify();
                        let _ = connection.complete_io(&mut stream);
                    }
                }
            }
        });
        Self {
            address,
            asked,
            heads,
        }
    }

    fn url(&self, path: &str) -> Url {
        Url::parse(&format!("http://{}{path}", self.address)).unwrap()
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

const BOUNDS: Bounds = Bounds {
    bytes: 1024,
    within: Duration::from_secs(20),
};

fn client() -> Client {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("ca.pem");
    let root = rcgen::generate_simple_self_signed(["id.test".to_owned()]).unwrap();
    std::fs::write(&file, root.cert.pem()).unwrap();
    Client::new(Some(&file))
}

fn get_with(client: &Client, url: &Url, reach: Reach, bounds: &Bounds) -> Result<Answer, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(client.get(url, reach, bounds))
        .map_err(|error| error.to_string())
}

fn get(site: &Site) -> Result<Answer, String> {
    get_with(&client(), &site.url("/keys?v=1"), Reach::Anywhere, &BOUNDS)
}

#[test]
fn a_document_is_fetched_whole_with_its_age() {
    let site = Site::answering(
        "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=60\r\nAge: 20\r\nContent-Length: 2\r\n\r\n{}",
    );
    let answer = get(&site).unwrap();
    assert_eq!(answer.body, b"{}");
    assert_eq!(answer.keep, Some(Duration::from_secs(40)));
    let head = site.heads.lock().unwrap()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /keys?v=1 http/1.1\r\n"), "{head}");
    assert!(
        head.contains(&format!("host: {}\r\n", site.address)),
        "{head}"
    );
    assert!(
        !head.contains("cookie") && !head.contains("authorization"),
        "{head}"
    );
    let chunked = Site::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    );
    assert_eq!(
        get(&chunked).unwrap(),
        Answer {
            body: b"{}".to_vec(),
            keep: None
        }
    );
}

#[test]
fn what_is_no_document_is_refused_and_said_why() {
    let long = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: 1025\r\n\r\n{}",
        "a".repeat(1025)
    );
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}".to_owned();
    let endless = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
        + &format!("400\r\n{}\r\n", "a".repeat(1024)).repeat(4);
    for (answer, says) in [
        (
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            "answers 404",
        ),
        ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), "answers 204"),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=x\r\nContent-Length: 2\r\n\r\n{}"
                .to_owned(),
            "text/html",
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}".to_owned(),
            "encoding",
        ),
        (long, "longer than 1 KiB"),
        (endless, "longer than 1 KiB"),
        (cut, "broke off"),
        ("SSH-2.0-OpenSSH\r\n".to_owned(), "no HTTP"),
        (String::new(), "no HTTP"),
    ] {
        let said = get(&Site::answering(answer.clone())).unwrap_err();
        assert!(said.contains(says), "{answer}: {said}");
    }
}

#[test]
fn a_redirect_stays_on_its_own_host() {
    let other = Site::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let site = Site::answering(format!(
        "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        other.url("/")
    ));
    let said = get(&site).unwrap_err();
    assert!(
        said.contains("redirects to") && said.contains("elsewhere"),
        "{said}"
    );
    assert_eq!(other.asked.load(Ordering::SeqCst), 0);
    let circle =
        Site::answering("HTTP/1.1 301 Moved\r\nLocation: /again\r\nContent-Length: 0\r\n\r\n");
    let said = get(&circle).unwrap_err();
    assert!(said.contains("more than 3 times"), "{said}");
    assert_eq!(circle.asked.load(Ordering::SeqCst), 4);
    assert!(circle.heads.lock().unwrap()[3].starts_with("GET /again "));
}

#[test]
fn a_host_that_somebody_else_wrote_must_be_public() {
    let site = Site::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    let said = get_with(&client(), &site.url("/"), Reach::Public, &BOUNDS).unwrap_err();
    assert!(said.contains("not public"), "{said}");
    assert_eq!(site.asked.load(Ordering::SeqCst), 0);
}

#[test]
fn a_host_that_says_nothing_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let bounds = Bounds {
        within: Duration::from_millis(200),
        ..BOUNDS
    };
    let said = get_with(&client(), &url, Reach::Anywhere, &bounds).unwrap_err();
    assert!(said.contains("no whole answer"), "{said}");
}

#[test]
fn tls_is_verified_by_the_named_roots() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let (site, trusting) = Site::over_tls(answer, &["localhost"]);
    let url = Url::parse(&format!("https://localhost:{}/keys", site.address.port())).unwrap();
    let answered = get_with(&trusting, &url, Reach::Anywhere, &BOUNDS);
    assert_eq!(answered.unwrap().body, b"{}");
    let stranger = get_with(&client(), &url, Reach::Anywhere, &BOUNDS).unwrap_err();
    assert!(stranger.contains("TLS failed"), "{stranger}");
    let (site, trusting) = Site::over_tls(answer, &["other.test"]);
    let url = Url::parse(&format!("https://localhost:{}/keys", site.address.port())).unwrap();
    let other = get_with(&trusting, &url, Reach::Anywhere, &BOUNDS).unwrap_err();
    assert!(other.contains("TLS failed"), "{other}");
}

#[test]
fn without_roots_only_this_machine_is_asked() {
    let client = Client::new(Some(Path::new("/nowhere/ca.pem")));
    let remote = Url::parse("https://id.test/").unwrap();
    let said = client.check(&remote).unwrap_err();
    assert!(said.contains("--issuer-ca /nowhere/ca.pem"), "{said}");
    let fetched = get_with(&client, &remote, Reach::Anywhere, &BOUNDS).unwrap_err();
    assert!(fetched.contains("--issuer-ca"), "{fetched}");
    let site = Site::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
    assert!(client.check(&site.url("/")).is_ok());
    assert!(get_with(&client, &site.url("/"), Reach::Anywhere, &BOUNDS).is_ok());
}

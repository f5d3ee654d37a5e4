//! A collector of spans: takes posts of OTLP in JSON, keeps them, and answers by script, well,
//! badly or never.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::certs::{Authority, Leaf};
use crate::eventually;

/// Takes posts until the test's process ends.
#[derive(Clone)]
pub struct Collector {
    address: SocketAddr,
    root: Option<String>,
    kept: Arc<Kept>,
}

/// One post as it came.
#[derive(Clone, Debug)]
pub struct Post {
    /// The request line and all headers.
    pub head: String,
    /// The body, read as JSON.
    pub body: Value,
}

/// One span of a post, with whose it is.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of its resource.
    pub service: String,
    /// All of it.
    pub json: Value,
}

#[derive(Default)]
struct Kept {
    posts: Mutex<Vec<Post>>,
    answers: Mutex<VecDeque<String>>,
    silent: AtomicBool,
}

impl Collector {
    /// On a port of loopback, answering 200.
    #[must_use]
    pub fn start() -> Self {
        Self::serve(None, None)
    }

    /// The same over TLS, by a certificate for `localhost`.
    #[must_use]
    pub fn start_tls() -> Self {
        let authority = Authority::two_tier("collector");
        let leaf = authority.issue(&Leaf::public());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(leaf.chain_der(), leaf.key_der())
            .unwrap();
        Self::serve(Some(Arc::new(tls)), Some(authority.root_pem()))
    }

    fn serve(tls: Option<Arc<ServerConfig>>, root: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let collector = Self {
            address: listener.local_addr().unwrap(),
            root,
            kept: Arc::default(),
        };
        let kept = collector.kept.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, tls) = (kept.clone(), tls.clone());
                std::thread::spawn(move || match tls {
                    None => kept.take(stream),
                    Some(tls) => {
                        let connection = ServerConnection::new(tls).unwrap();
                        kept.take(StreamOwned::new(connection, stream));
                    }
                });
            }
        });
        collector
    }

    /// The root that vouches for it, where it speaks TLS.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        self.root.as_deref().expect("a collector over TLS")
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` says of it.
    #[must_use]
    pub fn url(&self) -> String {
        match self.root {
            None => format!("http://{}", self.address),
            Some(_) => format!("https://localhost:{}", self.address.port()),
        }
    }

    /// The next post that has no such answer yet is answered with this head, and `{}`.
    pub fn answers(&self, status_and_lines: &str) {
        self.answers_with(status_and_lines, "{}");
    }

    /// The same with this body.
    pub fn answers_with(&self, status_and_lines: &str, body: &str) {
        let answer = format!(
            "HTTP/1.1 {status_and_lines}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        self.kept.answers.lock().unwrap().push_back(answer);
    }

    /// From here on it takes connections and says nothing.
    pub fn fall_silent(&self) {
        self.kept.silent.store(true, Ordering::Relaxed);
    }

    /// All posts so far.
    #[must_use]
    pub fn posts(&self) -> Vec<Post> {
        self.kept.posts.lock().unwrap().clone()
    }

    /// All spans so far, of posts however they were answered.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.posts().iter().flat_map(Post::spans).collect()
    }

    /// The spans of the trace with this id, once `count` of them are there.
    #[must_use]
    pub fn trace(&self, id: &str, count: usize) -> Vec<Span> {
        eventually(&format!("{count} spans of the trace {id}"), || {
            let spans = self.spans().into_iter();
            let of_it: Vec<Span> = spans.filter(|span| span.json["traceId"] == id).collect();
            (of_it.len() >= count).then_some(of_it)
        })
    }
}

impl Post {
    /// Its spans.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let mut spans = Vec::new();
        for resource in list(&self.body["resourceSpans"]) {
            let service = attribute(&resource["resource"], "service.name");
            for scope in list(&resource["scopeSpans"]) {
                spans.extend(list(&scope["spans"]).into_iter().map(|json| Span {
                    service: service.clone().unwrap_or_default(),
                    json,
                }));
            }
        }
        spans
    }
}

impl Span {
    /// An attribute's text, or its number as text.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<String> {
        attribute(&self.json, name)
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.json["spanId"].as_str().unwrap()
    }

    /// Its parent's id.
    #[must_use]
    pub fn parent(&self) -> Option<&str> {
        self.json["parentSpanId"].as_str()
    }

    /// `server`, `client` or `internal`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.json["kind"].as_u64() {
            Some(1) => "internal",
            Some(2) => "server",
            Some(3) => "client",
            other => panic!("no kind: {other:?}"),
        }
    }

    /// Whether it says that it failed.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.json["status"]["code"] == 2
    }
}

impl Kept {
    fn take(&self, mut stream: impl Read + Write) {
        let Some(post) = read(&mut stream) else {
            return;
        };
        self.posts.lock().unwrap().push(post);
        if self.silent.load(Ordering::Relaxed) {
            // Until the other side gives up.
            let _ = stream.read(&mut [0]);
            return;
        }
        let next = self.answers.lock().unwrap().pop_front();
        let usual = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
        let answer = next.as_deref().unwrap_or(usual);
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.flush();
    }
}

fn read(stream: &mut impl Read) -> Option<Post> {
    let (mut bytes, mut part) = (Vec::new(), [0; 16 * 1024]);
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let is_it = name.eq_ignore_ascii_case("content-length");
        is_it.then(|| value.trim().parse::<usize>().unwrap())
    });
    let whole = end + length.expect("a post says how long it is");
    while bytes.len() < whole {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return None,
            Ok(count) => bytes.extend_from_slice(&part[..count]),
        }
    }
    let body = serde_json::from_slice(&bytes[end..whole]).expect("a post is JSON");
    Some(Post { head, body })
}

fn attribute(of: &Value, name: &str) -> Option<String> {
    let all = of["attributes"].as_array()?;
    let found = all.iter().find(|one| one["key"] == name)?;
    let value = &found["value"];
    let text = value.get("stringValue").or(value.get("intValue"))?;
    text.as_str().map(str::to_owned)
}

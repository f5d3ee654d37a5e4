//! A place on the network where keys are published: any page at any path, over TLS, counted.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, Stream};

use crate::certs::{Authority, Leaf};

/// Serves pages until it is dropped with the test's process.
#[derive(Clone)]
pub struct Provider {
    address: SocketAddr,
    root: String,
    pages: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Mutex<HashMap<String, usize>>>,
}

impl Provider {
    /// Starts with no page: every path is answered with 404.
    #[must_use]
    pub fn start() -> Self {
        let authority = Authority::two_tier("provider");
        let leaf = authority.issue(&Leaf::public());
        let tls = ServerConfig::builder_with_provider(Arc::new(
            rustls::crypto::aws_lc_rs::default_provider(),
        ))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(leaf.chain_der(), leaf.key_der())
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            root: authority.root_pem(),
            pages: Arc::default(),
            asked: Arc::default(),
        };
        let (site, tls) = (provider.clone(), Arc::new(tls));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (site, tls) = (site.clone(), tls.clone());
                std::thread::spawn(move || site.answer(stream, tls));
            }
        });
        provider
    }

    /// Its address, by the name its certificate has.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    /// The root that vouches for it.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root
    }

    /// Puts a page at a path, or takes it away.
    pub fn serve(&self, path: &str, page: Option<String>) {
        let mut pages = self.pages.lock().unwrap();
        match page {
            Some(page) => pages.insert(path.to_owned(), page),
            None => pages.remove(path),
        };
    }

    /// How often a path was asked for.
    #[must_use]
    pub fn asked(&self, path: &str) -> usize {
        self.asked.lock().unwrap().get(path).copied().unwrap_or(0)
    }

    fn answer(&self, mut stream: TcpStream, tls: Arc<ServerConfig>) {
        let Ok(mut connection) = ServerConnection::new(tls) else {
            return;
        };
        let mut head = [0; 8192];
        let Ok(read) = Stream::new(&mut connection, &mut stream).read(&mut head) else {
            return;
        };
        let text = String::from_utf8_lossy(&head[..read]).into_owned();
        let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
        *self.asked.lock().unwrap().entry(path.clone()).or_default() += 1;
        let page = self.pages.lock().unwrap().get(&path).cloned();
        let answer = match page {
            Some(page) => format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{page}",
                page.len()
            ),
            None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
        };
        let mut tls = Stream::new(&mut connection, &mut stream);
        let _ = tls.write_all(answer.as_bytes()).and_then(|()| tls.flush());
        connection.send_close_notify();
        let _ = connection.complete_io(&mut stream);
    }
}

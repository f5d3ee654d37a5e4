//! Whoever answers at the CA server's address: TLS by any mesh directory, the public certificates
//! of the CAs to whoever asks, and a note of every request.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use gapura_trust::provider::mesh_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A server of a thief's.
pub(super) struct Impostor {
    seen: Arc<Mutex<Vec<String>>>,
}

impl Impostor {
    /// Answers at `address` with the certificate in `mesh_dir`; `cas` is a PEM file of what it
    /// shows as the CAs.
    pub(super) fn start(mesh_dir: &Path, cas: &Path, address: &str) -> Self {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_file_iter(mesh_dir.join("cert.pem"))
                .unwrap()
                .map(Result::unwrap)
                .collect();
        let key = PrivateKeyDer::from_pem_file(mesh_dir.join("key.pem")).unwrap();
        let config = ServerConfig::builder_with_provider(mesh_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let shown = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "openssl crl2pkcs7 -nocrl -certfile {} -outform DER | base64 -w64",
                cas.display()
            ))
            .output()
            .unwrap();
        assert!(shown.status.success());
        let listener = TcpListener::bind(address).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (notes, config) = (seen.clone(), Arc::new(config));
        // It ends with the test's process: nothing waits for it.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let connection = ServerConnection::new(config.clone()).unwrap();
                let mut stream = StreamOwned::new(connection, stream);
                let mut request = Vec::new();
                let mut byte = [0; 1];
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read(&mut byte) {
                        Ok(1) => request.push(byte[0]),
                        _ => break,
                    }
                }
                if request.is_empty() {
                    continue;
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                notes.lock().unwrap().push(text);
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/pkcs7-mime\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                    shown.stdout.len()
                );
                let _ = stream.write_all(head.as_bytes());
                let _ = stream.write_all(&shown.stdout);
                let _ = stream.flush();
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        });
        Self { seen }
    }

    /// The heads of all requests so far.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

//! The whole pair as an operator would set it up: certificates, keys for tokens, a registry, one
//! gateway, one sidecar, one scripted plugin, and a client with every right it needs.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustls::SupportedProtocolVersion;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::certs::{Authority, Certificate, Leaf, MeshDir};
use crate::plugin::{Plugin, Seen};
use crate::program::{Invocation, Program};
use crate::tokens::{AUDIENCE, ISSUER, Signer, jwks};
use crate::wire::{Response, Tls, Wire};

/// A running mesh. Everything in it ends with it.
pub struct TestMesh {
    /// The front door.
    pub gateway: Program,
    /// The one in front of the plugin.
    pub sidecar: Program,
    /// The plugin.
    pub plugin: Plugin,
    /// Who signs the mesh's certificates.
    pub authority: Authority,
    /// Who signs the tokens.
    pub signer: Signer,
    /// The gateway's mesh directory.
    pub gateway_dir: MeshDir,
    /// The sidecar's mesh directory.
    pub sidecar_dir: MeshDir,
    /// The gateway's own certificate on the hop.
    pub gateway_cert: Certificate,
    /// The sidecar's.
    pub sidecar_cert: Certificate,
    /// The registry's folder.
    pub plugins: PathBuf,
    name: String,
    public_root: Option<String>,
    public_authority: Authority,
    invocations: [Invocation; 2],
    dir: TempDir,
}

/// What a mesh is to be like.
pub struct Builder {
    name: String,
    fields: Value,
    more: Vec<(String, Value)>,
    gateway: Invocation,
    workers: &'static str,
    sidecar: Invocation,
    unix: bool,
    before: Option<String>,
    tls: bool,
    crl: bool,
    secret: bool,
    keys: bool,
}

/// A request in the making, on a connection of its own.
pub struct RequestBuilder<'a> {
    mesh: &'a TestMesh,
    method: String,
    path: String,
    lines: String,
    body: Option<Vec<u8>>,
}

impl TestMesh {
    /// A mesh with the plugin `echo` at `/echo`, to which every company of [`Signer::token_of`] has
    /// access.
    #[must_use]
    #[allow(clippy::new_ret_no_self)]
    pub fn new() -> Builder {
        Builder {
            name: "echo".to_owned(),
            fields: json!({}),
            more: Vec::new(),
            gateway: Invocation::new(),
            workers: "2",
            sidecar: Invocation::new(),
            unix: false,
            before: None,
            tls: true,
            crl: true,
            secret: false,
            keys: true,
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.gateway.address("public")
    }

    /// Where gateways connect.
    #[must_use]
    pub fn hop(&self) -> SocketAddr {
        self.sidecar.address("hop")
    }

    /// Starts another gateway as the first was started; it puts itself into the first one's place,
    /// which is given back.
    pub fn next_gateway(&mut self) -> Program {
        let mut next = self.invocations[0].start("gapura-gateway");
        next.wait_until_started();
        std::mem::replace(&mut self.gateway, next)
    }

    /// The same for the sidecar.
    pub fn next_sidecar(&mut self) -> Program {
        let mut next = self.invocations[1].start("gapura-sidecar");
        next.wait_until_started();
        std::mem::replace(&mut self.sidecar, next)
    }

    /// How the gateway was started.
    #[must_use]
    pub fn gateway_invocation(&self) -> Invocation {
        self.invocations[0].clone()
    }

    /// A folder for a test's own files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A client's side of TLS with these protocols on offer.
    #[must_use]
    pub fn client_tls(&self, alpn: &[&str]) -> Tls {
        Tls::trusting(
            self.public_root.as_deref().expect("a gateway with TLS"),
            "localhost",
            alpn,
        )
    }

    /// The same, speaking this version of TLS alone.
    #[must_use]
    pub fn client_tls_of(&self, version: &'static SupportedProtocolVersion) -> Tls {
        let root = self.public_root.as_deref().expect("a gateway with TLS");
        Tls::of_version(root, "localhost", &["http/1.1"], version)
    }

    /// The file with the root that signed the gateway's public certificate.
    #[must_use]
    pub fn public_root_file(&self) -> PathBuf {
        self.dir().join("public-ca.pem")
    }

    /// Signs another public certificate.
    #[must_use]
    pub fn new_public_certificate(&self) -> Certificate {
        self.public_authority.issue(&Leaf::public())
    }

    /// A client's connection, speaking HTTP/1.1.
    #[must_use]
    pub fn connect(&self) -> Wire {
        if self.public_root.is_some() {
            Wire::tls(self.public(), &self.client_tls(&["http/1.1"])).unwrap()
        } else {
            Wire::plain(self.public())
        }
    }

    /// The other side of the hop: TLS that shows `own` to the sidecar and expects the sidecar's own
    /// name.
    #[must_use]
    pub fn hop_tls(&self, own: Option<&Certificate>, alpn: &[&str]) -> Tls {
        let name = format!("{}.plugin.{}", self.name, crate::certs::DOMAIN);
        match own {
            Some(own) => Tls::showing(&self.authority.root_pem(), &name, alpn, own),
            None => Tls::trusting(&self.authority.root_pem(), &name, alpn),
        }
    }

    /// A connection to the sidecar with the gateway's own certificate, speaking HTTP/1.1.
    #[must_use]
    pub fn connect_hop(&self) -> Wire {
        Wire::tls(
            self.hop(),
            &self.hop_tls(Some(&self.gateway_cert), &["http/1.1"]),
        )
        .unwrap()
    }

    /// Writes or replaces `NAME.json` of the registry, in one instant.
    pub fn write_registry(&self, name: &str, entry: &Value) {
        write_entry(&self.plugins, name, entry);
    }

    /// The registry's entry of this mesh's plugin, with these fields changed.
    #[must_use]
    pub fn entry(&self, changes: &Value) -> Value {
        merged(&entry(&self.name, self.hop()), changes)
    }

    /// The line with a good token of `user` at `company`.
    #[must_use]
    pub fn authorization(&self, user: &str, company: &str) -> String {
        format!(
            "Authorization: Bearer {}\r\n",
            self.signer.token_of(user, company)
        )
    }

    /// A GET.
    #[must_use]
    pub fn get(&self, path: &str) -> RequestBuilder<'_> {
        self.request("GET", path)
    }

    /// A POST with a body.
    #[must_use]
    pub fn post(&self, path: &str, body: impl Into<Vec<u8>>) -> RequestBuilder<'_> {
        let mut request = self.request("POST", path);
        request.body = Some(body.into());
        request
    }

    /// Any request.
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder<'_> {
        RequestBuilder {
            mesh: self,
            method: method.to_owned(),
            path: path.to_owned(),
            lines: String::new(),
            body: None,
        }
    }

    /// A whole answer of the admin side of `program`.
    #[must_use]
    pub fn admin(&self, program: &Program, path: &str) -> Response {
        let address = program.address("admin");
        let mut wire = Wire::plain(address);
        wire.send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"));
        wire.response()
    }

    /// One series of the metrics of `program`, by its whole name with labels; 0 if it is not there.
    #[must_use]
    pub fn metric(&self, program: &Program, series: &str) -> f64 {
        let text = self.admin(program, "/metrics").text();
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.map_or(0.0, |value| value.trim().parse().unwrap())
    }
}

impl Builder {
    /// The plugin's name, and its mount `/NAME`.
    #[must_use]
    pub fn plugin(mut self, name: &str) -> Self {
        name.clone_into(&mut self.name);
        self
    }

    /// Fields of the plugin's registry entry, added or replaced.
    #[must_use]
    pub fn fields(mut self, fields: Value) -> Self {
        self.fields = merged(&self.fields, &fields);
        self
    }

    /// A further registry entry `name` at `/NAME`, served by the same sidecar.
    #[must_use]
    pub fn also(mut self, name: &str, fields: Value) -> Self {
        self.more.push((name.to_owned(), fields));
        self
    }

    /// A flag of the gateway.
    #[must_use]
    pub fn gateway_flag(mut self, flag: &str, value: &str) -> Self {
        self.gateway = self.gateway.flag(flag, value);
        self
    }

    /// A switch of the gateway.
    #[must_use]
    pub fn gateway_arg(mut self, flag: &str) -> Self {
        self.gateway = self.gateway.arg(flag);
        self
    }

    /// What both programs are started with, changed.
    #[must_use]
    pub fn invocations(mut self, change: impl Fn(Invocation, &str) -> Invocation) -> Self {
        self.gateway = change(self.gateway, "gateway");
        self.sidecar = change(self.sidecar, "sidecar");
        self
    }

    /// A gateway with one worker, so that all requests share their connections.
    #[must_use]
    pub fn one_worker(mut self) -> Self {
        self.workers = "1";
        self
    }

    /// Words for the sidecar's command line.
    #[must_use]
    pub fn sidecar_args(mut self, args: &[&str]) -> Self {
        self.sidecar = self.sidecar.args(args);
        self
    }

    /// Puts the plugin on a unix socket.
    #[must_use]
    pub fn over_unix_socket(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Puts the sidecar before the plugin at `url`; the scripted one then gets nothing.
    #[must_use]
    pub fn before(mut self, url: &str) -> Self {
        self.before = Some(url.to_owned());
        self
    }

    /// The public side in plain HTTP.
    #[must_use]
    pub fn plain_public(mut self) -> Self {
        self.tls = false;
        self
    }

    /// Mesh directories without `crl.pem`, and `--no-crl`.
    #[must_use]
    pub fn without_crl(mut self) -> Self {
        self.crl = false;
        self.gateway = self.gateway.arg("--no-crl");
        self.sidecar = self.sidecar.arg("--no-crl");
        self
    }

    /// Tokens by a shared secret instead of a JWK set.
    #[must_use]
    pub fn with_secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// A gateway that is told of no issuer: the test does that.
    #[must_use]
    pub fn without_keys(mut self) -> Self {
        self.keys = false;
        self
    }

    /// Starts it all and waits until both programs serve.
    #[must_use]
    pub fn start(self) -> TestMesh {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        let authority = Authority::two_tier("test mesh");
        let gateway_cert = authority.issue(&Leaf::gateway("edge"));
        let sidecar_cert = authority.issue(&Leaf::plugin(&self.name));
        let crl = |pem: Option<String>| if self.crl { pem } else { None };
        let files = |cert: &Certificate| {
            let files = authority.files_for(cert);
            let kept = crl(files.crl.clone());
            files.with_crl(kept)
        };
        let gateway_dir = MeshDir::create(&path.join("mesh-gateway"), &files(&gateway_cert));
        let sidecar_dir = MeshDir::create(&path.join("mesh-sidecar"), &files(&sidecar_cert));

        let plugin = if self.unix {
            Plugin::unix(path)
        } else {
            Plugin::tcp()
        };
        let sidecar_invocation = self
            .sidecar
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin", self.before.unwrap_or_else(|| plugin.url()))
            .flag("--mesh-dir", sidecar_dir.path())
            .flag("--admin", "127.0.0.1:0")
            .flag("--workers", "2");
        let mut sidecar = sidecar_invocation.start("gapura-sidecar");
        sidecar.wait_until_started();

        let plugins = path.join("plugins.d");
        fs::create_dir(&plugins).unwrap();
        let hop = sidecar.address("hop");
        write_entry(
            &plugins,
            &self.name,
            &merged(&entry(&self.name, hop), &self.fields),
        );
        for (name, fields) in &self.more {
            let mut further = entry(name, hop);
            further["identity"] = json!(format!("plugin/{}", self.name));
            write_entry(&plugins, name, &merged(&further, fields));
        }

        let public_authority = Authority::two_tier("public");
        let signer = if self.secret {
            Signer::hs256(b"a-secret-of-forty-bytes-for-tests-only-0")
        } else {
            Signer::es256("test-key")
        };
        let mut gateway = self
            .gateway
            .flag("--listen", "127.0.0.1:0")
            .flag("--plugin-dir", &plugins)
            .flag("--mesh-dir", gateway_dir.path())
            .flag("--admin", "127.0.0.1:0")
            .flag("--workers", self.workers);
        if self.keys {
            gateway = gateway
                .flag("--issuer", ISSUER)
                .flag("--audience", AUDIENCE);
        }
        gateway = if !self.keys {
            gateway
        } else if self.secret {
            let secret = path.join("secret");
            crate::certs::write_private(&secret, "a-secret-of-forty-bytes-for-tests-only-0\n");
            gateway.flag("--jwt-secret-file", secret)
        } else {
            let keys = path.join("jwks.json");
            fs::write(&keys, jwks(&[&signer])).unwrap();
            gateway.flag("--jwks", keys)
        };
        let public_root = self.tls.then(|| {
            let (cert, key) = public_authority
                .issue(&Leaf::public())
                .write(path, "public");
            fs::write(path.join("public-ca.pem"), public_authority.root_pem()).unwrap();
            (public_authority.root_pem(), cert, key)
        });
        if let Some((_, cert, key)) = &public_root {
            gateway = gateway.flag("--tls-cert", cert).flag("--tls-key", key);
        }
        let gateway_invocation = gateway;
        let mut gateway = gateway_invocation.start("gapura-gateway");
        gateway.wait_until_started();

        TestMesh {
            gateway,
            sidecar,
            plugin,
            authority,
            signer,
            gateway_dir,
            sidecar_dir,
            gateway_cert,
            sidecar_cert,
            plugins,
            name: self.name,
            public_root: public_root.map(|(root, _, _)| root),
            public_authority,
            invocations: [gateway_invocation, sidecar_invocation],
            dir,
        }
    }
}

impl RequestBuilder<'_> {
    /// With a good token of `user` at `company`.
    #[must_use]
    pub fn token_of(self, user: &str, company: &str) -> Self {
        let token = self.mesh.signer.token_of(user, company);
        self.token(&token)
    }

    /// With any token.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.header("Authorization", &format!("Bearer {token}"))
    }

    /// With a header; given twice it stands twice.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.lines += &format!("{name}: {value}\r\n");
        self
    }

    /// Sends it and reads the answer.
    #[must_use]
    pub fn send(self) -> Response {
        let mut wire = self.mesh.connect();
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        if !self
            .lines
            .to_ascii_lowercase()
            .lines()
            .any(|line| line.starts_with("host:"))
        {
            head += "Host: localhost\r\n";
        }
        head += &self.lines;
        if let Some(body) = &self.body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        wire.send(head);
        if let Some(body) = &self.body {
            wire.send(body);
        }
        wire.try_response(&self.method)
            .unwrap_or_else(|why| panic!("{} {}: no answer: {why}", self.method, self.path))
    }

    /// Sends it, holds the answer to 200, and gives back what reached the plugin.
    #[must_use]
    #[track_caller]
    pub fn seen_by_plugin(self) -> Seen {
        let mesh = self.mesh;
        let response = self.send();
        assert_eq!(response.status, 200, "{response:?} {}", response.text());
        let id = response
            .header("x-request-id")
            .expect("every answer has a request id")
            .to_owned();
        mesh.plugin.wait_for(&format!("the request {id}"), |seen| {
            seen.all("x-request-id") == [id.as_str()]
        })
    }
}

fn entry(name: &str, hop: SocketAddr) -> Value {
    json!({
        "name": name, "version": "1.0.0", "mount": format!("/{name}"), "upstream": format!("https://{hop}"),
        "auth_mode": "gateway_verified",
        "health": false, "openapi": false // so that the plugin sees the test's requests and no others
    })
}

fn write_entry(folder: &Path, name: &str, entry: &Value) {
    let next = folder.join(format!(".{name}.json.next"));
    fs::write(&next, entry.to_string()).unwrap();
    fs::rename(next, folder.join(format!("{name}.json"))).unwrap();
}

fn merged(base: &Value, changes: &Value) -> Value {
    let mut merged = base.as_object().unwrap().clone();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            merged.remove(name)
        } else {
            merged.insert(name.clone(), value.clone())
        };
    }
    Value::Object(merged)
}

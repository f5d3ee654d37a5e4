//! `gapura prove` at doors that other people built, each set up as its own guide says: HAProxy,
//! nginx, Envoy. What they hold is theirs to say; what is held here is that the tool tells it, and
//! that it tells doors apart.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use gapura_tests::certs::{Authority, Leaf};
use gapura_tests::eventually;
use gapura_tests::prove::{Proof, Witness, files, prove};
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, jwks};
use serde_json::{Value, json};

/// A running door of somebody else's; it ends with the test.
struct Door(Vec<Child>);

impl Drop for Door {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What every door is set up with.
struct Setup {
    dir: tempfile::TempDir,
    signer: Signer,
    plugin: String,
    listen: SocketAddr,
}

impl Setup {
    fn new(witness: &Witness) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::two_tier("public");
        let (cert, key) = authority.issue(&Leaf::public()).write(dir.path(), "door");
        fs::write(dir.path().join("ca.pem"), authority.root_pem()).unwrap();
        let both = fs::read_to_string(cert).unwrap() + &fs::read_to_string(key).unwrap();
        fs::write(dir.path().join("both.pem"), both).unwrap();
        let signer = Signer::es256("k");
        fs::write(dir.path().join("public.pem"), signer.public_pem()).unwrap();
        Self {
            dir,
            signer,
            plugin: witness.url().strip_prefix("http://").unwrap().to_owned(),
            listen: free(),
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn prove(&self) -> Proof {
        let mut given = files(self.dir.path(), &self.signer);
        given.push(("--ca", self.dir.path().join("ca.pem")));
        let url = format!("https://localhost:{}/prove", self.listen.port());
        prove(&url, &given, &["--floods"])
    }
}

/// A port that was free a moment ago: these programs can't be told to choose one and say which.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

fn wait_for(address: SocketAddr, what: &str) {
    eventually(&format!("{what} listens"), || {
        TcpStream::connect(address).ok().map(drop)
    });
}

/// The program, where it is installed; else a line.
fn installed(program: &str) -> Option<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found = places
        .iter()
        .map(|place| Path::new(place).join(program))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("not tried: no {program} here");
    }
    found
}

fn start(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// The first line that the program says of its version, and the number in it.
fn version(program: &Path, flag: &str) -> String {
    let output = Command::new(program).arg(flag).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let number = text
        .split(|sign: char| !sign.is_ascii_digit() && sign != '.')
        .find(|word| word.matches('.').count() >= 2);
    number.unwrap_or_default().trim_matches('.').to_owned()
}

/// The report, kept for the table of docs/prove.md, and held to what must be so of any report.
fn told(title: &str, version: &str, proof: &Proof) {
    let name = title.to_ascii_lowercase();
    assert!(matches!(proof.code, Some(0 | 1)), "{name}: {}", proof.said);
    assert_eq!(proof.report["plugin"], true, "{name}: {}", proof.said);
    assert_eq!(proof.report["rows"].as_array().unwrap().len(), 56, "{name}");
    assert_eq!(
        proof.code == Some(1),
        proof.report["not_held"] != 0,
        "{name}"
    );
    proof.keep(&name, version);
    proof.assert_page(&format!("{title} {version}"));
}

/// No door that verifies tokens at all may take these.
fn assert_tokens_are_verified(proof: &Proof) {
    for id in ["J1", "J2", "J3"] {
        assert_eq!(proof.row(id)["result"], "held", "{:#}", proof.row(id));
    }
}

#[test]
fn haproxy_with_its_own_tokens() {
    let Some(haproxy) = installed("haproxy") else {
        return;
    };
    let witness = Witness::start();
    let setup = Setup::new(&witness);
    let config = setup.path("haproxy.cfg");
    let text = include_str!("haproxy.cfg")
        .replace("LISTEN", &setup.listen.to_string())
        .replace("BOTH", &setup.path("both.pem"))
        .replace("PUBLIC", &setup.path("public.pem"))
        .replace("ISSUER", ISSUER)
        .replace("AUDIENCE", AUDIENCE)
        .replace("PLUGIN", &setup.plugin);
    fs::write(&config, text).unwrap();
    let _door = Door(vec![start(
        Command::new(&haproxy).args(["-db", "-f", &config]),
    )]);
    wait_for(setup.listen, "haproxy");
    let proof = setup.prove();
    told("HAProxy", &version(&haproxy, "-v"), &proof);
    assert_tokens_are_verified(&proof);
}

#[test]
fn nginx_with_a_subrequest_that_verifies_tokens() {
    let (Some(nginx), Some(python)) = (installed("nginx"), super::python("jwt")) else {
        return;
    };
    let witness = Witness::start();
    let setup = Setup::new(&witness);
    let auth = free();
    let mut verifier = Command::new(python);
    verifier.args([
        "-c",
        include_str!("verifier.py"),
        &auth.port().to_string(),
        &setup.path("public.pem"),
        ISSUER,
        AUDIENCE,
    ]);
    let config = setup.path("nginx.conf");
    let text = include_str!("nginx.conf")
        .replace("LISTEN", &setup.listen.to_string())
        .replace("FOLDER", &setup.dir.path().display().to_string())
        .replace("AUTH", &auth.to_string())
        .replace("PLUGIN", &setup.plugin);
    fs::write(&config, text).unwrap();
    let folder = setup.dir.path().display().to_string();
    let _door = Door(vec![
        start(&mut verifier),
        start(Command::new(&nginx).args(["-p", &folder, "-c", &config])),
    ]);
    wait_for(auth, "the verifier");
    wait_for(setup.listen, "nginx");
    let proof = setup.prove();
    told("nginx", &version(&nginx, "-v"), &proof);
    assert_tokens_are_verified(&proof);
}

#[test]
fn envoy_as_its_guide_for_the_edge_says() {
    let Some(python) = super::python("envoy") else {
        return;
    };
    let find =
        "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
    let envoy = PathBuf::from(super::run(&python, find, &[]));
    if !envoy.is_file() {
        println!("not tried: no envoy in its package");
        return;
    }
    let witness = Witness::start();
    let setup = Setup::new(&witness);
    let config = setup.path("envoy.json");
    fs::write(&config, envoy_config(&setup).to_string()).unwrap();
    let mut command = Command::new(&envoy);
    command.args([
        "-c",
        &config,
        "--disable-hot-restart",
        "--concurrency",
        "1",
        "--log-level",
        "off",
    ]);
    let _door = Door(vec![start(&mut command)]);
    wait_for(setup.listen, "envoy");
    let proof = setup.prove();
    told("Envoy", &version(&envoy, "--version"), &proof);
    assert_tokens_are_verified(&proof);
}

/// Its guide to the edge: the connection manager hardened, tokens by `jwt_authn`, claims as
/// headers.
fn envoy_config(setup: &Setup) -> Value {
    let (_, port) = setup.plugin.rsplit_once(':').unwrap();
    let file = |name: &str| json!({"filename": setup.path(name)});
    let at = |port: u16| json!({"socket_address": {"address": "127.0.0.1", "port_value": port}});
    let claim = |claim: &str, header: &str| json!({"claim_name": claim, "header_name": header});
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "use_remote_address": true,
        "normalize_path": true,
        "merge_slashes": true,
        "path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT",
        "common_http_protocol_options": {"idle_timeout": "3600s", "headers_with_underscores_action": "REJECT_REQUEST"},
        "http2_protocol_options": {
            "max_concurrent_streams": 100, "initial_stream_window_size": 65536, "initial_connection_window_size": 1_048_576
        },
        "stream_idle_timeout": "300s",
        "request_timeout": "300s",
        "route_config": {"virtual_hosts": [{"name": "door", "domains": ["*"], "routes": [
            {"match": {"prefix": "/prove/"}, "route": {"cluster": "plugin", "prefix_rewrite": "/", "idle_timeout": "15s"}}
        ]}]},
        "http_filters": [
            {"name": "envoy.filters.http.jwt_authn", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": {"issuer": {
                    "issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": {"inline_string": jwks(&[&setup.signer])},
                    "claim_to_headers": [claim("user_id", "x-user-id"), claim("company_id", "x-company-id"), claim("role", "x-role")]
                }},
                "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}]
            }},
            {"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
            }}
        ]
    });
    let tls = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificates": [{"certificate_chain": file("both.pem"), "private_key": file("both.pem")}]
        }
    });
    json!({"static_resources": {
        "listeners": [{
            "address": at(setup.listen.port()), "per_connection_buffer_limit_bytes": 32768,
            "filter_chains": [{
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]
            }]
        }],
        "clusters": [{
            "name": "plugin", "connect_timeout": "5s", "per_connection_buffer_limit_bytes": 32768,
            "load_assignment": {"cluster_name": "plugin", "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": at(port.parse().unwrap())}}
            ]}]}
        }]
    }})
}

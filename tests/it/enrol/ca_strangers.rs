//! Each role's key is good for its own work: a plugin's makes no CA server, and a CA server's opens
//! nothing on the hop.

use gapura_tests::program::Invocation;

use super::host::Host;

#[test]
fn a_plugins_certificate_makes_no_ca_server() {
    let host = Host::new();
    let out = host.text("stolen");
    host.pki(&["issue", "plugin", "billing", "--out", &out]);
    let ended = host
        .invocation()
        .flag("--mesh-dir", host.path("stolen"))
        .run("gapura-ca");
    // The flag given last counts for nothing here: clap refuses to hear it twice, and either is
    // exit 2.
    assert_eq!(ended.code, Some(2));
    let ended = Invocation::new()
        .flag("--dir", host.path("pki"))
        .flag("--mesh-dir", host.path("stolen"))
        .flag("--listen", "127.0.0.1:0")
        .flag("--admin", "127.0.0.1:0")
        .run("gapura-ca");
    assert_eq!(ended.code, Some(2));
    assert!(
        ended.stderr.contains("plugin/billing") && ended.stderr.contains("pki"),
        "{}",
        ended.stderr
    );
    // By the judgement that an agent makes of its server.
    let verify = |dir: &str| host.try_pki(&["verify", dir, "--as", "authority"]);
    let stolen = verify(&out);
    assert_eq!(stolen.code, Some(1), "{}", stolen.stdout);
    assert!(
        stolen.stdout.contains("is no CA server"),
        "{}{}",
        stolen.stdout,
        stolen.stderr
    );
    let own = verify(&host.text("ca-1"));
    assert_eq!(own.code, Some(0), "{}{}", own.stdout, own.stderr);
}

#[test]
fn a_ca_servers_certificate_starts_neither_gateway_nor_sidecar_and_renews_nothing() {
    let host = Host::new();
    let ca = host.start();
    let mesh = host.path("ca-1");
    let sidecar = Invocation::new()
        .flag("--listen", "127.0.0.1:0")
        .flag("--plugin", "http://127.0.0.1:9")
        .flag("--mesh-dir", &mesh)
        .run("gapura-sidecar");
    assert_eq!(sidecar.code, Some(2));
    assert!(sidecar.stderr.contains("pki/ca-1"), "{}", sidecar.stderr);
    for side in ["client", "server"] {
        let said = host.try_pki(&["verify", &host.text("ca-1"), "--as", side]);
        assert_eq!(said.code, Some(1), "{side}: {}", said.stdout);
    }
    std::fs::copy(host.path("ca-1/cert.pem"), host.path("own.pem")).unwrap();
    std::fs::copy(host.path("ca-1/key.pem"), host.path("own.key")).unwrap();
    host.request("next", &[]);
    assert_eq!(host.renew(&ca, "own", "next").status, 0);
    let line = ca.wait_for_event("handshake_failed");
    assert_eq!(
        (line["reason"].as_str(), line["certificate"].as_str()),
        (Some("role"), Some("spiffe://test.internal/pki/ca-1"))
    );
}

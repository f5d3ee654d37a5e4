//! `gapura prove`: our own pair holds every known attack, a door that leaks is found out, and
//! nobody else is ever attacked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use gapura_tests::mesh::TestMesh;
use gapura_tests::program::Invocation;
use gapura_tests::prove::{Proof, Witness, files, prove};
use gapura_tests::tokens::Signer;
use serde_json::json;

/// What nobody can try from outside, whatever the flags.
const NOT_FROM_OUTSIDE: [&str; 6] = ["T1", "T4", "T5", "T8", "T9", "T10"];

fn our_pair(witness: &Witness) -> TestMesh {
    TestMesh::new()
        .plugin("prove")
        .before(witness.url())
        .start()
}

fn at(mesh: &TestMesh, more: &[&str]) -> Proof {
    let mut given = files(mesh.dir(), &mesh.signer);
    given.push(("--ca", mesh.public_root_file()));
    let url = format!("https://localhost:{}/prove", mesh.public().port());
    prove(&url, &given, more)
}

#[test]
fn our_pair_holds_every_known_attack() {
    let mut witness = Witness::start();
    let mesh = our_pair(&witness);
    let proof = at(&mesh, &["--sidecar", &mesh.hop().to_string()]);
    assert_eq!(proof.code, Some(0), "{}{}", proof.faults(), proof.said);
    let untold = [&["F9", "F10"][..], &NOT_FROM_OUTSIDE].concat();
    assert_eq!(proof.rows("cannot_tell"), untold, "{:#}", proof.report);
    assert_eq!(
        proof.rows("held").len(),
        56 - untold.len(),
        "{:#}",
        proof.report
    );
    assert_eq!(proof.report["plugin"], true);
    // Each of the shots was told, but for those whose flags were not given.
    for row in proof.report["rows"].as_array().unwrap() {
        for shot in row["shots"].as_array().unwrap() {
            assert!(
                shot["result"] == "held" || untold.contains(&row["id"].as_str().unwrap()),
                "{}: {shot}",
                row["id"]
            );
        }
    }
    assert!(
        proof.said.contains("sends up to") && proof.said.contains("no floods"),
        "it says what it will send: {}",
        proof.said
    );
    assert!(witness.runs());
    assert_eq!(mesh.admin(&mesh.gateway, "/healthz").status, 200);
    assert_eq!(mesh.admin(&mesh.sidecar, "/healthz").status, 200);
}

#[test]
fn our_pair_serves_others_through_the_floods() {
    let witness = Witness::start();
    let mesh = our_pair(&witness);
    let proof = at(&mesh, &["--floods", "--sidecar", &mesh.hop().to_string()]);
    assert_eq!(proof.code, Some(0), "{}{}", proof.faults(), proof.said);
    for id in ["F9", "F10"] {
        assert_eq!(proof.row(id)["result"], "held", "{:#}", proof.row(id));
    }
    assert!(proof.said.contains("floods of"), "{}", proof.said);
    let version = env!("CARGO_PKG_VERSION");
    proof.keep("gapura", version);
    proof.assert_page(&format!("Gapura {version}"));
}

/// A door that writes down who calls and looks at nothing else: it puts the identity behind the
/// first line of whatever comes, and passes on the rest as it is.
fn leaking_door(plugin: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || leak(client, plugin));
        }
    });
    address
}

fn leak(mut client: TcpStream, plugin: SocketAddr) {
    let mut behind = TcpStream::connect(plugin).unwrap();
    let (mut back, mut answers) = (client.try_clone().unwrap(), behind.try_clone().unwrap());
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut answers, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Both);
    });
    let mut buffer = vec![0; 1 << 16];
    let Ok(length @ 1..) = client.read(&mut buffer) else {
        return;
    };
    let line = buffer[..length].iter().position(|byte| *byte == b'\n');
    let at = line.map_or(length, |at| at + 1);
    let identity = b"X-User-Id: 7\r\nX-Company-Id: 42\r\n";
    let mut first = buffer[..at].to_vec();
    first.extend(identity);
    first.extend(&buffer[at..length]);
    let _ = behind.write_all(&first);
    let _ = std::io::copy(&mut client, &mut behind);
    let _ = behind.shutdown(std::net::Shutdown::Write);
}

#[test]
fn a_door_that_leaks_is_found_out() {
    let witness = Witness::start();
    let plugin = witness.url().strip_prefix("http://").unwrap();
    let door = leaking_door(plugin.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let given = files(dir.path(), &Signer::es256("k"));
    let proof = prove(&format!("http://{door}/prove"), &given, &[]);
    assert_eq!(proof.code, Some(1), "{}", proof.said);
    let leaks = proof.rows("not_held");
    let wanted = [
        "H1", "H2", "H3", "H5", "H6", "H7", "H8", "H9", "H10", "H11", "H12", "P1", "P2", "P3",
        "P5", "P6", "P7", "P8", "P9", "F1", "F2", "F4", "F5", "F6", "F7", "J1", "J2", "J3", "J4",
        "J5", "J6", "J7", "J8", "J9", "J10", "J11", "J13",
    ];
    for id in wanted {
        assert!(
            leaks.contains(&id),
            "{id} is not found: {:#}",
            proof.row(id)
        );
    }
    assert_eq!(
        proof.row("T7")["result"],
        "held",
        "the plugin does listen on loopback"
    );
    for id in ["P10", "F12"] {
        assert_eq!(
            proof.row(id)["result"],
            "cannot_tell",
            "it speaks no HTTP/2: {:#}",
            proof.row(id)
        );
    }
}

#[test]
fn without_the_plugin_it_says_what_it_can_not_tell() {
    let mesh = TestMesh::new().start();
    let mut given = files(mesh.dir(), &mesh.signer);
    given.push(("--ca", mesh.public_root_file()));
    let url = format!("https://localhost:{}/echo", mesh.public().port());
    let proof = prove(&url, &given, &[]);
    assert_eq!(proof.code, Some(0), "{}{}", proof.faults(), proof.said);
    assert_eq!(proof.report["plugin"], false);
    for id in ["H1", "H5", "H9", "H12", "T7"] {
        assert_eq!(proof.row(id)["result"], "cannot_tell", "{id}");
    }
    for id in ["J1", "J13", "P2", "F1", "H7"] {
        assert_eq!(proof.row(id)["result"], "held", "{id}: {:#}", proof.row(id));
    }
}

#[test]
fn what_may_not_be_attacked_is_not_and_wrong_usage_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Signer::es256("k");
    let given = files(dir.path(), &signer);
    let ca = dir.path().join("ca.pem");
    std::fs::write(&ca, gapura_tests::certs::Authority::root("r").root_pem()).unwrap();
    let with_ca = [given.clone(), vec![("--ca", ca)]].concat();

    // An address for documentation, where nobody is: no leave without an answer or a name.
    let refused = prove("https://192.0.2.1:8443/prove", &with_ca, &[]);
    assert_eq!(refused.code, Some(2), "{}", refused.said);
    assert!(
        refused.said.contains("--i-may-test 192.0.2.1"),
        "{}",
        refused.said
    );
    let sidecar = prove(
        "http://127.0.0.1:1/prove",
        &given,
        &["--sidecar", "192.0.2.1:19443"],
    );
    assert_eq!(sidecar.code, Some(2), "{}", sidecar.said);
    assert!(sidecar.said.contains("--i-may-test"), "{}", sidecar.said);

    for (args, says) in [
        (&["prove"][..], "URL"),
        (&["prove", "http://127.0.0.1:1/x"], "--token-file"),
        (
            &["prove", "http://127.0.0.1:1/x", "--token-file", "/nowhere"],
            "/nowhere",
        ),
        (&["prove", "--plugin", "--floods"], "--floods"),
    ] {
        let ended = Invocation::new().args(args).run("gapura");
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(says), "{args:?}: {}", ended.stderr);
    }
    let nobody = prove("http://127.0.0.1:1/x", &given, &[]);
    assert_eq!(nobody.code, Some(1), "{}", nobody.said);
    assert!(
        nobody.said.contains("nothing was attacked"),
        "{}",
        nobody.said
    );
}

#[test]
fn a_door_that_lets_nothing_in_is_not_praised_for_it() {
    let witness = Witness::start();
    let mesh = TestMesh::new()
        .plugin("prove")
        .before(witness.url())
        .fields(json!({"tenants": {"only": ["1"]}}))
        .start();
    let proof = at(&mesh, &[]);
    assert_eq!(proof.code, Some(1), "{:#}", proof.report);
    assert!(
        proof.said.contains("answered 403") && proof.said.contains("nothing was attacked"),
        "{}",
        proof.said
    );
}

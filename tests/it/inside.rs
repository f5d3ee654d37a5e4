//! Several programs in one process share nothing, and each lives in the time it is told.

use gapura_tests::inside::Inside;
use gapura_tests::mesh::TestMesh;
use gapura_tests::tokens::{AUDIENCE, ISSUER, claims_with, unix_now};
use gapura_tests::wire::{Response, Wire};
use serde_json::json;

const DAY: i64 = 24 * 3600;

/// A further gateway over the mesh's own files, in plain HTTP on loopback.
fn gateway(mesh: &TestMesh) -> Inside {
    let text = |path: &std::path::Path| path.display().to_string();
    Inside::gateway(&[
        ("--listen", "127.0.0.1:0"),
        ("--plugin-dir", &text(&mesh.plugins)),
        ("--mesh-dir", &text(mesh.gateway_dir.path())),
        ("--admin", "127.0.0.1:0"),
        ("--workers", "1"),
        ("--jwks", &text(&mesh.dir().join("jwks.json"))),
        ("--issuer", ISSUER),
        ("--audience", AUDIENCE),
    ])
}

fn ask(gateway: &Inside, token: &str) -> Response {
    let mut wire = Wire::plain(gateway.address("public"));
    wire.get("/echo/x", &format!("Authorization: Bearer {token}\r\n"));
    wire.response()
}

fn served(program: &Inside) -> bool {
    program
        .admin("/metrics")
        .text()
        .contains("gapura_requests_total{plugin=\"echo\",status=\"200\"} 1\n")
}

#[test]
fn several_of_each_run_in_one_process_and_count_for_themselves() {
    let mesh = TestMesh::new().start();
    let mesh_dir = mesh.sidecar_dir.path().display().to_string();
    let sidecar = Inside::sidecar(&[
        ("--listen", "127.0.0.1:0"),
        ("--plugin", &mesh.plugin.url()),
        ("--mesh-dir", &mesh_dir),
        ("--admin", "127.0.0.1:0"),
        ("--workers", "1"),
    ]);
    let (first, second) = (gateway(&mesh), gateway(&mesh));
    let token = mesh.signer.token_of("7", "42");
    assert_eq!(ask(&first, &token).status, 200);
    gapura_tests::eventually("the first has counted it", || served(&first).then_some(()));
    assert!(!served(&second), "the second counts for itself");
    assert_eq!(ask(&second, "nonsense").status, 401);
    assert!(
        !first
            .admin("/metrics")
            .text()
            .contains("code=\"token_invalid\"} 1")
    );

    // A program that ends leaves its neighbours in peace.
    drop(first);
    assert_eq!(ask(&second, &token).status, 200);
    mesh.write_registry(
        "echo",
        &mesh.entry(&json!({"upstream": format!("https://{}", sidecar.address("hop"))})),
    );
    gapura_tests::eventually("the sidecar of this process serves too", || {
        assert_eq!(ask(&second, &token).status, 200);
        sidecar
            .log()
            .iter()
            .any(|line| line["event"] == "request")
            .then_some(())
    });
}

#[test]
fn a_token_ends_when_the_gateways_own_clock_says_so() {
    let mesh = TestMesh::new().start();
    let gateway = gateway(&mesh);
    let token = mesh
        .signer
        .token(&claims_with(&json!({"exp": unix_now() + 600})));
    assert_eq!(ask(&gateway, &token).status, 200);
    gateway.clock.shift(620);
    assert_eq!(ask(&gateway, &token).status, 200, "within the leeway");
    gateway.clock.shift(640);
    ask(&gateway, &token).assert_refusal(401, "token_expired", "gateway");
    gateway.clock.shift(0);
    assert_eq!(ask(&gateway, &token).status, 200);
}

#[test]
fn certificates_end_when_the_clock_says_so_and_a_connection_does_not_outlive_them() {
    let mesh = TestMesh::new().start();
    let gateway = gateway(&mesh);
    let token = mesh
        .signer
        .token(&claims_with(&json!({"exp": unix_now() + 90 * DAY as u64})));
    assert_eq!(ask(&gateway, &token).status, 200);
    assert_eq!(gateway.admin("/readyz").status, 200);
    gateway.clock.shift(31 * DAY);
    gapura_tests::eventually("the open connection ends with its certificates", || {
        let response = ask(&gateway, &token);
        (response.status == 502 && response.json()["errors"]["code"] == "upstream_identity")
            .then_some(())
    });
    gapura_tests::eventually("and the gateway is no longer ready", || {
        (gateway.admin("/readyz").status == 503).then_some(())
    });
    gateway.clock.shift(0);
    gapura_tests::eventually("in the present it serves again", || {
        (ask(&gateway, &token).status == 200).then_some(())
    });
}

//! Certificates by the service `pki`, into the volumes of gateway and sidecars.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::wire::Wire;
use gapura_tests::within;

use super::{ARCHIVE, LONG, REPORTS, SOON, Stack, bearer, built, code, docker_says, said, titles};

const FILES: &[&str] = &["docker-compose.yml"];

#[test]
fn the_stack_in_containers_keeps_its_promises() {
    let Some(compose) = built() else { return };
    let mut stack = Stack::new("test", &compose, FILES);
    let begun = Instant::now();
    stack.run(&["up", "-d"]);
    stack.root = stack.run(&["run", "--rm", "-T", "door-keys", "keys", "--ca"]);
    stack.until(401, REPORTS, "");
    eprintln!("stack: {:?} from up to the first answer", begun.elapsed());

    let (ours, theirs) = (stack.token("42", "7"), stack.token("7", "9"));
    token_tenant_and_spoof(&stack, &ours, &theirs);
    nobody_else_gets_near_a_plugin(&stack);
    every_container_is_hardened(&stack);
    a_renewed_leaf_is_on_the_wire_without_a_restart(&stack, &ours);
    a_revoked_sidecar_is_cut_off(&stack, &ours);
    a_killed_sidecar_comes_back(&stack, &ours);
    a_plugin_that_never_becomes_healthy_harms_no_other(&stack, &ours);
    the_end_loses_no_request(&stack, &ours);
    a_volume_of_another_user_is_named(&Stack::new("owner", &compose, FILES));
    eprintln!("stack: {:?} in all", begun.elapsed());
}

fn token_tenant_and_spoof(stack: &Stack, ours: &str, theirs: &str) {
    assert_eq!(code(&stack.get(REPORTS, "").unwrap()), "token_missing");
    let (own, foreign) = (
        stack.until(200, REPORTS, &bearer(ours)),
        stack.until(200, REPORTS, &bearer(theirs)),
    );
    assert_ne!(titles(&own), titles(&foreign));
    for spoof in [
        "X-Company-Id: 7\r\n",
        "x_company_id: 7\r\n",
        "X-Company-Id: 7\r\nConnection: X-Company-Id\r\n",
        "X-Internal-Signature: v1\r\n",
    ] {
        let response = stack.get(REPORTS, &(bearer(ours) + spoof)).unwrap();
        assert_eq!(titles(&response), titles(&own), "{spoof}");
    }
    stack.until(200, ARCHIVE, &bearer(ours));
    assert_eq!(
        code(&stack.get("/v1/plugins/lab-nothing", &bearer(ours)).unwrap()),
        "no_route"
    );
}

fn nobody_else_gets_near_a_plugin(stack: &Stack) {
    assert_eq!(
        stack.inspect("lab-reporting", ".HostConfig.NetworkMode"),
        "none",
        "a plugin has no port but in its volume"
    );
    assert!(
        stack
            .look_from("mesh", "lab-reporting-sidecar:19443")
            .is_ok(),
        "from a container among the sidecars"
    );
    for port in ["5000", "19901", "80"] {
        let refused = stack
            .look_from("mesh", &format!("lab-reporting-sidecar:{port}"))
            .unwrap_err();
        assert!(refused.contains("refused"), "{port}: {refused}");
    }
    // Clients' network: the gateway's door is there, no sidecar is, not even its name.
    assert!(stack.look_from("front", "gateway:8443").is_ok());
    assert!(
        stack
            .look_from("front", "lab-reporting-sidecar:19443")
            .is_err()
    );
    assert!(stack.look_from("front", "gateway:9901").is_err());

    let hop = format!(
        "https://{}:19443/reports",
        stack.ip("lab-reporting-sidecar", "mesh")
    );
    let curl = Command::new("curl")
        .args([
            "-skv",
            "--max-time",
            "10",
            "-H",
            "X-Company-Id: 42",
            "-H",
            "X-User-Id: 7",
            &hop,
        ])
        .output()
        .unwrap();
    assert!(!curl.status.success(), "{}", said(&curl));
    let refused = |line: &str| {
        line.contains("\"event\":\"handshake_failed\"")
            && line.contains("\"reason\":\"no_certificate\"")
    };
    within(SOON, "the refusal is logged", || {
        stack
            .logs("lab-reporting-sidecar")
            .lines()
            .any(refused)
            .then_some(())
    });
}

fn every_container_is_hardened(stack: &Stack) {
    for service in [
        "gateway",
        "lab-reporting-sidecar",
        "lab-archive-sidecar",
        "lab-reporting",
        "lab-archive",
        "pki",
        "door-keys",
    ] {
        let facts = ".HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.CapAdd}} {{.HostConfig.SecurityOpt}} {{.Config.User";
        assert_eq!(
            stack.inspect(service, facts),
            "true [ALL] [] [no-new-privileges:true] 65532:65532",
            "{service}"
        );
        assert_ne!(
            stack.inspect(service, ".HostConfig.Memory"),
            "0",
            "{service}"
        );
        let mounts = stack.inspect(service, "range .Mounts}}{{.Name}} {{end");
        let has_ca = mounts.split_whitespace().any(|name| name.ends_with("_ca"));
        assert_eq!(
            has_ca,
            service == "pki",
            "the authority's key is in no other service's reach: {service} has {mounts}"
        );
        let has_door_keys = mounts
            .split_whitespace()
            .any(|name| name.ends_with("_door-keys"));
        assert_eq!(
            has_door_keys,
            service == "door-keys",
            "the key that signs tokens is in no other service's reach: {service} has {mounts}"
        );
    }
    for service in ["gateway", "lab-reporting-sidecar", "lab-reporting"] {
        within(LONG, &format!("{service} is healthy"), || {
            (stack.inspect(service, ".State.Health.Status") == "healthy").then_some(())
        });
    }
}

fn a_renewed_leaf_is_on_the_wire_without_a_restart(stack: &Stack, token: &str) {
    let (before, began) = (
        stack.serial("lab-reporting-sidecar"),
        stack.inspect("lab-reporting-sidecar", ".State.StartedAt"),
    );
    let done = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let traffic = scope.spawn(|| {
            let (mut wire, mut sent) = (stack.connect().unwrap(), 0);
            while !done.load(Ordering::Relaxed) {
                wire.get(REPORTS, &bearer(token));
                assert_eq!(wire.response().status, 200, "after {sent} requests");
                sent += 1;
            }
            sent
        });
        stack.run(&["run", "--rm", "-T", "pki", "renew", "plugin/lab-reporting"]);
        within(SOON, "the new serial", || {
            (stack.serial("lab-reporting-sidecar") != before).then_some(())
        });
        done.store(true, Ordering::Relaxed);
        traffic.join().unwrap()
    });
    assert!(sent > 10, "{sent} requests meanwhile");
    assert_eq!(
        stack.inspect("lab-reporting-sidecar", ".State.StartedAt"),
        began
    );
}

fn a_revoked_sidecar_is_cut_off(stack: &Stack, token: &str) {
    stack.run(&["run", "--rm", "-T", "pki", "revoke", "plugin/lab-reporting"]);
    let refused = within(SOON, "the revoked sidecar is not dialled any more", || {
        stack
            .get(REPORTS, &bearer(token))
            .ok()
            .filter(|response| response.status == 502)
    });
    assert_eq!(code(&refused), "upstream_identity");
    let cut = |line: &str| {
        line.contains("\"event\":\"connection_cut\"") && line.contains("plugin/lab-reporting")
    };
    within(SOON, "the live connection was cut", || {
        stack.logs("gateway").lines().any(cut).then_some(())
    });
    assert_eq!(
        stack.get(ARCHIVE, &bearer(token)).unwrap().status,
        200,
        "the other one serves on"
    );
    // Another `up` must not let it back in; only a person does.
    stack.run(&["run", "--rm", "-T", "pki"]);
    assert_eq!(stack.get(REPORTS, &bearer(token)).unwrap().status, 502);
    stack.run(&[
        "run",
        "--rm",
        "-T",
        "pki",
        "issue",
        "plugin",
        "lab-reporting",
        "--out",
        "/keys/plugin-1",
    ]);
    stack.until(200, REPORTS, &bearer(token));
}

fn a_killed_sidecar_comes_back(stack: &Stack, token: &str) {
    let pid = stack.inspect("lab-archive-sidecar", ".State.Pid");
    // As a crash would, behind the engine's back: what `docker kill` ends stays ended.
    let killed = Command::new("sh")
        .args(["-c", &format!("kill -KILL {pid}")])
        .status()
        .unwrap();
    if !killed.success() {
        return eprintln!(
            "stack: processes of containers are not ours to kill here, so no sidecar was killed"
        );
    }
    within(LONG, "another process", || {
        let now = stack.inspect("lab-archive-sidecar", ".State.Pid");
        (now != pid && now != "0").then_some(())
    });
    stack.until(200, ARCHIVE, &bearer(token));
    assert_eq!(stack.inspect("lab-archive-sidecar", ".RestartCount"), "1");
}

fn a_plugin_that_never_becomes_healthy_harms_no_other(stack: &Stack, token: &str) {
    let broken = "services:\n  lab-archive:\n    entrypoint: [/lab-reporting, --listen, unix:/run/plugin/http.sock, --database, /nowhere/reports.db]\n    command: []\n";
    let more = stack.dir.path().join("more.yml");
    fs::write(&more, broken).unwrap();
    stack.run(&["up", "-d"]);
    within(LONG, "a sentence that says why", || {
        stack
            .logs("lab-archive")
            .contains("/nowhere/reports.db")
            .then_some(())
    });
    let ill = stack.until(502, ARCHIVE, &bearer(token));
    assert_eq!(code(&ill), "upstream_unreachable");
    stack.until(200, REPORTS, &bearer(token));
    fs::remove_file(more).unwrap();
    stack.run(&["up", "-d"]);
    stack.until(200, ARCHIVE, &bearer(token));
}

fn the_end_loses_no_request(stack: &Stack, token: &str) {
    let body = r#"{"title": "in flight", "patient": "Patient Z", "body": "sent in two halves, with the end of the stack between them"}"#;
    let (first, rest) = body.split_at(20);
    let inside: SocketAddr = format!("{}:8443", stack.ip("gateway", "front"))
        .parse()
        .unwrap();
    let gateway = stack.gateway();
    let send = |at: usize| {
        let mut wire = stack.connect_to(gateway).unwrap();
        let (path, length) = (
            if at.is_multiple_of(2) {
                REPORTS
            } else {
                ARCHIVE
            },
            body.len(),
        );
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n"
        );
        wire.send(head + &bearer(token) + "\r\n" + first);
        wire
    };
    let mut wires: Vec<Wire> = (0..8).map(send).collect();
    assert!(TcpStream::connect(inside).is_ok());
    std::thread::scope(|scope| {
        let ending = scope.spawn(|| stack.run(&["stop"]));
        within(LONG, "the door is closed", || {
            TcpStream::connect_timeout(&inside, Duration::from_secs(1))
                .is_err()
                .then_some(())
        });
        for wire in &mut wires {
            wire.send(rest);
        }
        for wire in &mut wires {
            let response = wire.response();
            assert_eq!(response.status, 201, "{}", response.text());
        }
        ending.join().unwrap();
    });
    for service in [
        "gateway",
        "lab-reporting-sidecar",
        "lab-archive-sidecar",
        "lab-reporting",
        "lab-archive",
    ] {
        assert_eq!(stack.inspect(service, ".State.ExitCode"), "0", "{service}");
    }
}

fn a_volume_of_another_user_is_named(stack: &Stack) {
    let volume = format!("{}_gateway-keys:/foreign", stack.project);
    let as_root = [
        "run",
        "--rm",
        "--user",
        "0",
        "-v",
        &volume,
        "gapura-pki:test",
        "--dir",
        "/foreign/pki",
    ];
    docker_says(
        &[
            &as_root[..],
            &[
                "init",
                "--trust-domain",
                "other.internal",
                "--plaintext-keys",
            ],
        ]
        .concat(),
    );
    stack.run(&["up", "-d", "pki"]);
    within(LONG, "pki has ended", || {
        (stack.inspect("pki", ".State.Status") == "exited").then_some(())
    });
    assert_ne!(stack.inspect("pki", ".State.ExitCode"), "0");
    let log = stack.logs("pki");
    assert!(
        log.contains("/keys/gateway belongs to user 0, and this runs as user 65532"),
        "{log}"
    );
}

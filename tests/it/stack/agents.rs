//! Certificates by a CA server and one agent a mesh directory, as the head of
//! `docker-compose.agents.yml` says to begin.

use std::time::Instant;

use gapura_tests::within;

use super::{ARCHIVE, LONG, REPORTS, SOON, Stack, bearer, built, code};

const FILES: &[&str] = &["docker-compose.yml", "docker-compose.agents.yml"];

#[test]
fn the_stack_by_agents_serves_and_cuts_off_whom_it_revokes() {
    let Some(compose) = built() else { return };
    let mut stack = Stack::new("agents", &compose, FILES);
    let begun = Instant::now();
    stack.run(&["run", "--rm", "-T", "pki"]);
    join(&stack, &["gateway", "edge"], "gateway");
    join(&stack, &["plugin", "lab-reporting"], "plugin-1");
    join(&stack, &["plugin", "lab-archive"], "plugin-2");
    stack.run(&["up", "-d"]);
    stack.root = stack.run(&["run", "--rm", "-T", "door-keys", "keys", "--ca"]);
    let token = bearer(&stack.token("42", "7"));
    stack.until(200, REPORTS, &token);
    eprintln!(
        "stack by agents: {:?} from nothing to the first 200",
        begun.elapsed()
    );
    stack.until(200, ARCHIVE, &token);

    each_agent_has_its_own(&stack);
    the_authority_is_the_ca_servers_alone(&stack);
    a_revocation_cuts_and_a_token_brings_back(&stack, &token);
}

/// As the head of the file says.
fn join(stack: &Stack, identity: &[&str], folder: &str) {
    let out = format!("/join/{folder}/token");
    let words = ["run", "--rm", "-T", "joins", "token"];
    stack.run(&[&words[..], identity, &["--out", &out]].concat());
}

fn each_agent_has_its_own(stack: &Stack) {
    for (agent, id) in [
        ("gateway-agent", "gateway/edge"),
        ("lab-reporting-agent", "plugin/lab-reporting"),
        ("lab-archive-agent", "plugin/lab-archive"),
    ] {
        let status = stack.run(&["exec", "-T", agent, "/gapura-agent", "status"]);
        for wanted in [
            format!("spiffe://lab.internal/{id}"),
            "heard".to_owned(),
            "generation".to_owned(),
        ] {
            assert!(status.contains(&wanted), "{wanted}: {status}");
        }
    }
}

fn the_authority_is_the_ca_servers_alone(stack: &Stack) {
    for service in [
        "ca",
        "gateway-agent",
        "lab-reporting-agent",
        "lab-archive-agent",
        "gateway",
        "lab-reporting-sidecar",
    ] {
        let facts = ".HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.Config.User";
        assert_eq!(
            stack.inspect(service, facts),
            "true [ALL] [no-new-privileges:true] 65532:65532",
            "{service}"
        );
        let mounts = stack.inspect(service, "range .Mounts}}{{.Name}} {{end");
        let has_ca = mounts.split_whitespace().any(|name| name.ends_with("_ca"));
        assert_eq!(has_ca, service == "ca", "{service} has {mounts}");
    }
    // Clients' network has no way to it.
    assert!(stack.look_from("mesh", "ca:9443").is_ok());
    assert!(stack.look_from("front", "ca:9443").is_err());
}

fn a_revocation_cuts_and_a_token_brings_back(stack: &Stack, token: &str) {
    let begun = Instant::now();
    let words = ["run", "--rm", "-T", "joins", "revoke"];
    stack.run(&[&words[..], &["plugin/lab-reporting"]].concat());
    let refused = within(SOON, "the revoked sidecar is not dialled any more", || {
        let answer = stack.get(REPORTS, token).ok();
        answer.filter(|response| response.status == 502)
    });
    eprintln!(
        "stack by agents: {:?} from `revoke` to 502",
        begun.elapsed()
    );
    assert_eq!(code(&refused), "upstream_identity");
    let cut = |line: &str| {
        line.contains("\"event\":\"connection_cut\"") && line.contains("plugin/lab-reporting")
    };
    within(SOON, "the live connection was cut", || {
        let cut = stack.logs("gateway").lines().any(cut);
        cut.then_some(())
    });
    assert_eq!(
        stack.get(ARCHIVE, token).unwrap().status,
        200,
        "the other one serves on"
    );
    join(stack, &["plugin", "lab-reporting"], "plugin-1");
    within(LONG * 2, "the new token brings it back", || {
        let answer = stack.get(REPORTS, token).ok();
        answer.filter(|response| response.status == 200)
    });
}

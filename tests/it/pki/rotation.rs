//! Leaf, issuing CA and root replaced under a running pair and load; revocation that cuts.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::plugin::Plugin;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::tokens::{AUDIENCE, ISSUER, Signer, jwks};
use gapura_tests::wire::Wire;
use gapura_tests::{eventually, within};
use serde_json::{Value, json};

use super::Scratch;

/// A gateway and a sidecar that live on what `gapura-pki` wrote.
struct Pair {
    gateway: Program,
    sidecar: Program,
    signer: Signer,
    scratch: Scratch,
    _plugin: Plugin,
}

impl Pair {
    fn start() -> Self {
        let scratch = Scratch::with_ca();
        scratch.ok(&["issue", "gateway", "edge", "--out", &scratch.text("edge")]);
        scratch.ok(&["issue", "plugin", "echo", "--out", &scratch.text("echo")]);
        let plugin = Plugin::tcp();
        let common = |name: &str| {
            Invocation::new()
                .flag("--listen", "127.0.0.1:0")
                .flag("--admin", "127.0.0.1:0")
                .flag("--workers", "1")
                .flag("--mesh-dir", scratch.path(name))
        };
        let mut sidecar = common("echo")
            .flag("--plugin", plugin.url())
            .start("gapura-sidecar");
        sidecar.wait_until_started();
        let plugins = scratch.path("plugins.d");
        std::fs::create_dir(&plugins).unwrap();
        let entry = json!({
            "name": "echo", "version": "1", "mount": "/echo", "upstream": format!("https://{}", sidecar.address("hop")),
            "auth_mode": "gateway_verified",
        });
        std::fs::write(plugins.join("echo.json"), entry.to_string()).unwrap();
        let signer = Signer::es256("k");
        std::fs::write(scratch.path("jwks.json"), jwks(&[&signer])).unwrap();
        let mut gateway = common("edge")
            .flag("--plugin-dir", &plugins)
            .flag("--jwks", scratch.path("jwks.json"))
            .flag("--issuer", ISSUER)
            .flag("--audience", AUDIENCE)
            .start("gapura-gateway");
        gateway.wait_until_started();
        let pair = Self {
            gateway,
            sidecar,
            signer,
            scratch,
            _plugin: plugin,
        };
        eventually("a first request goes through", || {
            (pair.get() == 200).then_some(())
        });
        pair
    }

    fn get(&self) -> u16 {
        let mut wire = Wire::plain(self.gateway.address("public"));
        let token = self.signer.token_of("7", "42");
        wire.send(format!(
            "GET /echo/x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        ));
        wire.response().status
    }

    fn certificates(&self, program: &Program) -> Value {
        let address = program.address("admin");
        let mut wire = Wire::plain(address);
        wire.send(format!(
            "GET /certificates HTTP/1.1\r\nHost: {address}\r\n\r\n"
        ));
        serde_json::from_str(&wire.response().text()).unwrap()
    }

    /// Waits until the wire shows the serial that the inventory has for the sidecar.
    fn wait_until_shown(&self) {
        let listed = self.scratch.ok(&["list", "--name", "plugin/echo"]);
        let serial = listed["certificates"][0]["serial"]
            .as_str()
            .unwrap()
            .to_owned();
        let hop = self.sidecar.address("hop").to_string();
        within(
            Duration::from_secs(5),
            "the wire shows the new serial",
            || {
                let shown = self.scratch.ok(&["inspect", &hop]);
                (shown["items"][0]["serial"] == serial.as_str()).then_some(())
            },
        );
        let edge =
            self.scratch.ok(&["list", "--name", "gateway/edge"])["certificates"][0]["serial"]
                .as_str()
                .unwrap()
                .to_owned();
        within(
            Duration::from_secs(5),
            "the gateway has its new leaf",
            || {
                self.certificates(&self.gateway)
                    .to_string()
                    .contains(&edge)
                    .then_some(())
            },
        );
    }

    /// 200 requests a second while `change` runs; none may fail.
    fn under_load(&self, change: impl FnOnce()) {
        let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        let failed = std::thread::scope(|scope| {
            let load = scope.spawn(|| {
                let mut next = Instant::now();
                let mut failed = Vec::new();
                while !stop.load(Ordering::SeqCst) {
                    let status = self.get();
                    served.fetch_add(1, Ordering::SeqCst);
                    if status != 200 {
                        failed.push(status);
                    }
                    next += Duration::from_millis(5);
                    std::thread::sleep(next.saturating_duration_since(Instant::now())); // the pace of the load
                }
                failed
            });
            struct Stop<'a>(&'a AtomicBool);
            impl Drop for Stop<'_> {
                fn drop(&mut self) {
                    self.0.store(true, Ordering::SeqCst);
                }
            }
            let guard = Stop(&stop);
            change();
            eventually("there is a load", || {
                (served.load(Ordering::SeqCst) > 200).then_some(())
            });
            drop(guard);
            load.join().unwrap()
        });
        assert!(
            failed.is_empty(),
            "{} of {} requests failed: {failed:?}",
            failed.len(),
            served.load(Ordering::SeqCst)
        );
    }
}

#[test]
fn leaf_issuer_and_root_are_rotated_under_load_without_a_failed_request() {
    let pair = Pair::start();
    let ok = |args: &[&str]| pair.scratch.ok(args);
    pair.under_load(|| {
        ok(&["renew", "--all"]);
        pair.wait_until_shown();
    });
    for kind in ["issuer", "root"] {
        pair.under_load(|| {
            ok(&["ca", "rotate", kind, "--step", "prepare"]);
            ok(&["ca", "rotate", kind, "--step", "activate"]);
            ok(&["renew", "--all"]);
            pair.wait_until_shown();
            ok(&["ca", "rotate", kind, "--step", "retire"]);
            pair.wait_until_shown();
        });
    }
    let hop = pair.sidecar.address("hop").to_string();
    let checked = ok(&["check", "--endpoint", &hop]);
    assert_eq!(checked["status"], "ok", "{checked}");
    let roots = pair.certificates(&pair.gateway)["roots"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(roots, 1, "the old root is gone from the gateway");
}

#[test]
fn a_revoked_sidecar_is_cut_off_and_its_next_handshake_refused_by_name() {
    let pair = Pair::start();
    pair.scratch
        .ok(&["revoke", "plugin/echo", "--reason", "key-compromise"]);
    within(Duration::from_secs(5), "requests are refused", || {
        (pair.get() == 502).then_some(())
    });
    let told = |line: &Value| {
        let text = line.to_string();
        text.contains("revoked") && line["event"] != "request"
    };
    pair.gateway.wait_for_line("the revocation", told);
    assert_eq!(
        pair.scratch
            .run(&[
                "check",
                "--endpoint",
                &pair.sidecar.address("hop").to_string()
            ])
            .code,
        Some(4)
    );
    // Issued anew it is back, without a restart.
    pair.scratch.ok(&[
        "issue",
        "plugin",
        "echo",
        "--out",
        &pair.scratch.text("echo"),
    ]);
    within(Duration::from_secs(5), "requests go through again", || {
        (pair.get() == 200).then_some(())
    });
}

#[test]
fn a_revoked_gateway_is_refused_by_every_sidecar() {
    let pair = Pair::start();
    pair.scratch.ok(&["revoke", "gateway/edge"]);
    within(Duration::from_secs(5), "requests are refused", || {
        (pair.get() == 502).then_some(())
    });
    pair.sidecar.wait_for_line("the revocation", |line| {
        line.to_string().contains("revoked") && line["event"] != "request"
    });
    pair.scratch.ok(&[
        "issue",
        "gateway",
        "edge",
        "--out",
        &pair.scratch.text("edge"),
    ]);
    within(Duration::from_secs(5), "requests go through again", || {
        (pair.get() == 200).then_some(())
    });
}

#[test]
fn a_tainted_root_is_replaced_and_the_pair_finds_together_again() {
    let pair = Pair::start();
    pair.scratch
        .ok(&["ca", "rotate", "root", "--emergency", "--taint"]);
    within(
        Duration::from_secs(8),
        "requests go through under the new root",
        || {
            let roots = pair.certificates(&pair.gateway)["roots"].to_string();
            (roots.contains("root-g2") && !roots.contains("root-g1") && pair.get() == 200)
                .then_some(())
        },
    );
}

#[test]
fn a_program_shows_what_check_and_inspect_compare() {
    let pair = Pair::start();
    let hop = pair.sidecar.address("hop").to_string();
    let shown = pair.scratch.ok(&["inspect", &hop]);
    assert_eq!(
        shown["items"][0]["id"],
        "spiffe://test.internal/plugin/echo"
    );
    let old: PathBuf = pair.scratch.path("echo/current");
    let before = std::fs::read_link(&old).unwrap();
    pair.scratch.ok(&["renew", "echo"]);
    pair.wait_until_shown();
    assert_ne!(std::fs::read_link(&old).unwrap(), before);
    assert_eq!(
        pair.scratch.ok(&["check", "--endpoint", &hop])["status"],
        "ok"
    );
}

//! Figures that are promised, measured with programs built as they are shipped and with nothing
//! else on the machine. Not part of a usual run: `cargo test --release --locked -p gapura-tests
//! --test it -- --ignored --nocapture --test-threads 1 figures::`, behind `cargo build --release
//! --locked --workspace`.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gapura_tests::mesh::TestMesh;
use gapura_tests::program::{Invocation, Program};
use gapura_tests::wire::Wire;
use gapura_tests::within;
use serde_json::{Value, json};

/// Long enough for a thousand files.
const LONG: Duration = Duration::from_secs(60);

fn refuse_debug() {
    if cfg!(debug_assertions) {
        panic!("what is measured is what is shipped: give --release");
    }
}

/// The registry's entry of one of many plugins: `like`, made once, under another name and mount.
fn one_of_many(like: &Value, number: usize, mount: &str, more: &Value) -> Value {
    let mut entry = like.clone();
    entry["name"] = json!(format!("many-{number}"));
    entry["mount"] = json!(mount);
    for (field, value) in more.as_object().unwrap() {
        entry[field] = value.clone();
    }
    entry
}

/// What all of the many have in common. An entry asks the sidecar's log for its address, and the
/// log grows with each request.
fn many(mesh: &TestMesh) -> Value {
    mesh.entry(&json!({
        "name": "many", "mount": "/many", "identity": "plugin/echo", "health": false,
    }))
}

fn write(dir: &Path, number: usize, entry: &Value) {
    let text = serde_json::to_string(entry).unwrap();
    std::fs::write(dir.join(format!("many-{number}.json")), text).unwrap();
}

fn serves(wire: &mut Wire, path: &str, auth: &str) -> bool {
    wire.get(path, auth);
    wire.response().status == 200
}

fn percentile(sorted: &mut [Duration], percent: usize) -> Duration {
    sorted.sort_unstable();
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// How long each request of a client took, one after another, until it is told to stop.
fn load(mesh: &TestMesh, stop: &AtomicBool) -> Vec<Duration> {
    let (mut wire, auth) = (mesh.connect(), mesh.authorization("7", "42"));
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        assert!(serves(&mut wire, "/echo/x", &auth));
        took.push(begun.elapsed());
    }
    took
}

#[test]
#[ignore = "a figure: release build, quiet machine"]
fn a_thousand_files_are_reloaded_in_less_than_200_ms_and_nobody_waits_for_that() {
    refuse_debug();
    let mesh = TestMesh::new().start();
    let like = many(&mesh);
    for number in 0..1000 {
        let mount = format!("/many/{number}");
        write(
            &mesh.plugins,
            number,
            &one_of_many(&like, number, &mount, &json!({})),
        );
    }
    mesh.gateway.signal("HUP");
    let (mut wire, auth) = (mesh.connect(), mesh.authorization("7", "42"));
    within(LONG, "all are in force", || {
        serves(&mut wire, "/many/999/x", &auth).then_some(())
    });
    let stop = AtomicBool::new(false);
    let quiet = std::thread::scope(|scope| {
        let client = scope.spawn(|| load(&mesh, &stop));
        std::thread::sleep(Duration::from_secs(5)); // so long is measured
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    stop.store(false, Ordering::Relaxed);
    let mut reloads = Vec::new();
    let beside = std::thread::scope(|scope| {
        let client = scope.spawn(|| load(&mesh, &stop));
        for turn in 0..10 {
            for number in 0..1000 {
                // Each of them is another file than before, and the last has another mount.
                let mount = match number {
                    999 => format!("/many/turn-{turn}"),
                    number => format!("/many/{number}"),
                };
                let more = json!({"timeout_ms": 20_000 + turn});
                write(
                    &mesh.plugins,
                    number,
                    &one_of_many(&like, number, &mount, &more),
                );
            }
            let begun = Instant::now();
            mesh.gateway.signal("HUP");
            let path = format!("/many/turn-{turn}/x");
            within(LONG, "it is in force", || {
                serves(&mut wire, &path, &auth).then_some(())
            });
            reloads.push(begun.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        client.join().unwrap()
    });
    let (mut quiet, mut beside) = (quiet, beside);
    let (before, during) = (percentile(&mut quiet, 99), percentile(&mut beside, 99));
    let median = percentile(&mut reloads, 50);
    println!("1,000 files: reloaded in {median:?} (of {reloads:?})");
    println!("p99 of a client: {before:?} quiet, {during:?} beside the reloads");
    assert!(median < Duration::from_millis(200), "{reloads:?}");
}

/// A further sidecar for the mesh's own plugin.
fn sidecar(mesh: &TestMesh) -> Program {
    let mut sidecar = Invocation::new()
        .args(&[
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--workers",
            "1",
        ])
        .flag("--plugin", mesh.plugin.url())
        .flag("--mesh-dir", mesh.sidecar_dir.path())
        .start("gapura-sidecar");
    sidecar.wait_until_started();
    sidecar
}

#[test]
#[ignore = "a figure: release build, quiet machine"]
fn a_thousand_plugins_of_two_instances_take_less_than_80_mib() {
    refuse_debug();
    let mesh = TestMesh::new().start();
    let before = mesh.gateway.resident_kib();
    // One identity, shared by a few sidecars.
    let sidecars: Vec<Program> = (0..4).map(|_| sidecar(&mesh)).collect();
    let like = many(&mesh);
    let hops: Vec<String> = sidecars
        .iter()
        .map(|one| one.address("hop").to_string())
        .collect();
    let at = |number: usize| format!("https://{}", hops[number % 4]);
    for number in 0..1000 {
        let more = json!({
            "upstream": [at(number), at(number + 1)],
            "health": {"path": "/healthz", "interval_ms": 5000},
        });
        let mount = format!("/many/{number}");
        write(
            &mesh.plugins,
            number,
            &one_of_many(&like, number, &mount, &more),
        );
    }
    mesh.gateway.signal("HUP");
    let (mut wire, auth) = (mesh.connect(), mesh.authorization("7", "42"));
    within(LONG, "all are in force", || {
        serves(&mut wire, "/many/999/x", &auth).then_some(())
    });
    // A tenth of them is used, and all are asked how they are.
    for number in (0..1000).step_by(10) {
        assert!(serves(&mut wire, &format!("/many/{number}/x"), &auth));
    }
    std::thread::sleep(Duration::from_secs(20)); // each instance was asked how it is a few times by then
    let after = mesh.gateway.resident_kib();
    println!("resident: {before} KiB with one plugin, {after} KiB with 1,000 of two instances");
    assert!(after < 80 * 1024, "{after} KiB");
}

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

use crate::overload::{Beside, beside_a_flood, beside_a_flooded_gateway};

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

/// When each request of a client began and how long it took, one after another, until it is told to
/// stop.
fn load(mesh: &TestMesh, stop: &AtomicBool) -> Vec<(Instant, Duration)> {
    let (mut wire, auth) = (mesh.connect(), mesh.authorization("7", "42"));
    let mut took = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        assert!(serves(&mut wire, "/echo/x", &auth));
        took.push((begun, begun.elapsed()));
    }
    took
}

/// What a client saw while `meanwhile` went on, for as long as that took.
fn beside<T>(mesh: &TestMesh, meanwhile: impl FnOnce() -> T) -> (T, Vec<(Instant, Duration)>) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let client = scope.spawn(|| load(mesh, &stop));
        let done = meanwhile();
        stop.store(true, Ordering::Relaxed);
        (done, client.join().unwrap())
    })
}

/// A thousand files, each another than in the turn before, and the last with another mount.
fn turn(dir: &Path, like: &Value, turn: usize) {
    for number in 0..1000 {
        let mount = match number {
            999 => format!("/many/turn-{turn}"),
            number => format!("/many/{number}"),
        };
        let more = json!({"timeout_ms": 20_000 + turn});
        write(dir, number, &one_of_many(like, number, &mount, &more));
    }
}

#[test]
#[ignore = "a figure: release build, quiet machine"]
fn a_thousand_files_are_reloaded_in_less_than_200_ms_and_nobody_waits_for_that() {
    refuse_debug();
    const TURNS: usize = 10;
    let mesh = TestMesh::new().start();
    let like = many(&mesh);
    let (mut wire, auth) = (mesh.connect(), mesh.authorization("7", "42"));
    turn(&mesh.plugins, &like, TURNS);
    mesh.gateway.signal("HUP");
    let path = format!("/many/turn-{TURNS}/x");
    within(LONG, "all are in force", || {
        serves(&mut wire, &path, &auth).then_some(())
    });
    // Written before anything is measured, and on the same file system: what is measured is the
    // gateway's reading, not the test's writing.
    let stages = tempfile::tempdir_in(mesh.plugins.parent().unwrap()).unwrap();
    let stage = |at: usize| stages.path().join(at.to_string());
    for at in 0..TURNS {
        std::fs::create_dir(stage(at)).unwrap();
        turn(&stage(at), &like, at);
    }
    let ((), quiet) = beside(&mesh, || std::thread::sleep(Duration::from_secs(5))); // so long is measured
    let ((reloads, renamed), under) = beside(&mesh, || {
        let (mut reloads, mut renamed) = (Vec::new(), Vec::new());
        for at in 0..TURNS {
            let begun = Instant::now();
            for number in 0..1000 {
                let name = format!("many-{number}.json");
                std::fs::rename(stage(at).join(&name), mesh.plugins.join(&name)).unwrap();
            }
            renamed.push((begun, begun.elapsed()));
            let begun = Instant::now();
            mesh.gateway.signal("HUP");
            let path = format!("/many/turn-{at}/x");
            within(LONG, "it is in force", || {
                serves(&mut wire, &path, &auth).then_some(())
            });
            reloads.push((begun, begun.elapsed()));
            // A folder that changes whole each second is more than anybody does.
            std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
        }
        (reloads, renamed)
    });
    let is_beside = |at: Instant, spells: &[(Instant, Duration)]| {
        let begun = |(begun, took): &(Instant, Duration)| *begun <= at && at < *begun + *took;
        spells.iter().any(begun)
    };
    let took = |all: &[(Instant, Duration)]| all.iter().map(|one| one.1).collect::<Vec<_>>();
    // The test's own renaming is no reload.
    let is_theirs = |one: &(Instant, Duration)| !is_beside(one.0, &renamed);
    let under: Vec<_> = under.into_iter().filter(is_theirs).collect();
    let is_meanwhile = |one: &&(Instant, Duration)| is_beside(one.0, &reloads);
    let meanwhile: Vec<_> = under.iter().filter(is_meanwhile).copied().collect();
    let p99 = |all: &[(Instant, Duration)]| percentile(&mut took(all), 99);
    let median = percentile(&mut took(&reloads), 50);
    println!(
        "1,000 files: reloaded in {median:?} (of {:?})",
        took(&reloads)
    );
    println!(
        "p99 of a client: {:?} quiet, {:?} with a reload each second, {:?} while one goes on ({} requests)",
        p99(&quiet),
        p99(&under),
        p99(&meanwhile),
        meanwhile.len()
    );
    assert!(median < Duration::from_millis(200), "{reloads:?}");
    assert!(p99(&under) < p99(&quiet) * 2);
}

/// 10 to 30 ms: work whose length differs, as real work does.
fn work() -> Duration {
    use std::hash::{BuildHasher, RandomState};
    Duration::from_micros(10_000 + RandomState::new().hash_one(()) % 20_000)
}

/// Prints what was seen, and says p99 alone and beside the flood.
fn p99_of(what: &str, seen: &Beside) -> (Duration, Duration) {
    let at = |sorted: &[Duration], percent: usize| sorted[sorted.len() * percent / 100];
    let [alone, beside, flood] =
        [&seen.alone, &seen.beside, &seen.flood].map(|one| (at(one, 50), at(one, 99)));
    println!(
        "{what}: p50 and p99 {alone:?} alone, {beside:?} beside the flood, whose own are {flood:?}"
    );
    (alone.1, beside.1)
}

#[test]
#[ignore = "a figure: release build, quiet machine"]
fn beside_a_flood_the_quiet_company_waits_no_longer_than_twice_what_it_takes_alone() {
    refuse_debug();
    let plugin = p99_of("plugin full", &beside_a_flood(400, work));
    let gateway = p99_of("gateway full", &beside_a_flooded_gateway(400, work));
    // Where nothing takes any time, what is seen is two processors that have much to do.
    let at_once = &beside_a_flooded_gateway(2000, || Duration::ZERO);
    p99_of("gateway full, answered at once", at_once);
    for (alone, beside) in [plugin, gateway] {
        assert!(beside < alone * 2, "{beside:?} after {alone:?}");
    }
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

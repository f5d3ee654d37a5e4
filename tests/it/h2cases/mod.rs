//! The cases of h2spec, by its numbers, tried at the gateway by frames of our own: what a server of
//! HTTP/2 does with frames and header blocks, good and bad. RFC 7540's numbers are kept, since
//! h2spec's cases have them.
//!
//! h2spec passes a case too when the connection is merely closed; here the code is held to what the
//! case names, and where ours is another one the case says why.

mod cases;

use std::time::{Duration, Instant};

use gapura_tests::PATIENCE;
use gapura_tests::h2::{Frames, RawFrame};
use gapura_tests::mesh::TestMesh;

use cases::{Case, Seen, Step};

/// What became of a case.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    AsWanted,
    Otherwise(String),
}

/// A connection that has begun, unless the case is about that.
fn connection(mesh: &TestMesh, begun: bool) -> Frames {
    let tls = mesh.client_tls(&["h2"]);
    match begun {
        true => Frames::connect(mesh.public(), &tls),
        false => Frames::silent(mesh.public(), &tls),
    }
}

/// Reads until the frame that `wanted` names has come, or what comes shows that it never will.
fn wait(frames: &mut Frames, wanted: &Seen) -> Outcome {
    let until = Instant::now() + PATIENCE;
    let mut came = Vec::new();
    while Instant::now() < until {
        let Some(frame) = frames.raw_within(PATIENCE) else {
            return match wanted.by_close() {
                true => Outcome::AsWanted,
                false => Outcome::Otherwise(format!("closed behind {came:?}")),
            };
        };
        match wanted.judge(&frame) {
            Some(true) => return Outcome::AsWanted,
            Some(false) => return Outcome::Otherwise(format!("{frame:?} behind {came:?}")),
            None => came.push((frame.kind, frame.stream)),
        }
    }
    Outcome::Otherwise(format!("only {came:?} in time"))
}

fn run(mesh: &TestMesh, case: &Case) -> Outcome {
    let mut frames = connection(mesh, case.number != "http2/3.5/2");
    for step in &case.steps {
        match step {
            Step::Send(bytes) => frames.send_bytes(bytes),
            Step::Wait(wanted) => match wait(&mut frames, wanted) {
                Outcome::AsWanted => {}
                otherwise => return otherwise,
            },
        }
    }
    Outcome::AsWanted
}

#[test]
fn each_case_of_h2spec_ends_as_it_should() {
    let mesh = TestMesh::new().start();
    let token = mesh.signer.token_of("7", "42");
    let cases = cases::all(&token);
    let failed: Vec<_> = cases
        .iter()
        .filter_map(|case| match run(&mesh, case) {
            Outcome::AsWanted => None,
            Outcome::Otherwise(how) => Some(format!("{} ({}): {how}", case.number, case.what)),
        })
        .collect();
    let judged = cases.iter().filter(|case| case.judged.is_some());
    for case in judged.clone() {
        println!("{}: {}", case.number, case.judged.unwrap_or_default());
    }
    println!(
        "h2spec: {} cases, {} as wanted, of which {} are judged otherwise",
        cases.len(),
        cases.len() - failed.len(),
        judged.count()
    );
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(cases.len(), 147, "all that h2spec 2.6 has");
    assert_eq!(mesh.get("/echo/x").token_of("7", "42").send().status, 200);
}

#[test]
fn an_update_of_the_window_is_answered_by_exactly_as_many_bytes() {
    // The twin of the cases about windows: nothing more than was allowed comes, for as long as one
    // looks.
    let mesh = TestMesh::new().start();
    let token = mesh.signer.token_of("7", "42");
    let mut frames = connection(&mesh, true);
    frames.send_bytes(&cases::settings(&[(4, 3)]));
    frames.send_bytes(&cases::get(1, &token));
    let data = |frame: &RawFrame| (frame.kind == 0).then_some(frame.payload.len());
    let first = std::iter::from_fn(|| frames.raw_within(PATIENCE)).find_map(|frame| data(&frame));
    assert_eq!(first, Some(3));
    let more = frames.raw_within(Duration::from_millis(300));
    assert!(
        more.is_none_or(|frame| frame.kind != 0),
        "more than allowed"
    );
}

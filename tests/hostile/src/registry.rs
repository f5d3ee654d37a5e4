//! Whatever stands in a plugin's file: it is taken or refused with its place, and a neighbour is
//! never harmed.

use gapura_gateway::hostile::{Folder, Signed};

const GOOD: &str = r#"{"name":"good","version":"1","mount":"/good","upstream":"https://127.0.0.1:1","auth_mode":"gateway_verified"}"#;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let signed = match bytes.len() % 3 {
        0 => Signed::Never,
        1 => Signed::WithoutActor,
        _ => Signed::WithActor,
    };
    let read = |before: Option<&Folder>, files: &[(&str, &[u8])]| {
        Folder::read(before, "test.internal", signed, files).expect("a good domain")
    };
    let good = ("good.json", GOOD.as_bytes());
    let both = [("fuzzed.json", bytes), good];
    let alone = read(None, &[good]);
    assert!(alone.faults().is_empty());

    // In force before, the good one keeps its mount whatever comes beside it.
    let built = read(Some(&alone), &both);
    assert_eq!(built.serves("/good/x").as_deref(), Some("good"));
    let again = read(Some(&built), &both);
    assert_eq!(
        again.faults(),
        built.faults(),
        "the same folder, the same faults"
    );
    for fault in built.faults() {
        assert!(
            !fault.message.is_empty() && fault.file.starts_with("fuzzed.json")
                || fault.file.contains("fuzzed.json"),
            "{fault:?}"
        );
    }

    // At a start, alone.
    let _ = read(None, &both);
}

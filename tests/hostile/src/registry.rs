//! Whatever stands in a plugin's file: it is taken or refused with its place, and a neighbour is never harmed.

use std::sync::Arc;
use std::time::Instant;

use gapura_gateway::registry::{File, Found, Rules, Signing, Snapshot, build};

const GOOD: &str = r#"{"name":"good","version":"1","mount":"/good","upstream":"https://127.0.0.1:1","auth_mode":"gateway_verified"}"#;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let rules = Rules {
        trust_domain: "test.internal".parse().expect("a good domain"),
        signing: match bytes.len() % 3 {
            0 => Signing::Off,
            1 => Signing::WithoutActor,
            _ => Signing::WithActor,
        },
        max_body: None,
    };
    let file = |name: &str, content: &[u8]| File {
        name: name.to_owned(),
        content: Ok(Arc::from(content)),
    };
    let snapshot = |content: &[u8]| Snapshot {
        folder: "plugins.d".to_owned(),
        files: Ok(vec![
            file("fuzzed.json", content),
            file("good.json", GOOD.as_bytes()),
        ]),
    };
    let now = Instant::now();

    let good = build(
        None,
        &Snapshot {
            folder: "plugins.d".to_owned(),
            files: Ok(vec![file("good.json", GOOD.as_bytes())]),
        },
        &rules,
        now,
    );
    assert!(good.faults.is_empty());

    // In force before, the good one keeps its mount whatever comes beside it.
    let built = build(Some(&good.state), &snapshot(bytes), &rules, now);
    assert!(
        matches!(built.table.find("/good/x"), Found::Plugin { plugin, .. } if plugin.name.as_str() == "good")
    );
    let again = build(Some(&built.state), &snapshot(bytes), &rules, now);
    assert_eq!(
        again.faults, built.faults,
        "the same folder, the same faults"
    );
    for fault in &built.faults {
        assert!(
            !fault.message.is_empty() && fault.file.starts_with("fuzzed.json")
                || fault.file.contains("fuzzed.json"),
            "{fault}"
        );
    }

    // At a start, alone.
    let _ = build(None, &snapshot(bytes), &rules, now);
}

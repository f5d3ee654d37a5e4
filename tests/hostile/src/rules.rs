//! Whatever rules a file has: they load or are refused by name, and where some stand, whoever matches none is refused.
//!
//! The input is a method and a path on the first line, and the rules (the value of `allow`) behind it.

use std::sync::Arc;
use std::time::Instant;

use gapura_gateway::registry::{
    File, Found, Refusal, Rules, Signing, Snapshot, Subject, Verdict, build,
};
use gapura_protocol::path::CanonicalPath;
use http::Method;

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == b'\n');
    let (asked, allow) = (
        parts.next().unwrap_or_default(),
        parts.next().unwrap_or_default(),
    );
    let mut words = asked.splitn(2, |byte| *byte == b' ');
    let (method, path) = (
        words.next().unwrap_or_default(),
        words.next().unwrap_or_default(),
    );
    let (Ok(method), Ok(path)) = (Method::from_bytes(method), CanonicalPath::parse(path)) else {
        return;
    };
    let head = r#"{"name":"p","version":"1","mount":"/","upstream":"https://127.0.0.1:1","auth_mode":"gateway_verified","allow":"#;
    let content = [head.as_bytes(), allow, b"}"].concat();
    let rules = Rules {
        trust_domain: "test.internal".parse().expect("a good domain"),
        signing: Signing::Off,
        max_body: None,
    };
    let files = vec![File {
        name: "p.json".to_owned(),
        content: Ok(Arc::from(content)),
    }];
    let snapshot = Snapshot {
        folder: "plugins.d".to_owned(),
        files: Ok(files),
    };
    let built = build(None, &snapshot, &rules, Instant::now());
    let Found::Plugin { plugin, .. } = built.table.find("/x") else {
        return;
    };
    let access = &plugin.access;
    // What follows the rules may close the object and go on with other fields: then there are perhaps none.
    if !access.restricts() {
        return;
    }
    let subject = Subject {
        company: "42",
        user: "7",
        roles: "member,admin",
        scopes: &["read"],
        has_actor: false,
    };
    let path = path.as_str();
    for subject in [None, Some(&subject)] {
        let verdict = access.decide(subject, &method, path);
        assert_eq!(verdict, access.decide(subject, &method, path));
        let explained = access.explain(subject, &method, path);
        match verdict {
            Verdict::Allowed(None) => panic!("rules stand, and none of them lets this through"),
            Verdict::Allowed(Some(line)) | Verdict::Refused(Refusal::Denied(line)) => {
                assert!(explained.iter().any(|(at, _)| *at == line), "{explained:?}");
            }
            Verdict::Refused(_) => {}
        }
        if method == Method::GET && matches!(verdict, Verdict::Allowed(_)) && !path.ends_with('/') {
            let slash = access.decide(subject, &method, &format!("{path}/"));
            assert_eq!(slash, verdict, "a slash at the end counts as without it");
        }
    }
}

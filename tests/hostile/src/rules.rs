//! Whatever rules a file has: they load or are refused by name, and where some stand, whoever
//! matches none is refused.
//!
//! The input is a method and a path on the first line, and the rules (the value of `allow`) behind
//! it.

use gapura_gateway::hostile::{Folder, Signed};
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
    let files: [(&str, &[u8]); 1] = [("p.json", &content)];
    let folder = Folder::read(None, "test.internal", Signed::Never, &files).expect("a good domain");
    let path = path.as_str();
    for somebody in [false, true] {
        // What follows the rules may close the object and go on with other fields: then there are
        // perhaps none.
        let Some(ruled) = folder.rules(somebody, &method, path) else {
            return;
        };
        assert_eq!(
            folder.rules(somebody, &method, path).as_ref(),
            Some(&ruled),
            "the same question, the same answer"
        );
        // Companies may stand without rules, behind the same trick.
        if let Some(line) = ruled.line {
            assert!(ruled.asked.contains(&line), "{ruled:?}");
        } else if ruled.passes {
            assert!(
                ruled.asked.is_empty(),
                "rules stand, and none lets it through"
            );
        }
        if ruled.passes && method == Method::GET && !path.ends_with('/') {
            let slash = folder.rules(somebody, &method, &format!("{path}/"));
            assert_eq!(
                slash.map(|ruled| ruled.passes),
                Some(true),
                "a slash at the end counts as without it"
            );
        }
    }
}

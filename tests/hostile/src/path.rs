//! A path that is accepted has one form, and nothing in it that another reader could take for
//! something else.

use gapura_protocol::path::{CanonicalPath, is_canonical};

/// Holds the file's sentence to one input.
pub fn check(raw: &[u8]) {
    let Ok(path) = CanonicalPath::parse(raw) else {
        return;
    };
    let text = path.as_str().to_owned();
    assert!(text.starts_with('/') && !text.contains("//"));
    assert!(
        text.bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'\\' | b';'))
    );
    assert!(
        text.split('/')
            .all(|segment| segment != "." && segment != "..")
    );
    for escape in [
        "%2e", "%2E", "%2f", "%2F", "%5c", "%5C", "%00", "%C0", "%C1", "%FE", "%FF",
    ] {
        assert!(!text.contains(escape), "{text}");
    }
    for climbs in ["/..%3B", "/..%3F", "/..%23", "/.%3F", "/..%20%23"] {
        assert!(!text.contains(climbs), "{text}");
    }
    assert!(is_canonical(text.as_bytes()), "{text}");
    let again = CanonicalPath::parse(text.as_bytes()).expect("what is canonical parses");
    assert_eq!(again.as_str(), text);
}

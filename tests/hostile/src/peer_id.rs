//! An identity that parses prints as it was, and a pattern takes what it says.

use gapura_protocol::identity::{IdPattern, PeerId};

/// Holds the file's sentence to one input.
pub fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(id) = text.parse::<PeerId>() {
        assert_eq!(id.to_string(), text);
        let everyone = IdPattern::any(id.domain().clone(), id.role());
        assert!(everyone.takes(&id));
        assert!(
            text.parse::<IdPattern>()
                .is_ok_and(|pattern| pattern.takes(&id))
        );
    }
    if let Ok(pattern) = text.parse::<IdPattern>() {
        assert_eq!(pattern.to_string(), text);
    }
}

//! An identity that parses prints as it was, and a pattern takes what it says.
#![no_main]

use gapura_mesh::identity::{IdPattern, PeerId};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
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
});

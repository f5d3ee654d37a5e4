//! What is made of a plugin's answers that are not in the envelope: the field `envelope`.
//!
//! In: the field. Out: one of three words. What the envelope is, and how an answer is put into it,
//! is known where answers leave.

use gapura_settings::json::{Fields, nearest};

/// What is made of answers without the envelope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Envelope {
    /// Nothing.
    #[default]
    Pass,
    /// They are counted.
    Check,
    /// Errors without it are put into it.
    Wrap,
}

const WORDS: [(&str, Envelope); 3] = [
    ("pass", Envelope::Pass),
    ("check", Envelope::Check),
    ("wrap", Envelope::Wrap),
];

impl Envelope {
    /// Reads the field.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Self {
        if fields.node("envelope").is_none() {
            return Self::default();
        }
        let Some(text) = fields.text("envelope") else {
            return Self::default();
        };
        if let Some((_, found)) = WORDS.iter().find(|(word, _)| *word == text) {
            return *found;
        }
        let nearest = nearest(text, WORDS.map(|(word, _)| word)).unwrap_or("check");
        fields.fault(
            "envelope",
            format_args!("must be pass, check or wrap; the nearest is {nearest}"),
        );
        Self::default()
    }

    /// The word, as a file has it.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Check => "check",
            Self::Wrap => "wrap",
        }
    }
}

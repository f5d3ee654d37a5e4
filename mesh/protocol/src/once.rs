//! A field that may stand in a head once.
//!
//! In: the lines of a head as somebody passes over all of them. Out: the one value of the field, or
//! that there are several. One pass that notes what a stage asks for costs less than a look-up of
//! each of the names.

use http::HeaderValue;

/// The lines of one field.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Once<'h> {
    line: Option<&'h HeaderValue>,
    several: bool,
}

/// The field stands there more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Several;

impl<'h> Once<'h> {
    /// One more line of it.
    pub(crate) fn note(&mut self, line: &'h HeaderValue) {
        self.several |= self.line.replace(line).is_some();
    }

    /// Its value, if it stands there.
    pub(crate) fn value(self) -> Result<Option<&'h HeaderValue>, Several> {
        if self.several {
            Err(Several)
        } else {
            Ok(self.line)
        }
    }
}

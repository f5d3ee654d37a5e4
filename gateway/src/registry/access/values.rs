//! Reads single values that rules and examples write alike.
//!
//! In: a node or a field. Out: its value, or what is wrong with it. What it is for is not known
//! here.

use gapura_protocol::context::TenantId;
use gapura_settings::json::{Fields, Node, Value, nearest};

/// A company id as a file writes it: a text or a whole number, as a token may.
pub(crate) fn read_company(node: &Node) -> Result<String, String> {
    let company = match &node.value {
        Value::Text(text) => TenantId::parse(text.as_bytes()).ok(),
        Value::Number(number) => number
            .as_u64()
            .and_then(|number| TenantId::from_number(number).ok()),
        _ => {
            let found = node.kind();
            return Err(format!("must hold company ids, found {found}"));
        }
    };
    company
        .filter(|company| company.as_str() != "0")
        .map(|company| company.to_string())
        .ok_or_else(|| {
            "holds what is no company id: it has 1 to 128 of A-Z a-z 0-9 . _ : - and begins with a letter or digit".to_owned()
        })
}

/// One of a few words; of any other the nearest is named.
pub(super) fn one_of<T: Copy>(
    fields: &mut Fields<'_, '_>,
    name: &str,
    words: &[(&str, T)],
) -> Option<T> {
    let text = fields.text(name)?;
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let meant = nearest(text, all.iter().copied()).unwrap_or_default();
        fields.fault(
            name,
            format_args!("must be {}; the nearest is {meant}", all.join(" or ")),
        );
    }
    found.map(|(_, value)| *value)
}

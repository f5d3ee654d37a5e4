//! A plugin's contract as its file speaks of it: `openapi` and `openapi_breaking`.
//!
//! In: the two fields. Out: where the document is, and what becomes of an instance whose document
//! breaks the one in force. What the document says is `openapi`'s to read.

use gapura_settings::json::{Fields, Value, nearest};

use super::health::read_path;

/// Where a plugin serves its contract, and how much a breaking change means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contract {
    /// The path, below the plugin's own root.
    pub path: String,
    /// An instance whose contract breaks the one in force gets no requests.
    pub keeps_breaking_out: bool,
}

const DEFAULT_PATH: &str = "/openapi.json";

impl Contract {
    /// Reads the fields; `None` where the plugin has no contract.
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Option<Self> {
        let breaking = read_breaking(fields);
        let path = match fields.node("openapi").map(|node| &node.value) {
            None => DEFAULT_PATH.to_owned(),
            Some(Value::Bool(false)) => {
                if breaking == Some(true) {
                    fields.fault(
                        "openapi_breaking",
                        "can't be refuse where \"openapi\" is false: there is no contract to compare; remove one of them",
                    );
                }
                return None;
            }
            Some(Value::Bool(true)) => {
                fields.fault("openapi", "must be a path, such as /openapi.json, or false");
                return None;
            }
            Some(_) => read_path(fields, "openapi")?,
        };
        Some(Self {
            path,
            keeps_breaking_out: breaking.unwrap_or(false),
        })
    }
}

fn read_breaking(fields: &mut Fields<'_, '_>) -> Option<bool> {
    fields.node("openapi_breaking")?;
    match fields.text("openapi_breaking")? {
        "warn" => Some(false),
        "refuse" => Some(true),
        other => {
            let nearest = nearest(other, ["warn", "refuse"]).unwrap_or("refuse");
            fields.fault(
                "openapi_breaking",
                format_args!("must be warn or refuse; the nearest is {nearest}"),
            );
            None
        }
    }
}

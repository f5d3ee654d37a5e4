//! Goes through a document by the table of its kinds, and nowhere else.
//!
//! In: a value and its kind. Out: each object below it, itself first, shown to a visitor that may
//! change it; what a reference leads to is not below it. How deep it goes is bounded by how deep a
//! document may be (`read`).

use serde_json::{Map, Value};

use crate::fault::Fault;
use crate::pointer::At;
use crate::shape::{Holds, Kind};

/// Sees each object with its kind and its place.
pub(crate) type Visit<'v> =
    dyn FnMut(&mut Map<String, Value>, Kind, &At<'_>) -> Result<(), Fault> + 'v;

/// Shows `value`, which is of this kind, and all below it.
pub(crate) fn walk(
    value: &mut Value,
    kind: Kind,
    at: &At<'_>,
    visit: &mut Visit<'_>,
) -> Result<(), Fault> {
    let Value::Object(object) = value else {
        return Ok(());
    };
    visit(object, kind, at)?;
    if kind != Kind::Schema && kind != Kind::PathItem && object.contains_key("$ref") {
        return Ok(());
    }
    for (name, member) in object.iter_mut() {
        let at = At::Field(at, name);
        match kind.holds(name) {
            Some(Holds::One(kind)) => walk(member, kind, &at, visit)?,
            Some(Holds::List(kind)) => {
                for (index, item) in member.as_array_mut().into_iter().flatten().enumerate() {
                    walk(item, kind, &At::Index(&at, index), visit)?;
                }
            }
            Some(Holds::Map(kind)) => {
                for (name, item) in member.as_object_mut().into_iter().flatten() {
                    walk(item, kind, &At::Field(&at, name), visit)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

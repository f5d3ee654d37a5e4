//! The methods a rule can name.
//!
//! In: the text of a rule, or a request's method. Out: a set of methods as bits. A name that no one
//! has registered is a mistake of the rule's writer and never a method: in a rule that denies it
//! would let everything through.

use gapura_settings::json::nearest;
use http::Method;

/// A set of methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Methods(u64);

/// The methods of IANA's registry that the gateway serves, those of every day first.
const KNOWN: [&str; 38] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "QUERY",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    "PURGE",
];

const GET: u64 = 1;
const HEAD: u64 = 2;

impl Methods {
    /// Every method, known or not.
    pub(crate) const ANY: Self = Self(u64::MAX);

    /// Adds a method by its name; `GET` brings `HEAD` with it.
    ///
    /// # Errors
    /// A clause that says what is wrong.
    pub(crate) fn add(&mut self, name: &str) -> Result<(), String> {
        let bit = bit(name);
        if bit == 0 {
            return Err(known(name).unwrap_or_default());
        }
        self.0 |= if bit == GET { GET | HEAD } else { bit };
        Ok(())
    }

    /// Whether it has all that `other` has.
    pub(crate) fn covers(self, other: Self) -> bool {
        self == Self::ANY || (other != Self::ANY && other.0 & !self.0 == 0)
    }

    /// Whether a request's method is one of them.
    pub(crate) fn has(self, method: Self) -> bool {
        self == Self::ANY || self.0 & method.0 != 0
    }

    /// A request's method alone; one that nobody knows is in no set but [`Self::ANY`].
    pub(crate) fn of(method: &Method) -> Self {
        Self(match *method {
            Method::GET => GET,
            Method::HEAD => HEAD,
            _ => bit(method.as_str()),
        })
    }
}

/// What is wrong with a method's name; `None` if it is one.
pub(crate) fn known(name: &str) -> Option<String> {
    if KNOWN.contains(&name) {
        return None;
    }
    if matches!(name, "*" | "CONNECT" | "TRACE") {
        let hint = match name {
            "*" => "leave the field out for every method",
            _ => "it is never served",
        };
        return Some(format!("can't name {name}: {hint}"));
    }
    let meant = nearest(name, KNOWN).unwrap_or("GET");
    let shown: String = name.chars().take(32).flat_map(char::escape_debug).collect();
    Some(format!(
        "names {shown}, which is no method; the nearest is {meant}"
    ))
}

fn bit(name: &str) -> u64 {
    KNOWN
        .iter()
        .position(|known| *known == name)
        .map_or(0, |at| 1 << at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn get_brings_head_and_head_stands_alone() {
        let mut get = Methods::default();
        get.add("GET").unwrap();
        assert!(get.has(Methods::of(&Method::GET)) && get.has(Methods::of(&Method::HEAD)));
        assert!(!get.has(Methods::of(&Method::POST)));
        let mut head = Methods::default();
        head.add("HEAD").unwrap();
        assert!(head.has(Methods::of(&Method::HEAD)) && !head.has(Methods::of(&Method::GET)));
    }

    #[test]
    fn what_nobody_registered_is_in_every_set_that_names_none() {
        let odd = Methods::of(&Method::from_bytes(b"BREW").unwrap());
        let mut all = Methods::default();
        for name in KNOWN {
            all.add(name).unwrap();
        }
        assert!(Methods::ANY.has(odd) && !all.has(odd));
    }

    #[test]
    fn a_wrong_name_is_told_the_nearest() {
        for (name, says) in [
            ("get", "the nearest is GET"),
            ("GTE", "the nearest is GET"),
            ("POTS", "the nearest is POST"),
            ("*", "leave the field out"),
            ("TRACE", "never served"),
        ] {
            let said = Methods::default().add(name).unwrap_err();
            assert!(said.contains(says), "{name}: {said}");
        }
    }
}

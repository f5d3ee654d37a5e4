//! The field `tests`: what a file's rules must say, tried each time it loads.
//!
//! In: the examples, and the rules as they serve. Out: a fault for each example that the rules
//! answer otherwise, which names it by its place and the rule that decided. So a rule that lets too
//! much through never comes into force.

use gapura_protocol::context::{Roles, UserId};
use gapura_protocol::path::CanonicalPath;
use gapura_settings::json::{Fields, Node, Value};
use http::Method;

use super::decide::Access;
use super::method;
use super::subject::Subject;
use super::values::{one_of, read_company};
use super::verdict::Verdict;
use crate::registry::fields::{CALLER, EXAMPLE, names};

/// Who an example speaks for.
enum As {
    Nobody,
    Somebody {
        company: Option<String>,
        user: String,
        roles: String,
        scopes: Vec<String>,
    },
}

/// An example by whose user nobody can be named: no user id begins with a blank.
const NO_USER: &str = " ";

/// Reads all examples and, where `access` is whole, tries them.
pub(super) fn try_all(fields: &mut Fields<'_, '_>, access: Option<&Access>, known: bool) {
    let list = fields.list("tests").unwrap_or_default();
    let names = names(EXAMPLE);
    for (at, node) in list.iter().enumerate() {
        let name = format!("tests[{at}]");
        let position = node.position;
        let Some(mut inner) = Fields::open(node, &name, &names, fields.faults()) else {
            continue;
        };
        let Some(said) = try_one(&mut inner, access, known) else {
            continue;
        };
        fields.fault_at(position, &name, said);
    }
}

/// What is to be said of an example that the rules answer otherwise.
fn try_one(fields: &mut Fields<'_, '_>, access: Option<&Access>, known: bool) -> Option<String> {
    for field in EXAMPLE {
        fields.require(field.name);
    }
    let expect = one_of(fields, "expect", &[("allow", true), ("deny", false)]);
    let request = read_request(fields);
    let who = read_as(fields, known);
    let (expect, (method, path), who, access) = (expect?, request?, who?, access?);
    let verdict = match &who {
        As::Nobody if known => Err("a request without a token is refused before any rule"),
        As::Nobody => Ok(access.decide(None, &method, &path)),
        As::Somebody { company: None, .. } => {
            Err("a caller without a company is refused before any rule")
        }
        As::Somebody {
            company: Some(company),
            user,
            roles,
            scopes,
        } => {
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            let subject = Subject {
                company,
                user,
                roles,
                scopes: &scopes,
                has_actor: false,
            };
            Ok(access.decide(Some(&subject), &method, &path))
        }
    };
    let passes = matches!(verdict, Ok(Verdict::Allowed(_)));
    if passes == expect {
        return None;
    }
    let why = match verdict {
        Ok(Verdict::Allowed(Some(line))) => format!("the rule at line {line} allows it"),
        Ok(Verdict::Allowed(None)) => "there is no rule, so it is allowed".to_owned(),
        Ok(Verdict::Refused(refusal)) => refusal.to_string(),
        Err(why) => why.to_owned(),
    };
    let word = if expect { "allow" } else { "deny" };
    Some(format!(
        "fails: {method} {path} should be \"{word}\", but {why}"
    ))
}

/// The method and the canonical path of `"GET /x"`.
fn read_request(fields: &mut Fields<'_, '_>) -> Option<(Method, String)> {
    let text = fields.text("request")?;
    let wrong = "must be a method and a path below the mount, such as \"GET /reports/1\"";
    let Some((method, target)) = text.split_once(' ') else {
        fields.fault("request", wrong);
        return None;
    };
    if let Some(message) = method::known(method) {
        fields.fault("request", message);
        return None;
    }
    let path = target.split('?').next().unwrap_or_default();
    match (method.parse(), CanonicalPath::parse(path.as_bytes())) {
        (Ok(method), Ok(path)) => Some((method, path.as_str().to_owned())),
        (_, Err(err)) => {
            fields.fault("request", format_args!("{wrong}: {err}"));
            None
        }
        _ => {
            fields.fault("request", wrong);
            None
        }
    }
}

fn read_as(fields: &mut Fields<'_, '_>, known: bool) -> Option<As> {
    let node = fields.node("as")?;
    if matches!(node.value, Value::Null) {
        return Some(As::Nobody);
    }
    if !known {
        fields.fault(
            "as",
            "must be null: on this route no token is verified, so nobody knows who calls",
        );
        return None;
    }
    if !matches!(node.value, Value::Object(_)) {
        return fields.wrong_kind("as", node, "an object or null");
    }
    let mut inner = Fields::open(node, "as", &names(CALLER), fields.faults())?;
    let before = inner.faults().len();
    let company = match inner.node("company_id") {
        None => None,
        Some(node) if matches!(node.value, Value::Null) => None,
        Some(node) => read_company(node)
            .map_err(|message| inner.fault("company_id", message))
            .ok(),
    };
    let user = match inner.node("user_id") {
        None => NO_USER.to_owned(),
        Some(node) => read_user(node).unwrap_or_else(|| {
            inner.fault(
                "user_id",
                "must be a user id: a text or a whole number, as a token has it",
            );
            String::new()
        }),
    };
    let roles: Vec<&str> = inner.texts("roles").iter().map(|(text, _)| *text).collect();
    if !roles.is_empty() && Roles::join(roles.iter().copied()).is_err() {
        inner.fault("roles", "holds what no token can have as a role");
    }
    let scopes = inner
        .texts("scopes")
        .iter()
        .map(|(text, _)| (*text).to_owned())
        .collect();
    let somebody = As::Somebody {
        company,
        user,
        roles: roles.join(","),
        scopes,
    };
    (inner.faults().len() == before).then_some(somebody)
}

fn read_user(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) => UserId::parse(text.as_bytes()).ok(),
        Value::Number(number) => UserId::from_number(number.as_u64()?).ok(),
        _ => None,
    }
    .map(|user| user.to_string())
}

//! Reads `allow`, `tenants` and `shadow`.
//!
//! In: the fields of a file and its mode. Out: an [`Access`], or faults, each at its place. A list
//! that restricts and is empty is refused by name: it would shut everybody out, or was meant to
//! hold something. A key that asks who calls is a fault on a route where nobody knows, and one that
//! asks who acts where the plugin is sent a signature that leaves it out.

use gapura_protocol::context::Roles;
use gapura_settings::json::{Fields, Node, Value};

use super::decide::{Access, Rules};
use super::examples;
use super::index::Index;
use super::method::Methods;
use super::pattern::PathPattern;
use super::rule::{Effect, Rule};
use super::subject::Told;
use super::tenants::{TenantSet, Tenants};
use super::values::{one_of, read_company};
use crate::registry::fields::{RULE, RULES_MAX, TENANTS, names};

impl Access {
    /// Reads the fields of a plugin's file, its `tests` too, which are tried at once.
    pub(in crate::registry) fn read(fields: &mut Fields<'_, '_>, told: Told) -> Option<Self> {
        let before = fields.faults().len();
        let known = told.caller;
        let access = Self {
            tenants: read_tenants(fields, known),
            rules: read_rules(fields, told),
            shadow: fields.flag("shadow").unwrap_or(false),
        };
        // On rules that are not those that were meant a test says nothing.
        let is_whole = fields.faults().len() == before;
        examples::try_all(fields, is_whole.then_some(&access), known);
        (fields.faults().len() == before).then_some(access)
    }
}

/// Reads a list of company ids; `None` where it is not there or something is wrong.
fn read_companies(fields: &mut Fields<'_, '_>, name: &str) -> Option<TenantSet> {
    let list = filled(fields, name)?;
    let mut companies = Vec::new();
    for node in list {
        match read_company(node) {
            Ok(company) => companies.push(company),
            Err(message) => fields.fault_at(node.position, name, message),
        }
    }
    (companies.len() == list.len()).then(|| TenantSet::of(companies))
}

/// A list that must hold something.
fn filled<'n>(fields: &mut Fields<'n, '_>, name: &str) -> Option<&'n [Node]> {
    let list = fields.list(name)?;
    if list.is_empty() {
        fields.fault(
            name,
            "is an empty list, which would take nobody; fill it, or leave the field out to take everyone",
        );
        return None;
    }
    Some(list)
}

fn read_tenants(fields: &mut Fields<'_, '_>, known: bool) -> Option<Tenants> {
    let node = fields.node("tenants")?;
    if !known {
        needs_a_token(fields, "tenants");
    }
    if !matches!(node.value, Value::Object(_)) {
        return fields.wrong_kind(
            "tenants",
            node,
            "{\"only\": [...]} or {\"except\": [...]} of company ids",
        );
    }
    let mut inner = Fields::open(node, "tenants", &names(TENANTS), fields.faults())?;
    let (only, except) = (inner.node("only").is_some(), inner.node("except").is_some());
    match (only, except) {
        (true, false) => read_companies(&mut inner, "only").map(Tenants::Only),
        (false, true) => read_companies(&mut inner, "except").map(Tenants::Except),
        (both, _) => {
            let message = if both {
                "can't hold both \"only\" and \"except\"; keep one"
            } else {
                "must hold \"only\" or \"except\", a list of company ids"
            };
            fields.fault("tenants", message);
            None
        }
    }
}

fn read_rules(fields: &mut Fields<'_, '_>, told: Told) -> Option<Rules> {
    let list = filled(fields, "allow")?;
    if list.len() > RULES_MAX {
        fields.fault("allow", format_args!("holds more than {RULES_MAX} rules"));
        return None;
    }
    let known = names(RULE);
    let mut rules = Vec::new();
    for (at, node) in list.iter().enumerate() {
        let name = format!("allow[{at}]");
        if let Some(mut fields) = Fields::open(node, &name, &known, fields.faults()) {
            rules.extend(read_rule(&mut fields, node.position.line, told));
        }
    }
    if rules.len() < list.len() {
        return None;
    }
    let index = Index::new(&rules);
    Some(Rules {
        list: rules.into(),
        index,
    })
}

fn read_rule(fields: &mut Fields<'_, '_>, line: usize, told: Told) -> Option<Rule> {
    let known = told.caller;
    let before = fields.faults().len();
    let effect = one_of(
        fields,
        "effect",
        &[("allow", Effect::Allow), ("deny", Effect::Deny)],
    )
    .unwrap_or(Effect::Allow);
    let no_actor = one_of(fields, "actors", &[("any", false), ("none", true)]).unwrap_or(false);
    let rule = Rule {
        line,
        methods: read_methods(fields),
        path: read_path(fields, effect, known),
        tenants: fields
            .node("tenants")
            .and_then(|_| read_companies(fields, "tenants")),
        roles: read_texts(fields, "roles", |text| {
            (!text.contains(',') && Roles::parse(text.as_bytes()).is_ok())
                .then_some(())
                .ok_or("holds what no token can have as a role: it begins with a letter or digit and has at most 128 of A-Z a-z 0-9 . _ : @ | + = ~ / - and single blanks")
        }),
        scopes: read_texts(fields, "scopes", |text| {
            // RFC 6749, section 3.3.
            let is_scope = !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
            is_scope
                .then_some(())
                .ok_or("holds what no token can have as a scope: it is visible ASCII without blanks, \" and \\")
        }),
        no_actor,
        effect,
    };
    if !known {
        for name in ["tenants", "roles", "scopes"] {
            if fields.node(name).is_some() {
                needs_a_token(fields, name);
            }
        }
        if no_actor {
            needs_a_token(fields, "actors");
        }
    }
    if !told.actor && fields.node("actors").is_some() {
        let position = fields.name_position("actors");
        fields.fault_at(
            position,
            "actors",
            "asks who acts, and --signature v1 on the gateway does not vouch to this plugin for that; set --signature v2, or remove it",
        );
    }
    (fields.faults().len() == before).then_some(rule)
}

fn needs_a_token(fields: &mut Fields<'_, '_>, name: &str) {
    let position = fields.name_position(name);
    fields.fault_at(
        position,
        name,
        "asks who calls, and on this route no token is verified; use \"auth_mode\": \"gateway_verified\", or remove it",
    );
}

fn read_methods(fields: &mut Fields<'_, '_>) -> Methods {
    let mut methods = Methods::default();
    if fields.node("methods").is_none() || filled(fields, "methods").is_none() {
        return Methods::ANY;
    }
    for (text, position) in fields.texts("methods") {
        if let Err(message) = methods.add(text) {
            fields.fault_at(position, "methods", message);
        }
    }
    methods
}

fn read_path(fields: &mut Fields<'_, '_>, effect: Effect, known: bool) -> Option<PathPattern> {
    let path = match PathPattern::parse(fields.text("path")?) {
        Ok(path) => path,
        Err(message) => {
            fields.fault("path", message);
            return None;
        }
    };
    if path.names_the_caller() && effect == Effect::Deny {
        fields.fault(
            "path",
            "can't hold {company_id} or {user_id} in a rule that denies; let a rule with it allow, and no other take the rest",
        );
    }
    if path.names_the_caller() && !known {
        needs_a_token(fields, "path");
    }
    Some(path)
}

fn read_texts(
    fields: &mut Fields<'_, '_>,
    name: &str,
    check: impl Fn(&str) -> Result<(), &'static str>,
) -> Option<Box<[Box<str>]>> {
    fields.node(name)?;
    filled(fields, name)?;
    let mut texts = Vec::new();
    for (text, position) in fields.texts(name) {
        match check(text) {
            Ok(()) => texts.push(text.into()),
            Err(message) => fields.fault_at(position, name, message),
        }
    }
    Some(texts.into())
}

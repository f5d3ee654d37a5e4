//! What the rules may say to requests of which only the shape of the path is known, as a contract
//! names it: `/reports/{id}`.
//!
//! In: the compiled rules, who calls, a method, and a path in which a name in braces stands for any
//! one segment. Out: whether some such request may pass. It decides what a caller is shown and
//! never what a caller may do: that is asked anew, of the request itself.

use http::Method;

use super::decide::Access;
use super::method::Methods;
use super::pattern::Template;
use super::rule::{Effect, Outlook};
use super::subject::Subject;

impl Access {
    /// Whether some request of this shape may pass. What only watches keeps nobody out.
    #[must_use]
    pub(crate) fn may_pass(
        &self,
        subject: Option<&Subject<'_>>,
        method: &Method,
        template: &str,
    ) -> bool {
        if self.shadow {
            return true;
        }
        if let Some(tenants) = &self.tenants
            && !subject.is_some_and(|subject| tenants.take(subject.company))
        {
            return false;
        }
        let Some(rules) = &self.rules else {
            return true;
        };
        let (method, template) = (Methods::of(method), Template::of(template));
        for rule in &rules.list {
            match rule.outlook(method, &template, subject) {
                Outlook::Perhaps(Effect::Allow) | Outlook::Surely(Effect::Allow) => return true,
                Outlook::Surely(Effect::Deny) | Outlook::Refused => return false,
                Outlook::Perhaps(Effect::Deny) | Outlook::Never => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use gapura_settings::json::{Fields, parse};
    use proptest::prelude::*;

    use super::super::{Told, Verdict};
    use super::*;

    fn access(json: &str) -> Access {
        let mut faults = Vec::new();
        let node = parse(json.as_bytes(), &mut faults).unwrap();
        let known = &["allow", "tenants", "shadow", "tests"];
        let told = Told {
            caller: true,
            actor: true,
        };
        let mut fields = Fields::open(&node, "", known, &mut faults).unwrap();
        let access = Access::read(&mut fields, told).unwrap();
        assert!(faults.is_empty(), "{json}: {faults:?}");
        access
    }

    const ANN: Subject<'_> = Subject {
        company: "42",
        user: "7",
        roles: "member",
        scopes: &[],
        has_actor: false,
    };

    #[test]
    fn an_operation_is_seen_where_some_request_for_it_passes() {
        for (rules, method, template, seen) in [
            (r#"{}"#, "GET", "/a", true),
            (r#"{"tenants": {"only": ["42"]}}"#, "GET", "/a", true),
            (r#"{"tenants": {"only": ["1"]}}"#, "GET", "/a", false),
            (
                r#"{"tenants": {"only": ["1"]}, "shadow": true}"#,
                "GET",
                "/a",
                true,
            ),
            (r#"{"allow": [{"path": "/a/{x}"}]}"#, "GET", "/a/{id}", true),
            (r#"{"allow": [{"path": "/a/{x}"}]}"#, "GET", "/a", false),
            (
                r#"{"allow": [{"path": "/a/{company_id}"}]}"#,
                "GET",
                "/a/{id}",
                true,
            ),
            (
                r#"{"allow": [{"path": "/a/{company_id}"}]}"#,
                "GET",
                "/a/42",
                true,
            ),
            (
                r#"{"allow": [{"path": "/a/{company_id}"}, {}]}"#,
                "GET",
                "/a/41",
                false,
            ),
            (r#"{"allow": [{"path": "/a/b"}]}"#, "GET", "/a/{id}", true),
            (r#"{"allow": [{"path": "/a/b"}]}"#, "GET", "/A/B", true),
            (
                r#"{"allow": [{"path": "/a/b"}]}"#,
                "GET",
                "/a/{id}.json/c",
                false,
            ),
            (r#"{"allow": [{"methods": ["GET"]}]}"#, "HEAD", "/a", true),
            (r#"{"allow": [{"methods": ["GET"]}]}"#, "POST", "/a", false),
            (r#"{"allow": [{"roles": ["admin"]}]}"#, "GET", "/a", false),
            (
                r#"{"allow": [{"roles": ["admin", "member"]}]}"#,
                "GET",
                "/a",
                true,
            ),
            (
                r#"{"allow": [{"path": "/a/**", "effect": "deny"}, {}]}"#,
                "GET",
                "/a/{id}",
                false,
            ),
            (
                r#"{"allow": [{"path": "/a/b", "effect": "deny"}, {}]}"#,
                "GET",
                "/a/{id}",
                true,
            ),
            (
                r#"{"allow": [{"roles": ["admin"], "effect": "deny"}, {}]}"#,
                "GET",
                "/a",
                true,
            ),
        ] {
            let method = method.parse().unwrap();
            let may = access(rules).may_pass(Some(&ANN), &method, template);
            assert_eq!(may, seen, "{rules} {template}");
        }
        let asks_who = access(r#"{"allow": [{"roles": ["member"]}]}"#);
        assert!(!asks_who.may_pass(None, &Method::GET, "/a"));
    }

    proptest! {
        #[test]
        fn whatever_passes_is_seen(
            rules in proptest::collection::vec(("(/(a|b|\\{x\\}|\\{company_id\\}|\\{user_id\\})){0,3}(/\\*\\*)?", any::<bool>()), 1..5),
            template in "(/(a|b|\\{y\\})){0,3}", values in "[ab]|42|7",
        ) {
            let rule = |(path, deny): &(String, bool)| {
                let (deny, path) = (*deny && !path.contains("_id"), if path.is_empty() { "/" } else { path });
                format!(r#"{{"path": "{path}", "effect": "{}"}}"#, if deny { "deny" } else { "allow" })
            };
            let rules: Vec<String> = rules.iter().map(rule).collect();
            let access = access(&format!(r#"{{"allow": [{}]}}"#, rules.join(",")));
            let template = if template.is_empty() { "/" } else { &template };
            let request = template.replace("{y}", &values);
            if let Verdict::Allowed(_) = access.decide(Some(&ANN), &Method::GET, &request) {
                prop_assert!(access.may_pass(Some(&ANN), &Method::GET, template), "{rules:?} {template} {request}");
            }
        }
    }
}

//! Finds the first rule that decides without asking them all.
//!
//! In: the rules in their order. Out: for a request, the first that decides, as if each had been
//! asked in turn. Each rule is filed under the one of its conditions that the fewest others share:
//! a literal of its path, a company, a role or a scope; a rule without any is asked by every
//! request. A request asks those that are filed under what it brings.
//! Invariant: a rule that decides for a request is filed under something that the request brings,
//! or is asked by all; so a clash of keys can cost time and never an answer.

use std::collections::HashMap;

use super::pattern::Segments;
use super::rule::{Outcome, Question, Rule};
use super::subject::Subject;

/// The rules of a plugin, filed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Index {
    /// Asked by every request.
    always: Box<[usize]>,
    filed: HashMap<u64, Box<[usize]>>,
    /// Which kinds of key are in use at all.
    kinds: [bool; 4],
}

/// What a rule can be filed under; the numbers keep equal texts of different kinds apart.
#[derive(Clone, Copy)]
enum Kind {
    Path = 0,
    Tenant = 1,
    Role = 2,
    Scope = 3,
}

impl Index {
    /// Files rules.
    pub(crate) fn new(rules: &[Rule]) -> Self {
        let mut shared: HashMap<u64, usize> = HashMap::new();
        for rule in rules {
            for (_, keys) in conditions(rule) {
                for key in keys {
                    *shared.entry(key).or_default() += 1;
                }
            }
        }
        let mut always = Vec::new();
        let mut filed: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut kinds = [false; 4];
        for (at, rule) in rules.iter().enumerate() {
            let crowd = |keys: &[u64]| {
                keys.iter()
                    .filter_map(|key| shared.get(key))
                    .max()
                    .copied()
                    .unwrap_or(0)
            };
            let best = conditions(rule)
                .into_iter()
                .min_by_key(|(_, keys)| crowd(keys));
            let Some((kind, mut keys)) = best else {
                always.push(at);
                continue;
            };
            keys.sort_unstable();
            keys.dedup();
            for key in keys {
                filed.entry(key).or_default().push(at);
            }
            if let Some(used) = kinds.get_mut(kind as usize) {
                *used = true;
            }
        }
        Self {
            always: always.into(),
            filed: filed
                .into_iter()
                .map(|(key, rules)| (key, rules.into()))
                .collect(),
            kinds,
        }
    }

    /// The first rule that decides, and how.
    pub(crate) fn first(
        &self,
        rules: &[Rule],
        question: &Question<'_>,
    ) -> Option<(usize, Outcome)> {
        let mut best = None;
        ask(&self.always, rules, question, &mut best);
        let mut under = |key: u64| {
            if let Some(filed) = self.filed.get(&key) {
                ask(filed, rules, question, &mut best);
            }
        };
        if self.has(Kind::Path) {
            paths(&question.path).for_each(&mut under);
        }
        if let Some(subject) = question.subject {
            self.keys_of(subject).for_each(&mut under);
        }
        best
    }

    fn keys_of<'a>(&'a self, subject: &'a Subject<'_>) -> impl Iterator<Item = u64> + 'a {
        let tenant = self
            .has(Kind::Tenant)
            .then(|| key(Kind::Tenant, 0, subject.company.as_bytes()));
        let roles = self.has(Kind::Role).then(|| subject.roles.split(','));
        let scopes = self.has(Kind::Scope).then(|| subject.scopes.iter());
        let roles = roles.into_iter().flatten();
        let scopes = scopes.into_iter().flatten();
        tenant
            .into_iter()
            .chain(roles.map(|role| key(Kind::Role, 0, role.as_bytes())))
            .chain(scopes.map(|scope| key(Kind::Scope, 0, scope.as_bytes())))
    }

    fn has(&self, kind: Kind) -> bool {
        self.kinds.get(kind as usize).copied().unwrap_or(true)
    }
}

fn ask(
    listed: &[usize],
    rules: &[Rule],
    question: &Question<'_>,
    best: &mut Option<(usize, Outcome)>,
) {
    for at in listed {
        if best.is_some_and(|(before, _)| before <= *at) {
            return;
        }
        let outcome = rules.get(*at).map(|rule| rule.judge(question));
        if let Some(outcome) = outcome.filter(|outcome| outcome.is_final()) {
            *best = Some((*at, outcome));
            return;
        }
    }
}

/// Each condition that a rule could be filed under, with its keys: one of them is brought by every
/// request the rule decides for.
fn conditions(rule: &Rule) -> Vec<(Kind, Vec<u64>)> {
    let texts = |kind: Kind, list: &Option<Box<[Box<str>]>>| {
        list.as_ref().map(|list| {
            let keys = list.iter().map(|text| key(kind, 0, text.as_bytes()));
            (kind, keys.collect::<Vec<_>>())
        })
    };
    let mut conditions: Vec<(Kind, Vec<u64>)> = rule
        .path
        .iter()
        .flat_map(|path| path.literals())
        .map(|(at, text)| (Kind::Path, vec![key(Kind::Path, at, text)]))
        .collect();
    conditions.extend(rule.tenants.as_ref().map(|tenants| {
        let keys = tenants
            .iter()
            .map(|text| key(Kind::Tenant, 0, text.as_bytes()));
        (Kind::Tenant, keys.collect())
    }));
    conditions.extend(texts(Kind::Role, &rule.roles));
    conditions.extend(texts(Kind::Scope, &rule.scopes));
    conditions
}

fn paths(path: &Segments<'_>) -> impl Iterator<Item = u64> {
    path.folded().map(|(at, text)| key(Kind::Path, at, text))
}

/// FNV-1a: a request that makes two keys clash makes one more rule be asked.
fn key(kind: Kind, at: usize, text: &[u8]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let seed = [kind as u8, u8::try_from(at).unwrap_or(u8::MAX)];
    seed.iter()
        .chain(text)
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| step(hash, *byte))
}

#[cfg(test)]
mod tests {
    use super::super::method::Methods;
    use super::super::pattern::PathPattern;
    use super::super::rule::Effect;
    use super::super::tenants::TenantSet;
    use super::*;
    use http::Method;
    use proptest::prelude::*;

    fn rule(line: usize, path: &str, more: (u8, u8, u8), effect: bool) -> Rule {
        let one = |of: u8, name: &str| -> Option<Box<[Box<str>]>> {
            (of > 0).then(|| vec![format!("{name}{of}").into_boxed_str()].into())
        };
        Rule {
            line,
            methods: Methods::ANY,
            path: (!path.is_empty()).then(|| PathPattern::parse(path).unwrap()),
            tenants: (more.0 > 0).then(|| TenantSet::of([more.0.to_string()])),
            roles: one(more.1, "r"),
            scopes: one(more.2, "s"),
            no_actor: false,
            effect: if effect { Effect::Allow } else { Effect::Deny },
        }
    }

    proptest! {
        #[test]
        fn finds_what_asking_each_in_turn_finds(
            rules in proptest::collection::vec(("(/[abA]|/\\{x\\}|/\\{company_id\\}){0,3}(/\\*\\*)?", (0_u8..3, 0_u8..3, 0_u8..3), any::<bool>()), 0..12),
            path in "(/[abAB12]){0,3}/?", who in (1_u8..3, 1_u8..3, 1_u8..3),
        ) {
            let rules: Vec<Rule> = rules.iter().enumerate()
                .map(|(at, (path, more, effect))| rule(at, path, *more, *effect)).collect();
            let path = if path.is_empty() { "/" } else { &path };
            let (company, roles, scope) = (who.0.to_string(), format!("r{},x", who.1), format!("s{}", who.2));
            let subject = Subject { company: &company, user: "7", roles: &roles, scopes: &["y", &scope], has_actor: false };
            let question = Question { method: Methods::of(&Method::GET), path: Segments::of(path), subject: Some(&subject) };
            let in_turn = rules.iter().map(|rule| rule.judge(&question)).enumerate().find(|(_, outcome)| outcome.is_final());
            prop_assert_eq!(Index::new(&rules).first(&rules, &question), in_turn);
        }
    }
}

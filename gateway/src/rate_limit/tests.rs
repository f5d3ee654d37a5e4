//! Which request draws from which bucket, and what its client is told.

mod figures;

use std::collections::HashMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::quota::Quota;
use super::*;
use crate::registry::{File, Found, Limited, Rules, Snapshot, build};
use gapura_settings::json::{Fields, parse};
use http::HeaderMap;

/// What this program's own store says, it says at once.
fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => panic!("the store of this program lets nobody wait"),
    }
}

fn plugin(name: &str, more: &str) -> Arc<Plugin> {
    let text = format!(
        "{{\"name\": \"{name}\", \"version\": \"1\", \"mount\": \"/{name}\", \"upstream\": \"https://a:1\", \"auth_mode\": \"gateway_verified\"{more}}}"
    );
    let files = vec![File {
        name: format!("{name}.json"),
        content: Ok(text.as_bytes().into()),
    }];
    let rules = Rules {
        trust_domain: "a".parse().unwrap(),
        signing: crate::registry::Signing::Off,
        max_body: None,
    };
    let snapshot = Snapshot {
        folder: "d".to_owned(),
        files: Ok(files),
    };
    let built = build(None, &snapshot, &rules, Instant::now());
    match built.table.find(&format!("/{name}")) {
        Found::Plugin { plugin, .. } => plugin.clone(),
        other => panic!("{other:?}: {:?}", built.faults),
    }
}

fn limited(name: &str, limit: &str) -> Arc<Plugin> {
    plugin(name, &format!(", \"rate_limit\": {limit}"))
}

fn company(limit: &str) -> Arc<RateLimit> {
    let text = format!("{{\"rate_limit\": {limit}}}");
    let mut faults = Vec::new();
    let node = parse(text.as_bytes(), &mut faults).unwrap();
    let mut fields = Fields::open(&node, "", &["rate_limit"], &mut faults).unwrap();
    RateLimit::read(&mut fields, Limited::Company).unwrap()
}

/// A limiter, and the moment at which it is asked.
struct Asked {
    limiter: Limiter,
    at: Instant,
}

impl Asked {
    fn new() -> Self {
        let at = Instant::now();
        let limiter = Limiter::new(at);
        Self { limiter, at }
    }

    fn ask(
        &self,
        plugin: &Plugin,
        company: Option<&Arc<RateLimit>>,
        (user, tenant, client): (&str, &str, &str),
    ) -> Result<Passed, Exceeded> {
        let caller = VerifiedCaller::for_test(user, tenant, &[]);
        let asks = Asks {
            what: For::Plugin(plugin),
            company: company.cloned(),
            caller: Some(&caller),
            client: client.parse().unwrap(),
        };
        now(self.limiter.take(&asks, self.at))
    }

    fn passes(&self, plugin: &Plugin, who: (&str, &str, &str)) -> bool {
        self.ask(plugin, None, who).is_ok()
    }
}

const ANN: (&str, &str, &str) = ("7", "42", "10.0.0.1");

#[test]
fn each_key_counts_whom_it_says() {
    for (key, same, others) in [
        (
            "tenant",
            ("8", "42", "10.0.0.2"),
            vec![("7", "43", "10.0.0.1")],
        ),
        (
            "user",
            ("7", "42", "10.0.0.2"),
            vec![("8", "42", "10.0.0.1"), ("7", "43", "10.0.0.1")],
        ),
        ("ip", ("8", "43", "10.0.0.1"), vec![("7", "42", "10.0.0.2")]),
    ] {
        let plugin = limited(
            "lab",
            &format!("{{\"requests\": 1, \"per_s\": 60, \"key\": \"{key}\"}}"),
        );
        let asked = Asked::new();
        assert!(asked.passes(&plugin, ANN), "{key}");
        assert!(
            !asked.passes(&plugin, ANN) && !asked.passes(&plugin, same),
            "{key}"
        );
        for other in others {
            assert!(asked.passes(&plugin, other), "{key}: {other:?}");
        }
        let elsewhere = limited(
            "other",
            "{\"requests\": 1, \"per_s\": 60, \"key\": \"tenant\"}",
        );
        assert!(asked.passes(&elsewhere, ANN), "each plugin has its own");
    }
}

#[test]
fn a_reload_refills_nothing_and_a_new_limit_holds_at_once() {
    let mut asked = Asked::new();
    let before = limited(
        "lab",
        "{\"requests\": 2, \"per_s\": 60, \"key\": \"tenant\"}",
    );
    assert!(asked.passes(&before, ANN) && asked.passes(&before, ANN));
    let same = limited(
        "lab",
        "{\"requests\": 2, \"per_s\": 60, \"key\": \"tenant\"}",
    );
    assert!(!asked.passes(&same, ANN));
    let quicker = limited(
        "lab",
        "{\"requests\": 10, \"per_s\": 1, \"key\": \"tenant\"}",
    );
    assert!(!asked.passes(&quicker, ANN));
    asked.at += Duration::from_millis(100);
    assert!(
        asked.passes(&quicker, ANN),
        "of a minute's debt nothing is left"
    );
    assert!(!asked.passes(&quicker, ANN));
}

#[test]
fn a_company_has_one_limit_over_all_plugins_and_what_another_limit_refuses_does_not_count() {
    let asked = Asked::new();
    let limit = company("{\"requests\": 2, \"per_s\": 60}");
    let (free, tight) = (
        plugin("free", ""),
        limited(
            "tight",
            "{\"requests\": 1, \"per_s\": 60, \"key\": \"user\"}",
        ),
    );
    assert_eq!(
        asked
            .ask(&tight, Some(&limit), ANN)
            .unwrap()
            .stands
            .iter()
            .count(),
        2
    );
    let refused = asked.ask(&tight, Some(&limit), ANN).unwrap_err();
    assert_eq!(refused.over, Over::Plugin(LimitKey::User));
    assert_eq!(refused.retry_after(), 60);
    assert!(
        asked.ask(&free, Some(&limit), ANN).is_ok(),
        "the second of two"
    );
    // Now the company's is empty, and gives another user's request back to the plugin's.
    let other = ("8", "42", "10.0.0.1");
    let refused = asked.ask(&tight, Some(&limit), other).unwrap_err();
    assert_eq!((refused.over, refused.retry_after()), (Over::Company, 30));
    assert!(asked.ask(&tight, None, other).is_ok());
    assert!(
        asked
            .ask(&free, Some(&limit), ("7", "43", "10.0.0.1"))
            .is_ok()
    );
}

#[test]
fn a_shadow_counts_and_lets_pass_and_tells_the_client_nothing() {
    let asked = Asked::new();
    let text = "{\"requests\": 1, \"per_s\": 60, \"key\": \"tenant\", \"shadow\": true}";
    let plugin = limited("lab", text);
    let first = asked.ask(&plugin, None, ANN).unwrap();
    assert_eq!((first.stands.iter().count(), first.shadowed), (0, None));
    let second = asked.ask(&plugin, None, ANN).unwrap();
    let over = Some(Over::Plugin(LimitKey::Tenant));
    assert_eq!((second.stands.iter().count(), second.shadowed), (0, over));
    let limit = company("{\"requests\": 2, \"per_s\": 60}");
    let third = asked.ask(&plugin, Some(&limit), ANN).unwrap();
    assert_eq!((third.stands.iter().count(), third.shadowed), (1, over));
}

#[test]
fn a_client_reads_where_it_stands() {
    let asked = Asked::new();
    let plugin = limited(
        "lab",
        "{\"requests\": 10, \"per_s\": 60, \"burst\": 3, \"key\": \"ip\"}",
    );
    let limit = company("{\"requests\": 100, \"per_s\": 1}");
    let lines = |stands: &Stands| {
        let mut headers = HeaderMap::new();
        headers.append("ratelimit", "\"own\";r=1".parse().unwrap());
        mark(stands.iter(), &mut headers);
        ["ratelimit", "ratelimit-policy"].map(|name| {
            let all = headers.get_all(name).iter();
            all.map(|line| line.to_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
    };
    let passed = asked.ask(&plugin, Some(&limit), ANN).unwrap();
    assert_eq!(
        lines(&passed.stands),
        [
            vec!["\"own\";r=1", "\"ip\";r=2;t=6", "\"company\";r=99;t=1"],
            vec!["\"ip\";q=10;w=60;gapura-burst=3", "\"company\";q=100;w=1"],
        ]
    );
    let asks = Asks {
        what: For::Plugin(&plugin),
        company: None,
        caller: None,
        client: "10.0.0.1".parse().unwrap(),
    };
    let seen = asked.limiter.look(&asks, asked.at);
    assert_eq!(seen.len(), 1);
    let words = "10 requests in 60 s for each address, 3 at once: 2 left";
    assert_eq!(seen[0].1.in_words(), words);
    assert!(!seen[0].1.refuses());
}

/// A store elsewhere: a map that answers at the second poll only.
#[derive(Default)]
struct Elsewhere(Mutex<HashMap<String, u64>>);

impl Store for Elsewhere {
    async fn take(&self, id: &BucketId<'_>, quota: Quota, now: u64) -> Verdict {
        tokio::task::yield_now().await;
        let mut map = self.0.lock().unwrap();
        let full_at = map.entry(format!("{id:?}")).or_default();
        let (verdict, next) = quota.take(*full_at, now);
        *full_at = next;
        verdict
    }

    async fn give_back(&self, id: &BucketId<'_>, quota: Quota) {
        tokio::task::yield_now().await;
        let mut map = self.0.lock().unwrap();
        let full_at = map.entry(format!("{id:?}")).or_default();
        *full_at = quota.give_back(*full_at);
    }
}

#[tokio::test]
async fn the_buckets_may_be_kept_elsewhere() {
    let begun = Instant::now();
    let limiter = Limiter {
        store: Arc::<Elsewhere>::default(),
        begun,
    };
    let plugin = limited(
        "lab",
        "{\"requests\": 2, \"per_s\": 60, \"key\": \"tenant\"}",
    );
    let limit = company("{\"requests\": 1, \"per_s\": 60}");
    let caller = VerifiedCaller::for_test("7", "42", &[]);
    let asks = |company: Option<&Arc<RateLimit>>| Asks {
        what: For::Plugin(&plugin),
        company: company.cloned(),
        caller: Some(&caller),
        client: "10.0.0.1".parse().unwrap(),
    };
    assert!(limiter.take(&asks(Some(&limit)), begun).await.is_ok());
    let refused = limiter.take(&asks(Some(&limit)), begun).await.unwrap_err();
    assert_eq!(refused.over, Over::Company);
    let clone = limiter.clone();
    assert!(clone.take(&asks(None), begun).await.is_ok(), "given back");
    assert!(limiter.take(&asks(None), begun).await.is_err());
}

//! Which reload keeps a cluster, and what an address costs.

use super::*;
use crate::registry::{File, Found, Rules, Snapshot, build};

fn clusters() -> Clusters {
    Clusters::new(LookSoon::default())
}

/// A plugin whose file says `more` beside its upstream.
fn plugin(upstream: &str, more: &str) -> Arc<Plugin> {
    let text = format!(
        "{{\"name\": \"a\", \"version\": \"1\", \"mount\": \"/a\", \"upstream\": {upstream}, \"auth_mode\": \"public\"{more}}}"
    );
    let files = vec![File {
        name: "a.json".to_owned(),
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
    let built = build(None, &snapshot, &rules, std::time::Instant::now());
    match built.table.find("/a") {
        Found::Plugin { plugin, .. } => plugin.clone(),
        other => panic!("{other:?}: {:?}", built.faults),
    }
}

const ONE: &str = "\"https://127.0.0.1:1\"";

#[test]
fn a_reload_keeps_the_cluster_of_a_plugin_that_is_reached_as_before() {
    let (mut clusters, meters) = (clusters(), Meters::new(1, &[]));
    let first = clusters.of(&plugin(ONE, ""));
    for same in [
        "",
        ", \"timeout_ms\": 1",
        ", \"allow\": [{\"path\": \"/**\"}]",
    ] {
        assert!(
            Arc::ptr_eq(&first, &clusters.of(&plugin(ONE, same))),
            "{same}"
        );
    }
    for (upstream, more) in [
        ("\"https://127.0.0.1:2\"", ""),
        ("\"http://127.0.0.1:1\"", ""),
        ("[\"https://127.0.0.1:1\", \"https://b:1\"]", ""),
        (ONE, ", \"identity\": \"plugin/b\""),
    ] {
        let other = clusters.of(&plugin(upstream, more));
        assert!(!Arc::ptr_eq(&first, &other), "{upstream} {more}");
        assert_ne!(first.seat(), other.seat(), "both live");
        assert!(
            Arc::ptr_eq(first.meters(&meters), other.meters(&meters)),
            "one plugin, one count"
        );
        assert!(Arc::ptr_eq(&other, &clusters.of(&plugin(upstream, more))));
    }
}

#[test]
fn a_seat_is_given_again_once_its_cluster_is_gone_and_no_sooner() {
    let mut clusters = clusters();
    for port in 1..100 {
        let cluster = clusters.of(&plugin(&format!("\"https://127.0.0.1:{port}\""), ""));
        assert_eq!(cluster.seat(), 0);
    }
    let kept = clusters.of(&plugin(ONE, ""));
    let other = clusters.of(&plugin("\"https://127.0.0.1:2\"", ""));
    assert_eq!((kept.seat(), other.seat()), (0, 1));
}

#[test]
fn an_address_that_stays_is_the_same_value_and_what_is_unknown_changes_nothing() {
    let cluster = clusters().of(&plugin("\"https://a:1\"", ""));
    assert!(cluster.instances().is_empty());
    let [one, two, three]: [SocketAddr; 3] =
        ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|at| at.parse().unwrap());
    cluster.found(vec![two, one, two], true);
    let before = cluster.instances.load_full();
    assert_eq!(
        before
            .iter()
            .map(|instance| instance.at)
            .collect::<Vec<_>>(),
        [one, two]
    );
    cluster.found(vec![one, two], true);
    assert!(Arc::ptr_eq(&before, &cluster.instances()));
    cluster.found(Vec::new(), false);
    cluster.found(vec![three], false);
    assert!(Arc::ptr_eq(&before, &cluster.instances()));
    cluster.found(vec![two, three], true);
    let after = cluster.instances.load_full();
    assert!(Arc::ptr_eq(&before[1], &after[0]) && after[1].at == three);
    // At first anything is better than nothing.
    let fresh = clusters().of(&plugin("[\"https://a:1\", \"https://b:1\"]", ""));
    fresh.found(vec![one], false);
    assert_eq!(fresh.instances().len(), 1);
}

#[test]
fn plain_http_goes_nowhere_beyond_this_machine_whatever_a_name_stands_for() {
    let cluster = clusters().of(&plugin("\"http://localhost:1\"", ""));
    let [near, far]: [SocketAddr; 2] = ["127.0.0.1:1", "10.0.0.2:1"].map(|at| at.parse().unwrap());
    cluster.found(vec![far, near], true);
    assert_eq!(
        cluster
            .instances()
            .iter()
            .map(|instance| instance.at)
            .collect::<Vec<_>>(),
        [near]
    );
    let allowed = plugin("\"http://b:1\"", ", \"plaintext_upstream\": true");
    let cluster = clusters().of(&allowed);
    cluster.found(vec![far], true);
    assert_eq!(cluster.instances().len(), 1);
}

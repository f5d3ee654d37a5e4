//! Which reload keeps a cluster, and what an address costs.

use super::*;
use crate::registry::{File, Found, Rules, Snapshot, build};

fn clusters() -> Clusters {
    Clusters::new(LookSoon::default())
}

impl Clusters {
    fn main(&mut self, plugin: &Plugin) -> Arc<Cluster> {
        self.sweep();
        self.running(plugin).main
    }
}

/// Places at these addresses.
fn at(addresses: &[SocketAddr]) -> Vec<Place> {
    let place = |at: &SocketAddr| Place {
        at: Address::Tcp(*at),
        weight: 1,
    };
    addresses.iter().map(place).collect()
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
    let first = clusters.main(&plugin(ONE, ""));
    for same in [
        "",
        ", \"timeout_ms\": 1",
        ", \"allow\": [{\"path\": \"/**\"}]",
    ] {
        assert!(
            Arc::ptr_eq(&first, &clusters.main(&plugin(ONE, same))),
            "{same}"
        );
    }
    for (upstream, more) in [
        ("\"https://127.0.0.1:2\"", ""),
        ("\"http://127.0.0.1:1\"", ""),
        ("[\"https://127.0.0.1:1\", \"https://b:1\"]", ""),
        (ONE, ", \"identity\": \"plugin/b\""),
    ] {
        let other = clusters.main(&plugin(upstream, more));
        assert!(!Arc::ptr_eq(&first, &other), "{upstream} {more}");
        assert_ne!(first.seat(), other.seat(), "both live");
        assert!(
            Arc::ptr_eq(first.meters(&meters), other.meters(&meters)),
            "one plugin, one count"
        );
        assert!(Arc::ptr_eq(&other, &clusters.main(&plugin(upstream, more))));
    }
}

#[test]
fn a_seat_is_given_again_once_its_cluster_is_gone_and_no_sooner() {
    let mut clusters = clusters();
    for port in 1..100 {
        let cluster = clusters.main(&plugin(&format!("\"https://127.0.0.1:{port}\""), ""));
        assert_eq!(cluster.seat(), 0);
    }
    let kept = clusters.main(&plugin(ONE, ""));
    let other = clusters.main(&plugin("\"https://127.0.0.1:2\"", ""));
    assert_eq!((kept.seat(), other.seat()), (0, 1));
}

#[test]
fn an_address_that_stays_is_the_same_value_and_what_is_unknown_changes_nothing() {
    let cluster = clusters().main(&plugin("\"https://a:1\"", ""));
    assert!(cluster.instances().is_empty());
    let [one, two, three]: [SocketAddr; 3] =
        ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"].map(|at| at.parse().unwrap());
    cluster.found(at(&[two, one, two]), true);
    let before = cluster.instances.load_full();
    assert_eq!(
        before
            .iter()
            .map(|instance| instance.at().clone())
            .collect::<Vec<_>>(),
        [one, two].map(Address::Tcp)
    );
    cluster.found(at(&[one, two]), true);
    assert!(Arc::ptr_eq(&before, &cluster.instances()));
    cluster.found(Vec::new(), false);
    cluster.found(at(&[three]), false);
    assert!(Arc::ptr_eq(&before, &cluster.instances()));
    cluster.found(at(&[two, three]), true);
    let after = cluster.instances.load_full();
    assert!(Arc::ptr_eq(&before[1], &after[0]) && *after[1].at() == Address::Tcp(three));
    // At first anything is better than nothing.
    let fresh = clusters().main(&plugin("[\"https://a:1\", \"https://b:1\"]", ""));
    fresh.found(at(&[one]), false);
    assert_eq!(fresh.instances().len(), 1);
}

#[test]
fn plain_http_goes_nowhere_beyond_this_machine_whatever_a_name_stands_for() {
    let cluster = clusters().main(&plugin("\"http://localhost:1\"", ""));
    let [near, far]: [SocketAddr; 2] = ["127.0.0.1:1", "10.0.0.2:1"].map(|at| at.parse().unwrap());
    cluster.found(at(&[far, near]), true);
    assert_eq!(
        cluster
            .instances()
            .iter()
            .map(|instance| instance.at().clone())
            .collect::<Vec<_>>(),
        [Address::Tcp(near)]
    );
    let allowed = plugin("\"http://b:1\"", ", \"plaintext_upstream\": true");
    let cluster = clusters().main(&allowed);
    cluster.found(at(&[far]), true);
    assert_eq!(cluster.instances().len(), 1);
}

#[test]
fn a_longer_list_knows_what_the_shorter_one_knew_and_a_newcomer_begins_slowly() {
    let mut clusters = clusters();
    let two = "[\"https://127.0.0.1:1\", \"https://127.0.0.1:2\"]";
    let short = clusters.main(&plugin(two, ""));
    short.instances()[0].says_version(Some("1.2.3".to_owned()));
    let three = "[\"https://127.0.0.1:1\", \"https://127.0.0.1:3\"]";
    let long = clusters.main(&plugin(three, ""));
    assert!(Arc::ptr_eq(&short.instances()[0], &long.instances()[0]));
    let now = long.epoch().now();
    let shares: Vec<u64> = (long.instances().iter())
        .map(|one| one.health.share(now))
        .collect();
    assert!(shares[0] == 1000 && shares[1] < 500, "{shares:?}");
    // Who stands there is another question where another identity is wanted.
    let other = clusters.main(&plugin(three, ", \"identity\": \"plugin/b\""));
    assert!(!Arc::ptr_eq(&long.instances()[0], &other.instances()[0]));
}

#[test]
fn with_a_least_version_nobody_is_in_who_has_not_said_one() {
    let mut clusters = clusters();
    let plain = clusters.main(&plugin(ONE, ""));
    assert!(plain.instances()[0].health.is_in());
    let wary = clusters.main(&plugin(ONE, ", \"min_version\": \"1.2.0\""));
    assert!(Arc::ptr_eq(&plain, &wary), "it is reached as before");
    assert!(wary.instances()[0].health.is_out_for(Reason::Version));
    let named = clusters.main(&plugin("\"https://a:1\"", ", \"min_version\": \"1.2.0\""));
    named.found(at(&["10.0.0.1:1".parse().unwrap()]), true);
    assert!(!named.instances()[0].health.is_in());
}

#[test]
fn a_canary_is_a_cluster_of_its_own_which_a_reload_keeps_by_itself() {
    let mut clusters = clusters();
    let canary = |percent: u32| {
        let more = format!(
            ", \"canary\": {{\"upstream\": \"https://127.0.0.1:9\", \"percent\": {percent}}}"
        );
        plugin(ONE, &more)
    };
    let first = clusters.running(&canary(1));
    let second = clusters.running(&canary(2));
    let at = |running: &Running| running.canary.as_ref().unwrap().cluster.clone();
    assert!(Arc::ptr_eq(&first.main, &second.main) && Arc::ptr_eq(&at(&first), &at(&second)));
    assert!(!Arc::ptr_eq(&first.main, &at(&first)));
    assert_eq!(at(&first).upstream().to_string(), "https://127.0.0.1:9");
    assert!(clusters.running(&plugin(ONE, "")).canary.is_none());
}

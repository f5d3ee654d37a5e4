//! Keeps the addresses of all clusters in step with what their names stand for.
//!
//! In: the clusters in force. Out: each one's addresses, looked up at start, every 5 s (every
//! second while one has none) and when a connect has failed. A name that cannot be resolved keeps
//! the addresses it had; at start it has none, which is not fatal: its requests are answered 502
//! until it has. Names are asked for side by side: each cluster knows its own as soon as they are
//! there. Runs on the control thread.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::cluster::{Cluster, LookSoon};
use super::instance::{Address, Place};
use super::lookup::Lookups;
use crate::registry::{Host, Registry};

/// How often names are looked up again.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);

/// However many connects fail, names are not asked for more often.
const LOOK_UP_LEAST: Duration = Duration::from_secs(1);

/// Looks up the names of all plugins of `registry`, for ever.
pub(crate) async fn run(registry: Registry, look_soon: LookSoon) {
    let lookups = Rc::new(Lookups::new());
    loop {
        let table = registry.table();
        let clusters = || table.running().flat_map(|(_, running)| running.clusters());
        look_up(&lookups, clusters()).await;
        // A plugin that starts after us, as in containers, has a name only then.
        let pause = if clusters().any(|cluster| cluster.instances().is_empty()) {
            LOOK_UP_LEAST
        } else {
            LOOK_UP_EVERY
        };
        drop(table);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = async {
                tokio::time::sleep(LOOK_UP_LEAST).await;
                look_soon.asked().await;
            } => {}
        }
    }
}

/// Looks up the names of all `clusters`, side by side.
async fn look_up(lookups: &Rc<Lookups>, clusters: impl Iterator<Item = Arc<Cluster>>) {
    let mut tasks = JoinSet::new();
    for cluster in clusters {
        let lookups = lookups.clone();
        tasks.spawn_local(async move { look_up_one(&lookups, &cluster).await });
    }
    while tasks.join_next().await.is_some() {}
}

async fn look_up_one(lookups: &Rc<Lookups>, cluster: &Cluster) {
    let mut found: Vec<Place> = Vec::new();
    let mut names = JoinSet::new();
    for instance in cluster.upstream().instances() {
        if let Some(place) = Place::listed(instance) {
            found.push(place);
        } else if let Host::Name(name) = &instance.host {
            let (lookups, name, port) = (lookups.clone(), name.clone(), instance.port);
            let weight = instance.weight;
            names.spawn_local(async move {
                let addresses = lookups.find(&name, port).await?;
                let places = addresses.into_iter().map(|at| Place {
                    at: Address::Tcp(at),
                    weight,
                });
                Some(places.collect::<Vec<_>>())
            });
        }
    }
    let mut whole = true;
    while let Some(answer) = names.join_next().await {
        match answer {
            Ok(Some(places)) => found.extend(places),
            Ok(None) | Err(_) => whole = false,
        }
    }
    cluster.found(found, whole);
}

//! The essence of the operator's page, for a terminal.
//!
//! In: the document of `/page.json`, of this version or another: what it does not say is not told.
//! Out: a few lines of each kind, and how bad it is.

use serde_json::Value;

use crate::health::Health;

/// What is told of a page.
#[derive(Clone, Debug, Default)]
pub(crate) struct Essence {
    /// How bad it is.
    pub(crate) health: Health,
    /// Each plugin's name, and how it is.
    pub(crate) plugins: Vec<(String, String)>,
    /// How much is going on.
    pub(crate) requests: Option<String>,
    /// What ends, and when the next should be here.
    pub(crate) renewals: Vec<String>,
    /// Who is at the other end of a hop.
    pub(crate) hops: Vec<String>,
    /// What became of the last revocation.
    pub(crate) revocation: Option<String>,
    /// Why requests were refused in the last quarter of an hour.
    pub(crate) refused: Vec<String>,
}

impl Essence {
    /// The essence of a document.
    pub(crate) fn of(page: &Value) -> Self {
        let (trust, own) = (&page["trust"], &page["own"]);
        let mut essence = Self {
            plugins: each(&own["plugins"], plugin),
            requests: lately(&page["lately"]),
            renewals: renewals(trust, page["now"].as_u64()),
            hops: each(&trust["hops"], hop),
            revocation: revocation(&trust["last_revocation"]),
            refused: each(&page["rejections"], refused),
            ..Self::default()
        };
        if own["plugins"].is_null() && own["reachable"] == false {
            essence.health = Health::Critical;
        }
        let states = each(&own["plugins"], |plugin| Some(of_state(&plugin["state"])));
        let certificates = [trust, &trust["public"]].into_iter();
        let lists = trust["crls"].as_array().into_iter().flatten();
        let lives = certificates.chain(lists).map(|one| of_life(&one["life"]));
        let worst = states.into_iter().chain(lives).max();
        essence.health = essence.health.max(worst.unwrap_or_default());
        essence
    }
}

fn of_state(state: &Value) -> Health {
    match state.as_str() {
        Some("down" | "nowhere") => Health::Critical,
        Some("weak") => Health::Warning,
        _ => Health::Well,
    }
}

fn of_life(life: &Value) -> Health {
    match life.as_str() {
        Some("urgent" | "over") => Health::Critical,
        Some("due" | "not_begun") => Health::Warning,
        _ => Health::Well,
    }
}

fn plugin(plugin: &Value) -> Option<(String, String)> {
    let name = plugin["name"].as_str()?.to_owned();
    let instances = plugin["instances"].as_array()?;
    let healthy = instances.iter().filter(|one| one["healthy"] == true);
    let (healthy, all) = (healthy.count(), instances.len());
    let mut words = format!("{healthy} of {all} instances in");
    if let Some(lately) = lately(&plugin["lately"]) {
        words.push_str(", ");
        words.push_str(&lately);
    }
    Some((name, words))
}

fn lately(lately: &Value) -> Option<String> {
    let requests = lately["requests_per_s"].as_f64()?;
    let mut words = format!("{requests:.1} requests/s");
    if let Some(failed) = lately["failed_per_s"]
        .as_f64()
        .filter(|failed| *failed > 0.0)
    {
        words.push_str(&format!(", {failed:.1} errors/s"));
    }
    if let (Some(half), Some(most)) = (lately["p50_us"].as_u64(), lately["p99_us"].as_u64()) {
        words.push_str(&format!(", p50 {}, p99 {}", millis(half), millis(most)));
    }
    Some(words)
}

fn millis(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}

fn renewals(trust: &Value, now: Option<u64>) -> Vec<String> {
    let Some((renewal, now)) = trust["renewal"].as_u64().zip(now) else {
        return Vec::new();
    };
    let days = renewal.abs_diff(now) / 86_400;
    vec![if renewal >= now {
        format!("the mesh certificate's next renewal is due in {days} days")
    } else {
        format!("the mesh certificate's renewal has been due for {days} days")
    }]
}

fn hop(hop: &Value) -> Option<String> {
    let word = |name: &str| hop[name].as_str();
    let (peer, tls, group) = (word("peer")?, word("tls")?, word("group")?);
    let (cipher, count) = (word("cipher")?, hop["connections"].as_u64()?);
    let quantum = if hop["post_quantum"] == true {
        ""
    } else {
        ", not post-quantum"
    };
    Some(format!(
        "{peer}: {count} open, {tls}, {group}{quantum}, {cipher}"
    ))
}

fn revocation(last: &Value) -> Option<String> {
    let (added, cut) = (last["added"].as_u64()?, last["cut"].as_u64()?);
    Some(format!(
        "the last one named {added} more and cut {cut} connections"
    ))
}

fn refused(one: &Value) -> Option<String> {
    let lately = one["lately"].as_u64().filter(|lately| *lately > 0)?;
    Some(format!(
        "{} {lately} times in 15 minutes",
        one["name"].as_str()?
    ))
}

fn each<T>(list: &Value, of: impl Fn(&Value) -> Option<T>) -> Vec<T> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_worst_of_plugins_certificates_and_lists_counts() {
        let page = |state: &str, life: &str, list: &str| {
            json!({"own": {"plugins": [{"name": "lab", "state": state, "instances": [{"healthy": true}, {"healthy": false}]}]},
                "trust": {"life": life, "crls": [{"life": list}]}})
        };
        for (state, life, list, code) in [
            ("well", "well", "well", 0),
            ("weak", "well", "well", 3),
            ("well", "due", "well", 3),
            ("well", "well", "urgent", 4),
            ("down", "well", "well", 4),
            ("disabled", "well", "well", 0),
        ] {
            let essence = Essence::of(&page(state, life, list));
            assert_eq!(essence.health.exit_code(), code, "{state} {life} {list}");
            assert_eq!(essence.plugins[0].1, "1 of 2 instances in");
        }
        let silent = Essence::of(&json!({}));
        assert_eq!(silent.health, Health::Well, "what is not said is not told");
        let sidecar = Essence::of(&json!({"own": {"reachable": false}}));
        assert_eq!(sidecar.health, Health::Critical);
    }
}

//! `gapura status`: what the operator's sides of running programs say, on one screen.
//!
//! In: the pages `/readyz`, `/certificates`, `/plugins` and `/page.json` of each program, as far as
//! it has them. Out: lines for people or JSON for programs, and how bad it is: 0 well, 3 something
//! wants to be mended, 4 not ready, or nobody answers. Nothing is changed anywhere.

use std::time::{Duration, UNIX_EPOCH};

use gapura_operator::ask;
use gapura_protocol::clock::Rfc3339;
use gapura_settings::{AdminAddress, AdminSide};
use serde_json::{Value, json};

use crate::essence::Essence;
use crate::health::Health;

/// What one program says.
#[derive(Clone, Debug)]
pub struct Status {
    at: String,
    health: Health,
    /// Why nothing is known of it.
    silent: Option<String>,
    missing: Vec<String>,
    alarms: Vec<String>,
    identity: Option<String>,
    not_after: Vec<(String, String)>,
    plugins: Vec<String>,
    faults: Vec<String>,
    held: Vec<String>,
    essence: Essence,
}

impl Status {
    /// Asks the program whose operator's side is there.
    #[must_use]
    pub fn ask(admin: &AdminSide) -> Self {
        let at = match &admin.address {
            AdminAddress::Tcp(address) => address.to_string(),
            unix @ AdminAddress::Unix(_) => unix.to_string(),
        };
        match Pages::of(admin) {
            Ok(pages) => Self::read(at, &pages),
            Err(why) => Self {
                silent: Some(why),
                ..Self::bare(at, Health::Critical)
            },
        }
    }

    fn bare(at: String, health: Health) -> Self {
        Self {
            at,
            health,
            silent: None,
            missing: Vec::new(),
            alarms: Vec::new(),
            identity: None,
            not_after: Vec::new(),
            plugins: Vec::new(),
            faults: Vec::new(),
            held: Vec::new(),
            essence: Essence::default(),
        }
    }

    fn read(at: String, pages: &Pages) -> Self {
        let (ready, certificates) = (&pages.ready, &pages.certificates);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let alarms = list(&ready["alarms"], |alarm| {
            let (name, message) = (text(&alarm["name"])?, text(&alarm["message"])?);
            let docs = text(&alarm["docs"]).map(|docs| format!(" ({docs})"));
            Some(format!("{name}: {message}{}", docs.unwrap_or_default()))
        });
        let mut not_after = Vec::new();
        for (name, value) in [
            ("mesh", &certificates["own"]),
            ("public", &certificates["public"]),
        ] {
            let moment = &value["not_after"];
            let shown = text(moment).or_else(|| moment.as_u64().map(shown));
            not_after.extend(shown.map(|shown| (name.to_owned(), shown)));
        }
        let mut status = Self {
            missing: list(&ready["missing"], text),
            alarms,
            identity: text(&certificates["own"]["id"]),
            not_after,
            ..Self::bare(at, Health::Well)
        };
        if let Some(page) = &pages.plugins {
            status.plugins = list(&page["plugins"], |plugin| {
                let (name, version) = (text(&plugin["name"])?, text(&plugin["version"])?);
                let (mount, enabled) = (text(&plugin["mount"])?, plugin["enabled"] != json!(false));
                let off = if enabled { "" } else { " (not enabled)" };
                Some(format!("{name} {version} at {mount}{off}"))
            });
            status.faults = list(&page["faults"], text);
            status.held = list(&page["held"], text);
        }
        if let Some(page) = &pages.page {
            status.essence = Essence::of(page);
            for line in &mut status.plugins {
                let name = line.split(' ').next().unwrap_or_default();
                if let Some((_, more)) = status.essence.plugins.iter().find(|(of, _)| of == name) {
                    line.push_str(": ");
                    line.push_str(more);
                }
            }
        }
        status.health = if !status.missing.is_empty() || ready["ok"] != json!(true) {
            Health::Critical
        } else if status.alarms.is_empty() && status.faults.is_empty() && status.held.is_empty() {
            Health::Well
        } else {
            Health::Warning
        };
        status.health = status.health.max(status.essence.health);
        status
    }

    /// How bad it is.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// For people: what must be mended first, then what there is.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let who = self.identity.as_deref().unwrap_or("nobody known");
        let mut lines = vec![format!("{}: {who}: {}", self.at, self.health.as_str())];
        let mut all = |what: &str, texts: &[String]| {
            lines.extend(texts.iter().map(|text| format!("  {what:<11} {text}")));
        };
        all("no answer", self.silent.as_slice());
        all("not ready", &self.missing);
        all("alarm", &self.alarms);
        all("fault", &self.faults);
        all("on hold", &self.held);
        for (name, moment) in &self.not_after {
            all("certificate", &[format!("{name} until {moment}")]);
        }
        all("renewal", &self.essence.renewals);
        all("plugin", &self.plugins);
        all("requests", self.essence.requests.as_slice());
        all("hop", &self.essence.hops);
        all("revocation", self.essence.revocation.as_slice());
        all("refused", &self.essence.refused);
        lines
    }

    /// The same for programs.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let not_after = self.not_after.iter();
        let not_after = not_after.map(|(name, moment)| (name.clone(), moment.as_str().into()));
        json!({
            "admin": self.at, "health": self.health.as_str(), "no_answer": self.silent, "identity": self.identity,
            "missing": self.missing, "alarms": self.alarms, "faults": self.faults, "held": self.held,
            "not_after": Value::Object(not_after.collect()), "plugins": self.plugins, "requests": self.essence.requests,
            "renewals": self.essence.renewals, "hops": self.essence.hops, "revocation": self.essence.revocation, "refused": self.essence.refused,
        })
    }
}

/// What a program was asked for.
struct Pages {
    ready: Value,
    certificates: Value,
    /// A sidecar has none.
    plugins: Option<Value>,
    /// An older program has none.
    page: Option<Value>,
}

impl Pages {
    fn of(admin: &AdminSide) -> Result<Self, String> {
        let strange = || format!("what listens at {} is no admin side of ours", admin.address);
        let read = |(_, text): (u16, String)| serde_json::from_str(&text).map_err(|_| strange());
        let plugins = ask::answer(admin, "/plugins")?;
        let page = ask::answer(admin, "/page.json")?;
        Ok(Self {
            // It is 503 where the program is not ready, and says why.
            ready: read(ask::answer(admin, "/readyz")?)?,
            certificates: read(ask::answer(admin, "/certificates")?)?,
            plugins: (plugins.0 == 200).then(|| read(plugins)).transpose()?,
            page: (page.0 == 200).then(|| read(page)).transpose()?,
        })
    }
}

fn list(value: &Value, of: impl Fn(&Value) -> Option<String>) -> Vec<String> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(of)
        .collect()
}

fn shown(seconds: u64) -> String {
    let moment = UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    moment.map_or_else(|| seconds.to_string(), |moment| Rfc3339(moment).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(ready: Value, plugins: Option<Value>) -> Status {
        let certificates = json!({"own": {"id": "spiffe://a/gateway/edge", "not_after": "2026-12-25T00:00:00Z"}, "public": null});
        let pages = Pages {
            ready,
            certificates,
            plugins,
            page: None,
        };
        Status::read("127.0.0.1:9901".to_owned(), &pages)
    }

    #[test]
    fn what_is_well_what_wants_mending_and_what_is_not_ready_are_told_apart() {
        let well = json!({"ok": true, "missing": [], "alarms": []});
        let plugins = |faults: &[&str]| json!({"plugins": [{"name": "lab", "version": "1", "mount": "/lab", "enabled": true}], "held": [], "faults": faults});
        let told = |ready: &Value, plugins| status(ready.clone(), plugins).health().exit_code();
        assert_eq!(told(&well, None), 0);
        assert_eq!(told(&well, Some(plugins(&[]))), 0);
        assert_eq!(told(&well, Some(plugins(&["a.json:1:1: wrong"]))), 3);
        let alarm =
            json!({"ok": true, "missing": [], "alarms": [{"name": "crl", "message": "old"}]});
        assert_eq!(told(&alarm, None), 3);
        let missing = json!({"ok": false, "missing": ["keys"], "alarms": []});
        assert_eq!(told(&missing, None), 4);
        assert_eq!(told(&json!({}), None), 4, "what cannot be read is not well");
        let lines = status(alarm, Some(plugins(&[]))).lines();
        assert_eq!(
            lines,
            [
                "127.0.0.1:9901: spiffe://a/gateway/edge: warning",
                "  alarm       crl: old",
                "  certificate mesh until 2026-12-25T00:00:00Z",
                "  plugin      lab 1 at /lab",
            ]
        );
    }
}

//! `gapura-gateway explain`: which plugin would serve a request, and each decision on the way.
//!
//! The very functions of the request path, over the files as they stand. Nothing is sent and nothing is started. What a caller is
//! never told, the rule that refuses and its line, stands here.

use std::sync::Arc;
use std::time::Instant;

use gapura_protocol::clock::{Clock, Rfc3339};
use gapura_protocol::envelope::Code;
use gapura_protocol::identity::{Role, TrustDomain};
use gapura_protocol::path::CanonicalPath;
use gapura_telemetry::alarms::Alarms;
use gapura_telemetry::log::Log;
use gapura_trust::set::{TrustOptions, TrustSet};
use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HeaderMap, HeaderValue, ORIGIN};
use http::request::Parts;
use serde_json::{Value, json};

use crate::authenticate::{Authenticator, Caller, Keys, VerifiedCaller};
use crate::authorise;
use crate::client::network;
use crate::config::Explain;
use crate::cors::Page;
use crate::rate_limit::{Asks, Limiter};
use crate::registry::{Built, Plugin, Rules, Snapshot, Verdict, build};
use crate::rejection::Rejection;
use crate::route::{self, Target};
use crate::settings::Downstream;
use crate::standing::Standing;

/// Each decision on the way, and what they come to.
#[derive(Debug, Default)]
struct Explanation {
    steps: Vec<(&'static str, String)>,
    plugin: Option<String>,
    code: Option<Code>,
}

impl Explanation {
    /// Every step, a sentence each.
    #[must_use]
    fn lines(&self) -> Vec<String> {
        self.steps.iter().map(|(_, text)| text.clone()).collect()
    }

    /// The same for programs: the steps with their stage, the plugin, and the code of a refusal, `null` for a request that goes on.
    #[must_use]
    fn to_json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(stage, text)| json!({"stage": stage, "text": text}))
            .collect();
        json!({
            "plugin": self.plugin,
            "status": self.code.map(|code| code.status().as_u16()),
            "code": self.code.map(Code::as_str),
            "steps": steps,
        })
    }

    fn step(&mut self, stage: &'static str, text: impl Into<String>) {
        self.steps.push((stage, text.into()));
    }

    /// The step that ends it.
    fn refused(&mut self, stage: &'static str, why: &str, code: Code) {
        self.code = Some(code);
        let (status, word) = (code.status().as_u16(), code.as_str());
        self.step(stage, format!("{why}: {status} {word}"));
    }
}

/// Every step of the request that is asked about, a line each, or one JSON object.
///
/// # Errors
/// What of the question or the configuration cannot be read.
pub(crate) fn explain(question: &Explain, clock: &Clock) -> Result<String, Vec<String>> {
    let mut told = Explanation::default();
    let rules = Rules {
        trust_domain: trust_domain(question, clock)?,
        signing: question.signing,
        max_body: question.max_body,
    };
    let folder = Snapshot::take(&question.plugin_dir);
    let built = build(None, &folder, &rules, Instant::now());
    for fault in &built.faults {
        told.step("registry", format!("fault: {fault}"));
    }
    let keys = Keys::load(question.auth.clone())?;
    keys.fetch_now(clock)?;
    let standing = standing(question, clock)?;
    let head = head(question)?;
    let path = question.target.split('?').next().unwrap_or_default();
    match CanonicalPath::parse(path.as_bytes()) {
        Ok(path) => {
            told.step("path", format!("canonical path: {}", path.as_str()));
            let asked = Asked {
                question,
                head,
                path,
                clock,
                standing,
                limiter: Limiter::new(Instant::now()),
            };
            asked.explain(&built, Authenticator::new(keys), &mut told);
        }
        Err(error) => {
            let why = format!("the path is refused: {}", error.label());
            told.refused("path", &why, Code::BadRequest);
        }
    }
    Ok(if question.json {
        told.to_json().to_string()
    } else {
        told.lines().join("\n")
    })
}

/// A request that is asked about.
struct Asked<'a> {
    question: &'a Explain,
    head: Parts,
    path: CanonicalPath<'a>,
    clock: &'a Clock,
    standing: Standing,
    /// Nothing was ever sent here: how much is left only a running gateway knows.
    limiter: Limiter,
}

impl Asked<'_> {
    fn explain(&self, built: &Built, authenticator: Authenticator, told: &mut Explanation) {
        for step in route::explain(&built.table, &self.path) {
            told.step("route", step);
        }
        let (plugin, rest) = match route::find(&built.table, &self.path) {
            Ok(Target::Plugin(found)) => (found.plugin, found.path),
            Ok(Target::Endpoint(_)) => return,
            Err(error) => {
                told.code = Some(error.code());
                return;
            }
        };
        told.plugin = Some(plugin.name.to_string());
        let mut page = Page::of(&self.head);
        page.reaches(plugin);
        self.decide(built, plugin, rest, &authenticator, &mut page, told);
        self.pages(plugin, &page, told);
    }

    fn decide(
        &self,
        built: &Built,
        plugin: &Arc<Plugin>,
        rest: &str,
        authenticator: &Authenticator,
        page: &mut Page,
        told: &mut Explanation,
    ) {
        let door = Downstream {
            public_hosts: self.question.public_hosts.clone(),
            ..Downstream::default()
        };
        if let Some(host) = &self.question.host
            && !door.serves(host.as_bytes())
        {
            return told.refused("host", &format!("{host} is not served"), Code::Misdirected);
        }
        if page.preflight().is_some() {
            return told.step("cors", "it is a preflight, which the gateway answers: 204");
        }
        if !plugin.enabled {
            told.code = Some(Code::UpstreamUnavailable);
            return;
        }
        told.step("token", format!("auth_mode: {}", plugin.auth.as_str()));
        let caller = match authenticator.verify_offline(
            plugin.auth,
            &self.head.headers,
            self.clock.unix(),
        ) {
            Ok(caller) => caller,
            Err(error) => {
                let code = Rejection::Authenticate(error).code();
                let why = format!("the token is refused ({})", error.label());
                return told.refused("token", &why, code);
            }
        };
        match &caller {
            Caller::Unverified => told.step("token", "the token is passed on unread"),
            Caller::Public => told.step("token", "no token is needed"),
            Caller::Verified(caller) => {
                page.acts_for(caller.tenant());
                told.step("token", claims(caller));
                if let Err(refusal) = self.standing.check(caller, self.question.client) {
                    return told.refused("standing", refusal.as_str(), refusal.code());
                }
                if let Some(words) = self.standing.in_words(caller.tenant().as_str()) {
                    told.step("standing", format!("the company has a file: {words}"));
                }
            }
        }
        let known = match &caller {
            Caller::Verified(caller) => Some(&**caller),
            _ => None,
        };
        if !self.rules(built, plugin, known, told) {
            return;
        }
        if !self.limits(plugin, known, told) {
            return;
        }
        told.step("send", self.sent(plugin, rest, known));
    }

    /// Where it stands with each limit; whether the request goes on.
    fn limits(
        &self,
        plugin: &Plugin,
        caller: Option<&VerifiedCaller>,
        told: &mut Explanation,
    ) -> bool {
        let company = caller.and_then(|caller| self.standing.rate_limit(caller.tenant().as_str()));
        let asks = Asks {
            plugin,
            company,
            caller,
            client: network(self.question.client),
        };
        for (over, stand) in self.limiter.look(&asks, Instant::now()) {
            if stand.refuses() {
                let why = format!("{}, {}", stand.in_words(), over.as_str());
                told.refused("limits", &why, Code::RateLimited);
                return false;
            }
            told.step("limits", stand.in_words());
        }
        true
    }

    /// What each rule says; whether the request goes on.
    fn rules(
        &self,
        built: &Built,
        plugin: &Arc<Plugin>,
        caller: Option<&VerifiedCaller>,
        told: &mut Explanation,
    ) -> bool {
        let (method, path) = (&self.head.method, self.path.as_str());
        if !plugin.access.restricts() {
            told.step("rules", "the plugin has no rules: everyone may");
            return true;
        }
        let file = built
            .table
            .plugins()
            .iter()
            .find(|(_, known)| Arc::ptr_eq(known, plugin))
            .map_or("its file", |(file, _)| file.as_str());
        for (line, says) in authorise::explain(plugin, caller, method, path) {
            told.step("rules", format!("the rule at {file}:{line} {says}"));
        }
        let refusal = match authorise::decide(plugin, caller, method, path) {
            Verdict::Allowed(_) => {
                told.step("rules", "the rules allow it");
                return true;
            }
            Verdict::Refused(refusal) => refusal,
        };
        if plugin.access.is_shadow() {
            told.step(
                "rules",
                format!("{refusal}; they only watch (shadow), so it passes and is counted"),
            );
            return true;
        }
        told.refused("rules", &refusal.to_string(), Code::Forbidden);
        false
    }

    fn sent(&self, plugin: &Plugin, rest: &str, caller: Option<&VerifiedCaller>) -> String {
        let query = self.question.target.split_once('?');
        let target = query.map_or_else(|| rest.to_owned(), |(_, query)| format!("{rest}?{query}"));
        let how = if plugin.upstream.is_plaintext() {
            "in plain http".to_owned()
        } else {
            format!("over mTLS to {}", plugin.identity)
        };
        let context = match caller.filter(|_| plugin.gets_context()) {
            Some(caller) => {
                let mut names = vec!["X-User-Id", "X-Company-Id"];
                names.extend(caller.roles().map(|_| "X-Role"));
                format!(", with {}", names.join(", "))
            }
            None => String::new(),
        };
        format!("{} {target} is sent {how}{context}", self.head.method)
    }

    /// What the page that asks will be told, by the function that tells it.
    fn pages(&self, plugin: &Plugin, page: &Page, told: &mut Explanation) {
        if plugin.cors.is_none() || !self.head.headers.contains_key(ORIGIN) {
            return;
        }
        let mut headers = HeaderMap::new();
        page.mark(&mut headers, &self.standing);
        let is_shown = headers.keys().any(|name| name.as_str() != "vary");
        if !is_shown {
            return told.step(
                "cors",
                "the page's origin is not listed: its browser shows it nothing",
            );
        }
        for (name, value) in &headers {
            let value = value.to_str().unwrap_or_default();
            told.step("cors", format!("the answer says {name}: {value}"));
        }
    }
}

/// What a good token says of its caller.
fn claims(caller: &VerifiedCaller) -> String {
    let ends = std::time::UNIX_EPOCH + std::time::Duration::from_secs(caller.expires());
    let roles = caller.roles().map_or("none", |roles| roles.as_str());
    let scopes: Vec<&str> = caller.scopes().iter().collect();
    let mut text = format!(
        "the token is good until {}: company {}, roles {roles}",
        Rfc3339(ends),
        caller.tenant()
    );
    text += &format!(", user {}", caller.user());
    if !scopes.is_empty() {
        text += &format!(", scopes {}", scopes.join(" "));
    }
    if let Some(actor) = caller.actor() {
        text += &format!(", acted for by {actor}");
    }
    text
}

/// The request as its client would have sent it.
fn head(question: &Explain) -> Result<Parts, Vec<String>> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = question.method.clone();
    let value = |text: &str, fault: String| HeaderValue::from_str(text).map_err(|_| vec![fault]);
    if let Some(file) = &question.token_file {
        let file_name = file.display();
        let text = std::fs::read_to_string(file)
            .map_err(|error| vec![format!("--token-file {file_name}: cannot be read: {error}")])?;
        let fault = format!("--token-file {file_name}: holds no token");
        head.headers.insert(
            AUTHORIZATION,
            value(&format!("Bearer {}", text.trim()), fault)?,
        );
    }
    if let Some(origin) = &question.origin {
        let fault = "--origin: is no origin, such as https://app.example.com".to_owned();
        head.headers.insert(ORIGIN, value(origin, fault)?);
        if head.method == Method::OPTIONS {
            // Whoever asks about an OPTIONS of a page means the browser's question.
            let wanted = HeaderValue::from_static("GET");
            head.headers.insert(ACCESS_CONTROL_REQUEST_METHOD, wanted);
        }
    }
    Ok(head)
}

fn standing(question: &Explain, clock: &Clock) -> Result<Standing, Vec<String>> {
    let log = Log::to("gateway", clock.clone(), Box::new(std::io::sink()))
        .map_err(|_| vec!["no thread can be started".to_owned()])?;
    let alarms = Alarms::new(log.clone());
    Standing::open(&question.standing, &log, &alarms).map(|(standing, _)| standing)
}

/// The gateway's own, from its mesh directory; without one a placeholder that no certificate has.
fn trust_domain(question: &Explain, clock: &Clock) -> Result<TrustDomain, Vec<String>> {
    let Some(dir) = &question.mesh_dir else {
        return "explain.invalid"
            .parse()
            .map_err(|_| vec!["--mesh-dir is needed".to_owned()]);
    };
    let options = TrustOptions {
        own_role: Role::Gateway,
        no_crl: true,
        clock: clock.clone(),
    };
    let trust = TrustSet::load(dir, &options, None).map_err(|error| vec![error.to_string()])?;
    Ok(trust.own().id.domain().clone())
}

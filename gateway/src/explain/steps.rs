//! Each decision on the way of a request, by the very functions that serve.
//!
//! In: a request that somebody asks about, and what decides it. Out: an [`Explanation`]. Nothing is
//! sent. What a caller is never told, the rule that refuses and its line, stands here.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use gapura_protocol::clock::Rfc3339;
use gapura_protocol::envelope::Code;
use gapura_protocol::path::CanonicalPath;
use http::Method;
use http::header::{ACCESS_CONTROL_REQUEST_METHOD, AUTHORIZATION, HeaderMap, HeaderValue, ORIGIN};
use http::request::Parts;
use serde_json::{Value, json};

use crate::authenticate::{Authenticator, Caller, VerifiedCaller};
use crate::authorise;
use crate::client::network;
use crate::cors::Page;
use crate::docs::Docs;
use crate::rate_limit::{Asks, For, Limiter};
use crate::registry::{AuthMode, Plugin, Table, Verdict};
use crate::rejection::Rejection;
use crate::route::{self, Target};
use crate::settings::Downstream;
use crate::standing::Standing;

/// Each decision on the way, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Explanation {
    steps: Vec<(&'static str, String)>,
    plugin: Option<String>,
    own: bool,
    code: Option<Code>,
}

impl Explanation {
    /// Every step, a sentence each.
    #[must_use]
    pub(super) fn lines(&self) -> Vec<String> {
        self.steps.iter().map(|(_, text)| text.clone()).collect()
    }

    /// The same for programs: the steps with their stage, the plugin, whether the path is one of
    /// the gateway's own, and the code of a refusal, `null` for a request that goes on or is
    /// answered.
    #[must_use]
    pub(super) fn to_json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .map(|(stage, text)| json!({"stage": stage, "text": text}))
            .collect();
        json!({
            "plugin": self.plugin,
            "own": self.own,
            "status": self.code.map(|code| code.status().as_u16()),
            "code": self.code.map(Code::as_str),
            "steps": steps,
        })
    }

    /// The gateway answers by itself.
    pub(super) fn is_own(&mut self) {
        self.own = true;
    }

    pub(super) fn step(&mut self, stage: &'static str, text: impl Into<String>) {
        self.steps.push((stage, text.into()));
    }

    /// The step that ends it.
    pub(super) fn refused(&mut self, stage: &'static str, why: &str, code: Code) {
        self.code = Some(code);
        let (status, word) = (code.status().as_u16(), code.as_str());
        self.step(stage, format!("{why}: {status} {word}"));
    }
}

/// A request that is asked about, and what decides it.
pub(super) struct Asked<'a> {
    /// The request as its client would have sent it.
    pub(super) head: Parts,
    /// Its target: a path, perhaps with a query.
    pub(super) target: &'a str,
    /// The host it is for, if that matters.
    pub(super) host: Option<&'a str>,
    /// The client's address.
    pub(super) client: IpAddr,
    /// What the operator has set for the door.
    pub(super) door: &'a Downstream,
    /// Who is who.
    pub(super) authenticator: &'a Authenticator,
    /// Who is no longer welcome.
    pub(super) standing: &'a Standing,
    /// What each has left of its limits.
    pub(super) limiter: &'a Limiter,
    /// Now, Unix seconds.
    pub(super) now: u64,
}

/// The plugin that takes it.
struct Found<'a> {
    plugin: &'a Arc<Plugin>,
    /// Its file.
    file: &'a str,
    /// The whole path in its canonical form.
    path: &'a str,
    /// What the plugin gets of it.
    rest: &'a str,
}

impl Asked<'_> {
    /// Every decision on the way of this request, by the plugins of `table`.
    pub(super) fn explain<R>(&self, table: &Table<R>, told: &mut Explanation) {
        let path = self.target.split('?').next().unwrap_or_default();
        match CanonicalPath::parse(path.as_bytes()) {
            Ok(path) => {
                told.step("path", format!("canonical path: {}", path.as_str()));
                self.find(table, &path, told);
            }
            Err(error) => {
                let why = format!("the path is refused: {}", error.label());
                told.refused("path", &why, Code::BadRequest);
            }
        }
    }

    fn find<R>(&self, table: &Table<R>, path: &CanonicalPath<'_>, told: &mut Explanation) {
        if self.door.docs && Docs::is_one(path.as_str()) {
            return self.docs(told);
        }
        for step in route::explain(table, path) {
            told.step("route", step);
        }
        let (plugin, rest) = match route::find(table, path) {
            Ok(Target::Plugin(found)) => (found.plugin, found.path),
            Ok(Target::Endpoint(own)) => return self.own(own, told),
            Err(error) => {
                told.code = Some(error.code());
                return;
            }
        };
        told.plugin = Some(plugin.name.to_string());
        let mut page = Page::of(&self.head);
        page.reaches(plugin);
        let found = Found {
            plugin,
            path: path.as_str(),
            rest,
            file: table
                .plugins()
                .iter()
                .find(|(_, known)| Arc::ptr_eq(known, plugin))
                .map_or("its file", |(file, _)| file.as_str()),
        };
        self.decide(&found, &mut page, told);
        self.pages(plugin, &page, told);
    }

    fn decide(&self, found: &Found<'_>, page: &mut Page, told: &mut Explanation) {
        let plugin = found.plugin;
        if let Some(host) = self.host
            && !self.door.serves(host.as_bytes())
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
        let Some(caller) = self.caller(plugin.auth, Some(page), told) else {
            return;
        };
        let known = match &caller {
            Caller::Verified(caller) => Some(&**caller),
            _ => None,
        };
        if !self.rules(found, known, told) || !self.limits(For::Plugin(plugin), known, told) {
            return;
        }
        told.step("send", self.sent(plugin, found.rest, known));
    }

    /// Who asks, if they have proven it as `mode` wants and are welcome.
    pub(super) fn caller(
        &self,
        mode: AuthMode,
        page: Option<&mut Page>,
        told: &mut Explanation,
    ) -> Option<Caller> {
        let headers = &self.head.headers;
        let verified = self.authenticator.verify_offline(mode, headers, self.now);
        let caller = match verified {
            Ok(caller) => caller,
            Err(error) => {
                let code = Rejection::Authenticate(error).code();
                let why = format!("the token is refused ({})", error.label());
                told.refused("token", &why, code);
                return None;
            }
        };
        match &caller {
            Caller::Unverified => told.step("token", "the token is passed on unread"),
            Caller::Public => told.step("token", "no token is needed"),
            Caller::Verified(caller) => {
                if let Some(page) = page {
                    page.acts_for(caller.tenant());
                }
                told.step("token", claims(caller));
                let why = self.authenticator.why_it_speaks(caller);
                told.step("issuer", issuer(caller, why));
                if let Err(refusal) = self.standing.check(caller, self.client) {
                    told.refused("standing", refusal.as_str(), refusal.code());
                    return None;
                }
                if let Some(words) = self.standing.in_words(caller.tenant().as_str()) {
                    told.step("standing", format!("the company has a file: {words}"));
                }
            }
        }
        Some(caller)
    }

    /// Where it stands with each limit; whether the request goes on.
    pub(super) fn limits(
        &self,
        what: For<'_>,
        caller: Option<&VerifiedCaller>,
        told: &mut Explanation,
    ) -> bool {
        let company = caller.and_then(|caller| self.standing.rate_limit(caller.tenant().as_str()));
        let asks = Asks {
            what,
            company,
            caller,
            client: network(self.client),
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
        found: &Found<'_>,
        caller: Option<&VerifiedCaller>,
        told: &mut Explanation,
    ) -> bool {
        let (method, path) = (&self.head.method, found.path);
        let (plugin, file) = (found.plugin, found.file);
        if !plugin.access.restricts() {
            told.step("rules", "the plugin has no rules: everyone may");
            return true;
        }
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
        let query = self.target.split_once('?');
        let target = query.map_or_else(|| rest.to_owned(), |(_, query)| format!("{rest}?{query}"));
        let how = if plugin.upstream.is_plaintext() {
            "in plain http".to_owned()
        } else {
            format!("over mTLS to {}", plugin.identity)
        } + &format!(" at {}", plugin.upstream);
        let context = match caller.filter(|_| plugin.gets_context()) {
            Some(caller) => {
                let mut names = vec!["X-User-Id", "X-Company-Id"];
                names.extend(caller.roles().map(|_| "X-Role"));
                names.extend(caller.actor().map(|_| "X-Actor-Id"));
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
        page.mark(&mut headers, self.standing);
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

/// Who issued it, and why that one may speak for the company.
fn issuer(caller: &VerifiedCaller, why: &str) -> String {
    let iss = caller.token().issuer.as_deref();
    format!(
        "issued by {}, which may speak for company {}: {why}",
        iss.unwrap_or("somebody without a name"),
        caller.tenant()
    )
}

/// The request as its client would have sent it.
///
/// # Errors
/// What of it can't stand in a request, a sentence.
pub(super) fn head(
    method: &Method,
    token: Option<&str>,
    origin: Option<&str>,
) -> Result<Parts, String> {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.method = method.clone();
    if let Some(token) = token {
        let value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))
            .map_err(|_| "the token holds what no header can hold".to_owned())?;
        head.headers.insert(AUTHORIZATION, value);
    }
    if let Some(origin) = origin {
        let value = HeaderValue::from_str(origin)
            .map_err(|_| "the origin is none; write it as https://app.example.com".to_owned())?;
        head.headers.insert(ORIGIN, value);
        if head.method == Method::OPTIONS {
            // Whoever asks about an OPTIONS of a page means the browser's question.
            let wanted = HeaderValue::from_static("GET");
            head.headers.insert(ACCESS_CONTROL_REQUEST_METHOD, wanted);
        }
    }
    Ok(head)
}

//! `POST /explain` on the operator's side: by the tables, keys and lists that are in force.
//!
//! In: a question, one JSON object. Out: the same object as `gapura-gateway explain --json` prints,
//! or every fault of the question. Keys that are being fetched are not waited for.

use std::net::{IpAddr, Ipv4Addr};

use gapura_operator::admin::Page;
use gapura_settings::json::{self, Fields};
use http::{Method, StatusCode};

use super::steps::{Asked, Explanation, head};
use crate::authenticate::{Authenticator, Keys};
use crate::rate_limit::Limiter;
use crate::registry::Registry;
use crate::settings::Downstream;
use crate::standing::Standing;

/// What decides requests now.
#[derive(Clone, Copy)]
pub(crate) struct InForce<'a> {
    /// The plugins.
    pub(crate) registry: &'a Registry,
    /// The keys that tokens are verified with.
    pub(crate) keys: &'a Keys,
    /// Who is no longer welcome.
    pub(crate) standing: &'a Standing,
    /// What each has left of its limits.
    pub(crate) limiter: &'a Limiter,
    /// What the operator has set for the door.
    pub(crate) door: &'a Downstream,
    /// Now, Unix seconds.
    pub(crate) now: u64,
}

/// The request that is asked about.
#[derive(Debug)]
struct Question {
    method: Method,
    path: String,
    token: Option<String>,
    host: Option<String>,
    origin: Option<String>,
    client: IpAddr,
}

const FIELDS: [&str; 6] = ["method", "path", "token", "host", "origin", "client"];

/// The answer to a question.
#[must_use]
pub(crate) fn answer(question: &[u8], running: InForce<'_>) -> Page {
    match Question::read(question).and_then(|question| explain(&question, running)) {
        Ok(told) => Page::json(StatusCode::OK, &told.to_json()),
        Err(faults) => Page::refusal(StatusCode::BAD_REQUEST, &faults.join("; ")),
    }
}

fn explain(question: &Question, running: InForce<'_>) -> Result<Explanation, Vec<String>> {
    let (token, origin) = (question.token.as_deref(), question.origin.as_deref());
    let asked = Asked {
        head: head(&question.method, token, origin).map_err(|fault| vec![fault])?,
        target: &question.path,
        host: question.host.as_deref(),
        client: question.client,
        door: running.door,
        authenticator: &Authenticator::new(running.keys.clone()),
        standing: running.standing,
        limiter: running.limiter,
        now: running.now,
    };
    let mut told = Explanation::default();
    asked.explain(&running.registry.load(), &mut told);
    Ok(told)
}

impl Question {
    fn read(text: &[u8]) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let root = json::parse(text, &mut faults);
        let question = root.and_then(|root| {
            let mut fields = Fields::open(&root, "", &FIELDS, &mut faults)?;
            fields.require("method");
            fields.require("path");
            let method = fields.text("method").and_then(|text| {
                let method = text.to_ascii_uppercase().parse().ok();
                if method.is_none() {
                    fields.fault("method", "is no method; write GET, POST and so on");
                }
                method
            });
            let client = fields.text("client").map(str::parse::<IpAddr>);
            if let Some(Err(_)) = client {
                fields.fault("client", "must be an address, such as 192.0.2.7");
            }
            let mut text = |name: &str| fields.text(name).map(str::to_owned);
            let (path, token) = (text("path"), text("token"));
            let (host, origin) = (text("host"), text("origin"));
            Some(Self {
                method: method?,
                path: path?,
                token,
                host,
                origin,
                client: client
                    .and_then(Result::ok)
                    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            })
        });
        match question {
            Some(question) if faults.is_empty() => Ok(question),
            _ => Err(faults.iter().map(ToString::to_string).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_of_a_question_is_named_where_it_stands() {
        for (text, says) in [
            ("", "1:1: the file is empty"),
            ("[]", "expected an object, found a list"),
            (r#"{"method": "GET"}"#, "the field \"path\" is missing"),
            (r#"{"path": "/"}"#, "the field \"method\" is missing"),
            (r#"{"method": "G T", "path": "/"}"#, "is no method"),
            (
                r#"{"method": "GET", "path": 1}"#,
                "\"path\" must be a string",
            ),
            (r#"{"method": "GET", "path": "/", "tokn": ""}"#, "\"token\""),
            (
                r#"{"method": "GET", "path": "/", "client": "here"}"#,
                "must be an address",
            ),
        ] {
            let said = Question::read(text.as_bytes()).unwrap_err().join("; ");
            assert!(said.contains(says), "{text}: {said}");
        }
        let good = br#"{"method": "get", "path": "/x?y", "client": "::1", "token": "a.b.c"}"#;
        let question = Question::read(good).unwrap();
        assert_eq!(question.method, Method::GET);
        assert_eq!(question.client, "::1".parse::<IpAddr>().unwrap());
    }
}

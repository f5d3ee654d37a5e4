//! What browsers are told about answers to pages of other origins.
//!
//! In: a request's `Origin`, the plugin whose mount it reached, the company it acts for once that
//! is known. Out: the headers of the answer, ours or the plugin's, and the whole answer to a
//! preflight. Before the company is known the origins of all companies' files count, as at a
//! preflight, which never says who will call.
//! Invariant: on a mount with `cors` every `Access-Control-*` header that leaves was written here.

use std::sync::Arc;

use gapura_protocol::context::TenantId;
use gapura_transport::body::Body;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderValue, ORIGIN, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Response, StatusCode};

use crate::registry::{Cors, Plugin};
use crate::standing::Standing;

/// The page behind a request, as far as it is known.
#[derive(Default)]
pub(crate) struct Page {
    /// Its origin.
    origin: Option<HeaderValue>,
    /// Whether the browser asks before it sends the request itself.
    is_preflight: bool,
    /// The plugin whose mount was reached, if it has something to say to pages.
    plugin: Option<Arc<Plugin>>,
    /// Whom the request acts for.
    company: Option<TenantId>,
}

impl Page {
    /// The page that a request comes from. Two origins are none.
    #[must_use]
    pub(crate) fn of(head: &Parts) -> Self {
        let origin = origin(&head.headers).cloned();
        let is_preflight = origin.is_some()
            && head.method == Method::OPTIONS
            && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        Self {
            origin,
            is_preflight,
            plugin: None,
            company: None,
        }
    }

    /// The page behind a head that is no request.
    #[must_use]
    pub(crate) fn at(origin: Option<HeaderValue>) -> Self {
        Self {
            origin,
            ..Self::default()
        }
    }

    /// Whether the request names a page at all.
    #[must_use]
    pub(crate) fn is_known(&self) -> bool {
        self.origin.is_some()
    }

    /// The request has reached a mount.
    pub(crate) fn reaches(&mut self, plugin: &Arc<Plugin>) {
        self.plugin = plugin.cors.is_some().then(|| plugin.clone());
    }

    /// The request acts for a company.
    pub(crate) fn acts_for(&mut self, company: &TenantId) {
        if self.plugin.is_some() {
            self.company = Some(company.clone());
        }
    }

    /// The answer to a preflight at a mount that has something to say to pages; what it says is
    /// written by [`Self::mark`].
    #[must_use]
    pub(crate) fn preflight(&self) -> Option<Response<Body>> {
        self.cors().filter(|_| self.is_preflight)?;
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NO_CONTENT;
        Some(answer)
    }

    /// Writes into the head of an answer what browsers have to know, and takes out what a plugin
    /// wrote.
    pub(crate) fn mark(&self, headers: &mut HeaderMap, standing: &Standing) {
        let Some(cors) = self.cors() else {
            return;
        };
        scrub(headers);
        vary(headers);
        let Some(origin) = &self.origin else {
            return;
        };
        if !self.is_welcome(cors, origin, standing) {
            return;
        }
        let shown = if cors.origins.is_any() {
            HeaderValue::from_static("*")
        } else {
            origin.clone()
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, shown);
        if cors.credentials {
            headers.insert(
                ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
        }
        if self.is_preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
            headers.insert(ACCESS_CONTROL_MAX_AGE, cors.max_age.clone());
        } else if let Some(expose) = &cors.expose {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, expose.clone());
        }
    }

    fn cors(&self) -> Option<&Cors> {
        self.plugin.as_ref()?.cors.as_ref()
    }

    fn is_welcome(&self, cors: &Cors, origin: &HeaderValue, standing: &Standing) -> bool {
        let company = self.company.as_ref().map(TenantId::as_str);
        origin
            .to_str()
            .is_ok_and(|origin| cors.origins.has(origin) || standing.shows_pages(origin, company))
    }
}

/// The one origin of a request.
#[must_use]
pub(crate) fn origin(headers: &HeaderMap) -> Option<&HeaderValue> {
    let mut origins = headers.get_all(ORIGIN).into_iter();
    origins.next().filter(|_| origins.next().is_none())
}

/// Takes out what a plugin wrote for browsers: the gateway has the say.
pub(crate) fn scrub(headers: &mut HeaderMap) {
    let written: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("access-control-"))
        .cloned()
        .collect();
    for name in written {
        headers.remove(name);
    }
}

fn vary(headers: &mut HeaderMap) {
    let says = headers
        .get_all(VARY)
        .into_iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"));
    if !says {
        headers.append(VARY, HeaderValue::from_static("Origin"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vary_names_the_origin_once() {
        for (before, lines) in [
            (&[][..], 1),
            (&["Accept"], 2),
            (&["Accept, origin"], 1),
            (&["*"], 1),
        ] {
            let mut headers = HeaderMap::new();
            for line in before {
                headers.append(VARY, HeaderValue::from_static(line));
            }
            vary(&mut headers);
            assert_eq!(headers.get_all(VARY).iter().count(), lines, "{before:?}");
        }
    }

    #[test]
    fn a_preflight_asks_for_a_method_and_two_origins_are_none() {
        let page = |method: &str, lines: &[(&str, &'static str)]| {
            let mut request = http::Request::builder().method(method);
            for (name, value) in lines {
                request = request.header(*name, *value);
            }
            Page::of(&request.body(()).unwrap().into_parts().0)
        };
        let asks = ("access-control-request-method", "PUT");
        assert!(page("OPTIONS", &[("origin", "https://a.test"), asks]).is_preflight);
        assert!(!page("OPTIONS", &[("origin", "https://a.test")]).is_preflight);
        assert!(!page("OPTIONS", &[asks]).is_preflight);
        assert!(!page("GET", &[("origin", "https://a.test"), asks]).is_preflight);
        let two = page(
            "OPTIONS",
            &[
                ("origin", "https://a.test"),
                ("origin", "https://b.test"),
                asks,
            ],
        );
        assert!(!two.is_preflight && two.origin.is_none());
    }
}

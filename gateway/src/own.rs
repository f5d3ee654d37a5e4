//! The paths that the gateway answers itself: does it live, can it serve, what is it.

use bytes::Bytes;
use gapura_mesh::body::Body;
use gapura_mesh::clock::Clock;
use gapura_mesh::shutdown::{Phase, Stopping};
use gapura_mesh::tls::public::PublicStore;
use gapura_mesh::tls::trust::TrustStore;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::rejection::Rejection;
use crate::route::{Error, OwnPath};

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Own {
    /// The trust in force.
    pub(crate) trust: TrustStore,
    /// The certificate that clients see.
    pub(crate) public: Option<PublicStore>,
    /// The program's clock.
    pub(crate) clock: Clock,
    /// The program's end.
    pub(crate) stopping: Stopping,
}

impl Own {
    /// The answer at one of the gateway's own paths, which are for reading.
    ///
    /// # Errors
    /// [`Rejection`] where nothing is served yet, or another method comes.
    pub(crate) fn answer(
        &self,
        path: OwnPath,
        method: &Method,
    ) -> Result<Response<Body>, Rejection> {
        let answer = self.at(path).ok_or(Rejection::Route(Error::NoRoute))?;
        if method != Method::GET && method != Method::HEAD {
            return Err(Rejection::ReadOnly);
        }
        Ok(answer)
    }

    /// The answer to `OPTIONS *`: what the server as a whole takes (RFC 9110, section 9.3.7).
    #[must_use]
    pub(crate) fn methods() -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        response.headers_mut().insert(
            ALLOW,
            HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        );
        response
    }

    fn at(&self, path: OwnPath) -> Option<Response<Body>> {
        let (status, value) = match path {
            OwnPath::Healthz => (StatusCode::OK, json!({"ok": true})),
            OwnPath::Readyz => self.ready(),
            OwnPath::Version => (StatusCode::OK, version()),
            OwnPath::Openapi => return None,
        };
        Some(page(status, &value))
    }

    /// Whether requests should be sent here. To the outside the answer names what is missing, and nothing of how it is made.
    #[must_use]
    pub(crate) fn ready(&self) -> (StatusCode, Value) {
        let missing = self.missing();
        let status = if missing.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (
            status,
            json!({"ok": missing.is_empty(), "missing": missing}),
        )
    }

    fn missing(&self) -> Vec<&'static str> {
        let now = self.clock.now();
        let mut missing = Vec::new();
        if self.stopping.phase() != Phase::Run {
            missing.push("draining");
        }
        let trust = self.trust.load();
        if trust.went_back().is_some() {
            missing.push("revocation lists");
        } else if trust.own_refusal(now).is_some() {
            missing.push("mesh certificate");
        }
        if self.public.as_ref().is_some_and(|public| {
            let (public, now) = (public.load(), gapura_mesh::clock::unix(now));
            public.expired(now) || public.not_yet_valid(now)
        }) {
            missing.push("public certificate");
        }
        missing
    }
}

/// The facts of the build.
#[must_use]
pub(crate) fn version() -> Value {
    json!({"name": "gapura-gateway", "version": env!("CARGO_PKG_VERSION")})
}

fn page(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::full(Bytes::from(format!("{value}\n"))));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

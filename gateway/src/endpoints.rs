//! The paths that the gateway answers itself: does it live, can it serve, what is it.

use bytes::Bytes;
use gapura_operator::shared::{Missing, Shared};
use gapura_protocol::clock::unix;
use gapura_transport::body::Body;
use gapura_trust::public::PublicStore;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use crate::rejection::Rejection;
use crate::route::{Endpoint, Error};

/// What readiness depends on.
#[derive(Clone)]
pub(crate) struct Endpoints {
    /// What any program's depends on.
    pub(crate) shared: Shared,
    /// The certificate that clients see.
    pub(crate) public: Option<PublicStore>,
}

impl Endpoints {
    /// The answer at one of the gateway's own paths, which are for reading.
    ///
    /// # Errors
    /// [`Rejection`] where nothing is served yet, or another method comes.
    pub(crate) fn answer(
        &self,
        path: Endpoint,
        method: &Method,
    ) -> Result<Response<Body>, Rejection> {
        let answer = self.at(path).ok_or(Rejection::Route(Error::NoRoute))?;
        Self::is_read(method)?;
        Ok(answer)
    }

    /// Whether a request reads, as all may do at the gateway's own paths.
    ///
    /// # Errors
    /// [`Rejection::ReadOnly`] if it does anything else.
    pub(crate) fn is_read(method: &Method) -> Result<(), Rejection> {
        if method != Method::GET && method != Method::HEAD {
            return Err(Rejection::ReadOnly);
        }
        Ok(())
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

    fn at(&self, path: Endpoint) -> Option<Response<Body>> {
        let (status, value) = match path {
            Endpoint::Healthz => (StatusCode::OK, json!({"ok": true})),
            Endpoint::Readyz => self.ready(),
            Endpoint::Version => (StatusCode::OK, version()),
            Endpoint::Openapi | Endpoint::BackchannelLogout | Endpoint::Reserved => return None,
        };
        Some(page(status, &value))
    }

    /// Whether requests should be sent here. To the outside the answer names what is missing, and
    /// nothing of why.
    fn ready(&self) -> (StatusCode, Value) {
        let missing: Vec<&str> = self.missing().iter().map(|missing| missing.what).collect();
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

    /// What keeps the gateway from being ready.
    #[must_use]
    pub(crate) fn missing(&self) -> Vec<Missing> {
        let mut missing = self.shared.missing();
        let now = unix(self.shared.clock.now());
        if self.public.as_ref().is_some_and(|public| {
            let public = public.load();
            public.expired(now) || public.not_yet_valid(now)
        }) {
            missing.push(Missing {
                what: "public certificate",
                why: None,
            });
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

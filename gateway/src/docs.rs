//! The page at `/docs`, to read the plugins' contracts on and to try them: Swagger UI, from inside
//! the program.
//!
//! In: a path. Out: one of five files, which are the same for everybody and hold nothing of any
//! plugin: what there is to see the page asks for at `/openapi.json`, with the token that is typed
//! into it. It may run no script and ask nobody but this gateway.

use bytes::Bytes;
use gapura_transport::body::Body;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{Response, StatusCode};

use crate::endpoints::Endpoints;
use crate::openapi::digest;
use crate::rejection::Rejection;

/// The files.
pub(crate) struct Docs([File; 5]);

/// One of them.
pub(crate) struct File {
    path: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
    packed: bool,
    etag: HeaderValue,
}

/// Swagger UI draws its arrows from addresses that hold the picture themselves; all else comes from
/// here.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PATHS: [&str; 5] = [
    "/docs",
    "/docs/page.js",
    "/docs/page.css",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
];

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

impl Docs {
    /// All of them.
    pub(crate) fn new() -> Self {
        let file = |path, kind, bytes: &'static [u8], packed| {
            let mark: String = digest(bytes)
                .iter()
                .take(16)
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let etag = HeaderValue::from_str(&format!("\"{mark}\""));
            File {
                path,
                kind,
                bytes,
                packed,
                etag: etag.unwrap_or_else(|_| HeaderValue::from_static("\"\"")),
            }
        };
        let page = include_bytes!("../assets/docs/page.html");
        let script = include_bytes!("../assets/docs/page.js");
        let style = include_bytes!("../assets/docs/page.css");
        let ui_script = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui-bundle.js.gz"));
        let ui_style = include_bytes!(concat!(env!("OUT_DIR"), "/swagger-ui.css.gz"));
        let [at_page, at_script, at_style, at_ui_script, at_ui_style] = PATHS;
        Self([
            file(at_page, HTML, page, false),
            file(at_script, SCRIPT, script, false),
            file(at_style, STYLE, style, false),
            file(at_ui_script, SCRIPT, ui_script, true),
            file(at_ui_style, STYLE, ui_style, true),
        ])
    }

    /// The file at a path, if there is one.
    pub(crate) fn at(&self, path: &str) -> Option<&File> {
        let path = if path == "/docs/" { "/docs" } else { path };
        self.0.iter().find(|file| file.path == path)
    }

    /// Whether there would be a file at a path.
    #[must_use]
    pub(crate) fn is_one(path: &str) -> bool {
        path == "/docs/" || PATHS.contains(&path)
    }
}

impl File {
    /// The answer to a request for it.
    ///
    /// # Errors
    /// [`Rejection::ReadOnly`] if the request does not read.
    pub(crate) fn answer(&self, asked: &Parts) -> Result<Response<Body>, Rejection> {
        Endpoints::is_read(&asked.method)?;
        let knows = asked.headers.get(IF_NONE_MATCH) == Some(&self.etag);
        let mut response = if knows {
            let mut unchanged = Response::new(Body::empty());
            *unchanged.status_mut() = StatusCode::NOT_MODIFIED;
            unchanged
        } else {
            Response::new(Body::full(Bytes::from_static(self.bytes)))
        };
        let headers = response.headers_mut();
        headers.insert(ETAG, self.etag.clone());
        let mut say = |name: HeaderName, value| say(headers, name, value);
        say(CACHE_CONTROL, "no-cache");
        say(CONTENT_SECURITY_POLICY, POLICY);
        say(X_CONTENT_TYPE_OPTIONS, "nosniff");
        say(REFERRER_POLICY, "no-referrer");
        say(CONTENT_TYPE, self.kind);
        if self.packed {
            say(CONTENT_ENCODING, "gzip");
        }
        Ok(response)
    }
}

fn say(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.insert(name, HeaderValue::from_static(value));
}

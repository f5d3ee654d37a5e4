//! Which handler answers a request, and what it answers.
//!
//! In: a request. Out: an answer, and the template of the route for the log (the path itself may
//! hold anything). A handler that reads rows asks for the [`Company`] first.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, HeaderValue, LOCATION};
use hyper::{Method, Request, StatusCode};
use serde_json::json;

use crate::company::Company;
use crate::envelope::{Answer, Errors, done, json, json_text, refused, refused_for};
use crate::report::{NewReport, Page, Unfit};
use crate::store::{Added, Store, StoreError};

/// The largest body of a request.
const BODY_MAX: usize = 64 * 1024;

/// How long a body may take.
const BODY_TIME: std::time::Duration = std::time::Duration::from_secs(30);

/// The service's own description.
const OPENAPI: &str = include_str!("../openapi.json");

#[derive(Clone, Copy, PartialEq, Eq)]
enum Route {
    Reports,
    Report(i64),
    Healthz,
    Version,
    OpenApi,
    Unknown,
}

/// What becomes of one request.
pub(crate) struct Answered {
    pub(crate) answer: Answer,
    pub(crate) route: &'static str,
    pub(crate) company: Option<Company>,
    pub(crate) fault: Option<StoreError>,
}

impl Route {
    fn of(path: &str) -> Self {
        match path {
            "/reports" | "/reports/" => Self::Reports,
            "/healthz" => Self::Healthz,
            "/version" => Self::Version,
            "/openapi.json" => Self::OpenApi,
            _ => path
                .strip_prefix("/reports/")
                .and_then(report_id)
                .map_or(Self::Unknown, Self::Report),
        }
    }

    fn template(self) -> &'static str {
        match self {
            Self::Reports => "/reports",
            Self::Report(_) => "/reports/{id}",
            Self::Healthz => "/healthz",
            Self::Version => "/version",
            Self::OpenApi => "/openapi.json",
            Self::Unknown => "unknown",
        }
    }

    fn methods(self) -> &'static str {
        if self == Self::Reports {
            "GET, HEAD, POST"
        } else {
            "GET, HEAD"
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(store: &Store, request: Request<Incoming>) -> Answered {
    let route = Route::of(request.uri().path());
    let company = Company::of(request.headers());
    let known = company.as_ref().ok().cloned();
    let (answer, fault) = match handle(store, route, company, request).await {
        Ok(answer) => (answer, None),
        Err(fault) => (unavailable(&fault), Some(fault)),
    };
    Answered {
        answer,
        route: route.template(),
        company: known,
        fault,
    }
}

async fn handle(
    store: &Store,
    route: Route,
    company: Result<Company, crate::company::NoCompany>,
    request: Request<Incoming>,
) -> Result<Answer, StoreError> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let adds = request.method() == Method::POST && route == Route::Reports;
    if route == Route::Unknown {
        return Ok(refused(
            StatusCode::NOT_FOUND,
            "There is nothing at this path.",
            Errors::new(),
        ));
    }
    if !reads && !adds {
        let mut answer = refused(
            StatusCode::METHOD_NOT_ALLOWED,
            "This path does not take that method.",
            Errors::new(),
        );
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static(route.methods()));
        return Ok(answer);
    }
    match route {
        Route::Healthz => {
            store.ping().await?;
            return Ok(done(StatusCode::OK, "healthy", json!({})));
        }
        Route::Version => {
            return Ok(json(
                StatusCode::OK,
                &json!({ "name": crate::NAME, "version": crate::VERSION }),
            ));
        }
        Route::OpenApi => {
            return Ok(json_text(
                StatusCode::OK,
                Bytes::from_static(OPENAPI.as_bytes()),
            ));
        }
        Route::Reports | Route::Report(_) | Route::Unknown => {}
    }
    let company = match company {
        Ok(company) => company,
        Err(why) => {
            return Ok(refused_for(
                StatusCode::BAD_REQUEST,
                "The request names no company.",
                "X-Company-Id",
                why.sentence(),
            ));
        }
    };
    match route {
        Route::Report(id) => read(store, company, id).await,
        _ if adds => add(store, company, request).await,
        _ => list(store, company, request.uri().query().unwrap_or_default()).await,
    }
}

async fn list(store: &Store, company: Company, query: &str) -> Result<Answer, StoreError> {
    let page = match Page::parse(query) {
        Ok(page) => page,
        Err(errors) => {
            return Ok(refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The query has faults.",
                errors,
            ));
        }
    };
    let listed = store.list(company, page).await?;
    let message = match listed.reports.len() {
        1 => "1 report".to_owned(),
        count => format!("{count} reports"),
    };
    Ok(done(StatusCode::OK, &message, listed))
}

async fn read(store: &Store, company: Company, id: i64) -> Result<Answer, StoreError> {
    // Another company's report and one that never was look the same.
    Ok(match store.find(company, id).await? {
        Some(report) => done(StatusCode::OK, "report found", report),
        None => refused_for(
            StatusCode::NOT_FOUND,
            "There is no such report.",
            "id",
            "names no report of this company",
        ),
    })
}

async fn add(
    store: &Store,
    company: Company,
    request: Request<Incoming>,
) -> Result<Answer, StoreError> {
    let by = request
        .headers()
        .get("x-user-id")
        .and_then(|user| user.to_str().ok())
        .map(str::to_owned);
    let body = match whole(request.into_body()).await {
        Ok(body) => body,
        Err(answer) => return Ok(*answer),
    };
    let new = match NewReport::parse(&body) {
        Ok(new) => new,
        Err(Unfit::Syntax(why)) => {
            return Ok(refused_for(
                StatusCode::BAD_REQUEST,
                "The body is not JSON.",
                "body",
                &why,
            ));
        }
        Err(Unfit::Fields(errors)) => {
            return Ok(refused(
                StatusCode::UNPROCESSABLE_ENTITY,
                "The report has faults.",
                errors,
            ));
        }
    };
    Ok(match store.add(company, new, by).await? {
        Added::Report(report) => {
            // Relative to /reports, so that it holds below whatever prefix the door took off.
            let location = HeaderValue::from_str(&format!("reports/{}", report.id));
            let mut answer = done(StatusCode::CREATED, "report added", report);
            if let Ok(location) = location {
                answer.headers_mut().insert(LOCATION, location);
            }
            answer
        }
        Added::Duplicate => refused_for(
            StatusCode::CONFLICT,
            "The company has this report already.",
            "number",
            "is that of another report; choose another one",
        ),
    })
}

/// The whole body, or the answer to one that is too large, too slow or broken off.
async fn whole(body: Incoming) -> Result<Bytes, Box<Answer>> {
    let too_large = || {
        Box::new(refused_for(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The body is too large.",
            "body",
            "must be at most 64 KiB",
        ))
    };
    if body.size_hint().lower() > BODY_MAX as u64 {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIME, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(err)) if err.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err(Box::new(refused_for(
            StatusCode::BAD_REQUEST,
            "The body broke off.",
            "body",
            "did not arrive whole",
        ))),
        Err(_) => Err(Box::new(refused_for(
            StatusCode::REQUEST_TIMEOUT,
            "The body came too slowly.",
            "body",
            "did not arrive in time",
        ))),
    }
}

fn unavailable(fault: &StoreError) -> Answer {
    match fault {
        StoreError::Busy => refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "The service is busy; try again.",
            Errors::new(),
        ),
        StoreError::Gone | StoreError::Sqlite(_) => refused(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The reports can't be reached; this is our fault.",
            Errors::new(),
        ),
    }
}

/// One spelling a report: no sign, no leading zero.
fn report_id(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_one_path() {
        assert!(Route::of("/reports/7") == Route::Report(7));
        for path in [
            "/reports/07",
            "/reports/+7",
            "/reports/-7",
            "/reports/7/",
            "/reports/7x",
            "/reports/%37",
            "/reports/1%20OR%201=1",
            "/report",
            "/",
            "",
        ] {
            assert!(Route::of(path) == Route::Unknown, "{path}");
        }
    }

    #[test]
    fn the_description_speaks_of_this_version_and_these_routes() {
        let document: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(document["info"]["version"], crate::VERSION);
        let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
        assert_eq!(
            paths,
            [
                "/healthz",
                "/openapi.json",
                "/reports",
                "/reports/{id}",
                "/version"
            ]
        );
    }
}

//! What a CA server is asked: EST (RFC 7030) for certificates, JSON for roots and CRLs. Nothing
//! here judges an answer.

use std::time::Duration;

use gapura_enrol::authorization::Claim;
use gapura_enrol::news::TrustNews;
use gapura_enrol::{paths, payload, pkcs7};
use http::Method;
use http::header::HeaderValue;
use rustls::pki_types::CertificateDer;

use crate::link::{Link, Question};
use crate::trouble::Trouble;

/// The CA's lock may be held by somebody who issues by hand.
const ISSUE_WITHIN: Duration = Duration::from_secs(60);
/// What is public is answered at once.
const SHOW_WITHIN: Duration = Duration::from_secs(20);
/// Longer than a CA server lets anybody wait.
const POLL_WITHIN: Duration = paths::LONG_POLL.saturating_add(Duration::from_secs(20));

/// The certificates of the CAs, which anybody may ask for.
pub(crate) async fn cacerts(link: &mut Link) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let question = Question {
        method: Method::GET,
        target: paths::CACERTS,
        accept: paths::PKCS7,
        authorization: None,
        body: None,
        within: SHOW_WITHIN,
    };
    certificates(&link.ask(question).await?)
}

/// A first certificate, for the join token of `claim`.
pub(crate) async fn enrol(
    link: &mut Link,
    claim: &Claim,
    request: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let header = HeaderValue::from_str(&claim.to_header())
        .map_err(|_| Trouble::Token("the join token can't be shown".to_owned()))?;
    issue(link, paths::SIMPLEENROLL, Some(header), request).await
}

/// The next certificate, for the one that the link presents.
pub(crate) async fn renew(
    link: &mut Link,
    request: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    issue(link, paths::SIMPLEREENROLL, None, request).await
}

async fn issue(
    link: &mut Link,
    target: &str,
    authorization: Option<HeaderValue>,
    request: &[u8],
) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    let question = Question {
        method: Method::POST,
        target,
        accept: paths::PKCS7,
        authorization,
        body: Some((paths::PKCS10, payload::encode(request).into_bytes())),
        within: ISSUE_WITHIN,
    };
    certificates(&link.ask(question).await?)
}

/// Roots and CRLs: at once, or once they are others than those of `after`.
pub(crate) async fn news(link: &mut Link, after: Option<&str>) -> Result<TrustNews, Trouble> {
    let target = match after {
        Some(after) => format!("{}?{}={after}", paths::TRUST, paths::AFTER),
        None => paths::TRUST.to_owned(),
    };
    let question = Question {
        method: Method::GET,
        target: &target,
        accept: "application/json",
        authorization: None,
        body: None,
        within: POLL_WITHIN,
    };
    let news = TrustNews::parse(&link.ask(question).await?).map_err(Trouble::Nonsense)?;
    // It comes back in an address.
    let plain = news
        .generation
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric());
    if !plain || news.generation.len() > 128 {
        return Err(Trouble::Nonsense(
            "the generation of its news is no hexadecimal number".to_owned(),
        ));
    }
    Ok(news)
}

/// Gives the CA the CRLs that it has forgotten; they prove themselves by its own signature.
pub(crate) async fn remind(link: &mut Link, crls: &str) -> Result<(), Trouble> {
    let question = Question {
        method: Method::POST,
        target: paths::CRLS,
        accept: "application/json",
        authorization: None,
        body: Some((paths::PEM, crls.as_bytes().to_vec())),
        within: ISSUE_WITHIN,
    };
    link.ask(question).await.map(drop)
}

fn certificates(body: &[u8]) -> Result<Vec<CertificateDer<'static>>, Trouble> {
    payload::decode(body)
        .and_then(|message| pkcs7::certificates(&message))
        .map_err(Trouble::Nonsense)
}

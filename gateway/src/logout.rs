//! `POST /.gapura/backchannel-logout`: an OpenID provider says that a user has logged out
//! (Back-Channel Logout 1.0, sections 2.5 to 2.8).
//!
//! In: a request of anybody's. Out: 200 once the logout counts and is kept, or an [`Error`].
//! Whoever posts needs no token of their own: the logout token proves itself, or comes to nothing.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use gapura_protocol::envelope::Code;
use gapura_transport::body::{Body, BodyFault};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response};
use http_body::Body as _;

use crate::authenticate::{Authenticator, LogoutFault};
use crate::standing::{NotTaken, Standing};

/// Why a logout is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Error {
    /// Only POST is taken.
    Method,
    /// The body is no form.
    NotAForm,
    /// The form has no `logout_token`, or two.
    NoToken,
    /// The body did not come, or not whole.
    Body(BodyFault),
    /// The token is not taken.
    Token(LogoutFault),
    /// It is good and was not taken all the same.
    Standing(NotTaken),
}

/// A token of 8 KiB, with every byte escaped, and what else may stand in the form.
const FORM_MAX: u64 = 32 * 1024;

/// A provider has the whole token when it begins to post.
const FORM_WITHIN: Duration = Duration::from_secs(10);

/// Takes the logout that a request brings.
///
/// # Errors
/// [`Error`]: why not, which the provider is told by the status alone.
pub(crate) async fn take(
    head: &Parts,
    body: Body,
    authenticator: &Authenticator,
    standing: &Standing,
    now: u64,
) -> Result<Response<Body>, Error> {
    if head.method != Method::POST {
        return Err(Error::Method);
    }
    if !is_form(&head.headers) {
        return Err(Error::NotAForm);
    }
    let form = tokio::time::timeout(FORM_WITHIN, read(body.limited(Some(FORM_MAX))));
    let form = form.await.unwrap_or(Err(BodyFault::Idle));
    let token = token_in(&form.map_err(Error::Body)?)?;
    let logout = authenticator
        .verify_logout(&token, now)
        .await
        .map_err(Error::Token)?;
    standing.log_out(logout).await.map_err(Error::Standing)?;
    let mut response = Response::new(Body::full(Bytes::from_static(b"{\"ok\": true}\n")));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The body whole; it is bounded.
async fn read(body: Body) -> Result<Vec<u8>, BodyFault> {
    let (mut body, mut bytes) = (pin!(body), Vec::new());
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        if let Ok(data) = frame?.into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    Ok(bytes)
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let bare = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    bare.is_some_and(|bare| {
        bare.trim_ascii()
            .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
    })
}

/// The one `logout_token` of a form; other members are passed over (section 2.5).
fn token_in(form: &[u8]) -> Result<Vec<u8>, Error> {
    let mut found = None;
    for member in form.split(|byte| *byte == b'&') {
        let end = member.iter().position(|byte| *byte == b'=');
        let (name, value) = member.split_at(end.unwrap_or(member.len()));
        if unescaped(name).as_deref() != Some(b"logout_token") {
            continue;
        }
        let value = unescaped(value.get(1..).unwrap_or_default()).ok_or(Error::NotAForm)?;
        if found.replace(value).is_some() {
            return Err(Error::NoToken);
        }
    }
    found
        .filter(|token| !token.is_empty())
        .ok_or(Error::NoToken)
}

/// A name or a value of a form as it was meant; `None` where an escape is broken.
fn unescaped(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = text.iter();
    let mut plain = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        plain.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
                u8::try_from(high * 16 + low).ok()?
            }
            other => *other,
        });
    }
    Some(plain)
}

impl Error {
    /// The code it is answered with: 400 for what is wrong with the logout (section 2.8), 503 for
    /// what a later try may mend.
    #[must_use]
    pub(crate) fn code(self) -> Code {
        match self {
            Self::Method => Code::MethodNotAllowed,
            Self::NotAForm | Self::NoToken => Code::BadRequest,
            Self::Body(BodyFault::TooLarge) => Code::BodyTooLarge,
            Self::Body(BodyFault::Idle | BodyFault::Slow | BodyFault::Stalled) => {
                Code::RequestTimeout
            }
            Self::Body(BodyFault::Cut | BodyFault::Short | BodyFault::Gone) => Code::ClientGone,
            Self::Body(BodyFault::Malformed(_)) => Code::BadRequest,
            Self::Token(LogoutFault::KeysUnavailable) => Code::KeysUnavailable,
            Self::Token(_) | Self::Standing(NotTaken::Replayed) => Code::BadRequest,
            Self::Standing(NotTaken::Full | NotTaken::NotKept) => Code::Overloaded,
        }
    }

    /// In words, for the log.
    #[must_use]
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Method => "a logout is posted".to_owned(),
            Self::NotAForm => {
                "the logout is no form of application/x-www-form-urlencoded".to_owned()
            }
            Self::NoToken => "the form does not have one logout_token".to_owned(),
            Self::Body(fault) => fault.reason().to_owned(),
            Self::Token(fault) => fault.to_string(),
            Self::Standing(NotTaken::Replayed) => "the logout token has come before".to_owned(),
            Self::Standing(NotTaken::Full) => "there is no room for more logouts".to_owned(),
            Self::Standing(NotTaken::NotKept) => {
                "the logout counts, and would not outlast a restart".to_owned()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_token_is_the_one_member_of_its_name() {
        for form in [
            "logout_token=a.b.c",
            "x=1&logout_token=a.b.c&y",
            "logout%5ftoken=a%2Eb.c&&",
            "&logout_token=a.b.c&LOGOUT_TOKEN=d",
        ] {
            assert_eq!(token_in(form.as_bytes()), Ok(b"a.b.c".to_vec()), "{form}");
        }
        for (form, error) in [
            ("", Error::NoToken),
            ("logout_token", Error::NoToken),
            ("logout_token=", Error::NoToken),
            ("token=a.b.c", Error::NoToken),
            ("logout_token=a&logout_token=a", Error::NoToken),
            ("logout_token=a&logout%5Ftoken=", Error::NoToken),
            ("logout_token=%", Error::NotAForm),
            ("logout_token=%4", Error::NotAForm),
            ("logout_token=%4g", Error::NotAForm),
        ] {
            assert_eq!(token_in(form.as_bytes()), Err(error), "{form}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_escaped_comes_back(bytes in proptest::collection::vec(any::<u8>(), 1..64)) {
            let escaped: String = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
            let form = format!("a=b&logout_token={escaped}");
            prop_assert_eq!(token_in(form.as_bytes()), Ok(bytes));
        }

        #[test]
        fn no_form_is_a_panic(form in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = token_in(&[b"logout_token=".as_slice(), &form].concat());
        }
    }
}
